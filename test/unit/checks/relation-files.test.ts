import { describe, expect, test } from "vitest";
import { judgePlaces, judgeRelation, type RelationFile } from "../../../lib/checks/files/relation-files.ts";

const table: RelationFile = {
  oid: "1",
  name: "public.orders",
  kind: "r",
  method: "heap",
  unlogged: false,
  ready: true,
  pages: 1,
  path: "base/5/1",
};
const index: RelationFile = { ...table, kind: "i", method: "btree", pages: null };
const geometry = { blockSize: 10, segmentBlocks: 10 };
type Sizes = (number | undefined)[];
const judge = (relation: RelationFile, sizes: Sizes, more: Record<string, Sizes> = {}) => {
  const { findings, notes } = judgeRelation(
    relation,
    new Map([...(sizes.length > 0 ? [["base/5/1", sizes] as const] : []), ...Object.entries(more)]),
    geometry,
  );
  return [...findings.map((f) => `fail ${f.what}`), ...notes.map((f) => `warn ${f.what}`)];
};

describe("files of a relation", () => {
  test.each<[string, RelationFile, Sizes]>([
    ["one segment", table, [20]],
    ["an empty table", { ...table, pages: 0 }, [0]],
    ["a full segment with no next", table, [100]],
    ["two segments", table, [100, 10]],
    ["empty segments that truncation left", table, [20, 0, 0]],
    ["an index still to be built", { ...index, ready: false }, [0]],
    ["an extension's index without a page", { ...index, method: "rum" }, [0]],
    ["a table that an extension stores", { ...table, method: "columnar" }, []],
  ])("are right: %s", (_, relation, sizes) => {
    expect(judge(relation, sizes)).toEqual([]);
  });

  test.each<[string, RelationFile, Sizes, RegExp]>([
    ["no file", table, [], /^fail .*missing/],
    ["unknown to the server", { ...table, path: null }, [10], /^fail .*does not find/],
    ["an index without its first page", index, [0], /^fail .*first page/],
    ["a sequence without its page", { ...index, kind: "S", method: null }, [0], /^fail .*first page/],
    ["a short segment before another", table, [90, 10], /^fail .*90 bytes instead of 100/],
    ["a segment missing before another", table, [100, undefined, 10], /^fail .*missing although segment 2/],
    ["cut within a block of rows", { ...table, tail: "filled" }, [25], /^fail .*cut off/],
    ["a block that a full disk left half made", { ...table, tail: "empty" }, [25], /^warn .*5 bytes into/],
    ["fewer blocks than before", { ...table, pages: 9 }, [20], /^warn .*had 9/],
    ["an unlogged table without its init fork", { ...table, unlogged: true }, [10], /^fail .*unlogged/],
  ])("are wrong: %s", (_, relation, sizes, expected) => {
    const found = judge(relation, sizes);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatch(expected);
  });
});

test("databases and tablespaces have their directories; those of nobody are only noted", () => {
  const place = { name: "app", path: "base/5", map: "512" } as const;
  const judged = judgePlaces(
    [
      { ...place, kind: "database", state: "15\n" },
      { ...place, kind: "database", name: "gone", state: null, map: null },
      { ...place, kind: "database", name: "other", state: "14\n" },
      { ...place, kind: "database", name: "unmapped", state: "15\n", map: null },
      { ...place, kind: "tablespace", name: "fast", state: "there", map: null },
      { ...place, kind: "tablespace", name: "dangling", state: "no link", map: null },
      { ...place, kind: "orphan-database", name: "7", state: null, map: null },
    ],
    "15",
  );
  expect(judged.findings.map((f) => f.object)).toEqual([
    "database gone",
    "database other",
    "database unmapped",
    "tablespace dangling",
  ]);
  expect(judged.notes).toHaveLength(1);
});
