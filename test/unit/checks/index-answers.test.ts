import { describe, expect, test } from "vitest";
import { findingsOf, judgeIndexAnswers, summarize } from "../../../lib/checks/data/index-answers.ts";
import {
  type IndexColumn,
  isExact,
  isWhole,
  sampleOf,
  selfMatches,
  usesOnly,
} from "../../../lib/checks/data/index-questions.ts";
import type { Relation } from "../../../lib/checks/relations.ts";

const relation = { database: "app", name: "public.i", bytes: 8192, method: "gin" } as Relation;
const column: IndexColumn = {
  expression: "a",
  collation: null,
  opclass: "array_ops",
  category: "A",
  deterministic: true,
  searchNulls: false,
  operators: [],
};
const operator = (name: string, left = "anyarray", right = left) => ({
  operator: `OPERATOR(pg_catalog.${name})`,
  name,
  left,
  right,
});
const sound = { rows: 10, ofRows: 10, bad: 0, wrong: [], doubtful: [], why: null };

describe("how a row is found by its own value", () => {
  test.each([
    { operators: [operator("&&"), operator("@>"), operator("=")], kinds: ["equal", "contains", "contains"] },
    { operators: [operator("~=", "point")], kinds: ["equal"] },
    { operators: [operator("@@", "tsvector", "tsquery")], kinds: ["lexemes"] },
    { operators: [operator("~~", "text")], kinds: ["pattern"] },
    { operators: [operator("<", "integer"), operator("<@", "ltree[]", "ltree")], kinds: [] },
  ])("$kinds", ({ operators, kinds }) => {
    expect(selfMatches("gin", { ...column, operators }).map((m) => m.kind)).toEqual(kinds);
  });
  test("never by an approximate operator class, nor by text that is equal to other text", () => {
    const operators = [operator("=")];
    expect(selfMatches("gist", { ...column, operators, opclass: "gist_inet_ops" })).toEqual([]);
    expect(selfMatches("gin", { ...column, operators, deterministic: false })).toEqual([]);
  });
});

test.each(["hash", "gin", "bloom"])("%s has no inner pages that lead astray", (method) => {
  expect(isExact(method, column)).toBe(true);
});

test("a sample is spread over the table, and the whole of a small one", () => {
  expect(sampleOf(640, 64)).toEqual({ step: 10, width: 1, blocks: 640 });
  expect(isWhole(sampleOf(10, 64))).toBe(true);
});

test("only a plan with this index and no other counts", () => {
  const plan = (...names: string[]) =>
    JSON.stringify([
      {
        Plan: { "Node Type": "Nested Loop", Plans: names.map((n) => ({ "Node Type": "Index Scan", "Index Name": n })) },
      },
    ]);
  expect(usesOnly(plan("i"), "i")).toBe(true);
  expect(usesOnly(plan("i", "j"), "i")).toBe(false);
  expect(usesOnly(plan(), "i")).toBe(false);
});

describe("judgement", () => {
  const judge = (value: typeof sound | Record<string, unknown>) =>
    judgeIndexAnswers(summarize([{ relation, outcome: { kind: "done", value: value as typeof sound } }]));
  test("sound", () => {
    expect(judge(sound)).toMatchObject({ status: "pass", coverage: { "index-answers": { rows: 10, of_rows: 10 } } });
  });
  test("a lost entry", () => {
    const judged = judge({ ...sound, bad: 1, wrong: [{ tid: "(0,1)", found: 0, other: "" }] });
    expect(judged.status).toBe("fail");
    expect(judged.summary).toContain("index public.i (rows at (0,1) of its table)");
  });
  test("what was not asked is not proven", () => {
    expect(judge({ ...sound, rows: 0, why: "no operator" }).status).toBe("skipped");
    expect(judge({ ...sound, rows: 5, why: "5 of about 10 rows were asked for" })).toMatchObject({
      status: "pass",
      facts: { not_covered_relations: 1 },
    });
  });
  test("a difference that did not come again is none", () => {
    expect(findingsOf({ ...sound, bad: 1 }, relation)).toEqual([]);
  });
});
