/** Statements that look for rows which a constraint forbids, over the tables themselves: an index may be what is damaged. */

import { quoteIdentifier, quoteLiteral } from "../../io/database.ts";

/** A condition on each single row: NOT NULL, CHECK, domain, partition bound. */
export interface RowRule {
  kind: "not-null" | "check" | "domain" | "partition";
  /** Constraint, column or `partition bound`. */
  name: string;
  /** True for a row that breaks it. */
  broken: string;
}

export interface UniqueRule {
  kind: "unique";
  /** Of the index. */
  name: string;
  oid: string;
  /** Expressions, with collation where it is not the column's. */
  keys: readonly string[];
  predicate: string | null;
  nullsDistinct: boolean;
  /** All its keys are columns that are NOT NULL: that is a rule of its own, and is not asked again for each row here. */
  notNull: boolean;
  /** One key of a type that is an integer inside: cheapest to sort. */
  integer: boolean;
  /** Only columns, of all rows of a table that is mostly all-visible: the index gives them in order, without the table. */
  ordered: boolean;
  /** False when the index has a notion of equality that GROUP BY does not have. */
  usual: boolean;
}

export interface ExclusionRule {
  kind: "exclusion";
  name: string;
  keys: readonly { expression: string; operator: string }[];
  predicate: string | null;
}

export interface ForeignKeyRule {
  kind: "foreign-key";
  name: string;
  /** With ONLY where the table is not partitioned. */
  from: string;
  to: string;
  full: boolean;
  columns: readonly { from: string; to: string; operator: string; collation: string | null }[];
  /** Both sides, of partitioned tables their partitions. */
  tables: readonly string[];
}

export type Rule = RowRule | UniqueRule | ExclusionRule | ForeignKeyRule;

export const rowRule = {
  // Not IS NULL: that is also true for a composite value of nulls, and for the planner never true of such a column.
  notNull: (column: string): RowRule => ({
    kind: "not-null",
    name: column,
    broken: `num_nulls(${quoteIdentifier(column)}) = 1`,
  }),
  check: (name: string, expression: string): RowRule => ({ kind: "check", name, broken: `(${expression}) IS FALSE` }),
  partition: (expression: string): RowRule => ({
    kind: "partition",
    name: "partition bound",
    broken: `(${expression}) IS FALSE`,
  }),
  /** `expression` calls the value VALUE. */
  domain: (name: string, column: string, base: string, expression: string | null): RowRule => ({
    kind: "domain",
    name,
    broken:
      expression === null
        ? `num_nulls(${quoteIdentifier(column)}) = 1`
        : `(SELECT (${expression}) IS FALSE FROM (SELECT ${quoteIdentifier(column)}::${base} AS value) AS patroni_restore_domain)`,
  }),
};

/** Blocks of a table, the last one excluded; null is the whole. */
export type Part = { from: number; to: number | null } | null;

/** Never answered from an index alone: none has the system columns. */
function within(part: Part): string {
  if (part === null) return "tableoid <> 0";
  const from = `ctid >= '(${part.from},0)'`;
  return part.to === null ? from : `${from} AND ctid < '(${part.to},0)'`;
}

/**
 * One pass: rows, per rule the rows that break it (`n0`, `n1`, …), and per unique index the rows that it is about and their
 * different keys (`r0`, `d0`, …): equal when there are no duplicates, at a fifth of what `duplicates` costs.
 */
export function rowsPass(
  table: string,
  rules: readonly RowRule[],
  uniques: readonly UniqueRule[] = [],
  part: Part = null,
): string {
  const counts = rules.map((rule, i) => `count(*) FILTER (WHERE ${rule.broken})::text AS n${i}`);
  const keys = uniques.map((rule, i) => {
    const condition = uniqueCondition({ ...rule, nullsDistinct: hasNulls(rule) });
    const filter = condition === null ? "" : ` FILTER (WHERE ${condition})`;
    return `(count(*)${filter})::text AS r${i}, (${differentKeys(table, rule, filter)})::text AS d${i}`;
  });
  return `SELECT ${["count(*)::text AS rows", ...counts, ...keys].join(", ")} FROM ONLY ${table} WHERE ${within(part)}`;
}

/**
 * Equal keys have equal hashes; keys that only have equal hashes make it look for nothing. Duplicates are neighbours in an
 * index, unless it lacks one of them, and then its keys are fewer than the rows of the table.
 */
function differentKeys(table: string, rule: UniqueRule, filter: string): string {
  const list = rule.keys.join(", ");
  if (!rule.ordered) {
    // An expression that no index has: PostgreSQL 16 would read the whole table in an index's order.
    const integer = rule.integer && (rule.nullsDistinct || rule.notNull);
    return `count(DISTINCT ${integer ? `(${list})::int8 # 0::int8` : `hash_record_extended(ROW(${list}), 0)`})${filter}`;
  }
  const names = rule.keys.map((_, i) => `patroni_restore_k${i}`);
  const keys = rule.keys.map((key, i) => `${key} AS ${names[i]}`).join(", ");
  const present = hasNulls(rule) ? ` FILTER (WHERE num_nulls(${names.join(", ")}) = 0)` : "";
  return `SELECT count(*)${present} FROM (SELECT ${keys} FROM ONLY ${table} GROUP BY ${list}) AS patroni_restore_groups`;
}

/** Without its values: a report is no place for them. */
export const brokenRows = (table: string, { broken }: RowRule, part: Part) =>
  `SELECT ctid::text AS tid FROM ONLY ${table} WHERE ${within(part)} AND CASE WHEN ${broken} THEN true ELSE false END LIMIT 5`;

/** The same question for a person, on the source. */
export const rowsForPerson = (table: string, { broken }: RowRule) =>
  `SELECT ctid, * FROM ONLY ${table} WHERE ${broken}`;

/** Rows with nulls are not to be counted, and there may be some. */
const hasNulls = ({ nullsDistinct, notNull }: UniqueRule) => nullsDistinct && !notNull;

function uniqueCondition(rule: Pick<UniqueRule, "predicate" | "nullsDistinct" | "keys">): string | null {
  const conditions: string[] = [];
  if (rule.predicate !== null) conditions.push(`CASE WHEN (${rule.predicate}) THEN true ELSE false END`);
  if (rule.nullsDistinct) conditions.push(`num_nulls(${rule.keys.join(", ")}) = 0`);
  return conditions.length > 0 ? conditions.join(" AND ") : null;
}

function uniqueWhere(rule: UniqueRule): string {
  const condition = uniqueCondition(rule);
  return condition === null ? "" : ` WHERE ${condition}`;
}

/** Hashed or sorted, whatever the planner thinks cheaper, but never by the index. */
export function duplicates(table: string, rule: UniqueRule): string {
  return `SELECT count(*)::text AS n, coalesce(sum(patroni_restore_n - 1), 0)::text AS rows,
           array_to_json((array_agg(patroni_restore_tids))[1:5])::text AS tids
      FROM (SELECT count(*) AS patroni_restore_n, min(ctid)::text || ' and ' || max(ctid)::text AS patroni_restore_tids
              FROM ONLY ${table}${uniqueWhere(rule)}
             GROUP BY ${rule.keys.map((key) => `(${key})`).join(", ")} HAVING count(*) > 1) AS patroni_restore_groups`;
}

/**
 * Through the index, or it would compare each row with each other one. Each pair is asked for from both sides, so that it is
 * enough when the index knows one of the rows; that it knows all of them is proven elsewhere (`index-answers`).
 */
export function conflicts(table: string, rule: ExclusionRule): string {
  const list = rule.keys.map(({ expression }, i) => `(${expression}) AS patroni_restore_c${i}`).join(", ");
  const side = `(SELECT ctid AS patroni_restore_tid, ${list} FROM ONLY ${table}${rule.predicate === null ? "" : ` WHERE (${rule.predicate})`})`;
  const on = rule.keys.map(({ operator }, i) => `a.patroni_restore_c${i} ${operator} b.patroni_restore_c${i}`);
  return `SELECT count(*)::text AS n, array_to_json((array_agg(pair))[1:5])::text AS tids FROM (
      SELECT DISTINCT least(a.patroni_restore_tid, b.patroni_restore_tid)::text || ' and ' || greatest(a.patroni_restore_tid, b.patroni_restore_tid)::text AS pair
        FROM ${side} AS a JOIN ${side} AS b ON ${on.join(" AND ")} AND a.patroni_restore_tid <> b.patroni_restore_tid) AS pairs`;
}

function orphanWhere(rule: ForeignKeyRule): string {
  const columns = rule.columns.map((c) => `f.${c.from}`).join(", ");
  const equal = rule.columns.map(
    (c) => `p.${c.to} ${c.operator} ${c.collation === null ? `f.${c.from}` : `f.${c.from} COLLATE ${c.collation}`}`,
  );
  const missing = `NOT EXISTS (SELECT FROM ${rule.to} AS p WHERE ${equal.join(" AND ")})`;
  return rule.full && rule.columns.length > 1
    ? `num_nulls(${columns}) < ${rule.columns.length} AND ${missing}`
    : `num_nulls(${columns}) = 0 AND ${missing}`;
}

export function orphans(rule: ForeignKeyRule): string {
  return `SELECT count(*)::text AS n, count(*)::text AS rows,
           array_to_json((array_agg(f.tableoid::regclass::text || ' ' || f.ctid::text))[1:5])::text AS tids
      FROM ${rule.from} AS f WHERE ${orphanWhere(rule)}`;
}

export const orphansForPerson = (rule: ForeignKeyRule) =>
  `SELECT f.* FROM ${rule.from} AS f WHERE ${orphanWhere(rule)}`;

export const duplicatesForPerson = (table: string, rule: UniqueRule) =>
  `SELECT ${rule.keys.join(", ")}, count(*) FROM ONLY ${table}${uniqueWhere(rule)} GROUP BY ${rule.keys.map((key) => `(${key})`).join(", ")} HAVING count(*) > 1`;

/** Indexes out of the way: a damaged one would hide a row from the question. */
const WITHOUT_INDEXES = [
  "enable_indexscan = off",
  "enable_indexonlyscan = off",
  "enable_bitmapscan = off",
  "jit = off",
];

const SETTINGS: Record<"pass" | Rule["kind"], readonly string[]> = {
  // What differentKeys() asks of an index is asked of that one, in its order.
  pass: [
    "enable_seqscan = off",
    "enable_indexscan = off",
    "enable_bitmapscan = off",
    "enable_hashagg = off",
    "jit = off",
  ],
  "not-null": WITHOUT_INDEXES,
  check: WITHOUT_INDEXES,
  domain: WITHOUT_INDEXES,
  partition: WITHOUT_INDEXES,
  unique: WITHOUT_INDEXES,
  "foreign-key": [...WITHOUT_INDEXES, "enable_nestloop = off"],
  exclusion: ["jit = off", "enable_hashjoin = off", "enable_mergejoin = off"],
};

export const settingsFor = (kind: keyof typeof SETTINGS, workMemKb: number, userPath: boolean) =>
  [...SETTINGS[kind], `work_mem = ${quoteLiteral(`${workMemKb}kB`)}`, ...(userPath ? ["search_path TO DEFAULT"] : [])]
    .map((setting) => `SET LOCAL ${setting}; `)
    .join("");
