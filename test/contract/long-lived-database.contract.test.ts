/** A connection that lives long, against a real PostgreSQL that goes away in every way it can. */

import { connect as connectTo, createServer, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { DatabaseAway, type LongLivedOptions, openLongLivedDatabase } from "../../lib/io/long-lived-database.ts";
import type { Conninfo } from "../../lib/postgres/conninfo.ts";
import { type Lab, openLab } from "../lab/lab.ts";
import { waitFor } from "../lab/process.ts";
import { startSource } from "../lab/source.ts";

let lab: Lab;
let server: Conninfo;
let proxy: Awaited<ReturnType<typeof startProxy>>;

beforeAll(async () => {
  lab = await openLab("long-lived");
  const { port } = await startSource(lab, { parameters: { archive_mode: "off" } });
  proxy = await startProxy(port);
  server = { host: "127.0.0.1", port: String(proxy.port), user: "postgres", dbname: "postgres" };
});

const cleanUps: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  proxy.mode = "open";
  for (const cleanUp of cleanUps.splice(0)) await cleanUp();
});

afterAll(async () => {
  proxy.close();
  await lab.close();
});

/** A network that can be cut, or go silent: everything stays open and nothing arrives. */
async function startProxy(target: number) {
  const sockets = new Set<Socket>();
  const state = { mode: "open" as "open" | "refusing" | "silent", port: await lab.freePort(), cut, close };
  const listener: Server = createServer((client) => {
    if (state.mode === "refusing") return client.destroy();
    const upstream = connectTo(target, "127.0.0.1");
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("data", (data) => state.mode !== "silent" && to.write(data));
      from.on("close", () => to.destroy());
      from.on("error", () => to.destroy());
    }
  });
  function cut() {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  }
  function close() {
    cut();
    listener.close();
  }
  await new Promise<void>((resolve) => listener.listen(state.port, "127.0.0.1", resolve));
  return state;
}

async function open(options: LongLivedOptions = {}) {
  const told: string[] = [];
  const database = openLongLivedDatabase(server, {
    onConnected: () => told.push("connected"),
    onAway: (problem) => told.push(problem),
    connectTimeoutMs: 1_000,
    ...options,
  });
  cleanUps.push(() => database.close());
  const failure = await database.firstAttempt;
  return Object.assign(database, { told, failure });
}

const backend = (database: Awaited<ReturnType<typeof open>>) =>
  database.use(async (db) => (await db.row("SELECT pg_backend_pid() AS pid")).pid);

test("work goes one after another, on the same session, and a transaction that fails leaves nothing", async () => {
  const database = await open();
  await database.use((db) => db.query("CREATE TEMP TABLE t (n int)"));
  const order: number[] = [];
  const add = (n: number) =>
    database.transaction(async (db) => {
      await db.query("INSERT INTO t VALUES ($1)", [n]);
      order.push(n);
      if (n === 2) throw new Error("changed my mind");
      await db.query("SELECT pg_sleep(0.01)");
      order.push(n);
    });
  const ended = await Promise.allSettled([1, 2, 3].map(add));
  expect(ended.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  expect(order).toEqual([1, 1, 2, 3, 3]);
  expect(await database.use((db) => db.query("SELECT n FROM t"))).toEqual([{ n: "1" }, { n: "3" }]);
  expect(database.told).toEqual(["connected"]);
});

test("a statement that fails, or takes too long, is an error of its own and no lost connection", async () => {
  const database = await open({ statementTimeoutMs: 100 });
  const pid = await backend(database);
  await expect(database.use((db) => db.query("SELECT 1/0"))).rejects.toMatchObject({ code: "22012" });
  await expect(database.use((db) => db.query("SELECT pg_sleep(60)"))).rejects.toMatchObject({ code: "57014" });
  expect(await backend(database)).toBe(pid);
});

test("a session that is ended is made anew, and work in it is told apart from failed work", async () => {
  const database = await open();
  const pid = await backend(database);
  const suicide = database.transaction((db) => db.query("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)"));
  await expect(suicide).rejects.toThrow(DatabaseAway);
  await waitFor("the next session", () => database.problem() === null);
  expect(await backend(database)).not.toBe(pid);
});

test("an idle connection that is cut is noticed without a question", async () => {
  const database = await open();
  proxy.mode = "refusing";
  proxy.cut();
  await waitFor("the loss", () => database.problem() !== null);
  await expect(backend(database)).rejects.toThrow(/^the database is away: /);
  proxy.mode = "open";
  await waitFor("the next session", () => database.problem() === null);
  expect(database.told.at(0)).toBe("connected");
  expect(database.told.at(-1)).toBe("connected");
  expect(database.told).toContain("the connection was lost");
});

test("a network that goes silent is noticed, and what happens after it is told apart", async () => {
  const database = await open({ statementTimeoutMs: 200, silenceMs: 200 });
  proxy.mode = "silent";
  await expect(backend(database)).rejects.toThrow(/the database is away: no answer from 127.0.0.1 port \d+/);
  // New ones go silent too.
  await waitFor("a failed attempt", () => database.told.filter((line) => line.startsWith("no answer")).length > 0);
  proxy.mode = "open";
  proxy.cut();
  await waitFor("the next session", () => database.problem() === null, 20_000);
  expect(await backend(database)).toMatch(/^\d+$/);
});

test("a server that is not there at first is waited for, and what prepares runs before anybody's work", async () => {
  proxy.mode = "refusing";
  let prepared = 0;
  const database = await open({
    async prepare(db) {
      prepared++;
      if (prepared === 1) throw new Error("not yet");
      await db.query("CREATE TEMP TABLE prepared ()");
    },
  });
  expect(database.failure).toBeInstanceOf(Error);
  await expect(backend(database)).rejects.toThrow(DatabaseAway);
  proxy.mode = "open";
  await waitFor("the first session", () => database.problem() === null);
  expect(await database.use((db) => db.query("SELECT * FROM prepared"))).toEqual([]);
  expect(prepared).toBe(2);
});

test("closing lets work that was begun end, and leaves no session", async () => {
  const database = await open({ applicationName: "closing" });
  const work = database.use((db) => db.row("SELECT pg_sleep(0.2), 'done' AS answer"));
  await database.close();
  expect(await work).toMatchObject({ answer: "done" });
  const other = await open();
  const sessions = "SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = 'closing'";
  await waitFor("the session to end", async () => (await other.use((db) => db.row(sessions))).count === "0");
  await expect(backend(database)).rejects.toThrow(DatabaseAway);
});

test("closing while the next session is prepared leaves none either, and ends", async () => {
  const other = await open();
  let arrive = () => {};
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const database = openLongLivedDatabase(server, {
    applicationName: "preparing",
    async prepare(db, signal) {
      arrive();
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      await db.query("SELECT");
    },
  });
  await arrived;
  await database.close();
  const sessions = "SELECT count(*) AS count FROM pg_stat_activity WHERE application_name = 'preparing'";
  await waitFor("the session to end", async () => (await other.use((db) => db.row(sessions))).count === "0");
});
