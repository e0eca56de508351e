/**
 * The history of status changes as a hypertable, where an administrator has installed TimescaleDB in this database. Its
 * policies (compression, retention) are part of the community edition; with the Apache edition fleet deletes by itself.
 */

import { type Database, quoteIdentifier } from "../../io/database.ts";
import type { Log } from "../../log.ts";
import { SCHEMA } from "./schema.ts";
import { LOCK_CLASS, LOCKS } from "./session.ts";

const CHUNK = "7 days";
const COMPRESS_AFTER = "14 days";

/** In a session of its own, with time enough: what is there already is moved. */
export async function useTimescale(db: Database, retentionMs: number, log: Log): Promise<void> {
  const [extension] = await db.query(
    `SELECT n.nspname AS schema, e.extversion AS version, coalesce(current_setting('timescaledb.license', true), '') AS license
     FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'`,
  );
  if (extension === undefined) return;
  // Of several schedulers that start at once one does it; the end of the session gives the lock away.
  await db.query("SELECT pg_advisory_lock($1, $2)", [LOCK_CLASS, LOCKS.migrate]);
  // Its functions live where it was installed, and that is not in our search_path.
  const call = (name: string) => `${quoteIdentifier(extension.schema ?? "public")}.${name}`;
  const [before] = await db.query(
    "SELECT compression_enabled AS compressed FROM timescaledb_information.hypertables WHERE hypertable_schema = $1 AND hypertable_name = 'status_changes'",
    [SCHEMA],
  );
  if (before === undefined) {
    await db.query(
      `SELECT ${call("create_hypertable")}('status_changes', 'at', chunk_time_interval => interval '${CHUNK}',
         create_default_indexes => false, migrate_data => true, if_not_exists => true)`,
    );
    log.info("fleet", "status changes are kept in a hypertable", { timescaledb: extension.version });
  }
  if (extension.license !== "timescale") return;
  if (before?.compressed !== "t") {
    await db.query(
      `ALTER TABLE status_changes SET (timescaledb.compress, timescaledb.compress_segmentby = 'namespace',
         timescaledb.compress_orderby = 'at DESC')`,
    );
  }
  await db.query(
    `SELECT ${call("add_compression_policy")}('status_changes', interval '${COMPRESS_AFTER}', if_not_exists => true)`,
  );
  if ((await retentionPolicy(db)) === retentionMs) return;
  await db.query(`SELECT ${call("remove_retention_policy")}('status_changes', if_exists => true)`);
  await db.query(`SELECT ${call("add_retention_policy")}('status_changes', make_interval(secs => $1))`, [
    retentionMs / 1000,
  ]);
}

/** After which time TimescaleDB itself drops chunks of status changes; null when it does not. */
export async function retentionPolicy(db: Database): Promise<number | null> {
  const { exists } = await db.row("SELECT to_regclass('timescaledb_information.jobs') IS NOT NULL AS exists");
  if (exists !== "t") return null;
  const [job] = await db.query(
    `SELECT extract(epoch FROM (config->>'drop_after')::interval) AS seconds FROM timescaledb_information.jobs
     WHERE proc_name = 'policy_retention' AND hypertable_schema = $1 AND hypertable_name = 'status_changes'`,
    [SCHEMA],
  );
  return job === undefined ? null : Math.round(Number(job.seconds) * 1000);
}
