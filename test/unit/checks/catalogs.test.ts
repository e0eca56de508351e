import { describe, expect, test } from "vitest";
import { parseBki } from "../../../lib/checks/catalogs/bki.ts";
import { brokenKeysSql, foreignKeysSql, referencesToAsk } from "../../../lib/checks/catalogs/catalog-references-sql.ts";
import { judgeCatalogs } from "../../../lib/checks/catalogs/catalogs.ts";
import { judgeCollation } from "../../../lib/checks/catalogs/collations.ts";
import { describeState } from "../../../lib/checks/catalogs/invalid-indexes.ts";
import { judgeLibraries, kindOf, type LibraryProblem } from "../../../lib/checks/catalogs/libraries.ts";
import { describeObject } from "../../../lib/checks/data/large-objects.ts";
import { receipt } from "./asked.ts";

describe("a check of catalogs", () => {
  const sound = { databases: 2, findings: [], notes: [], failed: [], counts: {} };
  const finding = { database: "app", object: "pg_class: t", what: "is gone" };
  const failed = [{ database: "app", message: "permission denied" }];
  test.each([
    ["pass", sound],
    ["warn", { ...sound, notes: [finding] }],
    ["unverified", { ...sound, failed, notes: [finding] }],
    ["unverified", { ...sound, databases: 0 }],
    ["fail", { ...sound, failed, findings: [finding] }],
  ])("%s", (status, facts) => {
    expect(judgeCatalogs("x", facts, { good: "good", meaning: "m" }).status).toBe(status);
  });
});

describe("postgres.bki", () => {
  const text = `# PostgreSQL 15
create pg_thing 1255 bootstrap rowtype_oid 81
 (
 oid = oid ,
 thingname = name FORCE NOT NULL
 )
insert ( 11 'it''s (odd)' )
insert ( 12345 'not pinned' )
close pg_thing
create pg_namespace 2615
 ( oid = oid , nspname = name )
insert ( 2200 public )
insert ( 11 pg_catalog )
declare toast 4159 4160 on pg_thing
declare unique index pg_thing_oid_index 2690 on pg_thing using btree(oid oid_ops)
`;
  test("lists what cannot be dropped", () => {
    const rows = parseBki(text, 15);
    const of = (catalog: string) => Object.fromEntries(rows?.get(catalog)?.rows ?? []);
    expect(of("pg_thing")).toEqual({ 11: "it's (odd)" });
    expect(of("pg_namespace")).toEqual({ 11: "pg_catalog" });
    expect(Object.keys(of("pg_class"))).toEqual(["1255", "2615", "2690", "4159", "4160"]);
    expect(Object.keys(of("pg_attribute"))).toEqual(["1255 1", "1255 2", "2615 1", "2615 2"]);
    expect(Object.keys(of("pg_index"))).toEqual(["2690"]);
  });
  test("says nothing for another version or another form", () => {
    expect(parseBki(text, 16)).toBeNull();
    expect(parseBki(text.replace("( 2200 public )", "( 2200 public x )"), 15)).toBeNull();
  });
});

test("a grantor may be forgotten before 16, and shared catalogs are asked once", () => {
  const catalog = (name: string, shared: boolean) => ({
    name,
    oid: "1",
    shared,
    columns: { oid: "oid", grantor: "oid", rolname: "name" },
  });
  const catalogs = [catalog("pg_auth_members", true), catalog("pg_authid", true)];
  const key = {
    table: "pg_auth_members",
    columns: ["grantor"],
    referenced: "pg_authid",
    referencedColumns: ["oid"],
    array: false,
    optional: false,
  };
  const asked = (cluster: boolean, serverVersion: number) =>
    referencesToAsk([key], catalogs, { cluster, serverVersion }).length;
  expect(asked(true, 150_000)).toBe(0);
  expect(asked(true, 160_000)).toBe(1);
  expect(asked(false, 160_000)).toBe(0);
});

test("references by OID are asked for together, those by more columns each for itself", () => {
  const columns = { oid: "oid", relname: "name", relnatts: "int2", conkey: "_int2", relnamespace: "oid" };
  const catalogs = ["a", "b"].map((name, i) => ({ name, oid: String(i + 1), shared: false, columns }));
  const key = { table: "a", referenced: "b", referencedColumns: ["oid"], array: false, optional: true };
  const pair = { ...key, columns: ["oid", "conkey"], referencedColumns: ["oid", "relnatts"], array: true };
  const sql = brokenKeysSql([{ ...key, columns: ["relnamespace"] }, { ...key, columns: ["oid"] }, pair], catalogs);
  expect(sql.match(/NOT EXISTS/g)).toHaveLength(2);
  expect(sql).toContain('SELECT 1 AS key, 2::oid AS class, fk."oid"::oid AS object FROM "a"');
  expect(foreignKeysSql([], catalogs)).toBeNull();
  expect(foreignKeysSql([pair], catalogs)).toContain("its oid, conkey leads to no row of b");
});

describe("libraries", () => {
  const error = (code: string, message: string) => Object.assign(new Error(message), { code });
  test.each([
    ["broken", error("58P01", 'could not access file "$libdir/x": No such file or directory')],
    ["broken", error("42883", 'could not find function "f" in file "x.so"')],
    ["broken", error("XX000", 'incompatible library "x.so": version mismatch')],
    ["broken", error("58P01", 'could not load library "x.so": libicu.so.63: cannot open shared object file')],
    ["preload", error("55000", "pg_cron can only be loaded via shared_preload_libraries")],
    ["unknown", error("42501", "permission denied")],
    ["ended", error("57P02", "terminating connection because of crash of another server process")],
    ["ended", error("ECONNRESET", "read ECONNRESET")],
  ])("%s", (kind, thrown) => {
    expect(kindOf(thrown)).toBe(kind);
  });
  const sound = { libraries: 2, symbols: 9, databases: 1, problems: [], extensions: [] };
  const problem = (kind: LibraryProblem["kind"]): LibraryProblem => ({
    kind,
    library: "$libdir/x",
    message: "no",
    functions: [{ database: "app", oid: "1", name: "public.f", library: "$libdir/x", symbol: "f" }],
  });
  test.each([
    ["pass", sound],
    ["fail", { ...sound, problems: [problem("unknown"), problem("broken")] }],
    ["unverified", { ...sound, problems: [problem("preload"), problem("unknown")] }],
    ["warn", { ...sound, problems: [problem("preload")] }],
    ["warn", { ...sound, extensions: [{ database: "app", name: "x", version: "9", available: false }] }],
  ])("judged: %s", (status, facts) => {
    expect(judgeLibraries(facts).status).toBe(status);
  });
});

describe("a collation of another version", () => {
  const row = { database: "app", name: "collation de", recorded: "1", actual: "2", error: null, users: ["index i"] };
  const { manifest } = receipt;
  const withMismatch = (database: string, actual: string) => ({
    ...receipt,
    manifest: { ...manifest, collation_mismatches: [{ database, name: row.name, recorded: "1", actual }] },
  });
  test.each([
    ["is bad when something is sorted by it", true, row, receipt],
    ["also without a receipt", true, row, null],
    ["is noted when nothing is", false, { ...row, users: [] }, receipt],
    ["is noted when the source has the same", false, row, withMismatch("app", "2")],
    ["is bad when the source has yet another", true, row, withMismatch("app", "3")],
    ["is bad when another database of the source has it", true, row, withMismatch("postgres", "2")],
    [
      "is noted in a template when the source has it",
      false,
      { ...row, database: "template1" },
      withMismatch("app", "2"),
    ],
    ["is bad when it cannot be used", true, { ...row, actual: null, error: "no locale" }, withMismatch("app", "none")],
  ])("%s", (_, bad, collation, source) => {
    expect(judgeCollation(collation, source).bad).toBe(bad);
  });
});

test("an index says what it is not", () => {
  const state = { kind: "i", valid: "false", ready: "true", live: "true" };
  expect(describeState(state)).toMatch(/not valid/);
  expect(describeState({ ...state, ready: "false" })).toMatch(/not ready/);
  expect(describeState({ ...state, live: "false" })).toMatch(/dropped/);
  expect(describeState({ ...state, kind: "I" })).toMatch(/partition/);
});

test("a large object says what is wrong with its pages", () => {
  const row = { loid: "7", pages: "2", orphan: "true", negative: "0", long: "1" };
  expect(describeObject("app", row).what).toBe(
    "has 2 pages and no row in pg_largeobject_metadata; has 1 page longer than a page can be",
  );
});
