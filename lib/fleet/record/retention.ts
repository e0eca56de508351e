/** What is older than people want to keep goes, in batches that nobody waits for. Only the leader does it. */

import type { LongLivedDatabase } from "../../io/long-lived-database.ts";
import { retentionPolicy } from "./timescale.ts";

export interface Retention {
  /** Reports are big; the newest one of each service stays. */
  reportsMs: number;
  /** Tests and their status changes; the newest test of each service stays until the service itself is gone so long. */
  historyMs: number;
}

const BATCH = 1_000;

/** A test whose end is still to come is never old, and the last one of a service explains its standing. */
const OLD = `ended_at < now() - make_interval(secs => $1)
  AND NOT EXISTS (SELECT FROM services s WHERE s.id = t.service AND s.last_test = t.id)`;

/** Returns how many of each went. `mayGoOn` is asked between batches. */
export async function removeOld(
  database: LongLivedDatabase,
  { reportsMs, historyMs }: Retention,
  mayGoOn: () => boolean,
): Promise<{ services: number; reports: number; tests: number; changes: number }> {
  const inBatches = async (sql: string, olderThanMs: number) => {
    let total = 0;
    for (;;) {
      const { count } = await database.use((db) =>
        db.row(`WITH gone AS (${sql} RETURNING 1) SELECT count(*) AS count FROM gone`, [olderThanMs / 1000]),
      );
      total += Number(count);
      if (Number(count) < BATCH || !mayGoOn()) return total;
    }
  };
  const services = await inBatches(
    `DELETE FROM services WHERE id IN
       (SELECT id FROM services s WHERE gone_at < now() - make_interval(secs => $1)
          AND NOT EXISTS (SELECT FROM slots WHERE service = s.id) LIMIT ${BATCH})`,
    historyMs,
  );
  const tests = await inBatches(
    `DELETE FROM tests WHERE id IN (SELECT id FROM tests t WHERE ${OLD} LIMIT ${BATCH})`,
    historyMs,
  );
  const reports = await inBatches(
    `UPDATE tests SET report = NULL WHERE id IN
       (SELECT id FROM tests t WHERE report IS NOT NULL AND ${OLD} LIMIT ${BATCH})`,
    reportsMs,
  );
  const hasPolicy = (await database.use(retentionPolicy)) !== null;
  // A hypertable's rows have no name that holds over its chunks but their values.
  const changes = hasPolicy
    ? 0
    : await inBatches(
        `DELETE FROM status_changes WHERE at < now() - make_interval(secs => $1) AND at <=
           (SELECT max(at) FROM (SELECT at FROM status_changes ORDER BY at LIMIT ${BATCH}) AS oldest)`,
        historyMs,
      );
  return { services, reports, tests, changes };
}
