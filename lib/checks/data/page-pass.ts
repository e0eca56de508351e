/** Reads the pages of every table and its indexes once. */

import { oneAtATime } from "../../parallel.ts";
import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import type { Outcome } from "../pool.ts";
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

/** Bookkeeping of a table; with what a verify holds anyway, garbage too, it stays within 150 MB. */
const MEMORY = 36 * 1024 ** 2;

/** `each` gets every table once, as it comes. */
export async function pagePass(edge: Edge, each: (item: PassItem) => void): Promise<void> {
  const covered = await edge.sql(MAINTENANCE_DATABASE, (database) =>
    database.row<{ block_size: string; segment: string; version: string }>(
      `SELECT current_setting('block_size') AS block_size, current_setting('server_version_num') AS version,
              (SELECT setting FROM pg_settings WHERE name = 'segment_size') AS segment`,
    ),
  );
  const major = Math.floor(Number(covered.version) / 10_000);
  const relations = await edge.relations();
  const tables = relations.filter(({ kind }) => ["r", "m", "t"].includes(kind));
  const indexes = (table: Relation) => table.indexes.filter(({ valid }) => valid);
  const settle = (relation: Relation, outcome: Outcome<TablePages>) =>
    each({ relation, indexes: indexes(relation), outcome });
  const leaveOut = (relation: Relation, why: string) => settle(relation, { kind: "left-out", why });
  const unknown =
    covered.block_size !== "8192"
      ? `pages of ${covered.block_size} bytes`
      : major < 13 || major > 17
        ? `pages of PostgreSQL ${major}`
        : null;
  if (unknown !== null) {
    for (const table of tables) leaveOut(table, unknown);
    return;
  }
  const clog = await edge.sql(MAINTENANCE_DATABASE, readClog);
  const multis = await edge.sql(MAINTENANCE_DATABASE, readMultiRange);
  const datadir = await edge.sql(MAINTENANCE_DATABASE, findDatadir);
  const around = {
    clog,
    multis,
    datadir,
    segmentBlocks: Number(covered.segment),
    memory: MEMORY,
  };
  // All of them are this process's own work, which has one processor: two at once would only take twice the memory.
  const inTurn = oneAtATime();
  const isHeap = ({ method }: Relation) => method === "heap";
  for (const table of tables) if (!isHeap(table)) leaveOut(table, `access method ${table.method}`);
  await lookAtAll<TablePages | string>(
    edge,
    tables.filter(isHeap),
    {
      bytes: (table) => table.indexes.reduce((sum, index) => sum + (index.valid ? index.bytes : 0), table.bytes),
      one: (session, table) => inTurn(() => readTable(session, table, around)),
      together: (session, small) => readTables(session, small, around),
    },
    (relation, outcome) => {
      if (outcome.kind !== "done") settle(relation, outcome);
      else if (typeof outcome.value === "string") leaveOut(relation, outcome.value);
      else settle(relation, { kind: "done", value: outcome.value });
    },
  );
}
