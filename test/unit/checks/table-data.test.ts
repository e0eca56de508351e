import { describe, expect, test } from "vitest";
import type { Outcome } from "../../../lib/checks/pool.ts";
import type { Relation } from "../../../lib/checks/relations.ts";
import {
  compare,
  mergeNeighbours,
  planUnits,
  type Read,
  ReadTally,
  type TableDataFacts,
  tableData,
} from "../../../lib/checks/source/table-data.ts";
import type { RangeDigest } from "../../../lib/manifest/table-data.ts";
import { asked } from "./asked.ts";

const relation: Relation = {
  database: "app",
  oid: "16400",
  name: "shop.orders",
  schema: "shop",
  kind: "r",
  method: "heap",
  persistence: "p",
  shared: false,
  system: false,
  bytes: 8192 * 300,
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
};

type Facts = Pick<TableDataFacts, "blocks" | "missing"> & { found: Partial<RangeDigest>; last: Outcome<Read> };

/** A table in two parts: a range that the receipt knows, and the rest. */
function facts({ found, last, ...change }: Partial<Facts> = {}): TableDataFacts {
  const digest: RangeDigest = { from: 128, to: 256, count: 10, digest: "a", unsettled: 0, newer: 0, ...found };
  const compared = compare(relation, { ranges: [[128, 256, 10, "a"]], blocks: 128 }, [digest]);
  const rest = { rows: 90, compared: { ranges: 0, rows: 0, blocks: 0 }, findings: [] };
  const tally = new ReadTally();
  tally.add(relation, { kind: "done", value: { rows: 10, ...compared } }, { kind: "done", value: rest });
  if (last !== undefined) tally.add({ ...relation, name: "shop.big", oid: "16500" }, last);
  return { ...tally.facts(), blocks: 512, missing: [], ...change };
}

function only(outcome: Outcome<Read>): TableDataFacts {
  const tally = new ReadTally();
  tally.add(relation, outcome);
  return { ...tally.facts(), blocks: 512, missing: [] };
}

describe("table-data", () => {
  test("says how many rows were read, and how many of them are certainly the source's", () => {
    expect(tableData.judge(facts(), asked)).toMatchObject({
      status: "pass",
      summary: "100 rows of 1 table read; 10 rows in 1 block range as on the source",
      coverage: {
        "table-data": {
          relations: 1,
          rows: 100,
          compared_ranges: 1,
          compared_rows: 10,
          compared_blocks: 128,
          of_blocks: 512,
          moved_ranges: 0,
        },
      },
    });
  });

  test.each([
    [
      { count: 9, digest: "b", unsettled: 0, newer: 0 },
      "app: shop.orders (blocks 128 to 255): 9 rows, on the source 10",
    ],
    [
      { count: 10, digest: "b", unsettled: 0, newer: 0 },
      "app: shop.orders (blocks 128 to 255): 10 rows as on the source, with other values",
    ],
    [
      { count: 10, digest: "a", unsettled: 0, newer: 1 },
      "app: shop.orders (blocks 128 to 255): 1 row written after the promotion",
    ],
  ])("%o fails with database, table and blocks", (found, sentence) => {
    expect(tableData.judge(facts({ found }), asked)).toMatchObject({
      status: "fail",
      summary: `1 finding: ${sentence}`,
    });
  });

  test("a table of the receipt that is not here fails", () => {
    const missing = [{ database: "app", name: "shop.gone" }];
    expect(tableData.judge(facts({ missing }), asked)).toMatchObject({ status: "fail" });
  });

  test("rows that cannot be read are damage or could not run, as PostgreSQL says", () => {
    const failing = (code: string) => only({ kind: "failed", error: Object.assign(new Error("no"), { code }) });
    expect(tableData.judge(failing("XX001"), asked).status).toBe("fail");
    expect(tableData.judge(failing("57014"), asked).status).toBe("unverified");
  });

  test("what the budget left out is no pass for it", () => {
    const left = { kind: "left-out" as const, why: "the budget was spent" };
    const judged = tableData.judge(facts({ last: left }), asked);
    expect(judged).toMatchObject({ status: "pass", coverage: { "table-data": { relations: 1, of_relations: 2 } } });
    expect(judged.summary).toContain("1 relation not covered: the budget was spent");
    expect(tableData.judge(only(left), asked).status).toBe("skipped");
  });
});

test("the receipt's ranges and all between them make up the whole table, once", () => {
  const units = planUnits({ blocks: 10_000 }, [
    [256, 384, 1, "a"],
    [0, 128, 1, "b"],
  ]);
  expect(units.filter((u) => u.kind === "compare")).toEqual([
    {
      kind: "compare",
      ranges: [
        [0, 128, 1, "b"],
        [256, 384, 1, "a"],
      ],
    },
  ]);
  expect(units.flatMap((u) => (u.kind === "read" ? [u.range] : []))).toEqual([
    { from: 128, to: 256 },
    { from: 384, to: 4480 },
    { from: 4480, to: 8576 },
    { from: 8576, to: null },
  ]);
  expect(planUnits({ blocks: 0 }, [[0, null, 0, "0"]])).toHaveLength(1);
  expect(planUnits({ blocks: 5 }, [])).toEqual([{ kind: "read", range: { from: 0, to: null } }]);
});

test("a table that is damaged all over is one finding", () => {
  const one = (block: number) => ({ database: "app", object: "t", where: `blocks from ${block}`, what: "w" });
  expect(mergeNeighbours([0, 1, 2, 3].map(one))).toEqual([
    { database: "app", object: "t", where: "4 block ranges, the first: blocks from 0", what: "w" },
  ]);
  expect(mergeNeighbours([one(0), one(1)])).toHaveLength(2);
});
