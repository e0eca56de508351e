import { expect, test } from "vitest";
import { compareManifest, type ManifestAnswer, mergeManifest } from "../../../lib/mark/manifest.ts";
import { CLUSTER_QUESTIONS, DATABASE_QUESTIONS, digestSql } from "../../../lib/mark/manifest-questions.ts";

const answer = (id: string, count: number, digest: string, problem?: string): ManifestAnswer => ({
  id,
  database: id.includes(": ") ? (id.split(": ")[0] ?? null) : null,
  question: id.split(": ").at(-1) ?? "",
  count,
  digest,
  ...(problem === undefined ? {} : { problem: { sqlState: "57014", message: problem } }),
});

const moved = (s1: ManifestAnswer[], s2: ManifestAnswer[]) =>
  Object.fromEntries(mergeManifest(s1, s2).map((entry) => [entry.id, entry.moved]));

test("what is equal before the marker and after the target stood still, and only that", () => {
  const s1 = [answer("roles", 3, "a"), answer("app: tables", 8, "b"), answer("app: views", 1, "c")];
  const s2 = [answer("roles", 3, "a"), answer("app: tables", 9, "b2"), answer("app: views", 1, "c2")];
  expect(moved(s1, s2)).toEqual({ roles: false, "app: tables": true, "app: views": true });
});

test("a database that came or went in between was in motion", () => {
  expect(moved([answer("gone: tables", 1, "a")], [answer("new: tables", 1, "a")])).toEqual({
    "gone: tables": true,
    "new: tables": true,
  });
});

test("what could not be answered both times is in motion, not equal", () => {
  const failed = answer("app: views", 0, "", "canceling statement due to lock timeout");
  expect(moved([failed], [failed])).toEqual({ "app: views": true });
});

test("an entry holds the answer of the second time, and nothing else than a receipt may hold", () => {
  const entry = mergeManifest([answer("roles", 3, "a")], [answer("roles", 4, "b")])[0];
  expect(entry).toEqual({ id: "roles", database: null, question: "roles", count: 4, digest: "b", moved: true });
});

const ENTRIES = mergeManifest(
  [answer("roles", 3, "a"), answer("app: tables", 8, "b"), answer("app: views", 1, "c"), answer("app: types", 2, "t")],
  [answer("roles", 3, "a"), answer("app: tables", 8, "b"), answer("app: views", 1, "c"), answer("app: types", 3, "u")],
);

test("a restore that answers the same is equal, and what was in motion is counted apart", () => {
  const found = [answer("roles", 3, "a"), answer("app: tables", 8, "b"), answer("app: views", 1, "c")];
  expect(compareManifest(ENTRIES, [...found, answer("app: types", 9, "z")])).toEqual({
    equal: 3,
    moved: 1,
    different: [],
    missing: [],
    unexpected: [],
    unanswered: [],
  });
});

test("a difference in content, a missing answer, a failed question and a new thing each show by name", () => {
  const found = [
    answer("roles", 3, "other"),
    answer("app: tables", 0, "", "could not open file"),
    answer("new: tables", 1, "n"),
  ];
  expect(compareManifest(ENTRIES, found)).toEqual({
    equal: 0,
    moved: 1,
    different: [{ id: "roles", expectedCount: 3, foundCount: 3 }],
    missing: ["app: views"],
    unexpected: ["new: tables"],
    unanswered: [{ id: "app: tables", message: "could not open file" }],
  });
});

test("nothing compared gives no equal entry", () => {
  expect(compareManifest([], [])).toMatchObject({ equal: 0, moved: 0 });
});

test("every question has a name of its own and asks for one text column", () => {
  for (const questions of [CLUSTER_QUESTIONS, DATABASE_QUESTIONS]) {
    expect(new Set(questions.map((q) => q.name)).size).toBe(questions.length);
    for (const { sql } of questions) {
      expect(sql.match(/SELECT ROW\(/g)?.length).toBeGreaterThanOrEqual(1);
      expect(sql).not.toMatch(/;|reltuples|relpages|relfrozenxid|rolpassword|subconninfo|umoptions/);
    }
  }
});

test("a digest is taken on the server, of rows in an order that no locale changes", () => {
  expect(digestSql("SELECT 1", "line")).toMatch(/string_agg\(hash, ''::bytea ORDER BY hash\)/);
});
