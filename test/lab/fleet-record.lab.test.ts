/** The fleet's record against a real PostgreSQL: who may do what at once, and what is left after everything that can happen. */

import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { Limits } from "../../lib/fleet/decide.ts";
import { takeSlot } from "../../lib/fleet/record/begin.ts";
import { openStore, type StoreOptions } from "../../lib/fleet/record/open.ts";
import { removeOld } from "../../lib/fleet/record/retention.ts";
import { sessionOptions } from "../../lib/fleet/record/session.ts";
import type { StatusChange, Test } from "../../lib/fleet/test.ts";
import { withDatabase } from "../../lib/io/database.ts";
import { openLongLivedDatabase } from "../../lib/io/long-lived-database.ts";
import type { Log } from "../../lib/log.ts";
import { formatConninfo, parseConninfo } from "../../lib/postgres/conninfo.ts";
import { newReport } from "../../lib/report/report.ts";
import { useLab } from "./fixture.ts";
import type { SchedulerSettings } from "./fleet-scheduler.ts";
import { type Service as Process, waitFor } from "./process.ts";
import { query, startPostgres, startSource, value } from "./source.ts";

const lab = useLab("fleet-record", async (lab) => ({
  source: await startSource(lab, { stanza: "record", parameters: { archive_mode: "off", max_connections: 100 } }),
}));

const LIMITS: Limits = {
  tests: 3,
  weight: Number.POSITIVE_INFINITY,
  perNamespace: Number.POSITIVE_INFINITY,
  perGroup: {},
  isPaused: false,
};
const DAY_MS = 86_400_000;

let databases = 0;
/** Of a database of its own: libpq's conninfo. */
async function newDatabase(): Promise<string> {
  const dbname = `record_${++databases}`;
  await query(lab().source, `CREATE DATABASE ${dbname}`);
  return formatConninfo({ ...parseConninfo(lab().source.conninfo), dbname });
}

const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp();
});

function collectingLog(): Log & { lines: string[] } {
  const lines: string[] = [];
  const add = (_phase: string, message: string) => void lines.push(message);
  return { lines, info: add, warn: add, error: add, progress: () => ({ update: () => {}, end: () => {} }) };
}

async function open(conninfo: string, scheduler = "a", more: Partial<StoreOptions> = {}) {
  const log = collectingLog();
  const retention = { reportsMs: 30 * DAY_MS, historyMs: 400 * DAY_MS };
  const store = await openStore({ conninfo: parseConninfo(conninfo), scheduler, retention, log, ...more });
  cleanUps.push(() => store.close());
  return Object.assign(store, { log: log.lines });
}

async function openLeader(conninfo: string, scheduler = "a") {
  const store = await open(conninfo, scheduler);
  await waitFor(`${scheduler} to lead`, () => store.leads());
  return store;
}

const ask = (conninfo: string, sql: string) =>
  query({ conninfo }, `SET search_path = patroni_restore_fleet; ${sql}`) as Promise<Record<string, string>[]>;
const askOne = (conninfo: string, sql: string) =>
  value({ conninfo }, `SET search_path = patroni_restore_fleet; ${sql}`);

let tests = 0;
const newTest = (service: string, more: Partial<Test> = {}): Test => ({
  id: `t${String(++tests).padStart(7, "0")}`,
  service,
  namespace: service.slice(0, service.indexOf("/")),
  scope: service.slice(service.indexOf("/") + 1),
  stanza: "demo",
  groups: { node: "n1" },
  weight: 1,
  reason: "it was never tested",
  requestedAt: new Date(),
  deadlineAt: new Date(Date.now() + 3_600_000),
  scheduler: "a",
  ...more,
});

const change = (test: Test, status: StatusChange["status"], more: Partial<StatusChange> = {}): StatusChange => ({
  test: test.id,
  service: test.service,
  status,
  at: new Date(),
  ...more,
});

const healthy = { outcome: "healthy", error: null, report: null } as const;
const failed = {
  outcome: "restore",
  error: { code: 12, name: "RECOVERY_FAILED", message: "WAL is missing", hint: null },
  report: null,
} as const;

const service = (id: string) => ({
  id,
  namespace: id.slice(0, id.indexOf("/")),
  scope: id.slice(id.indexOf("/") + 1),
  stanza: "demo",
});

describe("a test from begin to end", () => {
  test("takes a slot, shows its statuses, and its end is the service's last test", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    await store.seen([service("ns/one")]);
    await store.want("ns/one", "somebody", "now-1");
    await store.countBackup("ns/one", "20261122-100000F");
    const begun = newTest("ns/one");
    expect(await store.begin(begun, LIMITS)).toBeNull();
    await store.record(change(begun, "marking"));
    const running = (await store.changes()).running;
    expect(running).toEqual([{ ...begun, statuses: ["requested", "marking"] }]);
    const report = { ...newReport({ id: "r", scope: null, stanza: "demo", startedAt: new Date() }), rto_ms: 4200 };
    const at = new Date();
    await store.record(change(begun, "healthy", { at, end: { ...healthy, report } }));
    const { standings, running: left } = await store.changes();
    expect(left).toEqual([]);
    expect(standings.get("ns/one")).toMatchObject({
      last: { id: begun.id, outcome: "healthy", endedAt: at, attempts: 1, figures: { rto_ms: 4200 } },
      lastHealthyAt: at,
      backupsSinceTest: 0,
      wantedAt: null,
      wantedToken: "now-1",
    });
    expect(await store.test(begun.id)).toMatchObject({
      status: "healthy",
      statuses: [{ status: "requested", at: begun.requestedAt }, { status: "marking" }, { status: "healthy", at }],
      end: { outcome: "healthy" },
      report,
    });
  });
});

export type { Process, SchedulerSettings };
export {
  ask,
  askOne,
  createRequire,
  failed,
  fileURLToPath,
  openLongLivedDatabase,
  removeOld,
  sessionOptions,
  startPostgres,
  takeSlot,
  withDatabase,
};
