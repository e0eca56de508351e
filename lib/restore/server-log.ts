/** The private postmaster's own words: what happened, and in one line why it failed. */

import type { About, ErrorCode } from "../errors.ts";
import { describeError, repositoryHint } from "./repository-error.ts";

/** The prefix given with `log_line_prefix`; everything else on stderr is a program's own output. */
export const LOG_LINE_PREFIX = "%m [%p] %e ";

export interface ServerLine {
  severity: string;
  sqlState: string;
  message: string;
}

const LINE = /^\d{4}-\d\d-\d\d [\d:.]+ \S+ \[\d+\] ([0-9A-Z]{5}) ([A-Z0-9]+): {2}(.*)$/;

export function parseServerLine(line: string): ServerLine | null {
  const match = LINE.exec(line);
  if (!match?.[1] || !match[2]) return null;
  return { sqlState: match[1], severity: match[2], message: match[3] ?? "" };
}

/** What recovery has said so far. */
export interface RecoveryLog {
  /** Name of the last WAL segment that came from the archive, and how many came. */
  lastSegment: string | null;
  segments: number;
  /** Replayed so far, as PostgreSQL last mentioned it. */
  lsn: string | null;
  consistent: boolean;
  /** "recovery stopping before commit of transaction 4429, time …": proof that the target stopped it. */
  stopReason: string | null;
  /** Commit time of the last replayed transaction, in UTC. */
  lastCommitAt: string | null;
  /** The new timeline is chosen: replay is over, promotion has begun. */
  promoting: boolean;
  /** Accepting read-only or all connections. */
  acceptsConnections: "no" | "read-only" | "all";
  /** PostgreSQL stopped replaying because a setting is lower than the primary's. */
  insufficientSettings: boolean;
  errors: ServerLine[];
}

export function newRecoveryLog(): RecoveryLog {
  return {
    lastSegment: null,
    segments: 0,
    lsn: null,
    consistent: false,
    stopReason: null,
    lastCommitAt: null,
    promoting: false,
    acceptsConnections: "no",
    insufficientSettings: false,
    errors: [],
  };
}

/** Folds one line into what is known. Texts of PostgreSQL 12 to 17 (access/transam/xlogrecovery.c, xlog.c). */
export function readServerLine(log: RecoveryLog, line: string): void {
  const parsed = parseServerLine(line);
  if (parsed === null) return;
  const { severity, message } = parsed;
  if (severity === "FATAL" || severity === "PANIC" || severity === "ERROR") log.errors.push(parsed);
  let match = /^restored log file "([0-9A-F]{24})" from archive/.exec(message);
  if (match?.[1]) {
    log.lastSegment = match[1];
    log.segments++;
  }
  match =
    /(?:current LSN: |^redo done at |^redo starts at |consistent recovery state reached at )([0-9A-F]+\/[0-9A-F]+)/.exec(
      message,
    );
  if (match?.[1]) log.lsn = match[1];
  if (message.startsWith("consistent recovery state reached")) log.consistent = true;
  if (/^recovery stopping (before|after|at) /.test(message)) log.stopReason = message;
  match = /^last completed transaction was at log time (.*)$/.exec(message);
  if (match?.[1]) log.lastCommitAt = match[1];
  if (message.startsWith("selected new timeline ID")) log.promoting = true;
  if (message.startsWith("database system is ready to accept read")) log.acceptsConnections = "read-only";
  if (message.startsWith("database system is ready to accept connections")) log.acceptsConnections = "all";
  if (/insufficient parameter settings/.test(message)) log.insufficientSettings = true;
}

export interface Explanation {
  code: ErrorCode;
  message: string;
  hint?: string;
  about?: About;
}

export interface FailureContext {
  /** For people, such as `time 2026-… on timeline 1`. */
  target: string;
  /** Newest segment in the archive, if known. */
  archiveMax: string | null;
  /** First segment that is missing although later ones exist, if known. */
  missingWal: string | null;
  /** pgBackRest's own last error as restore_command, if any. */
  archiveError: string | null;
  /** Bytes free on the volume of the data directory when the server had ended. */
  freeBytes: number;
  /** Bytes of one WAL segment. */
  segmentSize: number;
}

interface Cause {
  pattern: RegExp;
  /** Null when it looks like this cause and is not. */
  explain(match: RegExpExecArray, log: RecoveryLog, context: FailureContext): Explanation | null;
}

const FULL_DISK: Explanation = {
  code: "RECOVERY_FAILED",
  message: "the disk ran full during recovery",
  hint: "give the volume more space",
  about: "host",
};

/**
 * A segment that finds no room is reported as one that the archive does not have: asynchronous archive-get leaves its
 * error in a file, which finds no room either.
 */
const lacksRoomForWal = ({ freeBytes, segmentSize }: FailureContext) => freeBytes < segmentSize;

const CAUSES: readonly Cause[] = [
  // What a full disk breaks says many other things as well, archive-get among them.
  {
    pattern: /No space left on device/,
    explain: () => FULL_DISK,
  },
  {
    pattern: /could not locate required checkpoint record|could not find redo location|WAL ends before /,
    explain: (_match, _log, context) => (lacksRoomForWal(context) ? FULL_DISK : null),
  },
  {
    // PostgreSQL takes any failure of restore_command for the end of the WAL.
    pattern:
      /could not locate required checkpoint record|could not find redo location|WAL ends before |recovery ended before configured recovery target/,
    explain: (_match, log, context) => failedRepository(log, context),
  },
  {
    pattern: /recovery ended before configured recovery target was reached/,
    explain: (_, log, context) => unreachedTarget(log, context),
  },
  {
    pattern: /requested recovery stop point is before consistent recovery point/,
    explain: (_, _log, { target }) => ({
      code: "TARGET_UNREACHED",
      message: `the target (${target}) lies before the end of the chosen backup`,
      hint: "choose an older backup with --set",
    }),
  },
  {
    pattern: /requested timeline (\d+) is not a child of this server's history/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `timeline ${match[1]} in the archive did not grow out of this backup's timeline`,
      hint: "another instance has archived into this stanza: find it, and restore with --target-timeline=current or the right number",
    }),
  },
  {
    pattern: /recovery target timeline (\d+) does not exist/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `timeline ${match[1]} is not in the WAL archive: its history file is missing`,
      hint: "choose another --target-timeline",
    }),
  },
  {
    pattern: /could not locate required checkpoint record|could not find redo location/,
    explain: (_, _log, context) => ({
      code: "RECOVERY_FAILED",
      message: `the WAL that the backup itself needs is not in the archive${context.missingWal ? `: ${context.missingWal} is missing` : ""}`,
      hint: "choose another backup with --set and check the archive with `pgbackrest verify`",
    }),
  },
  {
    pattern: /WAL ends before (?:end of online backup|consistent recovery point)/,
    explain: (_, log, context) => ({
      code: "RECOVERY_FAILED",
      message: `WAL ends before the backup is consistent: ${wherePossible(log, context)}`,
      hint: "WAL of the backup is missing in the archive; choose another backup with --set",
    }),
  },
  {
    pattern: /could not access file "([^"]+)"/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `the library "${match[1]}" that shared_preload_libraries names is not installed here`,
      hint: "install the extension's package in this image, or give --shared-preload-libraries without it",
      about: "host",
    }),
  },
  {
    pattern: /could not (?:map anonymous shared memory|create shared memory segment|resize shared memory)/,
    explain: () => ({
      code: "RECOVERY_FAILED",
      message: "PostgreSQL could not get its shared memory here",
      hint: "give this machine or container more memory",
      about: "host",
    }),
  },
  {
    // Nothing in a backup does that.
    pattern: /^(.*) \(PID \d+\) was terminated by signal 9/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `PostgreSQL's ${match[1]} was killed, most likely by the kernel for want of memory`,
      hint: "give this machine or container more memory",
      about: "host",
    }),
  },
  {
    pattern: /^out of memory$|could not fork new process|could not fork startup process/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `PostgreSQL lacked means during recovery: ${match.input}`,
      hint: "give this machine or container more memory and processes",
      about: "host",
    }),
  },
  {
    pattern:
      /database files are incompatible with server|The data directory was initialized by PostgreSQL version (\S+?),/,
    explain: () => ({
      code: "RECOVERY_FAILED",
      message: "the backup is of another PostgreSQL version than the programs",
      hint: "give --bin-dir of the backup's version",
    }),
  },
  {
    pattern: /syntax error in file "([^"]+)" line (\d+)/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `the restored configuration has a syntax error in ${match[1]} line ${match[2]}`,
      hint: "correct it on the source and back up again",
    }),
  },
  {
    pattern:
      /invalid page in block|unexpected data beyond EOF|incorrect resource manager data checksum|could not read block/,
    explain: (match) => ({
      code: "RECOVERY_FAILED",
      message: `the restored data or its WAL is damaged: ${match.input}`,
      hint: "this backup set is not usable; test an older one with --set and check the source",
    }),
  },
];

/** One line that says why the server ended, from everything it said. */
export function explainFailure(lines: readonly string[], log: RecoveryLog, context: FailureContext): Explanation {
  // Causes are in order of weight: a FATAL names the consequence, and its cause may stand in an earlier line.
  for (const cause of CAUSES) {
    for (const line of lines) {
      const match = cause.pattern.exec(parseServerLine(line)?.message ?? line);
      const explanation = match && cause.explain(match, log, context);
      if (explanation) return explanation;
    }
  }
  const fatal = log.errors.findLast((l) => l.severity !== "ERROR") ?? log.errors.at(-1);
  const tail = lines.findLast((line) => line.trim() !== "");
  return {
    code: "RECOVERY_FAILED",
    message: `PostgreSQL ended during recovery: ${fatal?.message ?? tail ?? "it said nothing"}`,
    hint: "the whole log stands beside the data directory",
  };
}

export function unreachedTarget(log: RecoveryLog, context: FailureContext): Explanation {
  if (lacksRoomForWal(context)) return FULL_DISK;
  const failed = failedRepository(log, context);
  if (failed !== null) return failed;
  const hint = context.missingWal
    ? "the archive has a gap: choose an earlier target, and take a new full backup of the source"
    : "commit something and switch WAL on the source, then test again, or choose an earlier target";
  return {
    code: "TARGET_UNREACHED",
    message: `WAL ended before the target (${context.target}): ${wherePossible(log, context)}`,
    hint,
  };
}

/** Not the archive's end, which archive-get reports without an error, nor a gap that was seen in it afterwards. */
function failedRepository(log: RecoveryLog, context: FailureContext): Explanation | null {
  const { archiveError, missingWal } = context;
  if (archiveError === null || missingWal !== null) return null;
  return {
    code: "RECOVERY_FAILED",
    message: `the repository failed during recovery: ${wherePossible(log, context)}`,
    hint: repositoryHint(archiveError) ?? "the WAL itself may be sound: check the repository's access, then try again",
  };
}

function wherePossible(log: RecoveryLog, { missingWal, archiveMax, archiveError }: FailureContext): string {
  const parts = [
    log.lastCommitAt ? `the last replayed commit is of ${log.lastCommitAt}` : "no transaction was replayed",
    log.lsn ? `replay ended at ${log.lsn}` : undefined,
    log.lastSegment ? `the last segment was ${log.lastSegment}` : undefined,
    missingWal
      ? `${missingWal} is missing in the archive although it goes on to ${archiveMax}`
      : archiveMax
        ? `the newest segment in the archive is ${archiveMax}`
        : undefined,
    archiveError ? `pgbackrest archive-get said ${archiveError}` : undefined,
  ];
  return parts.filter((part) => part !== undefined).join(", ");
}

/** What archive-get said since the last segment came, if it failed: PostgreSQL itself does not tell that from the end. */
export function lastArchiveError(lines: readonly string[]): string | null {
  const restored = lines.findLastIndex((line) => /^restored log file /.test(parseServerLine(line)?.message ?? ""));
  const printed = lines.slice(restored + 1).filter((line) => parseServerLine(line) === null);
  const hasFailed = printed.some((line) => /^(?:\S+ \S+ P\d\d\s+)?ERROR: \[\d+\]/.test(line));
  return hasFailed ? describeError(printed.join("\n")) : null;
}
