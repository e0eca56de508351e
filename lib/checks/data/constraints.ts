/** What the catalogs say of the rows is true of them: NOT NULL, CHECK, domains, partition bounds, unique, exclusion, foreign keys. */

import { HELD_RELATIONS } from "../../manifest/question.ts";
import { inParallel } from "../../parallel.ts";
import { type Check, enumerate, type Judgement, plural } from "../check.ts";
import type { Edge } from "../edge.ts";
import { errorCode } from "../failure.ts";
import {
  describeFinding,
  type Finding,
  type FoundFacts,
  judgeFindings,
  type NotCovered,
  sortOutcomes,
} from "../findings.ts";
import { HELD, type Outcome, type Session } from "../pool.ts";
import { type Relation, unitOf } from "../relations.ts";
import {
  brokenRows,
  conflicts,
  duplicates,
  duplicatesForPerson,
  type ExclusionRule,
  type ForeignKeyRule,
  orphans,
  orphansForPerson,
  type Part,
  type RowRule,
  type Rule,
  rowRule,
  rowsForPerson,
  rowsPass,
  settingsFor,
  type UniqueRule,
} from "./constraint-questions.ts";
import { receiptCovers } from "./receipt-tables.ts";

export interface Violation {
  kind: Rule["kind"];
  /** The constraint, column or index. */
  name: string;
  table: string;
  /** All whose rows it depends on. */
  tables: readonly string[];
  count: number;
  /** Some of them, by place. */
  tids: string[];
  /** For a person, on the source. */
  question: string;
}

export interface TableAnswer {
  rules: number;
  violations: Violation[];
  /** Constraints that could not be asked, and why. */
  unasked: { name: string; why: string }[];
}

export interface ConstraintsFacts extends FoundFacts {
  violations: readonly (Violation & { database: string })[];
  constraints: number;
}

/** Beyond, an exclusion constraint is left out: it is asked through its index, row by row. */
const EXCLUSION_ROWS = 500_000;
const TIDS = 5;
const WORK_MEM_KB = 128 * 1024;
/** Bigger tables are read in parts; what the database must know of all rows at once is asked by itself. */
const SPLIT_BLOCKS = 131_072;
const PART_BLOCKS = 32_768;
/** From here on PostgreSQL reads a part of a table without the rest. */
const TID_RANGES = 140_000;

export const constraints: Check<ConstraintsFacts> = {
  id: "constraints",
  claim: "consistency",
  stage: "data",
  levels: ["standard", "full"],
  async collect(edge) {
    const tables = (await edge.relations()).filter(
      (r) => (r.kind === "r" || r.kind === "m") && !r.system && r.populated,
    );
    const rules = await describeRules(edge, tables);
    const asked = await Promise.all(
      tables.flatMap((relation) =>
        (rules.get(relation) ?? []).map(async (group) => {
          const outcome = await edge.pool.run(unitOf(relation, group.bytes), (session) =>
            askTable(session, relation, group),
          );
          return { relation, outcome };
        }),
      ),
    );
    const held = tables.filter((table) => !rules.has(table) && table.held);
    return summarize([
      ...asked,
      ...held.map((relation) => ({ relation, outcome: { kind: "left-out" as const, why: HELD } })),
    ]);
  },
  judge: (facts, asked) => judgeConstraints(facts, receiptCovers(asked)),
};

export function summarize(items: readonly { relation: Relation; outcome: Outcome<TableAnswer> }[]): ConstraintsFacts {
  const violations: (Violation & { database: string })[] = [];
  const unasked: NotCovered[] = [];
  let constraints = 0;
  for (const { relation, outcome } of items) {
    if (outcome.kind !== "done") continue;
    const { database, name, bytes } = relation;
    constraints += outcome.value.rules - outcome.value.unasked.length;
    for (const violation of outcome.value.violations) {
      const same = violations.find(
        (v) => v.database === database && v.table === name && v.kind === violation.kind && v.name === violation.name,
      );
      if (same === undefined) violations.push({ ...violation, tids: [...violation.tids], database });
      else {
        same.count += violation.count;
        same.tids = [...same.tids, ...violation.tids].slice(0, TIDS);
      }
    }
    unasked.push(
      ...outcome.value.unasked.map((u) => ({ database, object: `${u.name} of ${name}`, bytes, why: u.why })),
    );
  }
  const sorted = sortOutcomes(items, () => []);
  return {
    ...sorted,
    findings: [...sorted.findings, ...violations.map((v) => findingOf(v, v.database))],
    notCovered: [...sorted.notCovered, ...unasked],
    violations,
    constraints,
  };
}

const WHAT: Record<Rule["kind"], (v: Violation) => string> = {
  "not-null": (v) => `${plural(v.count, "row")} with NULL in the NOT NULL column ${v.name}`,
  check: (v) => `${plural(v.count, "row")} against the validated CHECK constraint ${v.name}`,
  domain: (v) => `${plural(v.count, "row")} against the domain constraint ${v.name}`,
  partition: (v) => `${plural(v.count, "row")} outside of the partition's bound`,
  unique: (v) => `${plural(v.count, "value")} more than once in spite of the unique index ${v.name}`,
  exclusion: (v) => `${plural(v.count, "pair")} of rows against the exclusion constraint ${v.name}`,
  "foreign-key": (v) => `${plural(v.count, "row")} without the row that the foreign key ${v.name} refers to`,
};

const findingOf = (v: Violation, database: string): Finding => ({
  database,
  object: v.table,
  where: v.tids.length > 0 ? `rows at ${enumerate(v.tids)}` : undefined,
  what: WHAT[v.kind](v),
});

/** A source can have broken these itself: triggers switched off, a function of a CHECK replaced. */
const MAY_BE_LEGITIMATE: readonly Rule["kind"][] = ["foreign-key", "check", "domain"];

/** `compared`: `table-data` tells of these tables whether all their rows are the source's. */
export function judgeConstraints(
  facts: ConstraintsFacts,
  compared: (database: string, tables: readonly string[]) => boolean = () => false,
): Judgement {
  const own = facts.violations.filter((v) => MAY_BE_LEGITIMATE.includes(v.kind) && compared(v.database, v.tables));
  const legitimate = new Set(own.map((v) => describeFinding(findingOf(v, v.database))));
  const findings = facts.findings.filter((f) => !legitimate.has(describeFinding(f)));
  const first = facts.violations.find((v) => !own.includes(v));
  const judged = judgeFindings(
    "constraints",
    { ...facts, findings },
    {
      good: `${plural(facts.constraints, "constraint")} of ${plural(facts.coverage.relations, "table")} hold for every row`,
      meaning:
        "PostgreSQL never lets such rows in by itself: rows are lost, too many or changed, or the source has them too (triggers " +
        "switched off, catalogs changed by hand)" +
        (first === undefined ? "" : `. If this gives rows on the source, the fault is there: ${first.question}`),
    },
  );
  const withFacts = { ...judged, facts: { ...judged.facts, violations: facts.violations.slice(0, 100) } };
  if (own.length === 0 || judged.status === "fail" || judged.status === "unverified") return withFacts;
  return {
    ...withFacts,
    status: "warn",
    summary: `${plural(own.length, "finding")}, probably the source's own: ${enumerate(
      own.map((v) => describeFinding(findingOf(v, v.database))),
      3,
    )}`,
    hint:
      "table-data compares all rows of these tables with the receipt; when it finds no difference, the source has these rows " +
      `too (triggers switched off, a function replaced): ${own[0]?.question}`,
  };
}

const isExpression = (error: unknown) => /^(0A|22|2F|38|39|42|P0)/.test(errorCode(error) ?? "");

/** Functions of the user's may rely on the search_path of the database. */
async function asked<T extends object>(
  session: Session,
  kind: Parameters<typeof settingsFor>[0],
  sql: string,
): Promise<T[]> {
  try {
    return await session.query<T>(`${settingsFor(kind, WORK_MEM_KB, false)}${sql}`);
  } catch (error) {
    if (!isExpression(error)) throw error;
    return session.query<T>(`${settingsFor(kind, WORK_MEM_KB, true)}${sql}`);
  }
}

async function askTable(session: Session, relation: Relation, { rules, part }: Group): Promise<TableAnswer> {
  const table = relation.name;
  const answer: TableAnswer = {
    rules: part === null || part.from === 0 ? rules.length : 0,
    violations: [],
    unasked: [],
  };
  await askRows(session, table, rules.filter(isOfPass), part, answer);
  for (const rule of rules) {
    if (rule.kind === "unique" && !rule.usual) {
      answer.unasked.push({ name: rule.name, why: "its operator class has an equality of its own" });
    } else if (rule.kind === "exclusion" || rule.kind === "foreign-key") {
      await askWhole(session, table, rule, answer);
    }
  }
  return answer;
}

async function askWhole(
  session: Session,
  table: string,
  rule: UniqueRule | ExclusionRule | ForeignKeyRule,
  answer: TableAnswer,
): Promise<void> {
  const [sql, question] =
    rule.kind === "unique"
      ? [duplicates(table, rule), duplicatesForPerson(table, rule)]
      : rule.kind === "exclusion"
        ? [conflicts(table, rule), conflicts(table, rule)]
        : [orphans(rule), orphansForPerson(rule)];
  try {
    if (rule.kind === "exclusion") {
      const [size] = await asked<{ n: string }>(session, "check", `SELECT count(*)::text AS n FROM ONLY ${table}`);
      if (Number(size?.n) > EXCLUSION_ROWS) {
        answer.unasked.push({ name: rule.name, why: "too many rows to compare" });
        return;
      }
    }
    const [row] = await asked<{ n: string; tids: string | null }>(session, rule.kind, sql);
    if (row === undefined || row.n === "0") return;
    answer.violations.push({
      kind: rule.kind,
      name: rule.name,
      table,
      tables: rule.kind === "foreign-key" ? rule.tables : [table],
      count: Number(row.n),
      tids: JSON.parse(row.tids ?? "[]") as string[],
      question,
    });
  } catch (error) {
    if (!isExpression(error)) throw error;
    answer.unasked.push({ name: rule.name, why: `it cannot be evaluated here: ${(error as Error).message}` });
  }
}

type PassRule = RowRule | UniqueRule;

const isRowRule = (rule: Rule): rule is RowRule =>
  rule.kind === "not-null" || rule.kind === "check" || rule.kind === "domain" || rule.kind === "partition";
const isOfPass = (rule: Rule): rule is PassRule => (rule.kind === "unique" ? rule.usual : isRowRule(rule));

/** All in one pass; each by itself when one of them cannot be evaluated. */
async function askRows(
  session: Session,
  table: string,
  rules: readonly PassRule[],
  part: Part,
  answer: TableAnswer,
): Promise<void> {
  const [only] = rules;
  if (only === undefined) return;
  const ofRows = rules.filter(isRowRule);
  const uniques = rules.filter((rule) => rule.kind === "unique");
  let row: Record<string, string> | undefined;
  try {
    [row] = await asked<Record<string, string>>(session, "pass", rowsPass(table, ofRows, uniques, part));
  } catch (error) {
    if (!isExpression(error)) throw error;
    if (rules.length > 1) {
      for (const rule of rules) await askRows(session, table, [rule], part, answer);
      return;
    }
    // A type without hashing can still be sorted.
    if (only.kind === "unique") await askWhole(session, table, only, answer);
    else answer.unasked.push({ name: only.name, why: `it cannot be evaluated here: ${(error as Error).message}` });
    return;
  }
  for (const [i, rule] of uniques.entries()) {
    if (row?.[`r${i}`] !== row?.[`d${i}`]) await askWhole(session, table, rule, answer);
  }
  for (const [i, rule] of ofRows.entries()) {
    const count = Number(row?.[`n${i}`] ?? 0);
    if (count === 0) continue;
    const rows = await asked<{ tid: string }>(session, "check", brokenRows(table, rule, part));
    answer.violations.push({
      kind: rule.kind,
      name: rule.name,
      table,
      tables: [table],
      count,
      tids: rows.map((r) => r.tid),
      question: rowsForPerson(table, rule),
    });
  }
}

interface Group {
  rules: readonly Rule[];
  /** Blocks of the table that are asked. */
  part: Part;
  bytes: number;
}

const BLOCK_BYTES = 8192;

/** What one pass can answer together; a big table in parts. */
export function groupRules(
  bytes: number,
  ofRows: readonly RowRule[],
  uniques: readonly UniqueRule[],
  canSplit: boolean,
): Group[] {
  const blocks = Math.ceil(bytes / BLOCK_BYTES);
  if (blocks <= SPLIT_BLOCKS || !canSplit) {
    const rules = [...ofRows, ...uniques];
    return rules.length === 0 ? [] : [{ rules, part: null, bytes }];
  }
  const groups: Group[] = uniques.map((rule) => ({ rules: [rule], part: null, bytes }));
  for (let from = 0; from < blocks && ofRows.length > 0; from += PART_BLOCKS) {
    const to = from + PART_BLOCKS < blocks ? from + PART_BLOCKS : null;
    groups.push({ rules: ofRows, part: { from, to }, bytes: ((to ?? blocks) - from) * BLOCK_BYTES });
  }
  return groups;
}

interface DescribedRules {
  relation: string;
  notNull: string[];
  checks: { name: string; expression: string }[];
  bound: string | null;
  domains: { name: string; column: string; base: string; expression: string | null }[];
  uniques: UniqueRule[];
  exclusions: ExclusionRule[];
  keys: (ForeignKeyRule & { toOid: string })[];
}

/** By table, in groups that one unit asks. Foreign keys of a partitioned table go with one of its partitions. */
async function describeRules(edge: Edge, tables: readonly Relation[]): Promise<Map<Relation, Group[]>> {
  const groups = new Map<Relation, Group[]>();
  await inParallel([...new Set(tables.map((r) => r.database))], edge.jobs, async (name) => {
    const here = tables.filter((r) => r.database === name);
    const byOid = new Map(here.map((r) => [r.oid, r]));
    const rows = await edge.sql(name, (database) => database.query<{ rules: string }>(DESCRIBE));
    for (const row of rows) {
      const d = JSON.parse(row.rules) as DescribedRules;
      const relation = byOid.get(d.relation);
      if (relation === undefined) continue;
      const ofRows = [
        ...d.notNull.map(rowRule.notNull),
        ...d.checks.map((c) => rowRule.check(c.name, c.expression)),
        ...d.domains.map((c) => rowRule.domain(c.name, c.column, c.base, c.expression)),
        ...(d.bound === null ? [] : [rowRule.partition(d.bound)]),
      ];
      const { bytes } = relation;
      const list = groupRules(bytes, ofRows, d.uniques, edge.serverVersion >= TID_RANGES);
      for (const rule of d.exclusions) list.push({ rules: [rule], part: null, bytes });
      for (const key of d.keys) {
        list.push({ rules: [key], part: null, bytes: bytes + (byOid.get(key.toOid)?.bytes ?? 0) });
      }
      groups.set(relation, list);
    }
  });
  return groups;
}

const DESCRIBE = `
WITH RECURSIVE tables AS (
  SELECT c.oid, c.relispartition, c.reltuples, c.relallvisible >= 0.8 * greatest(c.relpages, 1) AS all_visible FROM pg_class AS c
   WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relnamespace <> 'pg_catalog'::regnamespace
     AND c.relnamespace <> 'pg_toast'::regnamespace AND c.oid NOT IN (${HELD_RELATIONS})),
-- Domains over domains: each with the constraints of all.
domains AS (
  SELECT t.oid AS domain, t.oid AS layer, t.typbasetype AS base, t.typtypmod AS mod, t.typnotnull AS not_null
    FROM pg_type AS t WHERE t.typtype = 'd'
  UNION ALL
  SELECT d.domain, t.oid, t.typbasetype, t.typtypmod, t.typnotnull
    FROM domains AS d JOIN pg_type AS t ON t.oid = d.base AND t.typtype = 'd'),
bases AS (
  SELECT d.domain, format_type(d.base, d.mod) AS base FROM domains AS d JOIN pg_type AS t ON t.oid = d.base
   WHERE t.typtype <> 'd'),
domain_rules AS (
  SELECT d.domain, c.conname AS name, pg_get_expr(c.conbin, 0) AS expression, d.layer
    FROM domains AS d JOIN pg_constraint AS c ON c.contypid = d.layer AND c.contype = 'c' AND c.convalidated
  UNION ALL
  SELECT d.domain, format('NOT NULL of %s', format_type(d.layer, NULL)), NULL, d.layer FROM domains AS d WHERE d.not_null),
keys AS (
  SELECT k.*, fr.relkind AS from_kind, format('%I.%I', fn.nspname, fr.relname) AS from_name,
         tr.relkind AS to_kind, format('%I.%I', tn.nspname, tr.relname) AS to_name,
         -- The biggest partition stands for a partitioned table.
         CASE WHEN fr.relkind = 'p' THEN (
           SELECT l.relid FROM pg_partition_tree(fr.oid) AS l WHERE l.isleaf ORDER BY (SELECT c.relpages FROM pg_class AS c WHERE c.oid = l.relid) DESC, l.relid LIMIT 1)
         ELSE fr.oid END AS at
    FROM pg_constraint AS k
    JOIN pg_class AS fr ON fr.oid = k.conrelid JOIN pg_namespace AS fn ON fn.oid = fr.relnamespace
    JOIN pg_class AS tr ON tr.oid = k.confrelid JOIN pg_namespace AS tn ON tn.oid = tr.relnamespace
   WHERE k.contype = 'f' AND k.convalidated AND k.conparentid = 0 AND coalesce((to_jsonb(k) ->> 'conperiod')::boolean, false) = false
     AND fr.relkind IN ('r', 'p') AND tr.relkind IN ('r', 'p')
     AND fr.oid NOT IN (${HELD_RELATIONS}) AND tr.oid NOT IN (${HELD_RELATIONS}))
SELECT json_build_object(
  'relation', t.oid::text,
  'notNull', (SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute AS a
               WHERE a.attrelid = t.oid AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped),
  'checks', (SELECT coalesce(json_agg(json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid))), '[]')
               FROM pg_constraint AS k WHERE k.conrelid = t.oid AND k.contype = 'c' AND k.convalidated),
  -- It depends on the bounds of all partitions, and of those that its own table is in.
  'bound', CASE WHEN t.relispartition AND NOT EXISTS (
                  SELECT FROM pg_partition_ancestors(t.oid) AS a (oid) WHERE a.oid IN (${HELD_RELATIONS}))
                THEN pg_get_partition_constraintdef(t.oid) END,
  'domains', (SELECT coalesce(json_agg(json_build_object('name', r.name, 'column', a.attname, 'base', b.base,
                                                         'expression', r.expression)), '[]')
                FROM pg_attribute AS a JOIN bases AS b ON b.domain = a.atttypid JOIN domain_rules AS r ON r.domain = a.atttypid
               WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'uniques', (SELECT coalesce(json_agg(json_build_object(
                'kind', 'unique', 'name', ic.relname, 'predicate', pg_get_expr(i.indpred, i.indrelid),
                'nullsDistinct', NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
                'integer', i.indnkeyatts = 1 AND (SELECT oc.opcintype IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype)
                                                    FROM pg_opclass AS oc WHERE oc.oid = i.indclass[0]),
                'ordered', t.all_visible AND i.indpred IS NULL
                           AND 0 <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]),
                'tableRows', t.reltuples,
                'usual', (SELECT bool_and(EXISTS (
                    SELECT FROM pg_amop AS own JOIN pg_amop AS usual ON usual.amopopr = own.amopopr
                      JOIN pg_opclass AS d ON d.opcfamily = usual.amopfamily
                     WHERE own.amopfamily = oc.opcfamily AND own.amopstrategy = 3
                       AND own.amoplefttype = oc.opcintype AND own.amoprighttype = oc.opcintype
                       AND usual.amopstrategy = 3 AND d.opcdefault AND d.opcintype = oc.opcintype AND d.opcmethod = oc.opcmethod))
                  FROM generate_series(1, i.indnkeyatts) AS k (n) JOIN pg_opclass AS oc ON oc.oid = i.indclass[k.n - 1]),
                'keys', (SELECT json_agg(pg_get_indexdef(i.indexrelid, k.n, true)
                                  || CASE WHEN co.oid IS NULL THEN '' ELSE format(' COLLATE %I.%I', cn.nspname, co.collname) END
                                  ORDER BY k.n)
                           FROM generate_series(1, i.indnkeyatts) AS k (n)
                           LEFT JOIN pg_collation AS co ON co.oid = i.indcollation[k.n - 1]
                           LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace))), '[]')
                FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid JOIN pg_am AS am ON am.oid = ic.relam
               WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive
                 AND am.amname = 'btree'),
  'exclusions', (SELECT coalesce(json_agg(json_build_object(
                   'kind', 'exclusion', 'name', k.conname, 'predicate', pg_get_expr(i.indpred, i.indrelid),
                   'keys', (SELECT json_agg(json_build_object('expression', pg_get_indexdef(i.indexrelid, n.n::int, true),
                                     'operator', format('OPERATOR(%I.%s)', opn.nspname, op.oprname)) ORDER BY n.n)
                              FROM unnest(k.conexclop) WITH ORDINALITY AS n (operator, n)
                              JOIN pg_operator AS op ON op.oid = n.operator JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace))), '[]')
                   FROM pg_constraint AS k JOIN pg_index AS i ON i.indexrelid = k.conindid
                  WHERE k.conrelid = t.oid AND k.contype = 'x' AND i.indisvalid),
  'keys', (SELECT coalesce(json_agg(json_build_object(
             'kind', 'foreign-key', 'name', k.conname, 'full', k.confmatchtype = 'f', 'toOid', k.confrelid::text,
             'from', CASE WHEN k.from_kind = 'p' THEN '' ELSE 'ONLY ' END || k.from_name,
             'to', CASE WHEN k.to_kind = 'p' THEN '' ELSE 'ONLY ' END || k.to_name,
             'tables', (SELECT json_agg(format('%I.%I', ln.nspname, lc.relname))
                          FROM (SELECT k.conrelid WHERE k.from_kind <> 'p' UNION SELECT k.confrelid WHERE k.to_kind <> 'p'
                                UNION SELECT p.relid FROM pg_partition_tree(k.conrelid) AS p WHERE p.isleaf
                                UNION SELECT p.relid FROM pg_partition_tree(k.confrelid) AS p WHERE p.isleaf) AS l (oid)
                          JOIN pg_class AS lc ON lc.oid = l.oid JOIN pg_namespace AS ln ON ln.oid = lc.relnamespace),
             'columns', (SELECT json_agg(json_build_object('from', quote_ident(f.attname), 'to', quote_ident(p.attname),
                           'operator', format('OPERATOR(%I.%s)', opn.nspname, op.oprname),
                           'collation', CASE WHEN p.attcollation <> 0 AND p.attcollation <> f.attcollation
                                             THEN (SELECT format('%I.%I', cn.nspname, co.collname) FROM pg_collation AS co
                                                     JOIN pg_namespace AS cn ON cn.oid = co.collnamespace WHERE co.oid = p.attcollation) END)
                           ORDER BY c.n)
                           FROM unnest(k.conkey, k.confkey, k.conpfeqop) WITH ORDINALITY AS c (f, p, operator, n)
                           JOIN pg_attribute AS f ON f.attrelid = k.conrelid AND f.attnum = c.f
                           JOIN pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = c.p
                           JOIN pg_operator AS op ON op.oid = c.operator JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace))), '[]')
             FROM keys AS k WHERE k.at = t.oid)
)::text AS rules FROM tables AS t`;
