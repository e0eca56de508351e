/** Reads the pages of every table and its indexes once, whichever check asks first. */

import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import type { Outcome, Pool } from "../pool.ts";
import type { Relation } from "../relations.ts";
import { readClog } from "./page-clog.ts";
import { findDatadir } from "./page-files.ts";
import { readMultiRange } from "./page-multixact.ts";
import { readTable, readTables, type TablePages } from "./page-table.ts";
import { lookAtAll } from "./relation-units.ts";

export interface PassItem {
  relation: Relation;
  indexes: readonly Relation[];
  outcome: Outcome<TablePages>;
}

/** Bookkeeping of all tables that are read at the same time. */
const MEMORY = 128 * 1024 ** 2;

const passes = new WeakMap<Pool, Promise<PassItem[]>>();

export function pagePass(edge: Edge): Promise<PassItem[]> {
  const known = passes.get(edge.pool) ?? pass(edge);
  passes.set(edge.pool, known);
  return known;
}

async function pass(edge: Edge): Promise<PassItem[]> {
  const covered = await edge.sql(MAINTENANCE_DATABASE, (database) =>
    database.row<{ block_size: string; segment: string; version: string }>(
      `SELECT current_setting('block_size') AS block_size, current_setting('server_version_num') AS version,
              (SELECT setting FROM pg_settings WHERE name = 'segment_size') AS segment`,
    ),
  );
  const major = Math.floor(Number(covered.version) / 10_000);
  const relations = await edge.relations();
  const tables = relations.filter(({ kind }) => ["r", "m", "t"].includes(kind));
  const indexesOf = new Map<string, Relation[]>();
  for (const relation of relations) {
    if (relation.kind !== "i" || !relation.valid || relation.of === null) continue;
    const key = `${relation.database} ${relation.of}`;
    indexesOf.set(key, [...(indexesOf.get(key) ?? []), relation]);
  }
  const indexes = (relation: Relation) => indexesOf.get(`${relation.database} ${relation.oid}`) ?? [];
  const leaveOut = (relation: Relation, why: string): PassItem => ({
    relation,
    indexes: indexes(relation),
    outcome: { kind: "left-out", why },
  });
  if (covered.block_size !== "8192") return tables.map((t) => leaveOut(t, `pages of ${covered.block_size} bytes`));
  if (major < 13 || major > 17) return tables.map((t) => leaveOut(t, `pages of PostgreSQL ${major}`));
  const clog = await edge.sql(MAINTENANCE_DATABASE, readClog);
  const multis = await edge.sql(MAINTENANCE_DATABASE, readMultiRange);
  const datadir = await edge.sql(MAINTENANCE_DATABASE, findDatadir);
  const around = {
    clog,
    multis,
    datadir,
    segmentBlocks: Number(covered.segment),
    memory: Math.floor(MEMORY / Math.max(1, edge.jobs)),
  };
  const isHeap = ({ method }: Relation) => method === "heap";
  const looked = await lookAtAll<TablePages | string>(edge, tables.filter(isHeap), {
    bytes: (table) => indexes(table).reduce((sum, index) => sum + index.bytes, table.bytes),
    one: (session, table) => readTable(session, table, around),
    together: (session, small) => readTables(session, small, around),
  });
  return [
    ...tables.filter((table) => !isHeap(table)).map((table) => leaveOut(table, `access method ${table.method}`)),
    ...looked.map(({ relation, outcome }) =>
      outcome.kind === "done" && typeof outcome.value === "string"
        ? leaveOut(relation, outcome.value)
        : { relation, indexes: indexes(relation), outcome: outcome as PassItem["outcome"] },
    ),
  ];
}
