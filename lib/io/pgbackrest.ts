/** pgBackRest as a child process: argv arrays only, its own lock and spool paths, nothing inherited that changes a restore. */

import { RestoreError } from "../errors.ts";
import { parseInfo, type StanzaInfo } from "../restore/backup-info.ts";
import { describeError, repositoryHint } from "../restore/repository-error.ts";
import { formatDuration } from "../units.ts";
import { runCommand } from "./command.ts";
import { KEPT_MEMORY } from "./memory.ts";

export interface PgBackRest {
  /** Absolute; pgBackRest's own default when undefined. */
  config: string | undefined;
  stanza: string;
  /** Private directory: `pgbackrest restore` deletes `<spool-path>/archive/<stanza>`, even a live cluster's. */
  workDir: string;
}

/** They would silently change what is restored, or break every other command (pgbackrest 2.45, `[032] not allowed`). */
const RESTORE_VARIABLES =
  /^PGBACKREST_(TYPE|TARGET(_\w+)?|SET|DELTA|FORCE|ARCHIVE_MODE|RECOVERY_OPTION|DB_INCLUDE|DB_EXCLUDE|TABLESPACE_MAP(_ALL)?|LINK_(MAP|ALL)|STANZA|PG\d*_PATH|SPOOL_PATH|LOCK_PATH|LOG_\w+|CONFIG|OUTPUT)$/;

export function overridesIn(environment: NodeJS.ProcessEnv): string[] {
  return Object.keys(environment).filter((name) => RESTORE_VARIABLES.test(name) && name !== "PGBACKREST_CONFIG");
}

/** The environment for pgBackRest and for the postmaster whose `restore_command` calls it. */
export function pgBackRestEnvironment(workDir: string): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => name === "PGBACKREST_CONFIG" || !RESTORE_VARIABLES.test(name),
  );
  // By environment, not argv: not every command takes them there, and restore would copy them into restore_command,
  // where archive-get refuses spool-path.
  return {
    ...Object.fromEntries(kept),
    PGBACKREST_LOCK_PATH: `${workDir}/lock`,
    PGBACKREST_SPOOL_PATH: `${workDir}/spool`,
    ...KEPT_MEMORY,
    LC_ALL: "C",
  };
}

/** The options that every command takes. */
export function commonOptions(pgbackrest: PgBackRest): string[] {
  return [...(pgbackrest.config === undefined ? [] : [`--config=${pgbackrest.config}`]), "--log-level-file=off"];
}

/** `2.45` as [2, 45]. */
export async function pgBackRestVersion(signal: AbortSignal): Promise<[number, number]> {
  const result = await runCommand("pgbackrest", ["version"], { signal, timeoutMs: 30_000 });
  const match = /pgBackRest (\d+)\.(\d+)/.exec(result.stdout);
  if (!match)
    throw new RestoreError("PREFLIGHT_FAILED", `pgbackrest does not say its version: ${result.stderr.trim()}`, {
      about: "host",
    });
  return [Number(match[1]), Number(match[2])];
}

/** Undefined when pgBackRest does not know the stanza. Throws PREFLIGHT_FAILED with pgBackRest's own error. */
export async function readInfo(pgbackrest: PgBackRest, signal: AbortSignal): Promise<StanzaInfo | undefined> {
  const result = await query(pgbackrest, ["info", `--stanza=${pgbackrest.stanza}`, "--output=json"], signal);
  return parseInfo(result, pgbackrest.stanza);
}

/** WAL segments in the archive (24 digits each) under the first 16 digits, sorted. None when the path does not exist. */
export async function listWal(
  pgbackrest: PgBackRest,
  archiveId: string,
  prefix: string,
  signal: AbortSignal,
): Promise<string[]> {
  const path = `archive/${pgbackrest.stanza}/${archiveId}/${prefix}`;
  const names = (await query(pgbackrest, ["repo-ls", path], signal)).split("\n");
  return [...new Set(names.filter((n) => /^[0-9A-F]{24}-/.test(n)).map((n) => n.slice(0, 24)))].sort();
}

/** Label, tablespaces and links of one backup set, as `info --set` knows them. */
export async function readBackupSet(
  pgbackrest: PgBackRest,
  label: string,
  signal: AbortSignal,
): Promise<{ tablespaces: { name: string; destination: string }[]; pageErrors: string[] }> {
  const args = ["info", `--stanza=${pgbackrest.stanza}`, `--set=${label}`, "--output=json"];
  const [stanza] = JSON.parse((await query(pgbackrest, args, signal)).replace(/("system-id"\s*:\s*)(\d+)/g, '$1"$2"'));
  const [backup] = stanza?.backup ?? [];
  return {
    tablespaces: (backup?.tablespace ?? []) as { name: string; destination: string }[],
    pageErrors: (backup?.["error-list"] ?? []) as string[],
  };
}

/** pgBackRest tries for four times its io-timeout (60 s by default) with each repository before it says what is wrong. */
const QUERY_LIMIT_MS = 600_000;

async function query(pgbackrest: PgBackRest, args: readonly string[], signal: AbortSignal): Promise<string> {
  const [command = "", ...rest] = args;
  const result = await runCommand(
    "pgbackrest",
    [command, ...commonOptions(pgbackrest), "--log-level-console=off", "--log-level-stderr=warn", ...rest],
    { signal, timeoutMs: QUERY_LIMIT_MS, env: pgBackRestEnvironment(pgbackrest.workDir) },
  );
  if (result.exitCode === 0) return result.stdout;
  const reason = result.timedOut
    ? `no answer within ${formatDuration(QUERY_LIMIT_MS)}`
    : describeError(`${result.stdout}\n${result.stderr}`);
  throw new RestoreError("PREFLIGHT_FAILED", `pgbackrest ${command} failed: ${reason}`, {
    hint: repositoryHint(reason) ?? "check --pgbackrest-config and the repository's access",
  });
}

export interface RestoreProgress {
  /** 0 to 1. */
  fraction: number;
}

/** Runs `pgbackrest restore` with exactly these arguments. Throws RESTORE_FAILED with pgBackRest's code and last lines. */
export async function runRestore(
  args: readonly string[],
  workDir: string,
  options: {
    signal: AbortSignal;
    timeoutMs: number;
    onProgress(progress: RestoreProgress): void;
    onLine(line: string): void;
  },
): Promise<{ bytes: number | null; durationMs: number }> {
  const tail: string[] = [];
  let bytes: number | null = null;
  const result = await runCommand("pgbackrest", args, {
    signal: options.signal,
    timeoutMs: options.timeoutMs,
    env: pgBackRestEnvironment(workDir),
    buffer: false,
    onLine(line) {
      const match = /DETAIL: restore file .*\(\S+, ([\d.]+)%\)/.exec(line);
      if (match) options.onProgress({ fraction: Number(match[1]) / 100 });
      else if (!/DETAIL:/.test(line)) {
        // An HTTP error goes on with two dozen lines of headers.
        if (/ERROR: \[\d+\]/.test(line)) tail.length = 0;
        if (tail.length < 100) tail.push(line);
        options.onLine(line);
      }
      bytes = parseRestoreSize(line) ?? bytes;
    },
  });
  if (result.timedOut) {
    throw new RestoreError("TIMED_OUT", `pgbackrest restore did not end within ${options.timeoutMs / 1000} s`, {
      hint: "raise --restore-timeout or --process-max",
    });
  }
  if (result.exitCode !== 0) {
    const code = result.exitCode === null ? `signal ${result.signal}` : `code ${result.exitCode}`;
    const reason = describeError(tail.join("\n"));
    throw new RestoreError("RESTORE_FAILED", `pgbackrest restore ended with ${code}: ${reason}`, {
      hint: restoreHint(result.exitCode, reason),
      // Whatever is wrong with a backup, pgBackRest says so itself.
      about: result.signal === "SIGKILL" || OUT_OF_MEANS.test(reason) ? "host" : undefined,
    });
  }
  return { bytes, durationMs: result.durationMs };
}

const OUT_OF_MEANS = /No space left on device|Disk quota exceeded|Cannot allocate memory|unable to allocate/;

/** `restore size = 96.9MB, file total = 977` in bytes, as exact as pgBackRest prints it. */
function parseRestoreSize(line: string): number | null {
  const match = /restore size = ([\d.]+)([KMGTP]?)B/.exec(line);
  if (!match) return null;
  return Math.round(Number(match[1]) * 1024 ** " KMGTP".indexOf(match[2] || " "));
}

/** pgBackRest's exit codes: build/error.yaml. */
function restoreHint(exitCode: number | null, reason: string): string | undefined {
  if (/No space left on device|\[28\]/.test(reason))
    return "the volume is full: give it more space, or remove old .failed copies";
  switch (exitCode) {
    case 38:
      return "a PostgreSQL server is running on that directory, or left its postmaster.pid";
    case 40:
      return "a tablespace or link directory holds files already; remove them or map it elsewhere";
    case 50:
      return "another pgBackRest process holds the lock";
    case 55:
      return "a file of the backup is missing in the repository: it may have expired during the restore; run `pgbackrest verify`";
    case 75:
      return "the backup set is gone: it may have expired during the restore";
    case 95:
      return repositoryHint(reason) ?? "the repository's cipher settings are not those of the backup";
    default:
      return repositoryHint(reason);
  }
}
