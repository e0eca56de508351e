import { expect, test } from "vitest";
import {
  calledFunctions,
  explainQueryError,
  judgePlan,
  readPlan,
  usedKeywords,
  userQueryDigestSql,
} from "../../../lib/manifest/user-queries.ts";

const query = (sql: string) => ({ name: "orders_total", database: "app", sql });

const NOTHING = { volatileFunctions: [], relations: [] };

const judged = (sql: string, plan: unknown, facts: Parameters<typeof judgePlan>[2] = NOTHING) =>
  judgePlan(query(sql), readPlan(plan), facts).map((problem) => problem.message);

test("functions are found in an expression, not in its strings; a word like AND is no function of anybody", () => {
  expect(calledFunctions(`(ts < now()) AND (x = 'random() '' nextval(') AND "Odd"."f ""x""" (1) AND s.g(2)`)).toEqual([
    { schema: null, name: "now" },
    { schema: null, name: "AND" },
    { schema: "Odd", name: 'f "x"' },
    { schema: "s", name: "g" },
  ]);
});

test("words of SQL that change are found, and quoted names and strings are not", () => {
  expect(usedKeywords(`(d < CURRENT_DATE) AND ("CURRENT_USER" = 'LOCALTIME') AND (t > LOCALTIMESTAMP)`)).toEqual([
    "CURRENT_DATE",
    "LOCALTIMESTAMP",
  ]);
});

test("a plan's expressions are read, its names are not", () => {
  const plan = readPlan([
    {
      Plan: {
        "Node Type": "Aggregate",
        Plans: [
          {
            "Node Type": "Seq Scan",
            Schema: "shop",
            "Relation Name": "now(",
            Alias: "random(",
            Output: ["id", "shop.f(id)"],
            Filter: "(ts < statement_timestamp())",
          },
        ],
      },
    },
  ]);
  expect(plan.relations).toEqual([{ schema: "shop", name: "now(" }]);
  expect(plan.functions.map((f) => f.name)).toEqual(["f", "statement_timestamp"]);
});

test("the clock is refused in the field's own sentence", () => {
  expect(judged("SELECT now()", { Output: ["now()"] })).toEqual([
    'query "orders_total" is not deterministic (volatile function now()); mark it or change it',
  ]);
});

test("a volatile function of one's own comes with the advice to mark it", () => {
  const facts = { ...NOTHING, volatileFunctions: [{ name: "total", own: true }] };
  const [problem] = judgePlan(query("SELECT total()"), readPlan({ Output: ["total()"] }), facts);
  expect(problem?.message).toContain("volatile function total()");
  expect(problem?.hint).toContain("STABLE");
});

test.each([
  ["SELECT 'today'::date", "'today' is the time of the query"],
  ["SELECT timestamptz 'now'", "'now' is the time of the query"],
  ["SELECT cast('yesterday' AS timestamptz)", "'yesterday' is the time of the query"],
])("%s is refused although its plan holds a constant", (sql, cause) => {
  expect(judged(sql, [])).toEqual([expect.stringContaining(`(${cause})`)]);
});

test("the same words as plain values are fine", () => {
  expect(judged("SELECT * FROM t WHERE status = 'now' OR due = 'today'", [])).toEqual([]);
});

test.each([
  ["S", "p", "sequence s.t jumps in recovery"],
  ["f", "p", "foreign table s.t is not part of a restore"],
  ["r", "u", "unlogged table s.t is empty after recovery"],
  ["r", "t", "temporary table s.t is not part of a restore"],
])("a relation of kind %s and persistence %s: %s", (kind, persistence, cause) => {
  const facts = { ...NOTHING, relations: [{ schema: "s", name: "t", kind, persistence }] };
  expect(judged("SELECT 1", [], facts)).toEqual([expect.stringContaining(`(${cause})`)]);
});

test("TABLESAMPLE needs REPEATABLE", () => {
  expect(judged("", { "Node Type": "Sample Scan" })).toEqual([
    expect.stringContaining("TABLESAMPLE without REPEATABLE"),
  ]);
  expect(judged("", { "Node Type": "Sample Scan", "Repeatable Seed": "'1'" })).toEqual([]);
});

test("many causes are cut short", () => {
  const Output = ["pg_stat_get_a(1)", "pg_stat_get_b(1)", "pg_stat_get_c(1)", "pg_stat_get_d(1)"];
  expect(judged("", { Output })[0]).toMatch(/pg_stat_get_c\(\) and 1 more\)/);
});

test.each([
  ["25006", "SELECT f()", /writes; only a SELECT can be compared/],
  ["42601", "DELETE FROM t", /writes; only a SELECT can be compared/],
  ["42P01", "SELECT * FROM t", /in database "app" is not valid: server's words/],
  ["42501", "SELECT * FROM t", /is not allowed: server's words/],
  ["57014", "SELECT * FROM t", /did not end within the limit/],
  ["22012", "SELECT 1/0", /failed: server's words/],
])("SQLSTATE %s of %s is put into words", (state, sql, sentence) => {
  expect(explainQueryError(query(sql), state, new Error("server's words")).message).toMatch(sentence);
});

test("a final semicolon is forgiven, and a comment at the end swallows nothing", () => {
  expect(userQueryDigestSql(query("SELECT 1; "))).toContain("\nSELECT 1\n)");
  expect(userQueryDigestSql(query("SELECT 1 -- all"))).toContain("SELECT 1 -- all\n)");
});
