import { describe, expect, test } from "vitest";
import { type DatabaseFacts, databasesReadable } from "../../../lib/checks/databases.ts";
import { manifest, queries } from "../../../lib/checks/manifest.ts";
import { type Dump, dumpCommand, schemaDump } from "../../../lib/checks/schema-dump.ts";
import { serverStayedUp } from "../../../lib/checks/server-stayed-up.ts";
import type { ManifestAnswer } from "../../../lib/mark/manifest.ts";
import type { ManifestEntry } from "../../../lib/mark/receipt.ts";
import { asked, receipt } from "./asked.ts";

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

  test("does not miss a database that came or went while the source was marked", () => {
    const moved: ManifestEntry = {
      id: "databases",
      database: null,
      question: "databases",
      count: 2,
      digest: "",
      moved: true,
    };
    const given = { ...asked, receipt: { ...receipt, manifest: [moved] } };
    expect(judge([database("postgres")], given).status).toBe("pass");
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

const entry = (id: string, digest: string, moved = false, question = "tables"): ManifestEntry => ({
  id,
  database: "app",
  question,
  count: 3,
  digest,
  moved,
});
const answer = (id: string, digest: string, change: Partial<ManifestAnswer> = {}): ManifestAnswer => ({
  id,
  database: "app",
  question: "tables",
  count: 3,
  digest,
  ...change,
});
const withManifest = (...entries: ManifestEntry[]) => ({ ...asked, receipt: { ...receipt, manifest: entries } });

describe("manifest", () => {
  test("passes on equal answers and counts what moved as not covered", () => {
    const given = withManifest(entry("a", "1"), entry("b", "2", true));
    expect(manifest.judge({ answers: [answer("a", "1"), answer("b", "9")] }, given)).toMatchObject({
      status: "pass",
      coverage: { manifest_entries: 2, manifest_equal: 1, manifest_moved: 1 },
    });
  });

  test("fails on another digest, on another count and on a missing answer, and names each", () => {
    const given = withManifest(entry("a", "1"), entry("b", "2"), entry("c", "3"));
    const judged = manifest.judge({ answers: [answer("a", "9"), answer("b", "2", { count: 2 })] }, given);
    expect(judged.status).toBe("fail");
    expect(judged.summary).toContain("a (3 rows, another content)");
    expect(judged.summary).toContain("b (3 rows on the source, 2 here)");
    expect(judged.summary).toContain("c (no answer)");
  });

  test("an answer that the source gave and that fails here is a difference, unless it only could not be had", () => {
    const given = withManifest(entry("a", "1"), entry("b", "2"));
    const failing = (sqlState: string) => [answer("a", "1"), answer("b", "", { problem: { sqlState, message: "no" } })];
    expect(manifest.judge({ answers: failing("58P01") }, given).status).toBe("fail");
    expect(manifest.judge({ answers: failing("57014") }, given).status).toBe("unverified");
    expect(manifest.judge({ answers: failing("42501") }, given).status).toBe("unverified");
  });

  test("proves nothing when there is nothing to compare, or when everything moved", () => {
    expect(manifest.judge({ answers: [] }, withManifest()).status).toBe("unverified");
    expect(manifest.judge({ answers: [answer("a", "1")] }, withManifest(entry("a", "1", true))).status).toBe(
      "unverified",
    );
  });

  test("warns of what the source was not asked", () => {
    const given = withManifest(entry("a", "1"));
    expect(manifest.judge({ answers: [answer("a", "1"), answer("new", "1")] }, given).status).toBe("warn");
  });
});

describe("queries", () => {
  const query = { name: "orders", database: "app", sql: "SELECT 1" };
  const id = 'app: query "orders"';
  const given = {
    ...asked,
    receipt: { ...receipt, queries: [query], manifest: [entry("a", "1"), entry(id, "1", false, "query")] },
  };
  const answers = (digest: string) => [answer("a", "1"), answer(id, digest, { question: "query" })];

  test("are judged apart from the rest of the manifest", () => {
    expect(queries.judge({ answers: answers("1") }, given)).toMatchObject({
      status: "pass",
      coverage: { queries_entries: 1, queries_equal: 1 },
    });
    expect(queries.judge({ answers: answers("2") }, given).status).toBe("fail");
    expect(manifest.judge({ answers: answers("2") }, given).status).toBe("pass");
  });

  test("a query of the settings file that the source was never asked cannot be compared", () => {
    const other = { ...query, sql: "SELECT 2" };
    expect(queries.judge({ answers: answers("1") }, { ...given, queries: [query] }).status).toBe("pass");
    expect(queries.judge({ answers: answers("1") }, { ...given, queries: [other] }).status).toBe("unverified");
  });

  test("are not asked for when neither the receipt nor the settings hold any", () => {
    expect(queries.skip?.(asked)).not.toBeNull();
    expect(queries.skip?.(given)).toBeNull();
    expect(queries.skip?.({ ...asked, queries: [query] })).toBeNull();
  });
});

describe("server-stayed-up", () => {
  const run = { postmasterStartedAt: "2026-11-22 10:00:06+00", checkpointer: "7 since 10:00:06" };
  const facts = { begin: run, end: run, error: null, crash_seen: false, sessions_lost: 0 };

  test.each([
    { change: {}, status: "pass", why: "the same run from begin to end" },
    { change: { end: { ...run, postmasterStartedAt: "2026-11-22 10:01:00+00" } }, status: "fail", why: "restarted" },
    { change: { end: { ...run, checkpointer: "9 since 10:01:00" } }, status: "fail", why: "crashed and recovered" },
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
