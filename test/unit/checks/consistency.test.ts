import { describe, expect, test } from "vitest";
import { type DatabaseFacts, databasesReadable } from "../../../lib/checks/catalogs/databases.ts";
import { type Dump, dumpCommand, schemaDump } from "../../../lib/checks/catalogs/schema-dump.ts";
import { serverStayedUp } from "../../../lib/checks/server-stayed-up.ts";
import { asked, emptyManifest, receipt } from "./asked.ts";

describe("databases-readable", () => {
  const database = (name: string, change: Partial<DatabaseFacts> = {}): DatabaseFacts => ({
    name,
    template: false,
    connectable: true,
    invalid: false,
    relations: 3,
    error: null,
    damaged: false,
    ...change,
  });
  const both = [database("app"), database("postgres", { relations: 0 })];
  const judge = (databases: DatabaseFacts[], given = asked) => databasesReadable.judge({ databases }, given);

  test("passes with the number of databases and relations as coverage", () => {
    expect(judge([...both, database("template1", { template: true, relations: 0 })])).toMatchObject({
      status: "pass",
      coverage: { databases: 2, relations: 3 },
    });
  });

  test.each([
    { databases: [], why: "no database" },
    { databases: [database("template1", { template: true })], why: "nothing but templates" },
    { databases: [database("app", { relations: 0 })], why: "no relation in any of them" },
    { databases: [database("app", { connectable: false, relations: null })], why: "nobody can connect" },
  ])("fails: $why", ({ databases }) => {
    expect(judge(databases, { ...asked, receipt: null }).status).toBe("fail");
  });

  test("fails when a database of the source is missing, and names it", () => {
    expect(judge([database("postgres")])).toMatchObject({ status: "fail", summary: expect.stringContaining("app") });
  });

  describe("while the source was marked", () => {
    const given = (answer: { objects: Record<string, string>; moved: string[]; complete?: boolean }) => {
      const objects = [{ database: null, question: "databases", complete: true, ...answer }];
      return { ...asked, receipt: { ...receipt, manifest: { ...emptyManifest, objects } } };
    };

    test.each([
      { what: "came or went", answer: { objects: {}, moved: ["app"] } },
      { what: "went when they had been listed already", answer: { objects: { postgres: "1" }, moved: [] } },
      { what: "came or went, others being locked", answer: { objects: {}, moved: ["app"], complete: false } },
    ])("databases that $what are not missed", ({ answer }) => {
      expect(judge([database("postgres")], given(answer)).status).toBe("pass");
    });

    test.each([
      { objects: { app: "1" }, moved: ["guest"] },
      { objects: {}, moved: ["guest"], complete: false },
    ])("others are, and named", (answer) => {
      const wanted = given(answer);
      wanted.receipt.databases = ["app", "guest", "postgres"];
      const { status, summary } = judge([database("postgres")], wanted);
      expect({ status, summary }).toMatchObject({ status: "fail", summary: expect.stringMatching(/ app is missing$/) });
    });
  });

  test("damage is a failure; a missing right is not", () => {
    const error = "could not open file";
    expect(judge([...both, database("x", { relations: null, error, damaged: true })]).status).toBe("fail");
    expect(judge([...both, database("x", { relations: null, error, damaged: false })]).status).toBe("unverified");
  });

  test("warns of an invalid database by name", () => {
    const invalid = database("half gone", { connectable: false, invalid: true, relations: null });
    expect(judge([...both, invalid])).toMatchObject({ status: "warn", summary: expect.stringContaining("half gone") });
  });
});

describe("schema-dump", () => {
  const dump = (of: string, outcome: Dump["outcome"] = "ok", error?: string): Dump => ({
    of,
    outcome,
    duration_ms: 1,
    ...(error === undefined ? {} : { error }),
  });
  const judge = (...dumps: Dump[]) => schemaDump.judge({ dumps, not_connectable: [] }, asked);

  test("tables that prepared transactions hold locked are no pass: they are named", () => {
    const dumps: Dump[] = [
      { of: "app", outcome: "ok", duration_ms: 1, left_out: ['"shop"."orders"'] },
      { of: "globals", outcome: "ok", duration_ms: 1 },
    ];
    expect(schemaDump.judge({ dumps, not_connectable: [] }, asked)).toMatchObject({
      status: "warn",
      summary: expect.stringContaining('app: "shop"."orders"'),
    });
  });

  test("passes when every database and the globals were dumped", () => {
    expect(judge(dump("app"), dump("postgres"), dump("globals"))).toMatchObject({
      status: "pass",
      coverage: { databases_dumped: 2, globals_dumped: true },
    });
  });

  test("fails when there was nothing to dump", () => {
    expect(judge().status).toBe("fail");
  });

  test("a dump that failed outweighs one that could not run", () => {
    expect(
      judge(dump("app", "not-run", "a"), dump("x", "failed", "cache lookup failed"), dump("globals")),
    ).toMatchObject({
      status: "fail",
      summary: "x cannot be dumped: cache lookup failed",
    });
    expect(judge(dump("app", "not-run", "no pg_dump"), dump("globals")).status).toBe("unverified");
    expect(judge(dump("app"), dump("globals", "failed", "x")).status).toBe("fail");
  });

  test("no secret is in argv, and odd names arrive as they are", () => {
    const conninfo = {
      host: "/run/x y",
      user: "o'Brien\\",
      dbname: "postgres",
      password: "s3cret",
      sslpassword: "t0p",
    };
    const { args, env } = dumpCommand("pg_dump", conninfo, `Kunden "Süd" 'A'`, 1000);
    expect(args.join(" ")).not.toMatch(/s3cret|t0p/);
    expect(args).toContain(`--dbname=host='/run/x y' user='o\\'Brien\\\\' dbname='Kunden "Süd" \\'A\\''`);
    expect(env.PGPASSWORD).toBe("s3cret");
  });

  test("PGPASSFILE and PGOPTIONS reach the programs, and no PGPASSWORD is made up", () => {
    process.env.PGPASSFILE = "/x/pgpass";
    process.env.PGOPTIONS = "-c synchronous_commit=local";
    try {
      const { env } = dumpCommand("pg_dumpall", { dbname: "postgres" }, null, 1000);
      expect(env).toMatchObject({ PGPASSFILE: "/x/pgpass", PGOPTIONS: "-c synchronous_commit=local" });
      expect(env.PGPASSWORD).toBe(process.env.PGPASSWORD);
    } finally {
      delete process.env.PGPASSFILE;
      delete process.env.PGOPTIONS;
    }
  });
});

describe("server-stayed-up", () => {
  const run = {
    postmasterStartedAt: "2026-11-22 10:00:06+00",
    checkpointer: "7 since 10:00:06",
    dataDirectory: "/pg/data",
    killedForMemory: 3,
  };
  const facts = {
    begin: run,
    end: run,
    error: null,
    crash_seen: false,
    sessions_lost: 0,
    killed_for_memory: 0,
    free_bytes: 2 ** 30,
  };
  const recovered = { ...run, checkpointer: "9 since 10:01:00" };

  test.each([
    { change: {}, status: "pass", why: "the same run from begin to end" },
    {
      change: { end: { ...run, postmasterStartedAt: "2026-11-22 10:01:00+00" } },
      status: "fail",
      why: "restarted",
    },
    { change: { end: recovered }, status: "fail", why: "crashed and recovered" },
    { change: { end: recovered, killed_for_memory: null, free_bytes: null }, status: "fail", why: "nothing is known" },
    { change: { end: recovered, killed_for_memory: 1 }, status: "unverified", why: "a process was killed for memory" },
    { change: { crash_seen: true, free_bytes: 0 }, status: "unverified", why: "the volume is full" },
    { change: { crash_seen: true, end: null, error: "x" }, status: "fail", why: "crashed and did not come back" },
    { change: { killed_for_memory: 1, free_bytes: 0 }, status: "pass", why: "it was something else that was killed" },
    { change: { crash_seen: true }, status: "fail", why: "a session was ended by a crash" },
    { change: { end: null, error: "ECONNREFUSED" }, status: "unverified", why: "stopped" },
    { change: { sessions_lost: 1 }, status: "unverified", why: "a session was broken" },
    {
      change: { begin: { ...run, checkpointer: null }, end: { ...run, checkpointer: null } },
      status: "unverified",
      why: "a role that may not see it",
    },
  ])("$status: $why", ({ change, status }) => {
    expect(serverStayedUp.judge({ ...facts, ...change }, asked)).toMatchObject({ status });
  });

  test("names Patroni's DCS as a reason for a server that was stopped", () => {
    expect(serverStayedUp.judge({ ...facts, end: null, error: "gone" }, asked).hint).toMatch(/DCS.*retry_timeout/);
  });
});
