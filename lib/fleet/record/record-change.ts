/** A status change is written: once, whatever is repeated, and an end for good. */

import type { ReportedError } from "../../errors.ts";
import { type Database, sqlState } from "../../io/database.ts";
import { figuresOf } from "../figures.ts";
import type { Outcome } from "../outcome.ts";
import { type Figures, isEnd, STATUSES, type Status, type StatusChange } from "../test.ts";
import { toJson } from "./json.ts";

/** What is kept of a change until it is written: a report as text. */
export interface PackedChange extends Omit<StatusChange, "end"> {
  end: PackedEnd | null;
}

interface PackedEnd {
  outcome: Outcome;
  error: ReportedError | null;
  figures: Figures | null;
  report: string | null;
}

/** An end that nobody explains, so that a slot is freed even then. */
const USUAL: Readonly<Partial<Record<Status, Outcome>>> = {
  healthy: "healthy",
  unhealthy: "unhealthy",
  cancelled: "cancelled",
};

export function pack({ test, service, status, at, end }: StatusChange): PackedChange {
  if (!isEnd(status)) return { test, service, status, at, end: null };
  const { outcome, error, report } = end ?? { outcome: USUAL[status] ?? "infra", error: null, report: null };
  const figures = report === null ? null : figuresOf(report);
  return { test, service, status, at, end: { outcome, error, figures, report: report && toJson(report) } };
}

export interface KnownTest {
  status: Status;
  /** Those that are recorded. */
  statuses: readonly Status[];
}

/** `new`: the furthest status by now; `late`: to be recorded, but the test is further; the others change nothing. */
export type Step = "new" | "late" | "known" | "second end";

export function stepOf({ status, statuses }: KnownTest, next: Status): Step {
  if (statuses.includes(next)) return "known";
  if (isEnd(status)) return isEnd(next) ? "second end" : "late";
  return STATUSES.indexOf(next) > STATUSES.indexOf(status) ? "new" : "late";
}

/** In a transaction of the caller's. `no such test`: nothing can be written; the caller says so. */
export async function writeChange(db: Database, change: PackedChange): Promise<Step | "no such test"> {
  // The lock makes all that is written of one test wait for each other: a hypertable can't have the unique index for it.
  const [row] = await db.query(
    "SELECT service, namespace, status, ARRAY(SELECT jsonb_object_keys(statuses))::text AS statuses FROM tests WHERE id = $1 FOR UPDATE",
    [change.test],
  );
  if (row === undefined) return "no such test";
  const known = { status: row.status as Status, statuses: (row.statuses ?? "{}").slice(1, -1).split(",") as Status[] };
  const step = stepOf(known, change.status);
  if (step === "known" || step === "second end") return step;
  const at = change.at.toISOString();
  await db.query(
    `INSERT INTO status_changes (at, test, service, namespace, status, outcome, error_name, rto_ms)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [
      at,
      change.test,
      row.service,
      row.namespace,
      change.status,
      change.end?.outcome ?? null,
      change.end?.error?.name ?? null,
      change.end?.figures?.rto_ms ?? null,
    ],
  );
  await db.query(
    `UPDATE tests
     SET statuses = statuses || jsonb_build_object($2::text, $3::text)
       ${step === "new" ? ", status = $2, status_at = $3::timestamptz" : ""}
     WHERE id = $1`,
    [change.test, change.status, at],
  );
  if (change.end !== null) await writeEnd(db, change, change.end, row.service as string);
  return step;
}

async function writeEnd(db: Database, change: PackedChange, end: PackedEnd, service: string): Promise<void> {
  const at = change.at.toISOString();
  const error = end.error && toJson(end.error);
  const figures = end.figures && toJson(end.figures);
  await db.query(
    "UPDATE tests SET outcome = $2, ended_at = $3, error = $4::jsonb, figures = $5::jsonb, report = $6::jsonb WHERE id = $1",
    [change.test, end.outcome, at, error, figures, end.report],
  );
  await db.query("DELETE FROM slots WHERE test = $1", [change.test]);
  await db.query(
    `UPDATE services
     SET attempts = CASE WHEN last_outcome = $3 THEN attempts + 1 ELSE 1 END,
       last_test = $2, last_outcome = $3, last_ended_at = $4::timestamptz, last_error = $5::jsonb, last_figures = $6::jsonb,
       last_healthy_at = CASE WHEN $3 = 'healthy' THEN $4::timestamptz ELSE last_healthy_at END,
       changed_in = pg_current_xact_id()
     WHERE id = $1`,
    [service, change.test, end.outcome, at, error, figures],
  );
}

/** The server does not take these values, and never will: too large, not valid. The same without the report may do. */
export const isRefused = (error: unknown): boolean => /^(22|23|54)/.test(sqlState(error) ?? "");

export const withoutReport = (change: PackedChange): PackedChange =>
  change.end === null ? change : { ...change, end: { ...change.end, report: null } };
