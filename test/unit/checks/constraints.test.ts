import { describe, expect, test } from "vitest";
import { holds, type TableAnswer, type Violation } from "../../../lib/checks/data/constraint-ask.ts";
import {
  duplicates,
  orphans,
  rowRule,
  rowsPass,
  type UniqueRule,
} from "../../../lib/checks/data/constraint-questions.ts";
import { DescribedTables, groupRules } from "../../../lib/checks/data/constraint-rules.ts";
import { ConstraintTally, constraints, judgeConstraints } from "../../../lib/checks/data/constraints.ts";
import { receiptCovers } from "../../../lib/checks/data/receipt-tables.ts";
import type { Edge } from "../../../lib/checks/edge.ts";
import { HELD, type Outcome } from "../../../lib/checks/pool.ts";
import type { Relation } from "../../../lib/checks/relations.ts";
import type { Receipt } from "../../../lib/mark/receipt.ts";

const relation = { database: "app", name: "public.t", bytes: 8192 } as Relation;
function factsOf(...outcomes: Outcome<TableAnswer>[]) {
  const tally = new ConstraintTally();
  tally.add(relation, ...outcomes);
  return tally.facts();
}
const facts = (...violations: Violation[]) => factsOf({ kind: "done", value: { rules: 2, violations, unasked: [] } });
const violation = (kind: Violation["kind"]): Violation => ({
  kind,
  name: "c",
  table: "public.t",
  tables: ["public.t", "public.u"],
  count: 2,
  tids: ["(0,1)"],
  question: "SELECT 1",
});

describe("judgement", () => {
  test("sound", () => expect(judgeConstraints(facts()).status).toBe("pass"));
  test.each([
    ["not-null", "fail"],
    ["unique", "fail"],
    ["partition", "fail"],
    ["exclusion", "fail"],
    ["check", "warn"],
    ["domain", "warn"],
    ["foreign-key", "warn"],
  ] as const)("%s: fail, and %s when the rows are proven to be the source's", (kind, status) => {
    const judged = judgeConstraints(facts(violation(kind)));
    expect(judged.status).toBe("fail");
    expect(judged.hint).toContain("SELECT 1");
    expect(judgeConstraints(facts(violation(kind)), () => true).status).toBe(status);
  });
  test("a constraint that cannot be evaluated is not covered", () => {
    const value = { rules: 1, violations: [], unasked: [{ name: "c", why: "no function f" }] };
    const judged = judgeConstraints(factsOf({ kind: "done", value }));
    expect(judged.facts).toMatchObject({ not_covered_relations: 1 });
  });
});

test("a table of which nothing was told when its constraints were asked for is not covered", async () => {
  const table = { ...relation, kind: "r", system: false, populated: true };
  const tables = [
    { ...table, name: "public.held", held: true },
    { ...table, name: "public.gone", held: false },
  ] as Relation[];
  const edge = { relations: async () => tables, pool: { work: async () => {} } } as unknown as Edge;
  const { coverage, notCovered } = await constraints.collect(edge, () => new DescribedTables());
  expect(coverage).toMatchObject({ relations: 0, of_relations: 2 });
  expect(notCovered).toMatchObject([
    { object: "public.held", why: HELD },
    { object: "public.gone", why: "it was dropped or locked meanwhile" },
  ]);
});

describe("statements", () => {
  const unique: UniqueRule = {
    kind: "unique",
    oid: "1",
    name: "u",
    keys: ["a"],
    predicate: null,
    nullsDistinct: true,
    notNull: false,
    usual: true,
    integer: true,
    ordered: false,
  };
  test("one pass for all conditions on a row", () => {
    expect(rowsPass("public.t", [rowRule.notNull('a"b'), rowRule.check("c", "x > 0")])).toBe(
      'SELECT count(*)::text AS rows, count(*) FILTER (WHERE num_nulls("a""b") = 1)::text AS n0, ' +
        "count(*) FILTER (WHERE (x > 0) IS FALSE)::text AS n1 FROM ONLY public.t WHERE tableoid <> 0",
    );
  });
  test("keys are counted as they are, by the index or by hash, whatever is cheapest", () => {
    const sql = (rule: Partial<UniqueRule>) => rowsPass("t", [], [{ ...unique, ...rule }]);
    expect(sql({})).toContain("count(DISTINCT (a)::int8");
    expect(sql({ nullsDistinct: false })).toContain("hash_record_extended(ROW(a), 0)");
    expect(sql({ integer: false })).toContain("hash_record_extended(ROW(a), 0)");
    expect(sql({ ordered: true })).toContain("GROUP BY a");
    expect(sql({ integer: false, ordered: true })).toContain("GROUP BY a");
  });
  test("nulls are left out of the keys, unless the columns are NOT NULL, which is a rule of its own", () => {
    const sql = (rule: Partial<UniqueRule>) => rowsPass("t", [], [{ ...unique, ...rule }]);
    const nulls = (text: string) => text.match(/num_nulls/g)?.length ?? 0;
    expect([sql({}), sql({ ordered: true })].map(nulls)).toEqual([2, 2]);
    expect([sql({ notNull: true }), sql({ notNull: true, ordered: true })].map(nulls)).toEqual([0, 0]);
    expect(sql({ notNull: true, nullsDistinct: false })).toContain("count(DISTINCT (a)::int8");
    // Should there be nulls all the same, they are no duplicates.
    expect(duplicates("t", { ...unique, notNull: true })).toContain("WHERE num_nulls(a) = 0");
  });
  test("a big table in parts, but what all rows are needed for", () => {
    const rule = rowRule.notNull("a");
    expect(groupRules(8192, [rule], [unique], true)).toEqual([{ rules: [rule, unique], part: null, bytes: 8192 }]);
    expect(groupRules(8192, [], [], true)).toEqual([]);
    const big = 8192 * (4 * 32_768 + 1);
    expect(groupRules(big, [rule], [unique], false)).toHaveLength(1);
    expect(groupRules(big, [rule], [unique], true).map((g) => [g.rules[0]?.kind, g.part])).toEqual([
      ["unique", null],
      ...[0, 1, 2, 3].map((i) => ["not-null", { from: i * 32_768, to: (i + 1) * 32_768 }]),
      ["not-null", { from: 4 * 32_768, to: null }],
    ]);
    expect(rowsPass("t", [rule], [], { from: 5, to: null })).toMatch(/WHERE ctid >= '\(5,0\)'$/);
  });
  test("MATCH FULL: a key of which a part is null is an orphan too", () => {
    const column = { from: "a", to: "b", operator: "OPERATOR(pg_catalog.=)", collation: null };
    const key = {
      kind: "foreign-key",
      name: "f",
      from: "ONLY t",
      to: "ONLY u",
      full: true,
      tables: ["t", "u"],
      columns: [column, column],
    } as const;
    expect(orphans(key)).toContain("num_nulls(f.a, f.a) < 2");
    expect(orphans({ ...key, full: false })).toContain("num_nulls(f.a, f.a) = 0");
  });
});

describe("rows that table-data compares with the source's", () => {
  type Ranges = [number, number | null, number, string][];
  const whole: Ranges = [
    [8, null, 1, ""],
    [0, 8, 1, ""],
  ];
  const covers = (tables: { name: string; ranges: Ranges; moved?: number }[], level: "quick" | "full" = "full") =>
    receiptCovers({
      level,
      receipt: { manifest: { tables: tables.map((t) => ({ database: "app", moved: 0, ...t })) } } as unknown as Receipt,
    })("app", ["public.t", "public.u"]);
  const t = { name: "public.t", ranges: whole };
  const u = { name: "public.u", ranges: [[0, null, 0, ""]] as Ranges };
  test.each([
    ["both tables, every block", [t, u], true],
    ["not the referenced table", [t], false],
    ["in motion", [{ ...t, moved: 1 }, u], false],
    ["not from the start", [{ ...t, ranges: [[8, null, 1, ""]] as Ranges }, u], false],
    ["not to the end", [{ ...t, ranges: [[0, 8, 1, ""]] as Ranges }, u], false],
    ["a gap", [{ ...t, ranges: [...whole.slice(0, 1), [0, 7, 1, ""]] as Ranges }, u], false],
  ] as const)("%s", (_, tables, expected) => expect(covers([...tables])).toBe(expected));
  test("not at level quick, nor without a receipt", () => {
    expect(covers([t, u], "quick")).toBe(false);
    expect(receiptCovers({ receipt: null, level: "full" })("app", ["public.t"])).toBe(false);
  });
  test("other findings stay what they are", () => {
    const judged = judgeConstraints(facts(violation("check"), { ...violation("not-null"), name: "d" }), () => true);
    expect(judged.status).toBe("fail");
    expect(judged.summary).not.toContain("CHECK");
  });
  test("parts of a table are one finding", () => {
    const done = (count: number) => ({
      kind: "done" as const,
      value: { rules: 1, violations: [{ ...violation("not-null"), count }], unasked: [] },
    });
    expect(factsOf(done(2), done(3))).toMatchObject({ violations: [{ count: 5 }], findings: [{}] });
  });
});

describe("the counts of one pass", () => {
  const unique = {
    kind: "unique",
    name: "t_pkey",
    oid: "1",
    keys: ["id"],
    predicate: null,
    nullsDistinct: true,
  } as const;
  const rules = [
    rowRule.notNull("id"),
    { ...unique, notNull: true, integer: true, ordered: false, usual: true } as UniqueRule,
  ];
  test.each([
    ["hold when no row is against a rule and there are as many keys as rows", { n0: "0", r0: "7", d0: "7" }, true],
    ["do not with a row against one", { n0: "1", r0: "7", d0: "7" }, false],
    ["nor with fewer keys", { n0: "0", r0: "7", d0: "6" }, false],
    ["nor when there are none", {}, false],
    ["nor without those of the keys", { n0: "0" }, false],
  ])("%s", (_, counts: Record<string, string>, expected) => {
    expect(holds({ rules }, counts)).toBe(expected);
  });
});
