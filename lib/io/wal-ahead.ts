/**
 * WAL fetched while pgBackRest still copies the base backup. pgBackRest itself fetches it, by the process that its
 * asynchronous archive-get starts: in parallel, over kept connections, to a temporary name that it renames when the file is
 * complete (pgbackrest 2.45 and 2.59, command/archive/get). Started from here it is a child like any other, with a spool and
 * a lock of its own. Whatever goes wrong only leaves recovery with what it does by itself.
 */

import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { endianness } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { DEFAULT_WAL_SEGMENT_SIZE, parseWalName } from "../postgres/lsn.ts";
import { withSystemIdentifier } from "../restore/control-file.ts";
import type { Plan } from "../restore/plan.ts";
import { describeError } from "../restore/repository-error.ts";
import {
  restoreCommandAhead,
  segmentSizeFrom,
  type TimelineStart,
  timelinesTo,
  WalQueue,
} from "../restore/wal-ahead.ts";
import { runCommand, startService } from "./command.ts";
import { list, makePrivateDirectory, readTextIfExists, removeTree } from "./files.ts";
import { commonOptions, type PgBackRest, pgBackRestEnvironment } from "./pgbackrest.ts";
import { waitForWorkers } from "./pgbackrest-job.ts";

export interface WalAhead {
  /** Takes from what lies ready, else does what this command does. */
  restoreCommand(otherwise: string): string;
  /** Recovery has this segment. */
  passed(segment: string): void;
  /** Recovery begins anew. */
  rewind(): void;
  /** Ends it, removes what is left, and says how many segments recovery took. Never rejects. */
  stop(): Promise<number>;
}

export interface WalAheadInput {
  plan: Plan;
  /** Beside the data directory, on its volume; made here, and removed at the end. */
  directory: string;
  pgbackrest: PgBackRest;
  log: Log;
}

export function startWalAhead(input: WalAheadInput): WalAhead {
  const ahead = new Ahead(input);
  return {
    restoreCommand: (otherwise) => restoreCommandAhead(ahead.ready, ahead.taken, otherwise),
    passed: (segment) => ahead.passed(segment),
    rewind: () => ahead.rewind(),
    stop: () => ahead.stop(),
  };
}

const CONTROL_LIMIT_MS = 30_000;

/** Between being told to end and being killed. */
const TERM_LIMIT_MS = 2000;
const STOP_LIMIT_MS = 10_000;

/** A repository that fails is the business of recovery, whose own archive-get says why. */
const MOST_FAILURES = 3;

/** A service has had fewer switches than this since its backup. */
const TIMELINES_AT_ONCE = 8;

class Ahead {
  /** Complete files, by their names. */
  readonly ready: string;
  /** Names that recovery took from there, one in a line. */
  readonly taken: string;
  private readonly input: WalAheadInput;
  private readonly spool: string;
  private readonly stopped = new AbortController();
  private readonly running: Promise<void>;
  private readonly segmentSize: number;
  private queue: WalQueue | undefined;
  private batch: { names: string[]; overtaken: AbortController } | undefined;
  /** The last segment that recovery was seen to have. */
  private last: string | null = null;
  private failures = 0;
  private wake = () => {};

  constructor(input: WalAheadInput) {
    const { plan, directory, pgbackrest } = input;
    this.input = input;
    this.spool = join(directory, "spool");
    this.ready = join(this.spool, "archive", pgbackrest.stanza, "in");
    this.taken = join(directory, "taken");
    this.segmentSize = segmentSizeFrom(plan.wal.first, plan.backup.start_lsn, DEFAULT_WAL_SEGMENT_SIZE);
    this.running = this.run().catch((error) => {
      if (!this.stopped.signal.aborted) {
        input.log.info("restore", `WAL is not fetched ahead any more: ${messageOf(error)}`);
      }
    });
  }

  passed(segment: string): void {
    if (segment === this.last) return;
    this.last = segment;
    this.queue?.passed(segment);
    if (this.batch?.names.every((name) => !this.queue?.isNeeded(name))) this.batch.overtaken.abort();
    this.wake();
  }

  rewind(): void {
    this.last = null;
    this.queue?.rewind();
    this.batch?.overtaken.abort();
    this.wake();
  }

  async stop(): Promise<number> {
    this.stopped.abort(new Error("stopped"));
    this.wake();
    // Not even SIGKILL ends a process that waits for a file system that hangs; nothing here depends on its end.
    await Promise.race([this.running, sleep(STOP_LIMIT_MS, undefined, { ref: false })]);
    const taken = await this.readTaken().catch(() => []);
    await removeTree(this.input.directory).catch((error) =>
      this.input.log.warn("recovery", `${this.input.directory} could not be removed: ${messageOf(error)}`),
    );
    return taken.filter((name) => parseWalName(name) !== null).length;
  }

  private async readTaken(): Promise<string[]> {
    return ((await readTextIfExists(this.taken)) ?? "").split("\n");
  }

  private async run(): Promise<void> {
    const { plan, directory } = this.input;
    await makePrivateDirectory(directory);
    await makePrivateDirectory(join(directory, "lock"));
    await mkdir(this.ready, { recursive: true, mode: 0o700 });
    await this.makeControlFile();
    this.queue = new WalQueue({
      first: plan.wal.first,
      last: plan.wal.last,
      timelines: await this.findTimelines(),
      segmentSize: this.segmentSize,
      bytes: plan.walAheadBytes,
    });
    if (this.last !== null) this.queue.passed(this.last);
    while (!this.stopped.signal.aborted) {
      await this.removeVain(this.queue);
      const names = this.queue.next();
      if (names.length > 0) await this.fetchSegments(this.queue, names);
      else await this.untilWoken();
    }
  }

  /** archive-get reads from the data directory of which system and version the WAL must be; the restored one comes last. */
  private async makeControlFile(): Promise<void> {
    const { plan } = this.input;
    const datadir = this.datadir();
    for (const name of ["global", "pg_wal/archive_status"]) await mkdir(join(datadir, name), { recursive: true });
    await chmod(datadir, 0o700);
    await writeFile(join(datadir, "PG_VERSION"), `${plan.pgVersion}\n`);
    const file = join(datadir, "global/pg_control");
    await writeFile(file, "");
    // From an empty file it makes a new one, of its own version.
    const args = ["--force", "--wal-segsize=1", "-D", datadir];
    const made = await runCommand(join(plan.binDir, "pg_resetwal"), args, {
      signal: this.stopped.signal,
      timeoutMs: CONTROL_LIMIT_MS,
    });
    if (made.exitCode !== 0) throw new Error(`pg_resetwal failed: ${made.stderr.trim()}`);
    await writeFile(file, withSystemIdentifier(await readFile(file), plan.systemIdentifier, endianness() === "LE"));
    await removeTree(join(datadir, "pg_wal"));
  }

  private async findTimelines(): Promise<TimelineStart[]> {
    const { plan } = this.input;
    const own = parseWalName(plan.wal.first)?.timeline ?? 1;
    const target = await this.targetTimeline(own);
    const history = target === own ? undefined : await readTextIfExists(join(this.ready, historyName(target)));
    return history === undefined ? [{ timeline: own, segment: 0n }] : timelinesTo(target, history, this.segmentSize);
  }

  private async targetTimeline(own: number): Promise<number> {
    const { target } = this.input.plan;
    if (target.timeline === "current" || target.type === "immediate") return own;
    const wanted = target.timeline === null || target.timeline === "latest" ? null : Number(target.timeline);
    if (wanted !== null) {
      if (wanted !== own) await this.fetch([historyName(wanted)]);
      return wanted;
    }
    // As PostgreSQL looks for the newest: one after the other until there is none.
    for (let newest = own; ; ) {
      const names = Array.from({ length: TIMELINES_AT_ONCE }, (_, index) => historyName(newest + 1 + index));
      await this.fetch(names);
      const present = new Set(await list(this.ready));
      const missing = names.findIndex((name) => !present.has(name));
      if (missing >= 0) return newest + missing;
      newest += names.length;
    }
  }

  private async fetchSegments(queue: WalQueue, names: string[]): Promise<void> {
    const overtaken = new AbortController();
    this.batch = { names, overtaken };
    const failure = await this.fetch(names, overtaken.signal);
    this.batch = undefined;
    if (overtaken.signal.aborted || this.stopped.signal.aborted) return;
    if (failure !== null) {
      if (++this.failures >= MOST_FAILURES) throw new Error(failure);
      queue.again(names);
      return;
    }
    // A status without the file stands for one that is not in the archive; those behind it were not looked for. Beside a
    // file it only keeps warnings, such as one of a repository that failed while another had it.
    const found = new Set(await list(this.ready));
    const taken = new Set(await this.readTaken());
    const isMissing = (name: string) => found.has(`${name}.ok`) && !found.has(name) && !taken.has(name);
    if (names.some(isMissing)) queue.end();
  }

  private async removeVain(queue: WalQueue): Promise<void> {
    for (const name of await list(this.ready)) {
      const isSegment = parseWalName(name) !== null;
      if (isSegment && !queue.holds(name)) await rm(join(this.ready, name), { force: true });
    }
  }

  private async untilWoken(): Promise<void> {
    if (this.stopped.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.wake = resolve;
    });
  }

  /** Null, or why it failed. */
  private async fetch(names: readonly string[], overtaken?: AbortSignal): Promise<string | null> {
    const { pgbackrest, plan, directory } = this.input;
    const stop = AbortSignal.any([this.stopped.signal, ...(overtaken === undefined ? [] : [overtaken])]);
    if (stop.aborted) return "stopped";
    const args = [
      ...commonOptions(pgbackrest),
      `--stanza=${pgbackrest.stanza}`,
      `--pg1-path=${this.datadir()}`,
      "--archive-async",
      `--process-max=${plan.processMax}`,
      // A processor's cache holds that: half the time of 1 MB, the default.
      "--buffer-size=64KiB",
      "--log-level-console=off",
      "--log-level-stderr=warn",
      "archive-get:async",
      ...names,
    ];
    const lines: string[] = [];
    // With what the copy of the base backup leaves of the processors, until recovery begins and needs only one.
    const service = startService("nice", ["-n", this.last === null ? "10" : "0", "pgbackrest", ...args], {
      env: {
        ...pgBackRestEnvironment(pgbackrest.workDir),
        PGBACKREST_LOCK_PATH: join(directory, "lock"),
        PGBACKREST_SPOOL_PATH: this.spool,
      },
      onLine: (line) => {
        if (lines.length < 100) lines.push(line);
      },
    });
    let last: NodeJS.Timeout | undefined;
    const end = () => {
      service.kill("SIGTERM");
      last = setTimeout(() => service.kill("SIGKILL"), TERM_LIMIT_MS);
    };
    stop.addEventListener("abort", end);
    const { exitCode, signal } = await service.ended;
    stop.removeEventListener("abort", end);
    clearTimeout(last);
    if (exitCode === 0) return null;
    // Nobody needs what they are at.
    await waitForWorkers(service.pid, 0);
    const reason = lines.length > 0 ? describeError(lines.join("\n")) : (signal ?? `code ${exitCode}`);
    return `pgbackrest archive-get ended: ${reason}`;
  }

  private datadir = () => join(this.input.directory, "control");
}

const historyName = (timeline: number) => `${timeline.toString(16).toUpperCase().padStart(8, "0")}.history`;
