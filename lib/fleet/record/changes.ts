/**
 * What changed since it was asked last, cheaply and without ever missing anything. Numbers from a sequence, or times, are
 * given out before the COMMIT: a reader can see 8, remember it, and never see the 7 that is committed later. So each row
 * names the transaction that changed it, and the reader remembers the oldest transaction that was still going on when it
 * looked (the xmin of its snapshot): all before that one it has seen, and from that one on it looks again. What it sees
 * twice by that is left out here.
 */

import type { Database } from "../../io/database.ts";
import type { LongLivedDatabase } from "../../io/long-lived-database.ts";
import type { Standing } from "../service.ts";
import type { RunningTest } from "../store.ts";
import { RUNNING_COLUMNS, runningOf, STANDING_COLUMNS, standingOf, type TextRow } from "./rows.ts";

export interface Changes {
  standings: ReadonlyMap<string, Standing>;
  running: readonly RunningTest[];
}

export interface ChangesReader {
  read(): Promise<Changes>;
  /** The next time everything is read: another server may count its transactions differently. */
  reset(): void;
}

export function changesReader(database: LongLivedDatabase): ChangesReader {
  let since: string | null = null;
  /** Of the services that the next look finds again: the transaction whose change was told. */
  let told = new Map<string, string>();
  let generation = 0;

  return {
    async read() {
      const [from, mine] = [since, generation];
      const answer = await database.transaction((db) => look(db, from), "ISOLATION LEVEL REPEATABLE READ READ ONLY");
      const standings = new Map<string, Standing>();
      const next = new Map<string, string>();
      for (const row of answer.rows) {
        const [id, changedIn] = [row.id as string, row.changed_in as string];
        if (BigInt(changedIn) >= BigInt(answer.xmin)) next.set(id, changedIn);
        if (from === null || told.get(id) !== changedIn) standings.set(id, standingOf(row));
      }
      // A connection that was made anew in between starts from nothing.
      if (mine === generation) [since, told] = [answer.xmin, next];
      return { standings, running: answer.running.map(runningOf) };
    },
    reset() {
      generation++;
      since = null;
      told = new Map();
    },
  };
}

async function look(db: Database, since: string | null) {
  const { xmin } = await db.row("SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin");
  const rows = await db.query<TextRow>(
    `SELECT ${STANDING_COLUMNS}, changed_in FROM services WHERE ${since === null ? "gone_at IS NULL" : "changed_in >= $1::xid8"}`,
    since === null ? [] : [since],
  );
  const running = await db.query<TextRow>(
    `SELECT ${RUNNING_COLUMNS} FROM tests WHERE id IN (SELECT test FROM slots) ORDER BY requested_at, id`,
  );
  return { xmin: xmin as string, rows, running };
}

/** After a restore into another server old rows may name transactions of the future there, and would be told for ever. */
export async function healTransactions(db: Database): Promise<void> {
  await db.query(
    "UPDATE services SET changed_in = pg_current_xact_id() WHERE changed_in > pg_snapshot_xmax(pg_current_snapshot())",
  );
}
