/** What pgBackRest says while it works: `P00   INFO: new backup label = 20261123-175909F` (--no-log-timestamp, 2.45). */

import { describeError, repositoryHint } from "../restore/repository-error.ts";
import type { Job, JobProgress } from "./job.ts";

const UNITS = " KMGTP";

/** `(256.1MB, 79.75%)`, of a bundled file `(bundle 1/0, 8KB, 1.00%)`; "match file" is one that an earlier set has. */
const FILE =
  /DETAIL: (?:backup|match|checksum|hardlink|store) .*\((?:bundle \d+\/\d+, )?([\d.]+)([KMGTP]?)B, ([\d.]+)%\)/;

/** Null for a line that says nothing of it. */
export function readProgress(line: string, before: JobProgress): JobProgress | null {
  const match = FILE.exec(line);
  if (match === null) return null;
  const bytes = Number(match[1]) * 1024 ** UNITS.indexOf(match[2] || " ");
  return { fraction: Number(match[3]) / 100, bytes: Math.round(before.bytes + bytes) };
}

export const readSetLabel = (line: string): string | undefined => / INFO: new backup label = (\S+)/.exec(line)?.[1];

export function levelOf(line: string): "info" | "warn" | "error" | "detail" {
  const word = /^P\d+ +(\w+):/.exec(line)?.[1];
  return word === "WARN" ? "warn" : word === "ERROR" ? "error" : word === "INFO" ? "info" : "detail";
}

/** Without the process number and the level, which the log has words of its own for. */
export const textOf = (line: string): string => line.replace(/^P\d+ +[A-Z]+: /, "").trim();

export interface Ending {
  exitCode: number | null;
  signal: string | null;
  /** What it said, at least the last lines of it. */
  tail: readonly string[];
  /** Why it was ended on purpose, null when it was not. */
  cancelled: string | null;
  /** The limit in milliseconds, when it was passed. */
  timedOutAfterMs: number | null;
}

/** How a command of pgBackRest ended: status, and the words for a failure. */
export function judge(job: Job, ending: Ending): Pick<Job, "status" | "error" | "hint"> {
  const { exitCode, signal, tail } = ending;
  if (ending.timedOutAfterMs !== null) {
    const limit = ending.timedOutAfterMs / 1000;
    return failed(`pgbackrest ${job.command} did not end within ${limit} s and was ended`, "raise --backup-timeout");
  }
  // It says the label before it has written the set.
  const isMade = job.command === "backup" && tail.some((line) => / INFO: expire command begin /.test(line));
  if (ending.cancelled !== null && exitCode !== 0) {
    return isMade
      ? { status: "FINISHED", error: null, hint: "the expire after it was ended; the next one makes up for it" }
      : { status: "CANCELLED", error: ending.cancelled, hint: null };
  }
  if (exitCode === null) {
    const hint = signal === "SIGKILL" ? "the system may have been out of memory; see its kernel log" : null;
    return failed(`pgbackrest ${job.command} was ended by ${signal}`, hint);
  }
  if (exitCode !== 0) {
    const reason = describeError(withoutSummary(tail).join("\n"));
    const done = isMade && job.set !== null ? `the backup ${job.set} was made, but ` : "";
    return failed(
      `${done}pgbackrest ${job.command} ended with code ${exitCode}: ${reason}`,
      hintOf(exitCode, reason, job.stanza) ?? hintIn(tail),
    );
  }
  if (job.command === "verify") return judgeVerify(job.output);
  return { status: "FINISHED", error: null, hint: null };
}

/** `[104]: expire command encountered 1 error(s), check the log file for details` comes after the error that counts. */
function withoutSummary(tail: readonly string[]): readonly string[] {
  const isError = (line: string) => /ERROR: \[\d+\]/.test(line);
  const others = tail.filter((line) => !/ERROR: \[104\]: .* encountered \d+ error/.test(line));
  return others.some(isError) ? others : tail;
}

/** pgBackRest's verify ends with code 0 whatever it finds; what it found is in its text (2.45, --output=text). */
function judgeVerify(output: readonly string[]): Pick<Job, "status" | "error" | "hint"> {
  const status = output.map((line) => /^status: (\w+)/.exec(line)?.[1]).find((word) => word !== undefined);
  if (status === "ok") return { status: "FINISHED", error: null, hint: null };
  if (status === undefined) {
    return failed(
      "pgbackrest verify does not say what it found",
      "its own log has more; --output needs pgBackRest 2.45",
    );
  }
  return failed(
    "pgbackrest verify found damage in the repository",
    "see output; a backup set with damaged files cannot be restored: make a full backup",
  );
}

const failed = (error: string, hint: string | null) => ({ status: "ERROR" as const, error, hint });

/** pgBackRest's own, below its last error. */
function hintIn(tail: readonly string[]): string | null {
  const error = tail.findLastIndex((line) => /ERROR: \[\d+\]/.test(line));
  const hint = tail.slice(error + 1).find((line) => /^\s*HINT: /.test(line));
  return error < 0 || hint === undefined ? null : hint.replace(/^\s*HINT: |[?.]$/g, "");
}

/** pgBackRest's exit codes: build/error.yaml. */
function hintOf(exitCode: number, reason: string, stanza: string): string | null {
  if (/No space left on device|QuotaExceeded/.test(reason))
    return "the repository is full: expire, or give it more space";
  const ofStore = repositoryHint(reason);
  if (ofStore !== undefined) return ofStore;
  switch (exitCode) {
    case 28:
    case 44:
    case 51:
    case 58:
      return "the stanza may belong to another cluster or version: after pg_upgrade run `pgbackrest stanza-upgrade`";
    case 49:
      return "the repository's host cannot be reached";
    case 50:
      return "another pgBackRest process holds the stanza's lock: a backup or expire that was not started here";
    case 55:
      if (!/(backup|archive)\.info/.test(reason)) return null;
      return `the stanza may not have been created: pgbackrest --stanza=${stanza} stanza-create`;
    case 56:
      return "is PostgreSQL running here, and is it the primary";
    case 62:
      return "it was stopped with `pgbackrest stop`: `pgbackrest start` allows it again";
    case 63:
      return "somebody ended it: Ctrl-C in a terminal, and systemd without KillMode=mixed, reach pgBackRest too";
    case 82:
    case 87:
      return "archiving does not work: see archive_command, and PostgreSQL's log";
    case 95:
      return "see the repository's cipher and TLS settings";
    case 101:
      return "the object store answered with an error of its own: try again, and look at its log";
    default:
      return null;
  }
}

/** The restore test after a backup: its exit code is the verdict, its last line on stderr the reason. */
export function judgeRestoreTest(ending: Ending): Pick<Job, "status" | "error" | "hint"> {
  const { exitCode, signal, tail } = ending;
  if (ending.cancelled !== null && exitCode !== 0) return { status: "CANCELLED", error: ending.cancelled, hint: null };
  if (exitCode === 0) return { status: "FINISHED", error: null, hint: null };
  if (exitCode === null) return failed(`restore-test was ended by ${signal}`, null);
  const reason = tail.findLast((line) => line.startsWith("ERROR: ["));
  const hint = tail.findLast((line) => line.startsWith("HINT: "));
  return failed(
    reason?.replace(/^ERROR: /, "") ?? `restore-test ended with code ${exitCode}: ${tail.slice(-3).join(" | ")}`,
    hint?.replace(/^HINT: |\.$/g, "") ?? null,
  );
}
