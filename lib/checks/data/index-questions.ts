/**
 * The same question asked of an index and of its table, in one statement and so of one snapshot: is every row found by its own
 * value. Only the text of the statements; which operators an index supports comes from the catalogs.
 */

import { quoteLiteral } from "../../io/database.ts";

export interface IndexOperator {
  /** `OPERATOR(pg_catalog.=)`. */
  operator: string;
  name: string;
  /** Of the right operand, as format_type() spells it. */
  right: string;
  /** Of the left one; the same except for full text search. */
  left: string;
}

export interface IndexColumn {
  /** Of pg_get_indexdef: a quoted name or an expression. */
  expression: string;
  /** Qualified; null when the type has none. */
  collation: string | null;
  /** Of the operator class. */
  opclass: string;
  /** pg_type.typcategory of what the operator class takes. */
  category: string;
  /** False for collations under which different text is equal. */
  deterministic: boolean;
  searchNulls: boolean;
  /** Of the operator family, for the operator class's own type, by strategy. */
  operators: readonly IndexOperator[];
}

export interface AskableIndex {
  name: string;
  table: string;
  method: string;
  columns: readonly IndexColumn[];
  predicate: string | null;
  /** Which of the operators is used, of those that will do; more are tried where another index answers the first. */
  choice: number;
}

/** Where to look: all blocks of the table, or `width` blocks out of every `step`. */
export interface Sample {
  step: number;
  width: number;
  /** Of the table. */
  blocks: number;
}

/** How a row is found by its own value. */
export interface SelfMatch {
  operator: string;
  kind: "equal" | "contains" | "lexemes" | "pattern";
}

/** Approximate inside: PostgreSQL itself says that they may miss rows. */
const APPROXIMATE = new Set(["gist_inet_ops", "gist_cidr_ops"]);

/** Reflexive ones, the most selective first. */
const REFLEXIVE = ["=", "~=", "@>", "<@", ">>=", "<<=", "&&"];

/** Operators by which a value certainly finds itself, the most selective first. */
export function selfMatches(method: string, column: IndexColumn): SelfMatch[] {
  if (APPROXIMATE.has(column.opclass)) return [];
  if (!column.deterministic && method !== "hash") return [];
  const found = REFLEXIVE.flatMap((name): SelfMatch[] => {
    const operator = column.operators.find((o) => o.name === name && o.left === o.right)?.operator;
    if (operator === undefined) return [];
    return [{ operator, kind: name === "=" || name === "~=" ? "equal" : "contains" }];
  });
  const search = column.operators.find((o) => o.name === "@@" && o.left === "tsvector" && o.right === "tsquery");
  if (search !== undefined) found.push({ operator: search.operator, kind: "lexemes" });
  const like = column.operators.find((o) => o.name === "~~" && o.left === "text" && o.right === "text");
  if (like !== undefined) found.push({ operator: like.operator, kind: "pattern" });
  return found;
}

/** Operator classes whose inner pages no value can spoil; the others compute with floating-point numbers, or nobody knows. */
const EXACT =
  /^(gist_(int[248]|text|bpchar|bytea|date|timetz?|timestamp|timestamptz|interval|cash|oid|numeric|bit|vbit|macaddr8?|uuid|enum|bool|trgm|hstore|_?ltree|_int|_intbig)|(multi)?range|inet|tsvector|tsquery|text)(_pattern)?_ops$/;

/**
 * False where a NaN that was there once, perhaps deleted long ago, leaves inner pages behind by which PostgreSQL loses the way
 * to rows that are in the index: on a sound instance too.
 */
export function isExact(method: string, { opclass, category }: IndexColumn): boolean {
  if (method === "brin") return !/inclusion/.test(opclass) || /^(range|inet)_/.test(opclass);
  if (method !== "gist" && method !== "spgist") return ["hash", "gin", "bloom"].includes(method);
  return category !== "G" && EXACT.test(opclass);
}

/** How many choices of operators there are. */
export const choicesOf = (index: AskableIndex) =>
  Math.max(0, ...index.columns.map((column) => selfMatches(index.method, column).length));

/** What can be asked of an index: its columns by position, or nothing. */
export function askableColumns(index: AskableIndex): { column: IndexColumn; match: SelfMatch; at: number }[] {
  return index.columns.flatMap((column, at) => {
    const matches = selfMatches(index.method, column);
    const match = matches[Math.min(index.choice, matches.length - 1)];
    return match === undefined ? [] : [{ column, match, at }];
  });
}

/** Sampled blocks are spread evenly: every `step`-th one. */
export function sampleOf(blocks: number, wanted: number): Sample {
  return { step: Math.max(1, Math.floor(blocks / Math.max(1, wanted))), width: 1, blocks };
}

export const isWhole = (sample: Sample) => sample.width >= sample.step;

/** The settings that leave the planner only this index for one side and the table itself for the other, in order of trying. */
export const PLANS: readonly string[] = [
  "",
  "SET LOCAL enable_indexscan = off; ",
  "SET LOCAL enable_bitmapscan = off; ",
  // Other access methods are charged for their descent with it, hash is not.
  "SET LOCAL cpu_operator_cost = 1000; ",
];

const SETTINGS = [
  "enable_seqscan = off",
  "enable_hashjoin = off",
  "enable_mergejoin = off",
  "enable_indexonlyscan = off",
  "jit = off",
  "gin_fuzzy_search_limit = 0",
]
  .map((setting) => `SET LOCAL ${setting}; `)
  .join("");

/** What comes before the statement itself. */
export function settings(plan: string, timeoutMs: number, userPath = false): string {
  // After `pg_catalog` alone failed: functions of the user's may rely on the search_path of the database.
  const path = userPath ? "SET LOCAL search_path TO DEFAULT; " : "";
  return `${SETTINGS}${plan}${path}SET LOCAL statement_timeout = ${Math.max(20, Math.round(timeoutMs))}; `;
}

/** Not provable by the planner, so that no index offers itself for the table's side. */
const opaque = (condition: string) => `CASE WHEN (${condition}) THEN true ELSE false END`;

const columnsOf = (index: AskableIndex) => askableColumns(index).map((c) => c.at);

/** Rows of the table: their place and the indexed values. */
function heap(index: AskableIndex, sample: Sample): string {
  const list = [
    "ctid AS patroni_restore_tid",
    ...index.columns.map((c, at) => `(${c.expression}) AS patroni_restore_c${at}`),
  ].join(", ");
  const where = index.predicate === null ? [] : [opaque(index.predicate)];
  if (isWhole(sample)) {
    return `SELECT ${list} FROM ONLY ${index.table} WHERE ${["ctid >= '(0,0)'", ...where].join(" AND ")}`;
  }
  const from = "format('(%s,0)', patroni_restore_sample.b)::tid";
  const to = `format('(%s,0)', patroni_restore_sample.b + ${sample.width})::tid`;
  return `SELECT patroni_restore_rows.* FROM generate_series(0, ${Math.max(0, sample.blocks - 1)}::int8, ${sample.step}) AS patroni_restore_sample (b)
    CROSS JOIN LATERAL (SELECT ${list} FROM ONLY ${index.table}
      WHERE ${[`ctid >= ${from}`, `ctid < ${to}`, ...where].join(" AND ")} OFFSET 0) AS patroni_restore_rows`;
}

const inSample = (tid: string, sample: Sample) =>
  isWhole(sample) ? "true" : `(${tid}::text::point)[0]::int8 % ${sample.step} < ${sample.width}`;

/** Which of the columns are null in how many rows: `01` is the second one. */
export function masksQuestion(index: AskableIndex, sample: Sample): string {
  const mask = columnsOf(index)
    .map((at) => `num_nulls(patroni_restore_c${at})::text`)
    .join(" || ");
  return `SELECT ${mask} AS mask, count(*)::text AS rows FROM (${heap(index, sample)}) AS h GROUP BY 1 ORDER BY 1`;
}

/** Rows whose columns are null according to the mask can be asked; null when they cannot. */
export function isAskable(index: AskableIndex, mask: string): boolean {
  return askableColumns(index).some(({ column }, i) => mask[i] === "0" || column.searchNulls);
}

interface Parts {
  /** Which rows of the table are asked. */
  chosen: string;
  /** What distinguishes values: text, the same for the same value. */
  key: (of: string) => string;
  /** Expressions to search with. */
  values: string;
  /** One row of the table again, by its place. */
  again: (tid: string) => string;
  /** The index's side. */
  found: string;
  /** What the index was asked. */
  condition: string;
  /** Null when an operator is not exact enough to blame the index for a row too many. */
  matches: string | null;
}

function parts(index: AskableIndex, mask: string): Parts {
  const asked = askableColumns(index);
  const key = (of: string) =>
    `ROW(${asked.map(({ at }) => `${of}patroni_restore_c${at}`).join(", ")})::text COLLATE "C"`;
  const chosen: string[] = [];
  const conditions: string[] = [];
  const values: string[] = [];
  let exact = true;
  asked.forEach(({ column, match, at }, i) => {
    const name = `patroni_restore_c${at}`;
    const collate = column.collation === null ? "" : ` COLLATE ${column.collation}`;
    chosen.push(`num_nulls(${name}) = ${mask[i] === "0" ? 0 : 1}`);
    if (mask[i] !== "0") {
      if (column.searchNulls) conditions.push(`i.${name} IS NULL`);
      return;
    }
    const value = searchFor(match.kind, name);
    values.push(`${value} AS patroni_restore_q${at}`);
    conditions.push(`i.${name}${collate} ${match.operator} v.patroni_restore_q${at}`);
    // Its own value finds it, or it is not asked: an empty document, NaN in the arithmetic of a contributed type.
    chosen.push(`(${name}${collate} ${match.operator} ${value}) IS TRUE`);
    if (index.method !== "hash" && index.method !== "gin" && column.category !== "S") {
      chosen.push(`(${name})::text !~ '(NaN|[Ii]nfinity)'`);
    }
    if (match.kind !== "equal") exact = false;
  });
  const all = index.columns.map((c, at) => `(${c.expression}) AS patroni_restore_c${at}`).join(", ");
  const predicate = index.predicate === null ? "" : ` WHERE (${index.predicate})`;
  return {
    chosen: chosen.join(" AND "),
    key,
    values: values.join(", "),
    again: (tid) =>
      `(SELECT ${values.length > 0 ? values.join(", ") : "1 AS one"} FROM (SELECT ${all} FROM ONLY ${index.table} WHERE ctid = ${tid} OFFSET 0) AS r OFFSET 0)`,
    found: `(SELECT ctid AS patroni_restore_tid, ${all} FROM ONLY ${index.table}${predicate})`,
    condition: conditions.join(" AND "),
    matches: exact ? conditions.join(" AND ") : null,
  };
}

function searchFor(kind: SelfMatch["kind"], name: string): string {
  if (kind === "pattern") {
    return `replace(replace(replace(${name}::text, '\\', '\\\\'), '%', '\\%'), '_', '\\_')`;
  }
  if (kind !== "lexemes") return name;
  const quoted = `'''' || replace(replace(l, '\\', '\\\\'), '''', '''''') || ''''`;
  return `(SELECT string_agg(${quoted}, ' & ') FROM unnest(tsvector_to_array(${name})) AS l)::tsquery`;
}

const hashed = (text: string) => `hashtextextended(${text}, 0)`;
const hashedTid = (of: string) => `sum(hashtextextended(${of}patroni_restore_tid::text, 0))`;

/** One row: values and rows that were asked for, values with another answer, and some of those (`keys`). */
export function comparison(index: AskableIndex, mask: string, sample: Sample): string {
  const p = parts(index, mask);
  const same = `${p.key("i.")} = h.key AND ${inSample("i.patroni_restore_tid", sample)}`;
  const extra = p.matches === null ? "0::int8" : `count(*) FILTER (WHERE (${p.matches}) IS NOT TRUE)`;
  return `WITH h AS MATERIALIZED (
      SELECT ${p.key("r.")} AS key, min(r.patroni_restore_tid) AS tid, count(*) AS n, ${hashedTid("r.")} AS s
        FROM (${heap(index, sample)}) AS r WHERE ${p.chosen} GROUP BY 1)
    , answers AS (
      SELECT h.key, h.n, (x.n <> h.n OR x.s IS DISTINCT FROM h.s OR x.extra > 0) AS bad
        FROM h CROSS JOIN LATERAL ${p.again("h.tid")} AS v
        CROSS JOIN LATERAL (
          SELECT count(*) FILTER (WHERE ${same}) AS n, ${hashedTid("i.")} FILTER (WHERE ${same}) AS s, ${extra} AS extra
            FROM ${p.found} AS i WHERE ${p.condition}) AS x)
    SELECT count(*)::text AS values, coalesce(sum(n), 0)::text AS rows, count(*) FILTER (WHERE bad)::text AS bad,
           array_to_json((array_agg(${hashed("key")}::text) FILTER (WHERE bad))[1:20])::text AS keys FROM answers`;
}

/** The rows themselves, each asked for alone: `found` is how often the index gives it, `extra` what else it gives. */
export function rowsQuestion(index: AskableIndex, mask: string, sample: Sample, keys: readonly string[]): string {
  const p = parts(index, mask);
  const other = p.matches === null ? "false" : `(${p.matches}) IS NOT TRUE`;
  const among = keys.map((key) => quoteLiteral(key)).join(", ");
  return `WITH h AS MATERIALIZED (
      SELECT r.patroni_restore_tid AS tid FROM (${heap(index, sample)}) AS r
       WHERE ${p.chosen} AND ${hashed(p.key("r."))}::text IN (${among}) LIMIT 2000)
    SELECT h.tid::text AS tid, x.found::text AS found, coalesce(x.other, '') AS other
      FROM h CROSS JOIN LATERAL ${p.again("h.tid")} AS v
      CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE i.patroni_restore_tid = h.tid) AS found,
               (min(i.patroni_restore_tid) FILTER (WHERE ${other}))::text AS other
          FROM ${p.found} AS i WHERE ${p.condition}) AS x
     WHERE x.found <> 1 OR x.other IS NOT NULL ORDER BY h.tid LIMIT 100`;
}

/** Rows of `tids` that a scan of everything in the index comes upon: it decides at no inner page which way to go. */
export function reachedQuestion(index: AskableIndex, mask: string, tids: readonly string[]): string {
  const p = parts(index, mask);
  const present = askableColumns(index).filter((_, i) => mask[i] === "0");
  const where = present.map(({ at }) => `i.patroni_restore_c${at} IS NOT NULL`);
  return `SELECT i.patroni_restore_tid::text AS tid FROM ${p.found} AS i
    WHERE ${[...where, `i.patroni_restore_tid::text IN (${tids.map((tid) => quoteLiteral(tid)).join(", ")})`].join(" AND ")}`;
}

/** Of an index with one column: rows of some blocks that its summary must cover, the outermost where there is an order. */
export function outermost(index: AskableIndex, from: number, to: number): string {
  const p = parts(index, "0");
  const predicate = index.predicate === null ? "" : ` AND ${opaque(index.predicate)}`;
  const rows = `SELECT r.patroni_restore_tid::text AS tid FROM (
      SELECT ctid AS patroni_restore_tid, (${index.columns[0]?.expression}) AS patroni_restore_c0 FROM ONLY ${index.table}
       WHERE ctid >= '(${from},0)' AND ctid < '(${to},0)'${predicate}) AS r WHERE ${p.chosen}`;
  if (!index.columns[0]?.opclass.includes("minmax")) return `${rows} LIMIT 2`;
  return ["ASC", "DESC"].map((way) => `(${rows} ORDER BY patroni_restore_c0 ${way} LIMIT 1)`).join(" UNION ");
}

/** Rows among `tids` that the index, of one column, does not give when it is asked for their value. */
export function lostQuestion(index: AskableIndex, tids: readonly string[]): string {
  const p = parts(index, "0");
  const rows = tids.map((tid) => `(${quoteLiteral(tid)}::tid)`).join(", ");
  return `SELECT h.tid::text AS tid FROM (VALUES ${rows}) AS h (tid) CROSS JOIN LATERAL ${p.again("h.tid")} AS v
      CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE i.patroni_restore_tid::text = h.tid::text) AS found
                            FROM ${p.found} AS i WHERE ${p.condition}) AS x
     WHERE x.found <> 1`;
}

interface PlanNode {
  "Node Type": string;
  "Index Name"?: string;
  Plans?: PlanNode[];
}

/** Whether a plan (EXPLAIN (FORMAT JSON)) uses this index and no other. `index` is its name without schema or quotes. */
export function usesOnly(plan: string, index: string): boolean {
  const names = new Set<string>();
  const walk = (node: PlanNode): void => {
    if (node["Index Name"] !== undefined) names.add(node["Index Name"]);
    node.Plans?.forEach(walk);
  };
  for (const { Plan } of JSON.parse(plan) as { Plan: PlanNode }[]) walk(Plan);
  return names.size === 1 && names.has(index);
}
