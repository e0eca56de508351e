/** Every relation with storage, of every database, once: what the checks of the data share among themselves. */

import type { Database } from "../io/database.ts";
import { HELD_RELATIONS, LOCKED_RELATIONS } from "../manifest/question.ts";
import { WITH_ROWS_OF_PEOPLE } from "../manifest/table-data.ts";
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
  of: Relation | null;
  /** Of a table. */
  indexes: readonly Relation[];
  /** False for an index that is not valid or not ready. */
  valid: boolean;
  /** False for a materialized view WITH NO DATA and its indexes: PostgreSQL refuses to look into it. */
  populated: boolean;
  /** Of an index: a B-tree of whole columns of every row, each with a fixed length: its keys can be compared byte by byte. */
  fixedKeys: boolean;
  /** A table with rows that `mark` digests on the source. */
  ofPeople: boolean;
  /** A prepared transaction that was left in doubt has it, or its table, for itself alone: whoever asks for it waits for ever. */
  held: boolean;
  /** When its file changed last (seconds since 1970); pgBackRest restores the source's times. 0 when unknown. */
  changedAt: number;
  /** At level standard: lower goes first. Never proven before proven long ago; of those the newest changed first. */
  rank: number;
  /** Whether all that was begun of it was done; null when nothing was. Set while the checks run. */
  proven: boolean | null;
}

/** One word for a relation of any database. */
export const objectKey = ({ database, object }: { database: string; object: string }) =>
  JSON.stringify([database, object]);

/** When each relation was last proven, from an earlier report: by `objectKey`, ISO time. */
export type Ledger = Readonly<Record<string, string>>;

/** A row of JSON for each. */
const relationsSql = (shared: boolean) => `
SELECT json_build_object(
       'oid', c.oid::int8, 'name', format('%I.%I', n.nspname, c.relname),
       'bytes', CASE WHEN l.relation IS NULL THEN pg_relation_size(c.oid) ELSE greatest(c.relpages, 0)::int8 * 8192 END,
       'other_bytes', CASE WHEN c.relkind IN ('r', 'm', 't') AND l.relation IS NULL
                           THEN greatest(0, pg_table_size(c.oid) - pg_relation_size(c.oid)) ELSE 0 END,
       'of', CASE WHEN i.indexrelid IS NOT NULL THEN i.indrelid ELSE o.oid END::int8,
       'changed_at', coalesce(extract(epoch FROM (pg_stat_file(pg_relation_filepath(c.oid), true)).modification), 0)::int8,
       'kind', json_build_object(
         'schema', n.nspname, 'kind', c.relkind, 'method', m.amname, 'persistence', c.relpersistence, 'shared', c.relisshared,
         'valid', coalesce(i.indisvalid AND i.indisready, true),
         'populated', NOT (c.relkind = 'm' AND NOT c.relispopulated OR coalesce(it.relkind = 'm' AND NOT it.relispopulated, false)),
         'fixedKeys', coalesce(m.amname = 'btree' AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
           SELECT FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND attlen < 0), false),
         'ofPeople', coalesce(${WITH_ROWS_OF_PEOPLE}, false),
         'held', c.oid IN (${HELD_RELATIONS}) OR coalesce(i.indrelid IN (${HELD_RELATIONS}), false)))::text
  FROM pg_class AS c
  LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_am AS m ON m.oid = c.relam
  LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
  LEFT JOIN pg_class AS it ON it.oid = i.indrelid
  -- A prepared transaction that was left in doubt may hold it: asking for its size would be waiting for ever.
  LEFT JOIN (SELECT DISTINCT relation FROM (${LOCKED_RELATIONS}) AS locked) AS l ON l.relation = c.oid
  LEFT JOIN pg_class AS o ON o.reltoastrelid = c.oid AND c.relkind = 't'
 WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence <> 't'
   AND (NOT c.relisshared OR ${shared})
 ORDER BY c.oid`;

/** What many relations have in common; there are few different ones, and each is held once. */
type Kind = Pick<
  Relation,
  | "database" | "schema" | "kind" | "method" | "persistence" | "shared" | "system" | "valid" | "populated" | "fixedKeys" | "ofPeople"
  | "held"
>; // biome-ignore format: a list

/** There may be a hundred thousand of them, and they live as long as the checks: as small as can be. */
class StoredRelation implements Relation {
  readonly name: string;
  readonly bytes: number;
  readonly otherBytes: number;
  readonly changedAt: number;
  rank = 0;
  proven: boolean | null = null;
  of: StoredRelation | null = null;
  private readonly shape: Kind;
  readonly number: number;
  private firstIndex: StoredRelation | null = null;
  private nextIndex: StoredRelation | null = null;

  constructor(row: Row, kind: Kind) {
    this.name = row.name;
    this.bytes = row.bytes;
    this.otherBytes = row.other_bytes;
    this.changedAt = row.changed_at;
    this.number = row.oid;
    this.shape = kind;
  }

  belongTo(owner: StoredRelation): void {
    this.of = owner;
    if (this.kind !== "i") return;
    this.nextIndex = owner.firstIndex;
    owner.firstIndex = this;
  }

  get oid() {
    return String(this.number);
  }
  get indexes(): readonly Relation[] {
    // Nearly all have none or one.
    if (this.firstIndex === null) return NO_INDEXES;
    if (this.firstIndex.nextIndex === null) return [this.firstIndex];
    const indexes: Relation[] = [];
    for (let index: StoredRelation | null = this.firstIndex; index !== null; index = index.nextIndex)
      indexes.push(index);
    return indexes.reverse();
  }
  get database() {
    return this.shape.database;
  }
  get schema() {
    return this.shape.schema;
  }
  get kind() {
    return this.shape.kind;
  }
  get method() {
    return this.shape.method;
  }
  get persistence() {
    return this.shape.persistence;
  }
  get shared() {
    return this.shape.shared;
  }
  get system() {
    return this.shape.system;
  }
  get valid() {
    return this.shape.valid;
  }
  get populated() {
    return this.shape.populated;
  }
  get fixedKeys() {
    return this.shape.fixedKeys;
  }
  get ofPeople() {
    return this.shape.ofPeople;
  }
  get held() {
    return this.shape.held;
  }
}

const NO_INDEXES: readonly Relation[] = [];

interface Row {
  oid: number;
  name: string;
  bytes: number;
  other_bytes: number;
  of: number | null;
  changed_at: number;
  kind: Omit<Kind, "database" | "system">;
}

/** `shared`: with the shared catalogs. */
export async function readRelations(database: Database, name: string, shared: boolean): Promise<Relation[]> {
  const kinds = new Map<string, Kind>();
  const relations: StoredRelation[] = [];
  const owners: (number | null)[] = [];
  await database.bytes(`COPY (${relationsSql(shared)}) TO STDOUT (FORMAT binary)`, (value) => {
    const row = JSON.parse(value?.toString() ?? "") as Row;
    const { schema } = row.kind;
    const system = row.oid < 16384 && schema !== "public" && schema !== "information_schema";
    const key = JSON.stringify([system, row.kind]);
    const kind = kinds.get(key) ?? { ...row.kind, database: name, system };
    kinds.set(key, kind);
    relations.push(new StoredRelation(row, kind));
    owners.push(row.of);
  });
  const byOid = new Map<number, StoredRelation>();
  for (const relation of relations) byOid.set(relation.number, relation);
  for (const [i, relation] of relations.entries()) {
    const owner = byOid.get(owners[i] ?? 0);
    if (owner !== undefined && owner !== relation) relation.belongTo(owner);
  }
  return relations;
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
export function leaderOf(relation: Relation): Relation {
  let leader = relation;
  // The index of a TOAST table is as far away as one can be; damaged catalogs may say otherwise.
  for (let far = 0; far < 3 && leader.of !== null; far++) leader = leader.of;
  return leader;
}

/** Sets `rank`, in place: there may be a hundred thousand of them. */
export function rankRelations(relations: Relation[], ledger: Ledger): Relation[] {
  const leaders = [...new Set(relations.map(leaderOf))].sort((a, b) => b.changedAt - a.changedAt);
  if (Object.keys(ledger).length > 0) {
    const provenAt = new Map(
      leaders.map((leader) => [leader, ledger[objectKey({ database: leader.database, object: leader.name })] ?? ""]),
    );
    const at = (leader: Relation) => provenAt.get(leader) as string;
    // Stable: what was proven at the same time stays in its order.
    leaders.sort((a, b) => (at(a) === at(b) ? 0 : at(a) < at(b) ? -1 : 1));
  }
  for (const [i, leader] of leaders.entries()) leader.rank = i;
  for (const relation of relations) relation.rank = leaderOf(relation).rank;
  return relations;
}
