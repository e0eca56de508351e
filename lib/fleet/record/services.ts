/** What watches and people tell of services. Nothing is written that is there already: most calls repeat what is known. */

import type { Database } from "../../io/database.ts";
import type { LongLivedDatabase } from "../../io/long-lived-database.ts";
import { cleanText } from "./json.ts";
import { LOCK_CLASS, LOCKS } from "./session.ts";

export interface SeenService {
  id: string;
  namespace: string;
  scope: string;
  stanza: string;
}

/** Small enough that the leader's word gets through between two of them. */
const CHUNK = 5_000;

function chunksOf<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / CHUNK) }, (_, n) => items.slice(n * CHUNK, (n + 1) * CHUNK));
}

export async function seen(database: LongLivedDatabase, services: readonly SeenService[]): Promise<void> {
  for (const chunk of chunksOf(services)) await database.transaction((db) => seenChunk(db, chunk));
}

async function seenChunk(db: Database, services: readonly SeenService[]): Promise<void> {
  const columns = (["id", "namespace", "scope", "stanza"] as const).map((key) => services.map((s) => s[key]));
  // Two schedulers that update the same rows in another order would wait for each other.
  await db.query("SELECT pg_advisory_xact_lock($1, $2)", [LOCK_CLASS, LOCKS.seen]);
  // What came back has to be told to every scheduler again; the hourly sign of life and a new stanza have not.
  await db.query(
    `UPDATE services s
     SET namespace = seen.namespace, scope = seen.scope, stanza = seen.stanza, last_seen_at = now(), gone_at = NULL,
       changed_in = CASE WHEN s.gone_at IS NULL THEN s.changed_in ELSE pg_current_xact_id() END
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS seen (id, namespace, scope, stanza)
     WHERE s.id = seen.id
       AND (s.gone_at IS NOT NULL OR s.last_seen_at < now() - interval '1 hour'
         OR (s.namespace, s.scope, s.stanza) IS DISTINCT FROM (seen.namespace, seen.scope, seen.stanza))`,
    columns,
  );
  await db.query(
    `INSERT INTO services (id, namespace, scope, stanza)
     SELECT id, namespace, scope, stanza
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS seen (id, namespace, scope, stanza)
     WHERE NOT EXISTS (SELECT FROM services s WHERE s.id = seen.id)
     ON CONFLICT (id) DO NOTHING`,
    columns,
  );
}

export async function gone(database: LongLivedDatabase, ids: readonly string[]): Promise<void> {
  for (const chunk of chunksOf(ids)) {
    await database.transaction(async (db) => {
      await db.query("SELECT pg_advisory_xact_lock($1, $2)", [LOCK_CLASS, LOCKS.seen]);
      await db.query("UPDATE services SET gone_at = now() WHERE id = ANY($1::text[]) AND gone_at IS NULL", [chunk]);
    });
  }
}

/** Of several wishes the first one counts until a test begins; a token asks once, whoever reads it. False: no such service. */
export async function want(database: LongLivedDatabase, id: string, by: string, token?: string): Promise<boolean> {
  const rows = await database.use((db) =>
    db.query(
      `WITH wish AS (
         UPDATE services
         SET wanted_at = coalesce(wanted_at, clock_timestamp()),
           wanted_by = CASE WHEN wanted_at IS NULL THEN $2 ELSE wanted_by END,
           wanted_token = coalesce($3, wanted_token), changed_in = pg_current_xact_id()
         WHERE id = $1 AND ($3::text IS NULL OR wanted_token IS DISTINCT FROM $3))
       SELECT FROM services WHERE id = $1`,
      [id, cleanText(by), token ?? null],
    ),
  );
  return rows.length > 0;
}

/**
 * A backup counts once, however many schedulers saw it and how often. The end of pgBackRest's labels is the time of the
 * backup itself: `20261122-100000F_20261123-100000I`.
 */
export async function countBackup(database: LongLivedDatabase, id: string, label: string): Promise<void> {
  await database.use((db) =>
    db.query(
      `UPDATE services
       SET backups_since_test = backups_since_test + 1, last_backup = $2, changed_in = pg_current_xact_id()
       WHERE id = $1 AND (last_backup IS NULL OR right(last_backup, 16) < right($2, 16) COLLATE "C")`,
      [id, label],
    ),
  );
}
