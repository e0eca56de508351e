/** Sessions that are used again, against a real PostgreSQL. */

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Check, EVERY_LEVEL } from "../../lib/checks/check.ts";
import { type Database, withDatabase } from "../../lib/io/database.ts";
import { type KeptSessions, keepSessions } from "../../lib/io/kept-sessions.ts";
import type { Conninfo } from "../../lib/postgres/conninfo.ts";
import { verifyInstance } from "../../lib/verify/verify.ts";
import { type Lab, openLab } from "../lab/lab.ts";
import { waitFor } from "../lab/process.ts";
import { startSource } from "../lab/source.ts";

/** Of which a fourth may stay: enough to find one in a template. */
const MOST = 12;

let lab: Lab;
let server: Conninfo;

beforeAll(async () => {
  lab = await openLab("kept");
  const source = await startSource(lab, {
    parameters: { archive_mode: "off", max_connections: MOST, superuser_reserved_connections: 0, max_wal_senders: 0 },
  });
  server = { host: source.socketDir, port: String(source.port), user: "postgres", dbname: "postgres" };
});

let sessions: KeptSessions | undefined;
afterEach(async () => {
  await sessions?.close();
  await waitFor("the sessions to end", async () => (await others()) === 0);
});

afterAll(() => lab.close());

const open = (most: number) => {
  sessions = keepSessions(server, most);
  return sessions;
};
const pidOf = async (database: Database) => (await database.row<{ pid: string }>("SELECT pg_backend_pid() AS pid")).pid;
const others = () =>
  withDatabase(server, {}, async (database) =>
    Number(
      (
        await database.row<{ count: string }>(
          "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
      ).count,
    ),
  );
const settings = { search_path: "pg_catalog", work_mem: "1MB" };
const postgres = { database: "postgres", settings };

test("the next question in the same database finds the same session, as if it were new", async () => {
  const kept = open(2);
  const first = await kept.use(postgres, async (database) => {
    await database.query(
      "SET work_mem = '64kB'; SET enable_seqscan = off; CREATE TEMP TABLE t (); PREPARE p AS SELECT 1",
    );
    await database.query("SELECT pg_advisory_lock(1), set_config('search_path', 'public', false)");
    return pidOf(database);
  });
  const second = await kept.use({ ...postgres, statementTimeoutMs: 5000 }, async (database) => {
    const state = await database.row(`
      SELECT current_setting('work_mem') AS work_mem, current_setting('enable_seqscan') AS seqscan,
             current_setting('search_path') AS path, current_setting('statement_timeout') AS timeout,
             to_regclass('pg_temp.t') AS t, (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') AS locks,
             (SELECT count(*) FROM pg_prepared_statements WHERE name = 'p') AS prepared`);
    return { pid: await pidOf(database), state };
  });
  expect(second).toEqual({
    pid: first,
    state: { work_mem: "1MB", seqscan: "on", path: "pg_catalog", timeout: "5s", t: null, locks: "0", prepared: "0" },
  });
  expect(await kept.use({ ...postgres, database: "template1" }, pidOf)).not.toBe(first);
});

test("after an error, or a signal, nobody gets it again", async () => {
  const kept = open(2);
  const pids: string[] = [];
  const fails = kept.use(postgres, async (database) => {
    pids.push(await pidOf(database));
    await database.query("SELECT 1/0");
  });
  await expect(fails).rejects.toMatchObject({ code: "22012" });
  const stop = new AbortController();
  const stopped = kept.use({ ...postgres, signal: stop.signal }, async (database) => {
    pids.push(await pidOf(database));
    setTimeout(() => stop.abort(new Error("the limit")), 50);
    await database.query("SELECT pg_sleep(1)");
  });
  await expect(stopped).rejects.toThrow("the limit");
  pids.push(await kept.use(postgres, pidOf));
  expect(new Set(pids).size).toBe(3);
});

test("one that the server has ended meanwhile is replaced without a word", async () => {
  const kept = open(2);
  const first = await kept.use(postgres, pidOf);
  await withDatabase(server, {}, (database) => database.query("SELECT pg_terminate_backend($1)", [first]));
  expect(await kept.use(postgres, pidOf)).not.toBe(first);
});

/** In sessions of their own: none ends before all have begun. */
async function useAtOnce(kept: KeptSessions, count: number): Promise<void> {
  let begun = 0;
  let allHaveBegun = () => {};
  const together = new Promise<void>((resolve) => {
    allHaveBegun = resolve;
  });
  const one = () =>
    kept.use(postgres, async () => {
      if (++begun === count) allHaveBegun();
      await together;
    });
  await Promise.all(Array.from({ length: count }, one));
}

test("no more of them stay than were asked for, and none after the end", async () => {
  const kept = open(1);
  await useAtOnce(kept, 3);
  await waitFor("all but one to end", async () => (await others()) === 1);
  await kept.use(postgres, () => kept.close());
  await waitFor("the last one to end", async () => (await others()) === 0);
});

test("the first ones stay, because questions go through the databases in order, and the last ones", async () => {
  const databases = Array.from({ length: MOST }, (_, i) => `d${i}`);
  await withDatabase(server, {}, async (database) => {
    for (const name of databases) await database.query(`CREATE DATABASE ${name}`);
  });
  const kept = open(MOST - 2);
  for (const database of databases) await kept.use({ database }, pidOf);
  await withDatabase(server, {}, (database) =>
    waitFor("two of them to end", async () => {
      const rows = await database.query<{ datname: string }>(
        "SELECT datname FROM pg_stat_activity WHERE datname LIKE 'd%' ORDER BY backend_start",
      );
      return rows.map(({ datname }) => datname).join(" ") === "d0 d1 d4 d5 d6 d7 d8 d9 d10 d11";
    }),
  );
});

test("they make room where the server has no connection left", async () => {
  const kept = open(MOST);
  await useAtOnce(kept, MOST);
  await expect(others()).rejects.toMatchObject({ code: "53300" });
  expect(await kept.use({ ...postgres, database: "template1" }, pidOf)).toMatch(/^\d+$/);
});

/** With these checks only. */
const verifyWith = async (...checks: Check<Record<string, unknown>>[]) =>
  (
    await verifyInstance({
      ...{
        conninfo: server,
        receipt: null,
        evidence: null,
        level: "quick",
        detach: "restore-test",
        jobs: 1,
        queries: [],
      },
      ...{ checkTimeoutMs: 20_000, maxRpoMs: 0, budgetMs: 0, ledger: {}, checks: checks as Check[] },
      log: { info() {}, warn() {}, error() {}, progress: () => ({ update() {}, end() {} }) },
      signal: new AbortController().signal,
    })
  ).checks;

test("where there is no connection left, and all are in use, one is waited for, but not for long", async () => {
  const kept = open(0);
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let begun = 0;
  const useOne = () =>
    kept.use(postgres, () => {
      begun++;
      return released;
    });
  const uses = Array.from({ length: MOST }, useOne);
  await waitFor("all of them", () => begun === MOST);
  await expect(kept.use(postgres, pidOf)).rejects.toMatchObject({ code: "53300" });
  const late = kept.use(postgres, pidOf);
  setTimeout(release, 300);
  expect(await late).toMatch(/^\d+$/);
  await Promise.all(uses);
});

test("the checks use theirs again, and stay in no template, where CREATE DATABASE would fail meanwhile", async () => {
  const check: Check<Record<string, unknown>> = {
    id: "sessions",
    claim: "consistency",
    levels: EVERY_LEVEL,
    async collect(edge) {
      const first = await edge.sql("postgres", pidOf);
      await edge.sql("template1", pidOf);
      await edge.sql("postgres", (database) => database.query("SET work_mem = '64kB'"));
      await withDatabase(server, {}, (database) => database.query("CREATE DATABASE meanwhile"));
      return {
        again: (await edge.sql("postgres", pidOf)) === first,
        own: await edge.newSession("postgres", pidOf),
        first,
      };
    },
    judge: ({ again, own, first }) => ({ status: again && own !== first ? "pass" : "fail", summary: "sessions" }),
  };
  expect(await verifyWith(check)).toMatchObject([{ id: "sessions", status: "pass" }]);
});

test("checks that go through all databases share a session in each, however few may stay", async () => {
  const pids = new Map<string, string[]>();
  const asks = (id: string): Check<Record<string, unknown>> => ({
    id,
    claim: "consistency",
    levels: EVERY_LEVEL,
    stage: "databases",
    async collect(edge) {
      const names = (await edge.databases()).filter((name) => !name.startsWith("template"));
      await edge.eachDatabase(names, async (name) => {
        pids.set(name, [...(pids.get(name) ?? []), await edge.sql(name, pidOf)]);
      });
      return {};
    },
    judge: () => ({ status: "pass", summary: "asked" }),
  });
  expect(await verifyWith(asks("one"), asks("two"), asks("three"))).toMatchObject(Array(3).fill({ status: "pass" }));
  expect(pids.size).toBeGreaterThan(MOST);
  for (const [database, of] of pids) expect([database, of.length, new Set(of).size]).toEqual([database, 3, 1]);
});
