/** Every relation with storage, of every database, once: what the checks of the data share among themselves. */

import type { Database } from "../io/database.ts";
import { HELD_RELATIONS, LOCKED_RELATIONS } from "../manifest/question.ts";
import type { Unit } from "./pool.ts";

export interface Relation {
  database: string;
  oid: string;
  /** `public.orders`, quoted as SQL wants it: may be used in a statement as it is. */
  name: string;
  schema: string;
  /** pg_class.relkind: r table, m materialized view, t TOAST, i index, S sequence. */
  kind: string;
  /** Access method: heap, btree, gin, …; null for a sequence. */
  method: string | null;
  /** pg_class.relpersistence. Unlogged ones are empty after recovery; temporary ones are not listed. */
  persistence: string;
  /** Of a shared catalog, listed once, with the maintenance database. */
  shared: boolean;
  /** pg_catalog and its TOAST tables. */
  system: boolean;
  /** Main fork. */
  bytes: number;
  /** TOAST table with its index, and free space and visibility maps. */
  otherBytes: number;
  /** Of an index: its table. Of a TOAST table: the table whose values it holds. Otherwise null. */
  of: string | null;
  /** False for an index that is not valid or not ready. */
  valid: boolean;
  /** False for a materialized view WITH NO DATA and its indexes: PostgreSQL refuses to look into it. */
  populated: boolean;
  /** Of an index: a B-tree of whole columns of every row, each with a fixed length: its keys can be compared byte by byte. */
  fixedKeys: boolean;
  /** A prepared transaction that was left in doubt has it, or its table, for itself alone: whoever asks for it waits for ever. */
  held: boolean;
  /** When its file changed last (seconds since 1970); pgBackRest restores the source's times. 0 when unknown. */
  changedAt: number;
  /** At level standard: lower goes first. Never proven before proven long ago; of those the newest changed first. */
  rank: number;
}

/** When each relation was last proven, from an earlier report: by `objectKey`, ISO time. */
export type Ledger = Readonly<Record<string, string>>;

const SQL = `
SELECT c.oid::text, format('%I.%I', n.nspname, c.relname) AS name, n.nspname AS schema, c.relkind AS kind,
       a.amname AS method, c.relpersistence AS persistence, c.relisshared::text AS shared,
       CASE WHEN l.relation IS NULL THEN pg_relation_size(c.oid) ELSE greatest(c.relpages, 0)::int8 * 8192 END::text AS bytes,
       CASE WHEN c.relkind IN ('r', 'm', 't') AND l.relation IS NULL
            THEN greatest(0, pg_table_size(c.oid) - pg_relation_size(c.oid)) ELSE 0 END::text AS other_bytes,
       CASE WHEN i.indexrelid IS NOT NULL THEN i.indrelid ELSE o.oid END::text AS of,
       coalesce(i.indisvalid AND i.indisready, true)::text AS valid,
       coalesce(a.amname = 'btree' AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
         SELECT FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attlen < 0), false)::text AS fixed_keys,
       (NOT (c.relkind = 'm' AND NOT c.relispopulated OR coalesce(it.relkind = 'm' AND NOT it.relispopulated, false)))::text
         AS populated,
       (c.oid IN (${HELD_RELATIONS}) OR coalesce(i.indrelid IN (${HELD_RELATIONS}), false))::text AS held,
       coalesce(extract(epoch FROM (pg_stat_file(pg_relation_filepath(c.oid), true)).modification), 0)::text AS changed_at
  FROM pg_class AS c
  LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_am AS a ON a.oid = c.relam
  LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
  LEFT JOIN pg_class AS it ON it.oid = i.indrelid
  -- A prepared transaction that was left in doubt may hold it: asking for its size would be waiting for ever.
  LEFT JOIN (SELECT DISTINCT relation FROM (${LOCKED_RELATIONS}) AS locked) AS l ON l.relation = c.oid
  LEFT JOIN pg_class AS o ON o.reltoastrelid = c.oid AND c.relkind = 't'
 WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence <> 't'
   AND (NOT c.relisshared OR $1)
 ORDER BY c.oid`;

/** `shared`: with the shared catalogs. */
export async function readRelations(database: Database, name: string, shared: boolean): Promise<Relation[]> {
  const rows = await database.query<Record<string, string>>(SQL, [shared]);
  // The driver makes a string of its own for each value; of a hundred thousand relations there are few different ones.
  const known = new Map<string, string>();
  const once = (text: string) => {
    if (!known.has(text)) known.set(text, text);
    return known.get(text) as string;
  };
  return rows.map((row) => ({
    database: name,
    oid: row.oid as string,
    name: row.name as string,
    schema: once(row.schema as string),
    kind: once(row.kind as string),
    method: row.method == null ? null : once(row.method),
    persistence: once(row.persistence as string),
    shared: row.shared === "true",
    system: Number(row.oid) < 16384 && row.schema !== "public" && row.schema !== "information_schema",
    bytes: Number(row.bytes),
    otherBytes: Number(row.other_bytes),
    of: row.of ?? null,
    valid: row.valid === "true",
    populated: row.populated === "true",
    fixedKeys: row.fixed_keys === "true",
    held: row.held === "true",
    changedAt: Number(row.changed_at),
    rank: 0,
  }));
}

/** What the pool must know to look at it. */
export const unitOf = (relation: Relation, bytes = relation.bytes): Unit => ({
  database: relation.database,
  relations: [relation],
  bytes,
  rank: relation.rank,
  held: relation.held,
});

/** By database and OID: results come in whatever order, and are told in this one. */
export const byPlace = (a: Relation, b: Relation): number =>
  a.database === b.database ? Number(a.oid) - Number(b.oid) || 0 : a.database < b.database ? -1 : 1;

/** An index goes with its table, a TOAST table with its owner: the relation that they are proven with. */
export function leaderOf(relations: readonly Relation[]): (relation: Relation) => Relation {
  const byOid = new Map(relations.map((r) => [`${r.database} ${r.oid}`, r]));
  const leader = (relation: Relation): Relation => {
    const owner = relation.of === null ? undefined : byOid.get(`${relation.database} ${relation.of}`);
    return owner === undefined || owner === relation ? relation : leader(owner);
  };
  return leader;
}

/** Sets `rank`, in place: there may be a hundred thousand of them. */
export function rankRelations(relations: Relation[], ledger: Ledger, keyOf: (r: Relation) => string): Relation[] {
  const leader = leaderOf(relations);
  const leaders = [...new Set(relations.map(leader))].sort((a, b) => {
    const [provenA, provenB] = [ledger[keyOf(a)] ?? "", ledger[keyOf(b)] ?? ""];
    if (provenA !== provenB) return provenA < provenB ? -1 : 1;
    return b.changedAt - a.changedAt;
  });
  const rank = new Map(leaders.map((r, i) => [r, i]));
  for (const relation of relations) relation.rank = rank.get(leader(relation)) ?? 0;
  return relations;
}
