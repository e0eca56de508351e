/** The report of a restore: one JSON file that tells the truth at every moment, because its verdict starts as `error`. */

import type { ReportedError } from "../errors.ts";
import type { Target } from "../postgres/target.ts";

export const REPORT_SCHEMA_VERSION = 1;

/** Only ever earned: `error` (could not be judged) until `post-bootstrap` has judged every check. */
export type Verdict = "healthy" | "unhealthy" | "error";

export const PHASES = ["preflight", "restore", "recovery", "promote", "detach", "stop", "handover", "verify"] as const;
export type PhaseName = (typeof PHASES)[number];

export interface Phase {
  name: PhaseName;
  started_at: string;
  duration_ms: number;
  bytes?: number;
}

/** `warn` never changes the verdict; `skipped` was not asked for; `unverified` was asked for and could not run. */
export type CheckStatus = "pass" | "fail" | "unverified" | "skipped" | "warn";

export interface CheckResult {
  /** Stable, kebab-case: `marker-present`. */
  id: string;
  /** Which of the claims it supports. */
  claim: "recentness" | "consistency" | "safety";
  status: CheckStatus;
  /** One sentence with the values. */
  summary: string;
  facts: Record<string, unknown>;
  duration_ms: number;
  hint: string | null;
}

/** Of the stopped instance, by pg_checksums. */
export interface PageChecksums {
  /** `off`: the cluster has none. */
  status: "checked" | "off" | "not-checked";
  /** Null when they were checked. */
  why: string | null;
  files: number;
  blocks: number;
  bad: number;
  /** The first thousand bad ones; `file` is relative to the data directory. */
  pages: { file: string; block: number }[];
}

export interface Report {
  schema_version: typeof REPORT_SCHEMA_VERSION;
  id: string;
  scope: string | null;
  stanza: string | null;
  started_at: string;
  finished_at: string | null;
  verdict: Verdict;
  target: Target | null;
  receipt_id: string | null;
  backup: {
    label: string;
    type: string;
    /** Of the database, not of the repository. */
    size_bytes: number;
    repo: number;
    started_at: string;
    stopped_at: string;
    start_lsn: string;
    stop_lsn: string;
    timeline: number;
    why: string;
    /** Files in which pgBackRest found wrong page checksums when it made the backup. Absent in old reports. */
    page_errors?: string[];
  } | null;
  /**
   * The files were flushed to disk before hand-over, by `initdb --sync-only`. False: the instance is one to throw away, and
   * may be damaged if the machine goes down. Absent in old reports, and until the instance was stopped.
   */
  synced?: boolean;
  /** How far recovery really got; taken before the first restart, which makes PostgreSQL forget it. */
  recovered: {
    lsn: string;
    /** The new timeline, after promotion. */
    timeline: number;
    /** The timeline that was recovered. */
    parent_timeline: number;
    /** Commit time of the last replayed transaction, PostgreSQL's text in UTC; null when none was replayed. */
    last_commit_at: string | null;
    /** WAL segments restored from the archive. */
    segments: number;
    /** How many of them, or of their repetitions, lay ready before PostgreSQL asked. Absent in old reports. */
    segments_ahead?: number;
    /** PostgreSQL's own log line on where recovery stopped; null at the end of the archive. */
    stop_reason: string | null;
    system_identifier: string;
    /** First transaction ID of the new timeline, 32 bits: what is older came with the backup. Absent in old reports. */
    next_xid?: string;
  } | null;
  /** Null until the instance was stopped; absent in old reports. */
  page_checksums?: PageChecksums | null;
  phases: Phase[];
  checks: CheckResult[];
  coverage: Record<string, unknown>;
  /** Start of preflight to the verdict, in milliseconds. */
  rto_ms: number | null;
  /** Data loss that was really achieved: start of the test minus the newest proven commit, in milliseconds. */
  rpo_ms: number | null;
  error: ReportedError | null;
  versions: Record<string, string>;
}

export function newReport(start: { id: string; scope: string | null; stanza: string | null; startedAt: Date }): Report {
  return {
    schema_version: REPORT_SCHEMA_VERSION,
    id: start.id,
    scope: start.scope,
    stanza: start.stanza,
    started_at: start.startedAt.toISOString(),
    finished_at: null,
    verdict: "error",
    target: null,
    receipt_id: null,
    backup: null,
    recovered: null,
    phases: [],
    checks: [],
    coverage: {},
    rto_ms: null,
    rpo_ms: null,
    error: null,
    versions: {},
  };
}

/**
 * Healthy only when something of each claim was proven and nothing is in doubt. A failed check outweighs one that could
 * not run: damage that was seen is a fact.
 */
export function judge(checks: readonly CheckResult[]): Verdict {
  if (checks.some((c) => c.status === "fail")) return "unhealthy";
  if (checks.some((c) => c.status === "unverified")) return "error";
  const proven = (claim: CheckResult["claim"]) => checks.some((c) => c.claim === claim && c.status === "pass");
  return proven("recentness") && proven("consistency") && proven("safety") ? "healthy" : "error";
}
