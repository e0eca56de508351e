/** A restore test of the fleet and the statuses that it goes through. */

import { randomBytes } from "node:crypto";
import type { ReportedError } from "../errors.ts";
import type { PhaseName, Report } from "../report/report.ts";
import { type Outcome, outcomeOfError } from "./outcome.ts";

export const STATUSES = [
  "requested",
  "marking",
  "restoring",
  "recovering",
  "verifying",
  "healthy",
  "unhealthy",
  "error",
  "cancelled",
  "reaped",
] as const;
export type Status = (typeof STATUSES)[number];

const ENDS: readonly Status[] = ["healthy", "unhealthy", "error", "cancelled", "reaped"];
export const isEnd = (status: Status) => ENDS.includes(status);

export interface Test {
  /** Eight characters, fit for names of Kubernetes objects. */
  id: string;
  service: string;
  namespace: string;
  scope: string;
  stanza: string;
  groups: Readonly<Record<string, string>>;
  weight: number;
  /** Why it was started, for people. */
  reason: string;
  requestedAt: Date;
  /** It is reaped when it is not done by then. */
  deadlineAt: Date;
  /** Which scheduler started it: host name and process ID, or the pod's name. */
  scheduler: string;
}

/** Each status is reached once at most; an end is the last. */
export interface StatusChange {
  test: string;
  service: string;
  status: Status;
  at: Date;
  /** Only of an end. */
  end?: TestEnd;
}

export interface TestEnd {
  outcome: Outcome;
  error: ReportedError | null;
  /** Null when none was written. */
  report: Report | null;
}

/** What a report says of the end; `otherwise` is the reason when there is none. */
export function endOf(report: Report | null, otherwise: ReportedError): TestEnd {
  if (report === null) return { outcome: outcomeOfError(otherwise), error: otherwise, report };
  if (report.error !== null) return { outcome: outcomeOfError(report.error), error: report.error, report };
  if (report.verdict === "error") return { outcome: "infra", error: otherwise, report };
  return { outcome: report.verdict, error: null, report };
}

/** How the last test of a service ended. */
export interface LastTest {
  id: string;
  outcome: Outcome;
  endedAt: Date;
  /** Tests in a row that ended with this outcome. */
  attempts: number;
  error: ReportedError | null;
  figures: Figures | null;
}

/** What monitoring asks of a report. Durations are milliseconds. */
export interface Figures {
  rto_ms: number | null;
  rpo_ms: number | null;
  phases: Readonly<Partial<Record<PhaseName, number>>>;
  /** Of the database, bytes. */
  size_bytes: number | null;
  /** Share of the tables' blocks that were compared with the source, 0 to 1; null without receipt. */
  coverage: number | null;
}

export const newTestId = () => randomBytes(4).toString("hex");

const OF_PHASE: Readonly<Partial<Record<PhaseName, Status>>> = {
  restore: "restoring",
  recovery: "recovering",
  verify: "verifying",
};

/** The status that a phase of the restore test means; null when it is no step of its own. */
export const statusOfPhase = (phase: string): Status | null => OF_PHASE[phase as PhaseName] ?? null;

/** What a report tells of the way, for whoever was not there. */
export function changesOf(report: Report): { status: Status; at: Date }[] {
  return report.phases.flatMap(({ name, started_at }) => {
    const status = statusOfPhase(name);
    return status === null ? [] : [{ status, at: new Date(started_at) }];
  });
}

/**
 * In the order in which they are reached, each once, and no time before the one of the status before it: what a scheduler
 * saw has the time at which it was told, and what only the report knows has the true one.
 */
export function inOrder(changes: readonly { status: Status; at: Date }[]): { status: Status; at: Date }[] {
  const found = STATUSES.flatMap((status) => changes.find((change) => change.status === status) ?? []);
  let last = 0;
  return found.map(({ status, at }) => {
    last = Math.max(last, at.getTime());
    return { status, at: new Date(last) };
  });
}
