/** What the ways of asking an index share: what is known of it, what asking comes to, and how the planner is brought to use it. */

import { type Database, quoteLiteral } from "../../io/database.ts";
import type { Relation } from "../relations.ts";
import type { Session } from "../session.ts";
import { type AskableIndex, choicesOf, type IndexColumn, PLANS, usesOnly } from "./index-questions.ts";

export interface Described extends AskableIndex {
  /** Without schema or quotes, as plans have it. */
  plainName: string;
  blocks: number;
  tableRows: number;
  /** Of the table and the index. */
  bytes: number;
  /** BRIN. */
  pagesPerRange: number;
}

/** What one index answered. */
export interface IndexAnswer {
  /** Rows that were asked for, and rows of the table. */
  rows: number;
  ofRows: number;
  /** Values with another answer than the table's. */
  bad: number;
  /** Some of them: by place. */
  wrong: { tid: string; found: number; other: string }[];
  /** Rows that are in the index but not found by their value, where a NaN of the past would explain it: places. */
  doubtful: string[];
  /** Why less than all was asked; null when everything was. */
  why: string | null;
}

export const nothing = (index: Described, why: string): IndexAnswer => ({
  rows: 0,
  ofRows: Math.max(0, index.tableRows),
  bad: 0,
  wrong: [],
  doubtful: [],
  why,
});

/** A statement that took too long, of our own accord. */
export const TIMED_OUT = "57014";

/** How long an index has been asked already. */
export class Clock {
  private readonly endsAt: number;

  constructor(totalMs: number) {
    this.endsAt = performance.now() + totalMs;
  }

  left(most = Number.POSITIVE_INFINITY): number {
    return Math.min(most, this.endsAt - performance.now());
  }
}

export const CANNOT_USE = "PostgreSQL cannot be made to use this index for the question";

/** Null: not by any of the operators that would do. */
export async function choosePlan(
  session: Session,
  index: Described,
  explain: (index: Described, plan: string) => string,
): Promise<{ plan: string; index: Described } | null> {
  for (let choice = 0; choice < choicesOf(index); choice++) {
    for (const plan of PLANS) {
      const chosen = { ...index, choice };
      const [row] = await session.query<{ "QUERY PLAN": string }>(explain(chosen, plan));
      if (row !== undefined && usesOnly(row["QUERY PLAN"], index.plainName)) return { plan, index: chosen };
    }
  }
  return null;
}

/** All of one database; without those that were dropped meanwhile, or that one cannot ask for. */
export async function describeIndexes(
  database: Database,
  indexes: readonly Relation[],
): Promise<Map<Relation, Described>> {
  const described = new Map<Relation, Described>();
  if (indexes.length === 0) return described;
  const oids = `{${indexes.map((r) => r.oid).join(",")}}`;
  const rows = await database.query(DESCRIBE.replace("$oids", quoteLiteral(oids)));
  const byOid = new Map(rows.map((row) => [row.oid, row]));
  for (const relation of indexes) {
    const row = byOid.get(relation.oid);
    if (row === undefined) continue;
    described.set(relation, {
      name: relation.name,
      plainName: row.plain_name ?? "",
      table: row.table_name ?? "",
      method: relation.method ?? "",
      columns: JSON.parse(row.columns ?? "[]") as IndexColumn[],
      predicate: row.predicate ?? null,
      choice: 0,
      blocks: Number(row.blocks),
      tableRows: Number(row.table_rows),
      bytes: Number(row.table_bytes) + relation.bytes,
      pagesPerRange: Number(row.pages_per_range),
    });
  }
  return described;
}

const DESCRIBE = `
SELECT c.oid::text, c.relname AS plain_name, format('%I.%I', tn.nspname, t.relname) AS table_name,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       (pg_relation_size(t.oid) / current_setting('block_size')::int8)::text AS blocks,
       greatest(t.reltuples, 0)::int8::text AS table_rows, pg_relation_size(t.oid)::text AS table_bytes,
       coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'pages_per_range'), '128') AS pages_per_range,
       (SELECT json_agg(json_build_object(
                 'expression', pg_get_indexdef(c.oid, k.n, true),
                 'collation', CASE WHEN co.oid IS NOT NULL THEN format('%I.%I', con.nspname, co.collname) END,
                 'deterministic', coalesce(co.collisdeterministic, true),
                 'opclass', oc.opcname,
                 'category', ty.typcategory,
                 'searchNulls', coalesce(pg_index_column_has_property(c.oid, k.n, 'search_nulls'), false),
                 'operators', coalesce((
                   SELECT json_agg(json_build_object('operator', format('OPERATOR(%I.%s)', opn.nspname, op.oprname),
                                                     'name', op.oprname, 'left', format_type(ao.amoplefttype, NULL),
                                                     'right', format_type(ao.amoprighttype, NULL))
                                   ORDER BY ao.amopstrategy)
                     FROM pg_amop AS ao JOIN pg_operator AS op ON op.oid = ao.amopopr
                     JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace
                    WHERE ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 's' AND ao.amoplefttype = oc.opcintype), '[]'))
               ORDER BY k.n)
          FROM generate_series(1, i.indnkeyatts) AS k (n)
          JOIN pg_opclass AS oc ON oc.oid = i.indclass[k.n - 1]
          JOIN pg_type AS ty ON ty.oid = oc.opcintype
          LEFT JOIN pg_collation AS co ON co.oid = i.indcollation[k.n - 1]
          LEFT JOIN pg_namespace AS con ON con.oid = co.collnamespace)::text AS columns
  FROM pg_class AS c
  JOIN pg_index AS i ON i.indexrelid = c.oid
  JOIN pg_class AS t ON t.oid = i.indrelid
  JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
 WHERE c.oid = ANY ($oids::oid[])`;
