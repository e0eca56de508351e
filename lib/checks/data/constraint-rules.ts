/** Which constraints there are, from the catalogs, in groups that one unit asks. */

import type { Database } from "../../io/database.ts";
import { FIRST_NORMAL_OID, HELD_RELATIONS } from "../../manifest/question.ts";
import { PackedTexts } from "../../packed.ts";
import type { Edge } from "../edge.ts";
import type { Relation } from "../relations.ts";
import {
  type ExclusionRule,
  type ForeignKeyRule,
  type Part,
  type RowRule,
  type Rule,
  rowRule,
  type UniqueRule,
} from "./constraint-questions.ts";

/** Bigger tables are read in parts; what the database must know of all rows at once is asked by itself. */
const SPLIT_BLOCKS = 131_072;
const PART_BLOCKS = 32_768;
export interface Group {
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

/** What is null, false or empty may not be there. */
interface DescribedRules {
  relation: string;
  notNull?: string[];
  checks?: { name: string; expression: string }[];
  bound?: string;
  domains?: { name: string; column: string; base: string; expression?: string }[];
  uniques?: (Omit<UniqueRule, "predicate"> & { predicate?: string })[];
  exclusions?: (Omit<ExclusionRule, "predicate"> & { predicate?: string })[];
  keys?: (Omit<ForeignKeyRule, "columns"> & { toOid: string; columns: DescribedColumn[] })[];
}
type DescribedColumn = Omit<ForeignKeyRule["columns"][number], "collation"> & { collation?: string };

/** Of many tables; a table's are made anew whenever they are asked for. */
export class DescribedTables {
  private readonly texts = new PackedTexts();
  private readonly numbers = new Map<Relation, number>();

  add(table: Relation, rules: string): void {
    this.numbers.set(table, this.texts.add(rules));
  }
  has(table: Relation): boolean {
    return this.numbers.has(table);
  }
  /** JSON of DescribedRules. */
  get(table: Relation): string {
    return this.texts.get(this.numbers.get(table) as number);
  }
}

/** Of those of one database. */
export async function describeRules(database: Database, tables: readonly Relation[]): Promise<DescribedTables> {
  const described = new DescribedTables();
  if (tables.length === 0) return described;
  const byOid = new Map(tables.map((r) => [r.oid, r]));
  await database.bytes(`COPY (${DESCRIBE}) TO STDOUT (FORMAT binary)`, (value) => {
    const text = value?.toString() ?? "{}";
    const table = byOid.get((JSON.parse(text) as DescribedRules).relation);
    if (table !== undefined) described.add(table, text);
  });
  return described;
}

/** Keys of an integer, which are equal only if all their bytes are. */
const isProven = (rule: Pick<UniqueRule, "integer" | "oid">, distinct: ReadonlySet<string>) =>
  rule.integer && distinct.has(rule.oid);

/** How many unique indexes need not be asked: `distinct` are those whose pages show that no key is there twice. */
export const provenRules = (text: string, distinct: ReadonlySet<string>): number =>
  ((JSON.parse(text) as DescribedRules).uniques ?? []).filter((rule) => isProven(rule, distinct)).length;

/** What one unit each asks. Foreign keys of a partitioned table go with one of its partitions. */
export function groupsOf(
  text: string,
  { bytes }: Pick<Relation, "bytes">,
  canSplit: boolean,
  bytesOf: (oid: string) => number = () => 0,
  distinct: ReadonlySet<string> = new Set(),
): Group[] {
  const d = JSON.parse(text) as DescribedRules;
  const ofRows = [
    ...(d.notNull ?? []).map(rowRule.notNull),
    ...(d.checks ?? []).map((c) => rowRule.check(c.name, c.expression)),
    ...(d.domains ?? []).map((c) => rowRule.domain(c.name, c.column, c.base, c.expression ?? null)),
    ...(d.bound === undefined ? [] : [rowRule.partition(d.bound)]),
  ];
  const asked = (d.uniques ?? []).filter((rule) => !isProven(rule, distinct));
  const uniques = asked.map((u) => ({ ...u, predicate: u.predicate ?? null }));
  return [
    ...groupRules(bytes, ofRows, uniques, canSplit),
    ...(d.exclusions ?? []).map((rule) => ({
      rules: [{ ...rule, predicate: rule.predicate ?? null }],
      part: null,
      bytes,
    })),
    ...(d.keys ?? []).map((key) => {
      const columns = key.columns.map((column) => ({ ...column, collation: column.collation ?? null }));
      return { rules: [{ ...key, columns }], part: null, bytes: bytes + bytesOf(key.toOid) };
    }),
  ];
}

/** From here on PostgreSQL reads a part of a table without the rest. */
export const canSplit = ({ serverVersion }: Pick<Edge, "serverVersion">) => serverVersion >= 140_000;

/** Without what is null or empty. */
const DESCRIBE = `
WITH RECURSIVE tables AS (
  SELECT c.oid, c.relispartition, c.relallvisible >= 0.8 * greatest(c.relpages, 1) AS all_visible FROM pg_class AS c
   WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.oid NOT IN (${HELD_RELATIONS})
     -- An extension may have tables of its own there.
     AND (c.oid >= ${FIRST_NORMAL_OID} OR c.relnamespace <> 'pg_catalog'::regnamespace)),
-- From PostgreSQL 18 on a column may be NOT NULL for new rows only.
not_null AS NOT MATERIALIZED (
  SELECT a.attrelid, a.attnum, a.attname FROM pg_attribute AS a
   WHERE a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped
     AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = a.attrelid AND k.contype = 'n'
                        AND NOT k.convalidated AND k.conkey = ARRAY[a.attnum])),
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
SELECT json_strip_nulls(json_build_object(
  'relation', t.oid::text,
  'notNull', (SELECT json_agg(a.attname ORDER BY a.attnum) FROM not_null AS a WHERE a.attrelid = t.oid),
  'checks', (SELECT json_agg(json_build_object('name', k.conname, 'expression', pg_get_expr(k.conbin, k.conrelid)))
               FROM pg_constraint AS k WHERE k.conrelid = t.oid AND k.contype = 'c' AND k.convalidated),
  -- It depends on the bounds of all partitions, and of those that its own table is in.
  'bound', CASE WHEN t.relispartition AND NOT EXISTS (
                  SELECT FROM pg_partition_ancestors(t.oid) AS a (oid) WHERE a.oid IN (${HELD_RELATIONS}))
                THEN pg_get_partition_constraintdef(t.oid) END,
  'domains', (SELECT json_agg(json_build_object('name', r.name, 'column', a.attname, 'base', b.base,
                                                         'expression', r.expression))
                FROM pg_attribute AS a JOIN bases AS b ON b.domain = a.atttypid JOIN domain_rules AS r ON r.domain = a.atttypid
               WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'uniques', (SELECT json_agg(json_build_object(
                'kind', 'unique', 'name', ic.relname, 'oid', ic.oid::text, 'predicate', pg_get_expr(i.indpred, i.indrelid),
                'nullsDistinct', NOT coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
                'notNull', (SELECT bool_and(a.attnum IS NOT NULL) FROM generate_series(0, i.indnkeyatts - 1) AS k (n)
                              LEFT JOIN not_null AS a ON a.attrelid = t.oid AND a.attnum = i.indkey[k.n]),
                'integer', i.indnkeyatts = 1 AND (SELECT oc.opcintype IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype)
                                                    FROM pg_opclass AS oc WHERE oc.oid = i.indclass[0]),
                'ordered', t.all_visible AND i.indpred IS NULL
                           AND 0 <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]),
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
                           LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace)))
                FROM pg_index AS i JOIN pg_class AS ic ON ic.oid = i.indexrelid JOIN pg_am AS am ON am.oid = ic.relam
               WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indisready AND i.indislive
                 AND am.amname = 'btree'),
  'exclusions', (SELECT json_agg(json_build_object(
                   'kind', 'exclusion', 'name', k.conname, 'predicate', pg_get_expr(i.indpred, i.indrelid),
                   'keys', (SELECT json_agg(json_build_object('expression', pg_get_indexdef(i.indexrelid, n.n::int, true),
                                     'operator', format('OPERATOR(%I.%s)', opn.nspname, op.oprname)) ORDER BY n.n)
                              FROM unnest(k.conexclop) WITH ORDINALITY AS n (operator, n)
                              JOIN pg_operator AS op ON op.oid = n.operator JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace)))
                   FROM pg_constraint AS k JOIN pg_index AS i ON i.indexrelid = k.conindid
                  WHERE k.conrelid = t.oid AND k.contype = 'x' AND i.indisvalid),
  'keys', (SELECT json_agg(json_build_object(
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
                           JOIN pg_operator AS op ON op.oid = c.operator JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace)))
             FROM keys AS k WHERE k.at = t.oid)
))::text AS rules FROM tables AS t`;
