/** A test takes its slot: the one place where limits hold, whatever schedulers believe. */

import type { Database } from "../../io/database.ts";
import { type Limits, type Load, obstacle, tally } from "../decide.ts";
import type { Test } from "../test.ts";
import { cleanText, toJson } from "./json.ts";
import { LOCK_CLASS, LOCKS } from "./session.ts";

interface Slot extends Load {
  test: string;
  service: string;
  slot: number;
}

/**
 * In a transaction of the caller's. All begins wait for each other, so each sees the slots of those before it. Returns why
 * not, or null. A test that has its slot already gets no second one: whoever lost the answer asks again.
 */
export async function takeSlot(db: Database, test: Test, limits: Limits): Promise<string | null> {
  await db.query("SELECT pg_advisory_xact_lock($1, $2)", [LOCK_CLASS, LOCKS.begin]);
  // A statement after the lock: it sees what others committed before they let go of it.
  const slots = await readSlots(db);
  const own = slots.find(({ service }) => service === test.service);
  if (own !== undefined) return own.test === test.id ? null : `test ${own.test} of it is in progress`;
  const why = obstacle(test, tally(slots), limits);
  if (why !== null) return why;
  await insertTest(db, test);
  const slot = firstFree(slots.map((used) => used.slot));
  await db.query("INSERT INTO slots (test, service, slot) VALUES ($1, $2, $3)", [test.id, test.service, slot]);
  await db.query(
    "INSERT INTO status_changes (at, test, service, namespace, status) VALUES ($1, $2, $3, $4, 'requested')",
    [test.requestedAt.toISOString(), test.id, test.service, test.namespace],
  );
  await db.query(
    `INSERT INTO services (id, namespace, scope, stanza) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE
     SET wanted_at = NULL, wanted_by = NULL, backups_since_test = 0, changed_in = pg_current_xact_id()`,
    [test.service, test.namespace, test.scope, test.stanza],
  );
  return null;
}

async function readSlots(db: Database): Promise<Slot[]> {
  const rows = await db.query<Record<string, string>>(
    "SELECT s.test, s.service, s.slot, t.namespace, t.groups, t.weight FROM slots s JOIN tests t ON t.id = s.test",
  );
  return rows.map((row) => ({
    test: row.test as string,
    service: row.service as string,
    slot: Number(row.slot),
    namespace: row.namespace as string,
    groups: JSON.parse(row.groups as string),
    weight: Number(row.weight),
  }));
}

async function insertTest(db: Database, test: Test): Promise<void> {
  const at = test.requestedAt.toISOString();
  await db.query(
    `INSERT INTO tests (id, service, namespace, scope, stanza, reason, requested_at, deadline_at, scheduler, groups, weight,
       status, status_at, statuses)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 'requested', $7, jsonb_build_object('requested', $12::text))`,
    [
      test.id,
      test.service,
      test.namespace,
      test.scope,
      test.stanza,
      cleanText(test.reason),
      at,
      test.deadlineAt.toISOString(),
      test.scheduler,
      toJson(test.groups),
      test.weight,
      at,
    ],
  );
}

export function firstFree(used: readonly number[]): number {
  const taken = new Set(used);
  let slot = 0;
  while (taken.has(slot)) slot++;
  return slot;
}
