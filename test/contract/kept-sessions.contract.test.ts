/** Sessions that are used again, against a real PostgreSQL. */

import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Database, withDatabase } from "../../lib/io/database.ts";
import { type KeptSessions, keepSessions } from "../../lib/io/kept-sessions.ts";
import type { Conninfo } from "../../lib/postgres/conninfo.ts";
import { type Lab, openLab } from "../lab/lab.ts";
import { waitFor } from "../lab/process.ts";

let lab: Lab;
let server: Conninfo;

beforeAll(async () => {
  lab = await openLab("kept");
  const args = ["-D", lab.path("data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
  await lab.mustRun("initdb", args);
  const settings = {
    ...{ port: 5432, listen_addresses: "", unix_socket_directories: lab.dir, fsync: "off" },
    ...{ max_connections: 6, superuser_reserved_connections: 0, max_wal_senders: 0 },
  };
  const postgres = lab.startService(
    "postgres",
    "postgres",
    ["-D", lab.path("data"), ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    { deathSignal: "QUIT" },
  );
  await postgres.waitForLog(/database system is ready to accept connections/);
  server = { host: lab.dir, user: "postgres", dbname: "postgres" };
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

test("no more of them stay than were asked for, and none after the end", async () => {
  const kept = open(1);
  await Promise.all([1, 2, 3].map(() => kept.use(postgres, (database) => database.query("SELECT pg_sleep(0.1)"))));
  await waitFor("all but one to end", async () => (await others()) === 1);
  const late = kept.use(postgres, (database) => database.query("SELECT pg_sleep(0.1)"));
  await kept.close();
  await late;
  await waitFor("the last one to end", async () => (await others()) === 0);
});

test("they make room where the server has no connection left", async () => {
  const kept = open(10);
  await Promise.all(
    Array.from({ length: 6 }, () => kept.use(postgres, (database) => database.query("SELECT pg_sleep(0.1)"))),
  );
  expect(await kept.use({ ...postgres, database: "template1" }, pidOf)).toMatch(/^\d+$/);
});
