import { expect, test } from "vitest";
import { type PlannedTable, planRanges, RANGE_BLOCKS } from "../../../lib/manifest/table-plan.ts";

const table = (key: string, blocks: number, bytesPerBlock = 8192): PlannedTable => ({ key, blocks, bytesPerBlock });
const MB = 1024 ** 2;
const blocksOf = (t: PlannedTable, ranges: { from: number; to: number | null }[]) =>
  ranges.reduce((sum, { from, to }) => sum + Math.max(0, Math.min(to ?? t.blocks, t.blocks) - from), 0);

test("without a budget every block is in exactly one range, and the last one is open", () => {
  const [ranges = []] = planRanges([table("a", 300)], null, "1");
  expect(ranges).toEqual([
    { from: 0, to: 128 },
    { from: 128, to: 256 },
    { from: 256, to: null },
  ]);
});

test("an empty table has a range too: rows that should not be there would show", () => {
  expect(planRanges([table("a", 0)], 64 * MB, "1")).toEqual([[{ from: 0, to: null }]]);
});

test("what fits into the budget is read in full", () => {
  const tables = [table("a", 1000), table("b", 3)];
  expect(planRanges(tables, 64 * MB, "1").map((r, i) => blocksOf(tables[i] as PlannedTable, r))).toEqual([1000, 3]);
});

test("beyond it every table gets something, big ones more, and the sum stays near the budget", () => {
  const tables = [table("small", 10), table("big", 1_000_000), table("bigger", 4_000_000)];
  const blocks = planRanges(tables, 64 * MB, "1").map((r, i) => blocksOf(tables[i] as PlannedTable, r));
  expect(blocks[0]).toBe(10);
  expect(blocks[2]).toBeGreaterThan(3 * (blocks[1] as number));
  const bytes = blocks.reduce((sum, n) => sum + n, 0) * 8192;
  expect(bytes).toBeGreaterThan(50 * MB);
  expect(bytes).toBeLessThan(66 * MB);
});

test("twenty thousand tables cost no more than the budget", () => {
  const tables = Array.from({ length: 20_000 }, (_, i) => table(`t${i}`, 500));
  const plan = planRanges(tables, 64 * MB, "1");
  expect(plan.every((ranges) => ranges.length >= 1)).toBe(true);
  // A block of each is more than the budget: that is the least.
  expect(plan.reduce((sum, r, i) => sum + blocksOf(tables[i] as PlannedTable, r), 0)).toBe(20_000);
});

test("TOAST counts: a table of long values gets fewer blocks", () => {
  const [short = [], long = []] = planRanges([table("s", 100_000), table("l", 100_000, 80_000)], 64 * MB, "1");
  expect(long.length).toBeLessThanOrEqual(short.length);
});

test("the same seed gives the same ranges, another one others; they never overlap and spread over the table", () => {
  const tables = [table("big", 1_000_000)];
  const [once = []] = planRanges(tables, 64 * MB, "1");
  expect(planRanges(tables, 64 * MB, "1")).toEqual([once]);
  expect(planRanges(tables, 64 * MB, "2")).not.toEqual([once]);
  for (const [i, range] of once.entries()) {
    expect(range.from % RANGE_BLOCKS).toBe(0);
    if (i > 0) expect(range.from).toBeGreaterThanOrEqual(once[i - 1]?.to as number);
  }
  expect(once[0]?.from).toBeLessThan(100_000);
  expect(once.at(-1)?.from).toBeGreaterThan(900_000);
});
