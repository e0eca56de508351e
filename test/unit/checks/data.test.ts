import { describe, expect, test } from "vitest";
import { afterFailure } from "../../../lib/checks/data/btree.ts";
import { describeBlockError, describeMessage, rangesOf } from "../../../lib/checks/data/heap.ts";
import { describeBadPages } from "../../../lib/checks/data/pages-readable.ts";
import { byHalves } from "../../../lib/checks/data/relation-units.ts";
import { describeBroken } from "../../../lib/checks/data/visibility-map.ts";
import type { Relation } from "../../../lib/checks/relations.ts";

const table = { database: "app", name: "public.t", bytes: 8192 * 10 } as Relation;
const failure = (code: string) => Object.assign(new Error(`error ${code}`), { code });

test("ranges of blocks: at least one, the last open", () => {
  expect(rangesOf(0)).toEqual([{ first: 0, last: null, bytes: 0 }]);
  expect(rangesOf(8192 * 5, 2)).toEqual([
    { first: 0, last: 1, bytes: 16_384 },
    { first: 2, last: 3, bytes: 16_384 },
    { first: 4, last: null, bytes: 8192 },
  ]);
});

describe("blocks that stop a statement", () => {
  const reading = (bad: number[]) => async (from: number, to: number) => {
    if (bad.some((block) => block >= from && block <= to)) throw failure("XX001");
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  };
  test("stand alone, and everything else is read once", async () => {
    const { values, errors } = await byHalves(0, 15, reading([3, 12]));
    expect(errors.map(({ first, last }) => [first, last])).toEqual([
      [3, 3],
      [12, 12],
    ]);
    expect(values).toEqual([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15]);
  });
  test("are named as ranges when there are many", async () => {
    const { errors } = await byHalves(0, 63, reading(Array.from({ length: 64 }, (_, i) => i)));
    expect(errors.reduce((sum, { first, last }) => sum + last - first + 1, 0)).toBe(64);
    expect(errors.length).toBeLessThan(20);
  });
  test("other errors are no damage", async () => {
    await expect(byHalves(0, 15, () => Promise.reject(failure("57014")))).rejects.toThrow("57014");
  });
});

test("findings name blocks, items and attributes", () => {
  expect(describeMessage(table, { blkno: "3", offnum: "5", attnum: "1", msg: "bad" })).toEqual({
    database: "app",
    object: "public.t",
    where: "block 3, item 5, attribute 1",
    what: "bad",
  });
  expect(describeBlockError(table, { first: 3, last: 3, error: failure("XX001") }).where).toBe("block 3");
  expect(describeBadPages([{ fork: "vm", block: "0" }], table)[0]?.where).toBe("visibility map, block 0");
  expect(
    describeBroken(
      [
        { kind: "visible", block: "1", item: "2" },
        { kind: "visible", block: "1", item: "3" },
        { kind: "beyond", block: "100", item: null },
      ],
      table,
    ).map(({ where }) => where),
  ).toEqual(["block 1, items 2, 3", "blocks 100-103"]);
});

test.each([
  ["XX002", null],
  ["57P02", null],
  ["57014", null],
  ["55P03", { parents: false, rows: true, usersPath: false }],
  ["42883", { parents: true, rows: true, usersPath: true }],
])("after %s an index is looked at in another way, or not", (code, next) => {
  expect(afterFailure({ parents: true, rows: true, usersPath: false }, failure(code))).toEqual(next);
});
