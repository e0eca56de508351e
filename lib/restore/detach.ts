/** Making a promoted instance harmless, before anything in it can act. */

import { messageOf, RestoreError } from "../errors.ts";
import { type Database, quoteIdentifier, withDatabase } from "../io/database.ts";
import { inParallel } from "../parallel.ts";
import type { Conninfo } from "../postgres/conninfo.ts";

export type DetachMode = "restore-test" | "clone";

/** What was found alive and was put to rest, for the log. */
export interface Detached {
  subscriptions: string[];
  slots: string[];
  cronJobs: boolean;
}

/** Throws DETACH_FAILED: an instance that could still act is never handed over. */
export async function detach(conninfo: Conninfo, signal: AbortSignal): Promise<Detached> {
  const detached: Detached = { subscriptions: [], slots: [], cronJobs: false };
  const quieten = async (db: Database, name: string) => {
    for (const subscription of await disableSubscriptions(db)) detached.subscriptions.push(`${name}.${subscription}`);
    detached.cronJobs = (await deactivateCronJobs(db)) || detached.cronJobs;
  };
  try {
    const others = await withDatabase(conninfo, LIMITS, async (db) => {
      detached.slots = await dropSlots(db);
      // A database that DROP DATABASE left half-removed (-2) accepts nobody and runs nothing.
      const databases = await db.query<{ datname: string; own: string }>(
        `SELECT datname, (datname = current_database())::text AS own
         FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname`,
      );
      for (const { datname, own } of databases) if (own === "true") await quieten(db, datname);
      return databases.filter(({ own }) => own !== "true");
    });
    await inParallel(others, AT_ONCE, async ({ datname }) => {
      signal.throwIfAborted();
      await withDatabase(conninfo, { ...LIMITS, database: datname }, (db) => quieten(db, datname));
    });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new RestoreError("DETACH_FAILED", `the instance could not be made harmless: ${messageOf(error)}`, {
      hint: "it was not handed over; see the recovery log beside the data directory",
      cause: error,
    });
  }
  detached.subscriptions.sort();
  return detached;
}

/** Starting a session is most of it. */
const AT_ONCE = 2;

const LIMITS = {
  statementTimeoutMs: 60_000,
  settings: { synchronous_commit: "local", default_transaction_read_only: "off" },
};

async function dropSlots(db: Database): Promise<string[]> {
  const slots = await db.query<{ slot_name: string }>("SELECT slot_name FROM pg_replication_slots ORDER BY slot_name");
  for (const { slot_name } of slots) await db.query("SELECT pg_drop_replication_slot($1)", [slot_name]);
  return slots.map((s) => s.slot_name);
}

/** Off its slot, so that even DROP SUBSCRIPTION never reaches out to the publisher. */
async function disableSubscriptions(db: Database): Promise<string[]> {
  const subscriptions = await db.query<{ subname: string }>(
    `SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
     ORDER BY subname`,
  );
  for (const { subname } of subscriptions) {
    await db.query(`ALTER SUBSCRIPTION ${quoteIdentifier(subname)} DISABLE`);
    await db.query(`ALTER SUBSCRIPTION ${quoteIdentifier(subname)} SET (slot_name = NONE)`);
  }
  return subscriptions.map((s) => s.subname);
}

/** pg_cron < 1.6 knows no `cron.launch_active_jobs`. */
async function deactivateCronJobs(db: Database): Promise<boolean> {
  const [extension] = await db.query<{ old: string }>(
    `SELECT (string_to_array(extversion, '.')::int[] < ARRAY[1, 6])::text AS old FROM pg_extension WHERE extname = 'pg_cron'`,
  );
  if (extension?.old === "true") await db.query("UPDATE cron.job SET active = false WHERE active");
  return extension !== undefined;
}
