/** Recovery in a postmaster of our own: progress, limits, a cause in one line, and evidence before the first restart. */

import { RestoreError } from "../errors.ts";
import { type Database, withDatabase } from "../io/database.ts";
import { freeSpace, readTextIfExists } from "../io/files.ts";
import { listWal, type PgBackRest, pgBackRestEnvironment } from "../io/pgbackrest.ts";
import { configuredSetting, type Postmaster, readControlData, startPostmaster } from "../io/postgres.ts";
import { commandLine, descendants } from "../io/processes.ts";
import type { WalAhead } from "../io/wal-ahead.ts";
import type { Log } from "../log.ts";
import { toXid32 } from "../manifest/horizon.ts";
import type { Receipt } from "../mark/receipt.ts";
import { parseWalName, walName } from "../postgres/lsn.ts";
import { describeTarget } from "../postgres/target.ts";
import type { Report } from "../report/report.ts";
import { formatDuration } from "../units.ts";
import { type Plan, replayFraction, walBytes } from "./plan.ts";
import { repositoryHint } from "./repository-error.ts";
import { explainFailure, type FailureContext, lastArchiveError, unreachedTarget } from "./server-log.ts";

export interface RecoveryInput {
  plan: Plan;
  receipt: Receipt | undefined;
  directory: string;
  pgbackrest: PgBackRest;
  /** Null when recovery fetches all WAL by itself. */
  walAhead: Pick<WalAhead, "restoreCommand" | "passed" | "rewind"> | null;
  logFile: string;
  /** Superusers to try for looking at progress; the first that exists is used. */
  superusers: readonly string[];
  sharedPreloadLibraries: string | undefined;
  /** Of the private postmaster, before what this cluster demands. */
  settings: Readonly<Record<string, string>>;
  timeoutMs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
  log: Log;
}

const WATCHED_FROM_BYTES = 4 * 1024 ** 3;

/**
 * Keeping track of what sessions may see takes replay eight percent longer, and only serves to show the time of the last
 * replayed commit. What is replayed in half a minute is seen by its LSN alone; but who wants all that there is has lost his
 * service, and looks how far it is.
 */
function isWatched(plan: Plan, segmentSize: number): boolean {
  const bytes = walBytes(plan, segmentSize);
  return bytes === null || bytes > WATCHED_FROM_BYTES || plan.target.type === "latest";
}

export interface Recovery {
  postmaster: Postmaster;
  /** shared_preload_libraries of its own configuration. */
  libraries: string;
}

/** Starts the postmaster; resolves when replay is over and promotion has begun. */
export async function startRecovery(input: RecoveryInput): Promise<Recovery> {
  const configured = (name: string) => configuredSetting(input.plan.binDir, input.directory, name);
  const [control, preloaded, restoreCommand] = await Promise.all([
    readControlData(input.plan.binDir, input.directory),
    configured("shared_preload_libraries"),
    configured("restore_command"),
  ]);
  const libraries = preloaded ?? input.receipt?.shared_preload_libraries ?? "";
  const ahead = (command: string) => input.walAhead?.restoreCommand(command) ?? command;
  const settings = {
    ...input.settings,
    ...(restoreCommand ? { restore_command: ahead(triedAgain(restoreCommand)) } : {}),
    ...Object.fromEntries(Object.entries(control.required).map(([name, value]) => [name, String(value)])),
    shared_preload_libraries: input.sharedPreloadLibraries ?? libraries,
    ...(Number(input.plan.pgVersion.split(".")[0]) >= 15 ? { log_startup_progress_interval: "1s" } : {}),
  };
  const hotStandby = isWatched(input.plan, control.walSegmentSize) ? "on" : "off";
  const first = await runUntilPromotion(input, { ...settings, hot_standby: hotStandby }, control.walSegmentSize);
  if (first !== "insufficient settings") return { postmaster: first, libraries };
  // The source raised a setting after the backup; the WAL says so only while it is replayed. Without hot standby
  // PostgreSQL does not compare (PostgreSQL 15, CheckRequiredParameterValues), at the price of less progress to show.
  input.log.info("recovery", "the source raised a setting after the backup; starting again without hot_standby");
  input.walAhead?.rewind();
  const second = await runUntilPromotion(input, { ...settings, hot_standby: "off" }, control.walSegmentSize);
  if (second === "insufficient settings") throw new Error("recovery without hot_standby compared settings");
  return { postmaster: second, libraries };
}

/**
 * pgBackRest tries again to connect and to be answered, but not when a segment breaks off in its middle (42, FileReadError),
 * and PostgreSQL would take that for the end of the WAL. 1 is a segment that is not in the archive.
 */
export const triedAgain = (restoreCommand: string) =>
  `${restoreCommand}; code=$?; if [ $code -eq 42 ]; then sleep 1; ${restoreCommand}; code=$?; fi; exit $code`;

async function runUntilPromotion(
  input: RecoveryInput,
  settings: Record<string, string>,
  segmentSize: number,
): Promise<Postmaster | "insufficient settings"> {
  const postmaster = await startPostmaster({
    binDir: input.plan.binDir,
    datadir: input.directory,
    logFile: input.logFile,
    superuser: input.superusers[0] ?? "postgres",
    settings,
    env: pgBackRestEnvironment(input.pgbackrest.workDir),
    signal: input.signal,
    log: input.log,
  });
  const progress = input.log.progress("recovery");
  try {
    const limits = new Limits(input);
    let view: ReplayView = { lsn: null, lastCommit: null };
    let lookedAt = 0;
    while (!postmaster.said.promoting && postmaster.said.acceptsConnections !== "all") {
      await postmaster.nextLine(250);
      input.signal.throwIfAborted();
      if (postmaster.said.lastSegment !== null) input.walAhead?.passed(postmaster.said.lastSegment);
      if (postmaster.said.insufficientSettings && settings.hot_standby === "on") {
        await postmaster.stop("immediate", 10_000);
        return "insufficient settings";
      }
      await throwIfEnded(postmaster, input, segmentSize);
      if (postmaster.said.acceptsConnections === "read-only" && Date.now() - lookedAt > 1000) {
        lookedAt = Date.now();
        view = await lookAtReplay(postmaster, input.superusers);
      }
      const lsn = view.lsn ?? postmaster.said.lsn;
      progress.update({
        fraction: replayFraction(input.plan, lsn, segmentSize),
        lsn: lsn ?? undefined,
        lastCommit: view.lastCommit ?? undefined,
        note: postmaster.said.lastSegment ?? undefined,
      });
      const state = `${lsn} ${postmaster.said.lastSegment} ${withoutElapsed(postmaster.lines.at(-1))}`;
      const passed = limits.check(state, lsn);
      if (passed !== null) throw await timedOut(passed, postmaster);
    }
    return postmaster;
  } catch (error) {
    await postmaster.stop("immediate", 5000).catch(() => {});
    throw error;
  } finally {
    progress.end();
  }
}

/** "redo in progress, elapsed time: 20.00 s, …" repeats while nothing moves. */
const withoutElapsed = (line = "") => line.replace(/^\S+ \S+ \S+ /, "").replace(/elapsed time: [\d.]+ s/, "");

class Limits {
  private readonly startedAt = Date.now();
  private movedAt = Date.now();
  private last = "";
  private readonly input: RecoveryInput;

  constructor(input: RecoveryInput) {
    this.input = input;
  }

  /** The limit that has passed, if any. `state` is any text that changes when recovery moves. */
  check(state: string, lsn: string | null): PassedLimit | null {
    const now = Date.now();
    if (state !== this.last) [this.last, this.movedAt] = [state, now];
    const where = lsn === null ? "before replay began" : `at ${lsn}`;
    if (now - this.movedAt > this.input.stallTimeoutMs) {
      return {
        message: `recovery made no progress for ${formatDuration(this.input.stallTimeoutMs)}, ${where}`,
        hint: "see the recovery log beside the data directory; raise --recovery-stall-timeout if the repository is slow",
      };
    }
    if (now - this.startedAt > this.input.timeoutMs) {
      return {
        message: `recovery did not end within ${formatDuration(this.input.timeoutMs)}, ${where}`,
        hint: "raise --recovery-timeout, or take backups more often so that less WAL is replayed",
      };
    }
    return null;
  }
}

interface PassedLimit {
  message: string;
  hint: string;
}

/** Says too when it is the repository that recovery waits for. */
async function timedOut({ message, hint }: PassedLimit, postmaster: Postmaster): Promise<RestoreError> {
  const error = lastArchiveError(postmaster.lines);
  const waitsFor = await unfinishedArchiveGet(postmaster.pid);
  const parts = [
    message,
    waitsFor === null ? undefined : `the repository has not yet answered pgbackrest archive-get ${waitsFor}`,
    error === null ? undefined : `pgbackrest archive-get said ${error}`,
  ];
  return new RestoreError("TIMED_OUT", parts.filter((part) => part !== undefined).join("; "), {
    hint: (error === null ? undefined : repositoryHint(error)) ?? hint,
  });
}

/** The file that PostgreSQL's restore_command is fetching at this moment. */
async function unfinishedArchiveGet(postmaster: number): Promise<string | null> {
  for (const { pid } of await descendants(postmaster)) {
    const argv = await commandLine(pid);
    const at = argv.indexOf("archive-get");
    if (at > 0) return argv[at + 1] ?? "";
  }
  return null;
}

interface ReplayView {
  lsn: string | null;
  lastCommit: string | null;
}

/** Only for people who wait: whatever goes wrong here is no failure of the recovery. */
async function lookAtReplay(postmaster: Postmaster, superusers: readonly string[]): Promise<ReplayView> {
  for (const user of superusers) {
    try {
      return await withDatabase(
        { ...postmaster.conninfo, user },
        { connectTimeoutMs: 1000, statementTimeoutMs: 1000 },
        (db) =>
          db.row<{ lsn: string | null; lastCommit: string | null }>(
            `SELECT pg_last_wal_replay_lsn() AS lsn, pg_last_xact_replay_timestamp() AS "lastCommit"`,
          ),
      );
    } catch {}
  }
  return { lsn: null, lastCommit: null };
}

async function throwIfEnded(postmaster: Postmaster, input: RecoveryInput, segmentSize: number): Promise<void> {
  const end = await Promise.race([postmaster.ended, Promise.resolve("running" as const)]);
  if (end === "running") return;
  const context = await failureContext(postmaster, input, segmentSize);
  const { code, message, ...details } = explainFailure(postmaster.lines, postmaster.said, context);
  throw new RestoreError(code, message, details);
}

async function failureContext(
  postmaster: Postmaster,
  input: RecoveryInput,
  segmentSize: number,
): Promise<FailureContext> {
  const { plan, pgbackrest, signal } = input;
  return {
    target: describeTarget(plan.target),
    archiveMax: plan.wal.archiveMax,
    archiveError: lastArchiveError(postmaster.lines),
    freeBytes: await freeSpace(input.directory),
    segmentSize,
    // The cause is worth a question to the repository, but never a second failure.
    missingWal: await findMissingWal(postmaster.said.lastSegment, plan, pgbackrest, segmentSize, signal).catch(
      () => null,
    ),
  };
}

/** The segment after the last one that came, if the archive lacks it but has later ones. */
async function findMissingWal(
  lastSegment: string | null,
  plan: Plan,
  pgbackrest: PgBackRest,
  segmentSize: number,
  signal: AbortSignal,
): Promise<string | null> {
  const last = lastSegment === null ? null : parseWalName(lastSegment, segmentSize);
  const next = last === null ? plan.wal.first : walName(last.timeline, last.segment + 1n, segmentSize);
  if (plan.wal.archiveMax === null || next.slice(8) >= plan.wal.archiveMax.slice(8)) return null;
  const present = await listWal(pgbackrest, plan.archiveId, next.slice(0, 16), signal);
  return present.includes(next) ? null : next;
}

/** Until everybody may connect. */
export async function waitForPromotion(postmaster: Postmaster, input: RecoveryInput): Promise<void> {
  const deadline = Date.now() + input.timeoutMs;
  while (postmaster.said.acceptsConnections !== "all") {
    await postmaster.nextLine(250);
    input.signal.throwIfAborted();
    await throwIfEnded(postmaster, input, 16 * 1024 ** 2);
    if (Date.now() > deadline) {
      throw new RestoreError("TIMED_OUT", `promotion did not end within ${formatDuration(input.timeoutMs)}`, {
        hint: "raise --recovery-timeout",
      });
    }
  }
}

/** Proves it: connections, timeline, and that the target stopped recovery. `version` is the server's, such as 15.4. */
export async function confirmPromotion(
  db: Database,
  postmaster: Postmaster,
  input: RecoveryInput,
): Promise<{ recovered: Report["recovered"] & object; version: string }> {
  const facts = await db.row<
    Record<"in_recovery" | "timeline" | "system" | "next_xid" | "version", string> &
      Record<"lsn" | "last_commit", string | null>
  >(
    `SELECT pg_is_in_recovery()::text AS in_recovery, pg_last_wal_replay_lsn()::text AS lsn,
            to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS last_commit,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline,
            (SELECT system_identifier::text FROM pg_control_system()) AS system,
            pg_snapshot_xmax(pg_current_snapshot())::text AS next_xid,
            split_part(current_setting('server_version'), ' ', 1) AS version`,
  );
  if (facts.in_recovery !== "false")
    throw new RestoreError("RECOVERY_FAILED", "PostgreSQL is still in recovery after promotion");
  const history = await readTextIfExists(`${input.directory}/pg_wal/${facts.timeline}.history`);
  const parent = Number(history?.trim().split("\n").at(-1)?.split(/\s/)[0] ?? 0);
  const recovered: Report["recovered"] & object = {
    lsn: facts.lsn ?? postmaster.said.lsn ?? "",
    timeline: Number.parseInt(facts.timeline, 16),
    parent_timeline: parent,
    last_commit_at: facts.last_commit,
    segments: postmaster.said.segments,
    stop_reason: postmaster.said.stopReason,
    system_identifier: facts.system,
    next_xid: toXid32(facts.next_xid),
  };
  await confirmTarget(recovered, postmaster, input);
  return { recovered, version: facts.version };
}

/** PostgreSQL before 13 promotes silently without reaching the target; a failing repository looks like the archive's end. */
async function confirmTarget(
  recovered: Report["recovered"] & object,
  postmaster: Postmaster,
  input: RecoveryInput,
): Promise<void> {
  const { target, wal } = input.plan;
  if (target.type !== "latest" && recovered.stop_reason !== null) return;
  const segmentSize = (await readControlData(input.plan.binDir, input.directory)).walSegmentSize;
  const unreached = async () => {
    const { code, message, ...details } = unreachedTarget(
      postmaster.said,
      await failureContext(postmaster, input, segmentSize),
    );
    return new RestoreError(code, message, details);
  };
  if (target.type !== "latest") throw await unreached();
  const last = postmaster.said.lastSegment === null ? null : parseWalName(postmaster.said.lastSegment, segmentSize);
  const newest = wal.archiveMax === null ? null : parseWalName(wal.archiveMax, segmentSize);
  // A timeline that was asked for by name or number may end before another one in the archive goes on.
  const isComparable = target.timeline === null || target.timeline === "latest" || last?.timeline === newest?.timeline;
  if (newest !== null && (last === null || (isComparable && last.segment < newest.segment))) throw await unreached();
}
