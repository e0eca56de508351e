/** The fleet's record against a real PostgreSQL: who may do what at once, and what is left after everything that can happen. */

import { appendFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { connect as connectTo, createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import type { RestoreError } from "../../lib/errors.ts";
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
import { type Service as Process, signalProcess, waitFor } from "./process.ts";
import { query, startPostgres, startSource, value } from "./source.ts";

const lab = useLab("fleet-record", async (lab) => {
  const source = await startSource(lab, {
    stanza: "record",
    parameters: { archive_mode: "off", max_connections: 100 },
  });
  const extension = "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'";
  const hasTimescale = (await value(source, extension)) === "1";
  if (hasTimescale) {
    await query(source, "ALTER SYSTEM SET shared_preload_libraries = 'timescaledb'");
    await source.service.stop("SIGINT");
    source.service = await startPostgres(lab, source);
  }
  return { source, hasTimescale };
});

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

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function reasonOf(work: Promise<unknown>): Promise<RestoreError> {
  return work.then(
    () => {
      throw new Error("it did not fail");
    },
    (reason) => reason,
  );
}

const TSX = createRequire(import.meta.url).resolve("tsx");
const SCHEDULER = fileURLToPath(new URL("fleet-scheduler.ts", import.meta.url));

function startScheduler(settings: SchedulerSettings): Process {
  const args = [
    "--import",
    TSX,
    SCHEDULER,
    JSON.stringify(settings, (_, v) => (v === Number.POSITIVE_INFINITY ? 1e9 : v)),
  ];
  // The repository may lie where only root can read.
  const scheduler = lab().startService(settings.name, process.execPath, args, { asRoot: true });
  cleanUps.push(() => {
    scheduler.kill("SIGKILL");
    return scheduler.ended;
  });
  return scheduler;
}

/** When it is told to, it hands on the next COMMIT, waits for the server's answer, and cuts the connection instead. */
async function startForgetfulProxy(target: number) {
  const port = await lab().freePort();
  let [isAsked, forgotten] = [false, 0];
  const sockets = new Set<Socket>();
  const listener = createServer((client) => {
    const upstream = connectTo(target, "127.0.0.1");
    let isForgetting = false;
    client.on("data", (data) => {
      if (isAsked && data.includes("COMMIT\0")) [isAsked, isForgetting] = [false, true];
      upstream.write(data);
    });
    upstream.on("data", (data) => {
      if (!isForgetting) return client.write(data);
      forgotten++;
      client.destroy();
    });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("close", () => to.destroy()).on("error", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(port, "127.0.0.1", resolve));
  cleanUps.push(async () => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    port,
    forgotten: () => forgotten,
    forgetNext() {
      isAsked = true;
    },
  };
}

const endSessions = (conninfo: string, scheduler: string) =>
  query(
    { conninfo },
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE application_name = $1 AND datname = current_database()`,
    { values: [`patroni-restore fleet ${scheduler}`] },
  );

/** The application name of whose session holds the lock. */
const leaderOf = async (conninfo: string) =>
  (
    await query(
      { conninfo },
      `SELECT application_name FROM pg_stat_activity WHERE pid IN (SELECT pid FROM pg_locks l JOIN pg_database d
         ON d.oid = l.database WHERE datname = current_database() AND locktype = 'advisory' AND objid = 1 AND granted)`,
    )
  )[0]?.application_name;

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
    const marking = change(begun, "marking");
    await store.record(marking);
    const running = (await store.changes()).running;
    expect(running).toEqual([{ ...begun, statuses: ["requested", "marking"], statusAt: marking.at }]);
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

describe("the schema", () => {
  test("is made once when five schedulers start at the same time", async () => {
    const conninfo = await newDatabase();
    const stores = await Promise.all(["a", "b", "c", "d", "e"].map((name) => open(conninfo, name)));
    expect(stores.map((store) => store.problem())).toEqual([null, null, null, null, null]);
    expect(await ask(conninfo, "SELECT version FROM migrations")).toEqual([{ version: "1" }]);
    await waitFor("one of them to lead", () => stores.some((store) => store.leads()));
    expect(stores.filter((store) => store.leads())).toHaveLength(1);
  });

  test("of a newer program is refused, by its number", async () => {
    const conninfo = await newDatabase();
    await (await open(conninfo)).close();
    await ask(conninfo, "INSERT INTO migrations (version) VALUES (99)");
    await expect(open(conninfo)).rejects.toThrow(/has version 99, and this program knows \d+ at most/);
  });

  test("that is somebody else's is refused, and nothing is changed in it", async () => {
    const conninfo = await newDatabase();
    await query({ conninfo }, "CREATE SCHEMA patroni_restore_fleet CREATE TABLE services (whose text)");
    await expect(open(conninfo)).rejects.toThrow(/is not a record of fleet/);
    const tables = await query(
      { conninfo },
      "SELECT relname FROM pg_class WHERE relnamespace = 'patroni_restore_fleet'::regnamespace",
    );
    expect(tables).toEqual([{ relname: "services" }]);
  });

  test("that may not be made is an error with the statement that allows it, and that statement is enough", async () => {
    const conninfo = await newDatabase();
    await query({ conninfo }, `CREATE ROLE "Fleet Role" LOGIN`);
    const asRole = formatConninfo({ ...parseConninfo(conninfo), user: "Fleet Role" });
    const error = await reasonOf(open(asRole));
    expect(error.message).toMatch(
      /role "Fleet Role" may not create schema patroni_restore_fleet in database "record_\d+"/,
    );
    await query({ conninfo }, /CREATE SCHEMA [^;]*;/.exec(error.hint ?? "")?.[0] ?? "");
    const store = await openLeader(asRole);
    await store.seen([service("ns/one")]);
    const begun = newTest("ns/one");
    expect(await store.begin(begun, LIMITS)).toBeNull();
    await store.record(change(begun, "healthy", { end: healthy }));
    expect((await store.tests("ns/one", 10)).map(({ status }) => status)).toEqual(["healthy"]);
  });

  test("whose tables another role made needs the grants that the error names", async () => {
    const conninfo = await newDatabase();
    await (await open(conninfo)).close();
    await query({ conninfo }, "CREATE ROLE second LOGIN");
    const asSecond = formatConninfo({ ...parseConninfo(conninfo), user: "second" });
    for (const expected of [/GRANT USAGE ON SCHEMA/, /GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES/]) {
      const error = await reasonOf(open(asSecond));
      expect(error.hint).toMatch(expected);
      await query({ conninfo }, /(GRANT [^;]*;)/.exec(error.hint ?? "")?.[1] ?? "");
    }
    const store = await openLeader(asSecond);
    expect(await store.begin(newTest("ns/one"), LIMITS)).toBeNull();
  });

  test("lets a role that may only read ask the views, and nothing else", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    expect(await store.begin(newTest("ns/one"), LIMITS)).toBeNull();
    await query(
      { conninfo },
      `CREATE ROLE grafana LOGIN; GRANT USAGE ON SCHEMA patroni_restore_fleet TO grafana;
       GRANT SELECT ON ALL TABLES IN SCHEMA patroni_restore_fleet TO grafana`,
    );
    const asReader = formatConninfo({ ...parseConninfo(conninfo), user: "grafana" });
    for (const view of ["success_rate", "rto_percentiles", "oldest_untested", "tests_in_progress", "failures"]) {
      await ask(asReader, `SELECT * FROM ${view}`);
    }
    await expect(ask(asReader, "DELETE FROM slots")).rejects.toThrow(/permission denied/);
  });

  test("is not waited for when the database does not exist", async () => {
    const conninfo = await newDatabase();
    const elsewhere = formatConninfo({ ...parseConninfo(conninfo), dbname: "nowhere" });
    await expect(open(elsewhere)).rejects.toThrow('database "nowhere" does not exist');
  });
});

describe("another server after a failover or a restore", () => {
  test("with a newer schema is not written to, and the problem says so", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    await ask(conninfo, "INSERT INTO migrations (version) VALUES (99)");
    await endSessions(conninfo, "a");
    await waitFor("the problem", () => /has version 99/.test(store.problem() ?? ""));
    expect(store.leads()).toBe(false);
    await expect(store.begin(newTest("ns/one"), LIMITS)).rejects.toThrow(/has version 99/);
    await ask(conninfo, "DELETE FROM migrations WHERE version = 99");
    await waitFor("it to lead again", () => store.leads());
  });

  test("that is younger in transactions tells everything once, and not for ever", async () => {
    const conninfo = await newDatabase();
    const store = await open(conninfo);
    await store.seen([service("ns/one"), service("ns/two")]);
    await store.changes();
    await ask(conninfo, "UPDATE services SET changed_in = '99999999999'");
    await endSessions(conninfo, "a");
    await waitFor("the next session", async () => (await store.changes().catch(() => null))?.standings.size === 2);
    expect((await store.changes()).standings.size).toBe(0);
    await store.want("ns/one", "somebody");
    expect([...(await store.changes()).standings.keys()]).toEqual(["ns/one"]);
  });
});

describe("closing", () => {
  test("by the signal leaves no session and no leader, and what is recorded later is told to be lost", async () => {
    const conninfo = await newDatabase();
    const stop = new AbortController();
    const store = await open(conninfo, "a", { signal: stop.signal });
    await waitFor("it to lead", () => store.leads());
    const begun = newTest("ns/one");
    await store.begin(begun, LIMITS);
    expect(await store.tests(null, 10)).toHaveLength(1);
    const record = store.record(change(begun, "marking"));
    stop.abort();
    await record;
    await store.close();
    await expect(store.record(change(begun, "restoring"))).rejects.toThrow("the record is closed");
    const sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'patroni-restore fleet%'";
    await waitFor(
      "the sessions to end",
      async () => (await askOne(conninfo, `${sessions} AND datname = current_database()`)) === "0",
    );
    expect(await askOne(conninfo, "SELECT status FROM tests")).toBe("marking");
  });
});

describe("limits", () => {
  test("hold for sessions that take slots at once, and no service has two", async () => {
    const conninfo = await newDatabase();
    await (await open(conninfo)).close();
    const limits = { ...LIMITS, tests: 4, perNamespace: 3, perGroup: { node: 2 }, weight: 9 };
    const checker = watchSlots(conninfo, limits);
    let [taken, refused] = [0, 0];
    const racer = async (n: number) => {
      const database = openLongLivedDatabase(parseConninfo(conninfo), sessionOptions(`racer ${n}`));
      await database.firstAttempt;
      for (let round = 0; round < 40; round++) {
        const picked = Math.floor(Math.random() * 10);
        const more = { groups: { node: `n${picked % 3}` }, weight: 1 + (picked % 4) };
        const begun = newTest(`ns${picked % 2}/s${picked}`, more);
        const why = await database.transaction((db) => takeSlot(db, begun, limits));
        if (why !== null) refused++;
        else {
          taken++;
          await pause(Math.random() * 10);
          await database.use((db) => db.query("DELETE FROM slots WHERE test = $1", [begun.id]));
        }
      }
      await database.close();
    };
    await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(racer));
    const { broken, looks, most } = await checker.stop();
    expect(broken).toEqual([]);
    // Otherwise nothing was tried.
    expect(most).toBeGreaterThan(1);
    expect(taken).toBeGreaterThan(20);
    expect(refused).toBeGreaterThan(0);
    expect(looks).toBeGreaterThan(20);
  });

  test("are told in words; a test that has its slot already keeps it; a standby begins nothing", async () => {
    const conninfo = await newDatabase();
    const leader = await openLeader(conninfo, "a");
    const standby = await open(conninfo, "b");
    const first = newTest("ns/one");
    expect(await standby.begin(first, LIMITS)).toBe("this scheduler does not lead");
    expect(await leader.begin(first, { ...LIMITS, isPaused: true })).toBe("the fleet is paused");
    expect(await leader.begin(first, LIMITS)).toBeNull();
    expect(await leader.begin(first, LIMITS)).toBeNull();
    expect(await leader.begin(newTest("ns/one"), LIMITS)).toBe(`test ${first.id} of it is in progress`);
    const second = newTest("ns/two");
    expect(await leader.begin(second, { ...LIMITS, tests: 1 })).toMatch(/no more than 1 may be/);
    expect(await leader.begin(second, { ...LIMITS, perGroup: { node: 1 } })).toBe("1 are in progress with node n1");
    expect(await askOne(conninfo, "SELECT count(*) FROM tests")).toBe("1");
    await standby.record(change(first, "error", { end: failed }));
    expect(await leader.begin(second, { ...LIMITS, tests: 1 })).toBeNull();
  });

  test("hold while three schedulers work and one of them is killed every second; no slot stays", async () => {
    const conninfo = await newDatabase();
    await (await open(conninfo)).close();
    const limits = { ...LIMITS, tests: 4, perNamespace: 3, perGroup: { node: 2 } };
    const services = Array.from({ length: 12 }, (_, n) => `ns${n % 2}/${"s".repeat(n)}`);
    const checker = watchSlots(conninfo, limits);
    const start = (n: number) => startScheduler({ name: `s${n}`, conninfo, limits, services });
    const running = [1, 2, 3].map(start);
    await waitFor("the first tests", async () => Number(await askOne(conninfo, "SELECT count(*) FROM tests")) > 5);
    for (let n = 4; n < 12; n++) {
      await pause(1_000);
      const leader = await leaderOf(conninfo);
      const killed = running.find(({ name }) => leader === `patroni-restore fleet ${name}`) ?? (running[0] as Process);
      killed.kill("SIGKILL");
      running.splice(running.indexOf(killed), 1, start(n));
    }
    for (const scheduler of running) scheduler.kill("SIGKILL");
    await Promise.all(running.map(({ ended }) => ended));
    const { broken, looks, most } = await checker.stop();
    expect(broken).toEqual([]);
    expect(most).toBeGreaterThan(1);
    expect(looks).toBeGreaterThan(20);
    expect(await askOne(conninfo, "SELECT count(DISTINCT scheduler) > 2 FROM tests")).toBe("t");
    // Who comes last finds all that was left, and ends it.
    const last = await openLeader(conninfo, "last");
    for (const left of (await last.changes()).running) await last.record(change(left, "reaped"));
    expect(await askOne(conninfo, "SELECT count(*) FROM slots")).toBe("0");
    expect(await askOne(conninfo, "SELECT count(*) FROM tests WHERE ended_at IS NULL")).toBe("0");
    const twice =
      "SELECT count(*) FROM (SELECT FROM status_changes GROUP BY test, status HAVING count(*) > 1) AS twice";
    expect(await askOne(conninfo, twice)).toBe("0");
    const differing = `SELECT count(*) FROM tests t WHERE (SELECT count(*) FROM jsonb_object_keys(statuses))
      <> (SELECT count(*) FROM status_changes c WHERE c.test = t.id)`;
    expect(await askOne(conninfo, differing)).toBe("0");
  });
});

/** Looks at the slots all the time, and keeps those that break a limit. */
function watchSlots(conninfo: string, limits: Limits) {
  const broken: unknown[] = [];
  let [looks, most, isWatching] = [0, 0, true];
  const done = withDatabase(parseConninfo(conninfo), sessionOptions("checker"), async (db) => {
    while (isWatching) {
      const rows = await db.query<Record<string, string>>(
        `SELECT s.test, s.service, t.namespace, t.groups->>'node' AS node, t.weight
         FROM slots s JOIN tests t ON t.id = s.test`,
      );
      looks++;
      most = Math.max(most, rows.length);
      if (rows.length > 0 && breaks(rows, limits)) broken.push(rows);
    }
  });
  return {
    async stop() {
      isWatching = false;
      await done;
      return { broken, looks, most };
    },
  };
}

function breaks(rows: readonly Record<string, string>[], limits: Limits): boolean {
  const most = (key: string) => Math.max(...rows.map((row) => rows.filter((other) => other[key] === row[key]).length));
  const weight = rows.reduce((sum, row) => sum + Number(row.weight), 0);
  return (
    rows.length > limits.tests ||
    most("service") > 1 ||
    most("namespace") > limits.perNamespace ||
    most("node") > (limits.perGroup.node ?? Number.POSITIVE_INFINITY) ||
    (rows.length > 1 && weight > limits.weight)
  );
}

describe("status changes", () => {
  test("are recorded once, forward only, and an end is final", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    const begun = newTest("ns/one");
    await store.begin(begun, LIMITS);
    await Promise.all([1, 2, 3].map(() => store.record(change(begun, "recovering"))));
    await store.record(change(begun, "recovering"));
    await store.record(change(begun, "restoring"));
    expect(await store.test(begun.id)).toMatchObject({ status: "recovering" });
    await store.record(change(begun, "error", { end: failed }));
    await store.record(change(begun, "error", { end: failed }));
    await store.record(change(begun, "reaped", { end: { ...failed, outcome: "infra" } }));
    await store.record(change(begun, "verifying"));
    const rows = await ask(conninfo, "SELECT status, outcome, error_name FROM status_changes ORDER BY recorded_at");
    const plain = { outcome: null, error_name: null };
    expect(rows).toEqual([
      { status: "requested", ...plain },
      { status: "recovering", ...plain },
      { status: "restoring", ...plain },
      { status: "error", outcome: "restore", error_name: "RECOVERY_FAILED" },
      { status: "verifying", ...plain },
    ]);
    expect(await store.test(begun.id)).toMatchObject({ status: "error", end: { outcome: "restore" } });
    expect((await store.changes()).standings.get("ns/one")?.last).toMatchObject({ outcome: "restore", attempts: 1 });
    expect(store.log).toContain(`status reaped of test ${begun.id} came after its end and changes nothing`);
  });

  test("count the attempts with the same outcome, and remember the last healthy one", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    await store.changes();
    const one = async (status: StatusChange["status"], more: Partial<StatusChange>) => {
      const begun = newTest("ns/one");
      await store.begin(begun, LIMITS);
      await store.record(change(begun, status, more));
      return (await store.changes()).standings.get("ns/one");
    };
    const proven = await one("healthy", { end: healthy });
    expect(await one("error", { end: failed })).toMatchObject({ last: { attempts: 1, error: failed.error } });
    const again = await one("error", { end: failed });
    expect(again).toMatchObject({ last: { attempts: 2 }, lastHealthyAt: proven?.last?.endedAt });
    expect(await one("reaped", {})).toMatchObject({ last: { attempts: 1, outcome: "infra" } });
  });

  test("of a report that jsonb would refuse, or of a test that nobody knows, hold up nothing", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    const begun = newTest("ns/one");
    await store.begin(begun, LIMITS);
    await store.record(change(newTest("ns/other"), "marking"));
    const report = {
      ...newReport({ id: "r", scope: "nul \0 and half \ud800 of a pair", stanza: "\\u0000", startedAt: new Date() }),
      coverage: { "key \0": 1 },
    };
    await store.record(change(begun, "healthy", { end: { ...healthy, report } }));
    expect((await store.test(begun.id))?.report).toMatchObject({
      scope: "nul \ufffd and half \ufffd of a pair",
      stanza: "\\u0000",
      coverage: { "key \ufffd": 1 },
    });
    expect(await askOne(conninfo, "SELECT count(*) FROM slots")).toBe("0");
  });

  test("wait while the database is away, and are all there once and in order when it is back", async () => {
    const { source } = lab();
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    const all = [1, 2, 3].map((n) => newTest(`ns/s${n}`));
    for (const begun of all) await store.begin(begun, LIMITS);
    const statuses = ["marking", "restoring", "recovering", "verifying", "healthy"] as const;
    const recorded: Promise<void>[] = [];
    const say = (from: number, to: number) => {
      for (const status of statuses.slice(from, to)) {
        for (const begun of all) {
          recorded.push(store.record(change(begun, status, status === "healthy" ? { end: healthy } : {})));
        }
      }
    };
    say(0, 2);
    // While the first ones are being written.
    await source.service.stop("SIGQUIT");
    say(2, 5);
    await waitFor("the store to notice", () => store.problem() !== null);
    expect(store.leads()).toBe(false);
    await expect(store.begin(newTest("ns/s4"), LIMITS)).rejects.toThrow(/the database is away/);
    await expect(store.changes()).rejects.toThrow(/the database is away/);
    expect(store.pending()).toBeGreaterThanOrEqual(9);
    source.service = await startPostgres(lab(), source);
    await Promise.all(recorded);
    expect(store.pending()).toBe(0);
    for (const begun of all) {
      const sql = `SELECT status FROM status_changes WHERE test = '${begun.id}' ORDER BY recorded_at`;
      expect((await ask(conninfo, sql)).map(({ status }) => status)).toEqual(["requested", ...statuses]);
    }
    expect(await askOne(conninfo, "SELECT count(*) FROM slots")).toBe("0");
    await waitFor("it to lead again", () => store.leads());
    expect((await store.changes()).standings.size).toBe(3);
  });

  test("and slots whose COMMIT is done and never answered are not taken twice", async () => {
    const conninfo = await newDatabase();
    const proxy = await startForgetfulProxy(Number(parseConninfo(conninfo).port));
    const store = await openLeader(formatConninfo({ ...parseConninfo(conninfo), port: String(proxy.port) }));
    const begun = newTest("ns/one");
    proxy.forgetNext();
    await expect(store.begin(begun, LIMITS)).rejects.toThrow(/the database is away/);
    await waitFor("it to lead again", () => store.leads());
    expect((await store.changes()).running).toMatchObject([{ id: begun.id, scheduler: "a" }]);
    expect(await store.begin(begun, LIMITS)).toBeNull();
    for (const status of ["marking", "error"] as const) {
      proxy.forgetNext();
      await store.record(change(begun, status, status === "error" ? { end: failed } : {}));
    }
    expect(proxy.forgotten()).toBe(3);
    const counts = "SELECT status, count(*) FROM status_changes GROUP BY status ORDER BY status";
    expect(await ask(conninfo, counts)).toEqual(
      ["error", "marking", "requested"].map((status) => ({ status, count: "1" })),
    );
    expect(await ask(conninfo, "SELECT attempts, last_test FROM services")).toEqual([
      { attempts: "1", last_test: begun.id },
    ]);
  });

  test("whose session dies while they are written are written once", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    for (let round = 0; round < 20; round++) {
      await waitFor("it to lead", () => store.leads());
      const begun = newTest("ns/one");
      await waitFor("a slot", () =>
        store.begin(begun, LIMITS).then(
          (why) => why === null,
          () => false,
        ),
      );
      const records = [store.record(change(begun, "marking")), store.record(change(begun, "error", { end: failed }))];
      await pause(Math.random() * 8);
      await endSessions(conninfo, "a");
      await Promise.all(records);
    }
    const counts = "SELECT status, count(*) FROM status_changes GROUP BY status ORDER BY status";
    expect(await ask(conninfo, counts)).toEqual(
      ["error", "marking", "requested"].map((status) => ({ status, count: "20" })),
    );
    expect(await askOne(conninfo, "SELECT attempts FROM services")).toBe("20");
  });
});

describe("the leader", () => {
  test("that loses its session is none until it has the lock again, and somebody soon has it", async () => {
    const conninfo = await newDatabase();
    const stores = [await openLeader(conninfo, "a"), await open(conninfo, "b")];
    const [first] = stores as [(typeof stores)[number]];
    await endSessions(conninfo, "a");
    await waitFor("it to know", () =>
      first.log.includes("this scheduler does not lead any more: the database is away"),
    );
    await waitFor("one of them to lead", () => stores.some((store) => store.leads()));
    const leader = stores.findIndex((store) => store.leads());
    expect(await leaderOf(conninfo)).toBe(`patroni-restore fleet ${["a", "b"][leader]}`);
    expect(await stores[leader]?.begin(newTest("ns/one"), LIMITS)).toBeNull();
    await waitFor("the first one to be back", () => first.problem() === null);
    expect(await stores[1 - leader]?.begin(newTest("ns/two"), LIMITS)).toBe("this scheduler does not lead");
  });

  test("is followed at once when its process is killed", async () => {
    const conninfo = await newDatabase();
    const killed = startScheduler({ name: "killed", conninfo, limits: LIMITS, services: [] });
    await killed.waitForLog(/this scheduler leads/);
    const standby = await open(conninfo, "standby");
    expect(await standby.begin(newTest("ns/one"), LIMITS)).toBe("this scheduler does not lead");
    killed.kill("SIGKILL");
    await waitFor("the standby to lead", () => standby.leads(), 10_000);
  });

  test("that hangs is disconnected, and knows that it leads no more when it goes on", async () => {
    const admin = await newDatabase();
    // A role may end sessions of its own, and needs no more.
    await query(
      { conninfo: admin },
      "CREATE ROLE plain LOGIN; CREATE SCHEMA patroni_restore_fleet AUTHORIZATION plain",
    );
    const conninfo = formatConninfo({ ...parseConninfo(admin), user: "plain" });
    const hung = startScheduler({ name: "hung", conninfo, limits: LIMITS, services: [] });
    await hung.waitForLog(/this scheduler leads/);
    const standby = await open(conninfo, "standby");
    signalProcess(hung.pid, "SIGSTOP");
    await waitFor("the standby to lead", () => standby.leads(), 60_000);
    expect(standby.log).toContain("the leader said nothing for 25 s and was disconnected");
    signalProcess(hung.pid, "SIGCONT");
    await hung.waitForLog(/this scheduler does not lead any more/);
    expect(await standby.begin(newTest("ns/one"), LIMITS)).toBeNull();
    expect(await hung.log()).not.toMatch(/does not lead any more[\s\S]*this scheduler leads/);
  });

  test("that is closed, or does not want to, makes room at once", async () => {
    const conninfo = await newDatabase();
    let mayLead = true;
    const first = await open(conninfo, "first", { mayLead: () => mayLead });
    await waitFor("the first to lead", () => first.leads());
    const second = await open(conninfo, "second");
    mayLead = false;
    await waitFor("the second to lead", () => second.leads());
    expect(first.leads()).toBe(false);
    mayLead = true;
    await second.close();
    await waitFor("the first to lead again", () => first.leads());
  });
});

describe("changes", () => {
  test("are never missed when transactions are committed in another order than they began", async () => {
    const conninfo = await newDatabase();
    const store = await open(conninfo);
    const services = Array.from({ length: 8 }, (_, n) => service(`ns/s${n}`));
    await store.seen(services);
    const told = new Map((await store.changes()).standings);
    expect(told.size).toBe(8);
    let isWriting = true;
    const writer = async (n: number) =>
      withDatabase(parseConninfo(conninfo), sessionOptions(`writer ${n}`), async (db) => {
        for (let round = 1; round <= 60; round++) {
          await db.query("BEGIN");
          // The transaction gets its number here, and others theirs before it is committed.
          await db.query(
            "UPDATE services SET backups_since_test = $2, changed_in = pg_current_xact_id() WHERE id = $1",
            [`ns/s${n}`, round],
          );
          await pause(Math.random() * 6);
          await db.query("COMMIT");
        }
      });
    const reader = (async () => {
      let reads = 0;
      for (let isLast = false; !isLast; reads++) {
        isLast = !isWriting;
        for (const [id, standing] of (await store.changes()).standings) {
          expect(standing.backupsSinceTest).toBeGreaterThan(told.get(id)?.backupsSinceTest ?? -1);
          told.set(id, standing);
        }
      }
      return reads;
    })();
    await Promise.all(services.map((_, n) => writer(n)));
    isWriting = false;
    expect(await reader).toBeGreaterThan(20);
    expect([...told.values()].map(({ backupsSinceTest }) => backupsSinceTest)).toEqual(services.map(() => 60));
    expect((await store.changes()).standings.size).toBe(0);
  });

  test("of one scheduler are told to the others", async () => {
    const conninfo = await newDatabase();
    const [a, b] = [await openLeader(conninfo, "a"), await open(conninfo, "b")];
    await a.seen([service("ns/one"), service("ns/two")]);
    expect([...(await b.changes()).standings.keys()].sort()).toEqual(["ns/one", "ns/two"]);
    await b.want("ns/two", "somebody");
    const { standings } = await a.changes();
    expect(standings.get("ns/two")?.wantedAt).toBeInstanceOf(Date);
    await expect(b.want("ns/three", "somebody")).rejects.toThrow('knows no service "ns/three"');
  });
});

describe("services", () => {
  test("that were seen are not written again, and one that comes back is told again", async () => {
    const conninfo = await newDatabase();
    const store = await open(conninfo);
    const all = [service("ns/one"), service("ns/two")];
    await store.seen(all);
    const rows = () => ask(conninfo, "SELECT id, ctid, xmin FROM services ORDER BY id");
    const before = await rows();
    await store.seen(all);
    expect(await rows()).toEqual(before);
    await store.changes();
    await store.gone(["ns/one"]);
    expect(await askOne(conninfo, "SELECT id FROM services WHERE gone_at IS NOT NULL")).toBe("ns/one");
    await store.seen([{ ...service("ns/one"), stanza: "other" }]);
    expect(await ask(conninfo, "SELECT stanza, gone_at FROM services WHERE id = 'ns/one'")).toEqual([
      { stanza: "other", gone_at: null },
    ]);
    expect([...(await store.changes()).standings.keys()]).toEqual(["ns/one"]);
  });

  test("want one test for one token, and count a backup once, whichever schedulers saw it", async () => {
    const conninfo = await newDatabase();
    const [a, b] = [await openLeader(conninfo, "a"), await open(conninfo, "b")];
    await a.seen([service("ns/one")]);
    const both = (work: (store: typeof a) => Promise<void>) => Promise.all([a, b].map(work));
    const standing = async () =>
      (await ask(conninfo, "SELECT wanted_at, backups_since_test AS backups FROM services"))[0];
    await both((store) => store.want("ns/one", "annotation", "1"));
    await both((store) => store.countBackup("ns/one", "20261122-100000F"));
    await both((store) => store.countBackup("ns/one", "20261122-100000F_20261123-100000I"));
    await a.countBackup("ns/one", "20261122-100000F");
    expect(await standing()).toMatchObject({ wanted_at: expect.any(String), backups: "2" });
    await a.begin(newTest("ns/one"), LIMITS);
    await both((store) => store.want("ns/one", "annotation", "1"));
    expect(await standing()).toEqual({ wanted_at: null, backups: "0" });
    await both((store) => store.want("ns/one", "annotation", "2"));
    expect((await standing())?.wanted_at).not.toBeNull();
  });
});

describe("with time", () => {
  /** A test that ended so many days ago. */
  async function endedTest(conninfo: string, id: string, more: { days: number; outcome: string; figures?: object }) {
    const test = newTest(id);
    const at = `now() - interval '${more.days} days'`;
    const isHealthy = more.outcome === "healthy";
    await ask(
      conninfo,
      `INSERT INTO tests VALUES ('${test.id}', '${id}', '${test.namespace}', '', 'demo', 'why', ${at}, ${at}, 'a', '{}', 1,
         '${isHealthy ? "healthy" : "error"}', ${at}, '{}', '${more.outcome}', ${at},
         ${isHealthy ? "NULL" : `'{"name": "RECOVERY_FAILED", "message": "WAL of ${test.id} is missing"}'`},
         ${more.figures === undefined ? "NULL" : `'${JSON.stringify(more.figures)}'`}, '{"a": "report"}');
       INSERT INTO status_changes SELECT ${at}, '${test.id}', '${id}', '', 'healthy';
       UPDATE services SET last_test = '${test.id}', last_outcome = '${more.outcome}', last_ended_at = ${at}
         ${isHealthy ? `, last_healthy_at = ${at}` : ""} WHERE id = '${id}'`,
    );
    return test.id;
  }

  test("reports go first and tests later, but for the last one of each service that is there and those in progress", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    await store.seen(["ns/one", "ns/two", "ns/three", "ns/gone", "ns/missing"].map(service));
    await endedTest(conninfo, "ns/gone", { days: 500, outcome: "healthy" });
    await store.gone(["ns/gone", "ns/missing"]);
    await ask(conninfo, "UPDATE services SET gone_at = now() - interval '500 days' WHERE id = 'ns/gone'");
    const oldest = await endedTest(conninfo, "ns/one", { days: 500, outcome: "healthy" });
    const old = await endedTest(conninfo, "ns/one", { days: 100, outcome: "healthy" });
    const young = await endedTest(conninfo, "ns/one", { days: 1, outcome: "healthy" });
    const only = await endedTest(conninfo, "ns/two", { days: 500, outcome: "healthy" });
    const running = newTest("ns/three", { requestedAt: new Date(Date.now() - 500 * DAY_MS) });
    await store.begin(running, LIMITS);
    const database = openLongLivedDatabase(parseConninfo(conninfo), sessionOptions("retention"));
    cleanUps.push(() => database.close());
    await database.firstAttempt;
    const retention = { reportsMs: 30 * DAY_MS, historyMs: 400 * DAY_MS };
    expect(await removeOld(database, retention, () => true)).toMatchObject({ services: 1, reports: 1, tests: 2 });
    const left = await ask(conninfo, "SELECT id, report IS NOT NULL AS report FROM tests ORDER BY id");
    expect(left).toEqual([
      { id: old, report: "f" },
      { id: young, report: "t" },
      { id: only, report: "t" },
      { id: running.id, report: "f" },
    ]);
    expect(await store.test(oldest)).toBeNull();
    expect(await askOne(conninfo, "SELECT string_agg(id, ' ' ORDER BY id) FROM services")).toBe(
      "ns/missing ns/one ns/three ns/two",
    );
    expect(await askOne(conninfo, "SELECT count(*) FROM status_changes")).toBe("2");
    expect(await removeOld(database, retention, () => true)).toEqual({ services: 0, reports: 0, tests: 0, changes: 0 });
  });

  test("the views say how it went", async () => {
    const conninfo = await newDatabase();
    const store = await openLeader(conninfo);
    await store.seen(["ns/good", "ns/bad", "ns/new", "ns/gone"].map(service));
    const figures = (rto: number) => ({ rto_ms: rto, phases: { restore: rto / 2 } });
    for (const rto of [1000, 2000, 3000]) {
      await endedTest(conninfo, "ns/good", { days: 3, outcome: "healthy", figures: figures(rto) });
    }
    await endedTest(conninfo, "ns/good", { days: 2, outcome: "infra" });
    await endedTest(conninfo, "ns/good", { days: 40, outcome: "restore" });
    await endedTest(conninfo, "ns/bad", { days: 6, outcome: "healthy", figures: figures(5000) });
    const broken = await endedTest(conninfo, "ns/bad", { days: 1, outcome: "restore" });
    await ask(conninfo, "UPDATE services SET first_seen_at = now() - interval '5 days' WHERE id = 'ns/new'");
    await store.gone(["ns/gone"]);
    const running = newTest("ns/new");
    await store.begin(running, LIMITS);

    expect(
      await ask(
        conninfo,
        "SELECT service, tests, healthy, failed, not_judged, success_rate FROM success_rate ORDER BY 1",
      ),
    ).toEqual([
      { service: "ns/bad", tests: "2", healthy: "1", failed: "1", not_judged: "0", success_rate: "0.5" },
      { service: "ns/good", tests: "4", healthy: "3", failed: "0", not_judged: "1", success_rate: "1" },
      { service: "ns/new", tests: "0", healthy: "0", failed: "0", not_judged: "0", success_rate: null },
    ]);
    expect(
      await ask(
        conninfo,
        "SELECT service, phase, tests, p50_ms, p99_ms FROM rto_percentiles ORDER BY service NULLS FIRST, phase",
      ),
    ).toEqual([
      { service: null, phase: "restore", tests: "4", p50_ms: "1250", p99_ms: "2470" },
      { service: null, phase: "total", tests: "4", p50_ms: "2500", p99_ms: "4940" },
      { service: "ns/bad", phase: "restore", tests: "1", p50_ms: "2500", p99_ms: "2500" },
      { service: "ns/bad", phase: "total", tests: "1", p50_ms: "5000", p99_ms: "5000" },
      { service: "ns/good", phase: "restore", tests: "3", p50_ms: "1000", p99_ms: "1490" },
      { service: "ns/good", phase: "total", tests: "3", p50_ms: "2000", p99_ms: "2980" },
    ]);
    expect(await ask(conninfo, "SELECT service, extract(day FROM age) AS days FROM oldest_untested")).toEqual([
      { service: "ns/bad", days: "6" },
      { service: "ns/new", days: "5" },
      { service: "ns/good", days: "3" },
    ]);
    expect(await ask(conninfo, "SELECT test, service, status, is_overdue, slot FROM tests_in_progress")).toEqual([
      { test: running.id, service: "ns/new", status: "requested", is_overdue: "f", slot: "0" },
    ]);
    expect(
      await ask(
        conninfo,
        "SELECT service, test, outcome, error_message, is_current FROM failures WHERE outcome = 'restore' AND service = 'ns/bad'",
      ),
    ).toEqual([
      {
        service: "ns/bad",
        test: broken,
        outcome: "restore",
        error_message: `WAL of ${broken} is missing`,
        is_current: "t",
      },
    ]);
  });
});

/** Debian has no package of it: these run where somebody has installed it for the newest PostgreSQL, or PG_BIN's. */
describe("with TimescaleDB", () => {
  const retentionPolicy = (conninfo: string) =>
    ask(
      conninfo,
      `SELECT proc_name, coalesce(config->>'drop_after', config->>'compress_after') AS after
       FROM timescaledb_information.jobs WHERE hypertable_name = 'status_changes' ORDER BY proc_name`,
    );
  const removeOldOf = async (conninfo: string) => {
    const database = openLongLivedDatabase(parseConninfo(conninfo), sessionOptions("retention"));
    await database.firstAttempt;
    const removed = await removeOld(database, { reportsMs: 30 * DAY_MS, historyMs: 400 * DAY_MS }, () => true);
    await database.close();
    return removed;
  };

  test("status changes move into a hypertable with its policies, as a role that owns only the schema", async (context) => {
    context.skip(!lab().hasTimescale, "TimescaleDB is not installed");
    const admin = await newDatabase();
    await query(
      { conninfo: admin },
      "CREATE ROLE tiger LOGIN; CREATE SCHEMA patroni_restore_fleet AUTHORIZATION tiger",
    );
    const conninfo = formatConninfo({ ...parseConninfo(admin), user: "tiger" });
    const before = await openLeader(conninfo, "before");
    const begun = newTest("ns/one");
    await before.begin(begun, LIMITS);
    await before.close();
    await query(
      { conninfo: admin },
      `CREATE SCHEMA "Time Scale"; CREATE EXTENSION timescaledb SCHEMA "Time Scale";
       GRANT USAGE ON SCHEMA "Time Scale" TO tiger`,
    );
    const store = await openLeader(conninfo, "after");
    expect(store.log).toContain("status changes are kept in a hypertable");
    await store.record(change(begun, "marking"));
    await store.record(change(begun, "marking"));
    await store.record(change(begun, "error", { end: failed }));
    const rows = await ask(conninfo, "SELECT status FROM status_changes ORDER BY recorded_at");
    expect(rows.map(({ status }) => status)).toEqual(["requested", "marking", "error"]);
    expect(await askOne(conninfo, `SELECT count(*) > 0 FROM "Time Scale".show_chunks('status_changes')`)).toBe("t");
    expect(await retentionPolicy(conninfo)).toEqual([
      { proc_name: "policy_compression", after: "14 days" },
      { proc_name: "policy_retention", after: "9600:00:00" },
    ]);
    expect(await removeOldOf(conninfo)).toEqual({ services: 0, reports: 0, tests: 0, changes: 0 });
    await store.close();
    const shorter = { retention: { reportsMs: DAY_MS, historyMs: 100 * DAY_MS } };
    const again = await open(conninfo, "again", shorter);
    expect(again.log.join()).not.toMatch(/hypertable|TimescaleDB/);
    expect((await retentionPolicy(conninfo))[1]?.after).toBe("2400:00:00");
  });

  test("a status that comes late goes into a chunk that is compressed already", async (context) => {
    context.skip(!lab().hasTimescale, "TimescaleDB is not installed");
    const conninfo = await newDatabase();
    await query({ conninfo }, "CREATE EXTENSION timescaledb");
    const store = await openLeader(conninfo);
    const begun = newTest("ns/one", { requestedAt: new Date(Date.now() - 60 * DAY_MS) });
    await store.begin(begun, LIMITS);
    await ask(conninfo, "SELECT public.compress_chunk(c) FROM public.show_chunks('status_changes') c");
    const at = new Date(Date.now() - 60 * DAY_MS + 1000);
    await store.record(change(begun, "marking", { at }));
    await store.record(change(begun, "error", { end: failed }));
    expect(await askOne(conninfo, "SELECT string_agg(status, ' ' ORDER BY at) FROM status_changes")).toBe(
      "requested marking error",
    );
  });

  test("of the Apache edition there is a hypertable, and the leader itself removes what is old", async (context) => {
    context.skip(!lab().hasTimescale, "TimescaleDB is not installed");
    const { source } = lab();
    const restart = async (license: string) => {
      // The server that is not told of the extension refuses ALTER SYSTEM.
      await appendFile(`${source.dataDir}/postgresql.conf`, `timescaledb.license = '${license}'\n`);
      await source.service.stop("SIGINT");
      source.service = await startPostgres(lab(), source);
    };
    await restart("apache");
    cleanUps.push(() => restart("timescale"));
    const conninfo = await newDatabase();
    await query({ conninfo }, "CREATE EXTENSION timescaledb");
    const store = await openLeader(conninfo);
    expect(store.log).toContain("status changes are kept in a hypertable");
    expect(store.log.join()).not.toContain("could not be used");
    expect(await retentionPolicy(conninfo)).toEqual([]);
    const begun = newTest("ns/one", { requestedAt: new Date(Date.now() - 500 * DAY_MS) });
    await store.begin(begun, LIMITS);
    await store.record(change(begun, "error", { end: failed }));
    expect(await removeOldOf(conninfo)).toEqual({ services: 0, reports: 0, tests: 0, changes: 1 });
    expect(await askOne(conninfo, "SELECT string_agg(status, ' ') FROM status_changes")).toBe("error");
  });
});
