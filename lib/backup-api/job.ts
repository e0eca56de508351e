/** A job is one command of the API: a backup, and what goes with backups. */

import type { BackupType } from "../restore/backup-info.ts";

export const JOB_COMMANDS = ["backup", "expire", "verify", "restore-test"] as const;
export type JobCommand = (typeof JOB_COMMANDS)[number];

/** The words of timescaledb-docker-ha's pgbackrest-rest.py, and CANCELLED. */
export const JOB_STATUSES = ["REQUESTED", "RUNNING", "FINISHED", "ERROR", "CANCELLED"] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export interface Job {
  /** The second of its start in UTC: `20261123010000`; of two in one second the later one has the next free second. */
  label: string;
  command: JobCommand;
  /** Null for what is no backup. */
  type: BackupType | null;
  stanza: string;
  status: JobStatus;
  /** Who wanted it: `request`, `schedule`, or the label of the backup that it proves. */
  by: string;
  /** ISO 8601, UTC. */
  startedAt: string;
  finishedAt: string | null;
  pid: number | null;
  /** The process's start in clock ticks (proc(5)): a number alone is re-used. */
  pidStarted: string | null;
  /** pgBackRest's (build/error.yaml of pgbackrest 2.45), or that of restore-test; null when a signal ended it. */
  exitCode: number | null;
  /** pgBackRest's label of the backup set, as soon as it says it. */
  set: string | null;
  error: string | null;
  hint: string | null;
  /** pgBackRest's WARN lines, the newest at the end. */
  warnings: string[];
  /** What the command says in the end, where it says something: verify's findings. */
  output: string[];
}

export interface JobProgress {
  /** 0 to 1, of the database's size. */
  fraction: number;
  /** Of the files that are done; pgBackRest rounds each. */
  bytes: number;
}

export const hasEnded = (job: Job): boolean => job.status !== "REQUESTED" && job.status !== "RUNNING";

/** Two of a group would be in each other's way: pgBackRest has one lock for backup and expire of a stanza. */
export function groupOf(command: JobCommand): "repository" | "verify" | "restore-test" {
  return command === "backup" || command === "expire" ? "repository" : command;
}

/** `20261123010000`, the next second that is not taken. */
export function newLabel(at: Date, isTaken: (label: string) => boolean): string {
  for (let second = Math.floor(at.getTime() / 1000); ; second++) {
    const label = labelOf(second);
    if (!isTaken(label)) return label;
  }
}

/** Of seconds since the epoch. */
export function labelOf(second: number): string {
  return new Date(second * 1000).toISOString().slice(0, 19).replace(/[^\d]/g, "");
}

export function newJob(
  request: Pick<Job, "command" | "type" | "stanza" | "by">,
  at: Date,
  isTaken: (label: string) => boolean,
): Job {
  return {
    label: newLabel(at, isTaken),
    ...request,
    status: "REQUESTED",
    startedAt: at.toISOString(),
    finishedAt: null,
    pid: null,
    pidStarted: null,
    exitCode: null,
    set: null,
    error: null,
    hint: null,
    warnings: [],
    output: [],
  };
}
