import { describe, expect, test } from "vitest";
import { indexEntries } from "../../../lib/checks/data/index-entries.ts";
import { PageFacts } from "../../../lib/checks/data/page-facts.ts";
import type { PassItem } from "../../../lib/checks/data/page-pass.ts";
import type { TablePages } from "../../../lib/checks/data/page-table.ts";
import { rowStatus } from "../../../lib/checks/data/row-status.ts";
import type { Outcome } from "../../../lib/checks/pool.ts";
import type { Relation } from "../../../lib/checks/relations.ts";
import { asked } from "./asked.ts";

const relation = (name: string, kind: string, oid: string): Relation => ({
  database: "app",
  oid,
  name,
  schema: "public",
  kind,
  method: kind === "i" ? "btree" : "heap",
  persistence: "p",
  shared: false,
  system: false,
  bytes: 8192,
  otherBytes: 0,
  of: null,
  indexes: [],
  valid: true,
  populated: true,
  fixedKeys: false,
  ofPeople: false,
  held: false,
  changedAt: 0,
  rank: 0,
  proven: null,
});

const sound: TablePages = {
  rows: { blocks: 1, lines: 7 },
  table: [],
  indexes: [
    {
      index: "public.orders_pkey",
      oid: "2",
      entries: 7,
      keysCompared: true,
      keysDistinct: true,
      problems: [],
      notCovered: null,
    },
  ],
  zeroBlocks: [],
  multixacts: { asked: 3, more: false },
};

const pass = (outcome: Outcome<TablePages>): PassItem[] => [
  { relation: relation("public.orders", "r", "1"), indexes: [relation("public.orders_pkey", "i", "2")], outcome },
];
const done = (change: Partial<TablePages>) => pass({ kind: "done", value: { ...sound, ...change } });
const index = (change: Partial<TablePages["indexes"][number]>) =>
  done({ indexes: [{ ...(sound.indexes[0] as TablePages["indexes"][number]), ...change }] });

function factsOf(items: PassItem[]): PageFacts {
  const facts = new PageFacts();
  for (const item of items) facts.add(item);
  return facts;
}

describe("index-entries", () => {
  const judge = (items: PassItem[]) => indexEntries.judge(factsOf(items).indexEntries(), { ...asked, level: "full" });

  test("passes with the indexes as coverage", () => {
    expect(judge(done({}))).toMatchObject({
      status: "pass",
      facts: { entries: 7 },
      coverage: { "index-entries": { relations: 1, of_relations: 1 } },
    });
  });

  test("names index, blocks and rows", () => {
    const problem = { where: "block 3", what: "1 entry for rows of public.orders that are unused: block 5 item 2" };
    expect(judge(index({ problems: [problem] }))).toMatchObject({
      status: "fail",
      summary: expect.stringContaining("app: index public.orders_pkey (block 3): 1 entry for rows of public.orders"),
    });
  });

  test.each([
    { why: "a type that is not known", items: index({ notCovered: "index type zombo is not known here" }) },
    { why: "an index that went away", items: done({ indexes: [] }) },
    { why: "a spent budget", items: pass({ kind: "left-out", why: "the budget was spent" }) },
  ])("is not proven by $why", ({ items }) => {
    expect(judge(items)).toMatchObject({ status: "skipped", facts: { not_covered_relations: 1 } });
  });

  test("what could not be asked is not a pass", () => {
    expect(judge(pass({ kind: "failed", error: new Error("permission denied") })).status).toBe("unverified");
  });
});

describe("row-status", () => {
  const judge = (items: PassItem[]) => rowStatus.judge(factsOf(items).rowStatus(), { ...asked, level: "full" });

  test("passes with the rows as coverage", () => {
    expect(judge(done({}))).toMatchObject({
      status: "pass",
      coverage: { "row-status": { relations: 1, rows: 7, multixacts: 3 } },
    });
  });

  test("says where not all multixacts were asked about", () => {
    const facts = { multixacts: 20_000, tables_with_more_multixacts: 1 };
    expect(judge(done({ multixacts: { asked: 20_000, more: true } }))).toMatchObject({
      status: "pass",
      facts,
      coverage: { "row-status": facts },
    });
  });

  test("rows that pg_xact disagrees with are a failure", () => {
    const what = "1 row says that the transaction that inserted it committed, but pg_xact has 796 aborted";
    expect(judge(done({ table: [{ where: "block 0 item 2", what }] }))).toMatchObject({
      status: "fail",
      summary: expect.stringContaining("app: public.orders (block 0 item 2)"),
    });
  });

  test("all-zero blocks that nothing needs are worth a warning", () => {
    expect(judge(done({ zeroBlocks: [4, 5] }))).toMatchObject({
      status: "warn",
      summary: expect.stringContaining("app: public.orders (block 4, 5)"),
    });
  });
});
