import { describe, expect, test } from "vitest";
import { compareObjects } from "../../../lib/manifest/compare.ts";
import type { Snapshot, TableAnswer } from "../../../lib/manifest/manifest.ts";
import { byName, type ObjectAnswer, type QuestionAnswers } from "../../../lib/manifest/objects.ts";
import { mergeSnapshots } from "../../../lib/manifest/schema.ts";
import type { RangeDigest } from "../../../lib/manifest/table-data.ts";
import { answersOf } from "./answers.ts";

const BASIS = { horizon: { xid: "1000" }, seed: "42" };

const empty = (): Snapshot => ({
  objects: [],
  sequences: [],
  queries: [],
  tables: [],
  moved: new Map([
    ["app", new Set()],
    ["postgres", new Set()],
  ]),
  collations: [],
  problems: [],
});

const object = (digest: string, change: Partial<ObjectAnswer> = {}): ObjectAnswer => ({
  digest,
  version: "v1",
  old: true,
  calm: true,
  object: `pg_class:${digest}`,
  ...change,
});

const tables = (objects: Record<string, ObjectAnswer>, problem?: string): QuestionAnswers => ({
  database: "app",
  question: "tables",
  objects: answersOf(objects),
  ...(problem === undefined ? {} : { problem: { sqlState: "57014", message: problem } }),
});

const merge = (first: Partial<Snapshot>, second: Partial<Snapshot>) =>
  mergeSnapshots(BASIS, { ...empty(), ...first }, { ...empty(), ...second }, "1010");

test("two rows of one name are told apart, in whatever order they come", () => {
  const read = (...digests: string[]) =>
    [...byName(digests.map((digest) => ["twin", digest, "v", true, true, "o"]))].map(([name, a]) => [name, a.digest]);
  expect(read("a", "b")).toEqual([
    ["twin", "a"],
    ["twin (2)", "b"],
  ]);
  expect(read("b", "a")).toEqual(read("a", "b"));
});

describe("objects", async () => {
  test("an object stood still when neither its text nor a row behind it changed, and nothing it borrows from moved", async () => {
    const first = [
      tables({
        same: object("a"),
        changed: object("b"),
        rewritten: object("c"),
        user: object("d"),
        busy: object("g"),
        gone: object("e"),
      }),
    ];
    const second = [
      tables({
        same: object("a"),
        changed: object("b2"),
        rewritten: object("c", { version: "v2" }),
        user: object("d"),
        busy: object("g", { calm: false }),
        born: object("f"),
      }),
    ];
    const moved = new Map([["app", new Set(["pg_class:d"])]]);
    const manifest = await merge({ objects: first }, { objects: second, moved });
    expect(JSON.parse(JSON.stringify(manifest.objects))).toEqual([
      {
        database: "app",
        question: "tables",
        objects: { same: "a" },
        moved: ["changed", "rewritten", "user", "busy", "born", "gone"],
        complete: true,
      },
    ]);
  });

  test("a question that failed once is not covered, with the reason", async () => {
    const manifest = await merge(
      { objects: [tables({ a: object("a") })] },
      { objects: [tables({}, "canceling statement")] },
    );
    expect(manifest.objects).toEqual([]);
    expect(manifest.not_covered).toEqual([{ database: "app", what: "tables", why: "canceling statement" }]);
  });

  test("without knowing what moved nothing is certain", async () => {
    const objects = [tables({ a: object("a") })];
    expect((await merge({ objects }, { objects, moved: new Map() })).objects).toMatchObject([
      { objects: {}, moved: ["a"] },
    ]);
  });

  const manifest = await merge(
    { objects: [tables({ a: object("1"), b: object("2"), m: object("3") })] },
    { objects: [tables({ a: object("1"), b: object("2"), m: object("3b") })] },
  );
  const compare = (objects: Record<string, ObjectAnswer>, moved: string[] = []) =>
    compareObjects(manifest, [tables(objects)], new Map([["app", new Set(moved)]]));

  test("a restore that answers the same is equal, whoever wrote the rows, and what was in motion may be anything", () => {
    const found = { a: object("1", { old: false, version: "x" }), b: object("2"), m: object("9") };
    expect(compare(found)).toEqual({ equal: 2, moved: 1, differences: [], unanswered: [] });
  });

  test("what differs, misses or should not be there shows by name", () => {
    const { differences } = compare({ a: object("other"), extra: object("5") });
    expect(differences).toEqual([
      { database: "app", object: "tables: a", what: "is defined otherwise than on the source" },
      { database: "app", object: "tables: b", what: "is missing here" },
      { database: "app", object: "tables: extra", what: "is here and was not on the source" },
    ]);
  });

  test("what was made since the horizon, by the source or by the restore, is nobody's difference", () => {
    const found = { a: object("1"), b: object("2"), young: object("5", { old: false }), renamed: object("6") };
    expect(compare(found, ["pg_class:6"]).differences).toEqual([]);
  });

  test("a question that the source answered and nobody answers here is a difference; one that fails is told apart", () => {
    expect(compareObjects(manifest, [], new Map()).differences).toHaveLength(1);
    const failed = compareObjects(manifest, [tables({}, "canceling statement")], new Map());
    expect(failed).toMatchObject({
      equal: 0,
      differences: [],
      unanswered: [{ question: "tables", sqlState: "57014" }],
    });
  });
});

describe("tables", () => {
  const range = (from: number, count: number, digest: string): RangeDigest => ({
    from,
    to: from + 128,
    count,
    digest,
    unsettled: 0,
    newer: 0,
  });
  const table = (...ranges: RangeDigest[]): TableAnswer => ({
    table: {
      database: "app",
      oid: "1",
      name: "shop.orders",
      blocks: 384,
      bytes: 384 * 8192,
    },
    ranges,
    left: 0,
  });

  test("a range counts when it was read both times with the same rows", async () => {
    const first = [table(range(0, 10, "a"), range(128, 10, "b"), range(256, 10, "c"))];
    const second = [table(range(0, 10, "a"), range(128, 10, "b2"))];
    expect((await merge({ tables: first }, { tables: second })).tables).toEqual([
      { database: "app", name: "shop.orders", bytes: 3145728, blocks: 384, ranges: [[0, 128, 10, "a"]], moved: 2 },
    ]);
  });
});
