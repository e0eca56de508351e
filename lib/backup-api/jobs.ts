/** The jobs: at most one of a group for each stanza, each followed to its end, each change remembered. */

import { EventEmitter } from "node:events";
import { messageOf, RestoreError } from "../errors.ts";
import type { Service } from "../io/command.ts";
import type { JournalFile } from "../io/journal-file.ts";
import { waitForWorkers } from "../io/pgbackrest-job.ts";
import { isAlive, processStatus, terminate, waitUntilEnded } from "../io/processes.ts";
import type { Log } from "../log.ts";
import { groupOf, hasEnded, type Job, type JobCommand, type JobProgress, newJob } from "./job.ts";
import { formatEntry, newestJobs } from "./journal.ts";
import { type Ending, judge, judgeRestoreTest, levelOf, readProgress, readSetLabel, textOf } from "./output.ts";
import { afterLoss } from "./recover.ts";

export type JobRequest = Pick<Job, "command" | "type" | "stanza" | "by">;

export interface JobsOptions {
  /** What the journal held. */
  remembered: readonly Job[];
  journal: JournalFile;
  /** Starts the job's process; throws when it cannot. */
  launch(job: Job, onLine: (line: string, from: "stdout" | "stderr") => void): Service;
  /** Limit for a command of pgBackRest, in milliseconds. restore-test has limits of its own. */
  timeoutMs: number;
  log: Log;
}

export interface Jobs {
  /** Either starts it or says which one is in the way. Throws TERMINATED while everything is being ended. */
  start(request: JobRequest): { job: Job; isNew: boolean };
  /** Ends it and returns what became of it; undefined when it is not running. */
  cancel(label: string): Promise<Job> | undefined;
  find(label: string): Job | undefined;
  /** In the order of their starts. */
  list(command?: JobCommand): Job[];
  progress(label: string): JobProgress | null;
  /** Corrects what was found out later. */
  amend(label: string, change: Partial<Job>): void;
  /** Waits for its end, at most so long; returns what it is then. */
  wait(label: string, limitMs: number, signal?: AbortSignal): Promise<Job>;
  /** Called at every change and progress of the job; the returned function ends that. */
  watch(label: string, listener: () => void): () => void;
  /** Called once for each job that has ended. */
  onEnd(listener: (job: Job) => void): void;
  /** Takes no more jobs, lets those that run go on for so long, then ends them. */
  stop(graceMs: number): Promise<void>;
  journalFailures(): number;
}

/** More of them are of interest to nobody, and pgBackRest's info has the backups that exist. */
export const KEPT = 1000;
/** Lines of the end of a job's output that are kept. */
const TAIL = 100;
/** Lines of the beginning of what verify and restore-test print: what they found stands there. */
const HEAD = 80;
const WARNINGS = 20;
/** pgBackRest ends within milliseconds of SIGTERM, a restore test cleans up for some seconds. */
export const CANCEL_LIMIT_MS = 10_000;

/** More would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Running {
  service: Service | null;
  /** Why it is being ended, null while it is not. */
  cancelled: string | null;
}

/** What still runs of an earlier backup-api is followed from here on. */
export async function openJobs(options: JobsOptions): Promise<Jobs> {
  const { journal, log } = options;
  const jobs = new Map(options.remembered.map((job) => [job.label, job]));
  const progress = new Map<string, JobProgress>();
  const running = new Map<string, Running>();
  const events = new EventEmitter().setMaxListeners(0);
  let isStopping = false;
  let written = 0;
  let journalFailures = 0;

  async function remember(job: Job): Promise<void> {
    try {
      await journal.append(formatEntry(job));
      if (++written % (5 * KEPT) === 0) await journal.rewrite(newestJobs(list(), KEPT).map(formatEntry).join(""));
    } catch (error) {
      // The backup matters more than what is remembered of it.
      journalFailures++;
      log.error("journal", messageOf(error), { label: job.label });
    }
  }

  function update(label: string, change: Partial<Job>): Job {
    const job = { ...(jobs.get(label) as Job), ...change };
    jobs.set(label, job);
    void remember(job);
    events.emit(label);
    return job;
  }

  const list = (command?: JobCommand) =>
    [...jobs.values()]
      .filter((job) => command === undefined || job.command === command)
      .sort((a, b) => (a.label < b.label ? -1 : 1));

  function forgetOldest(): void {
    const kept = new Set(newestJobs(list(), KEPT).map(({ label }) => label));
    for (const label of jobs.keys()) if (!kept.has(label)) jobs.delete(label);
  }

  function finish(label: string, change: Partial<Job>): void {
    running.delete(label);
    progress.delete(label);
    const job = update(label, { finishedAt: now(), ...change });
    const fields = { label, stanza: job.stanza, set: job.set, code: job.exitCode };
    if (job.status === "ERROR") log.error(job.command, job.error ?? "failed", { ...fields, hint: job.hint });
    else log.info(job.command, job.status.toLowerCase(), fields);
    forgetOldest();
    events.emit("end", job);
  }

  async function follow(job: Job, me: Running): Promise<void> {
    const { label } = job;
    await remember(job);
    const tail: string[] = [];
    const output: string[] = [];
    const onLine = (line: string, from: "stdout" | "stderr") => {
      read(label, line, from, tail, output);
    };
    if (me.cancelled !== null) {
      finish(label, { status: "CANCELLED", error: me.cancelled });
      return;
    }
    let service: Service;
    try {
      service = options.launch(job, onLine);
    } catch (error) {
      const hint = error instanceof RestoreError ? (error.hint ?? null) : null;
      finish(label, { status: "ERROR", error: messageOf(error), hint });
      return;
    }
    me.service = service;
    const started = (await processStatus(service.pid))?.started ?? null;
    update(label, { status: "RUNNING", pid: service.pid, pidStarted: started });
    // Cancelled before there was a process.
    if (me.cancelled !== null) service.kill("SIGTERM");
    let timedOutAfterMs: number | null = null;
    const isLimited = job.command !== "restore-test";
    const timer = setTimeout(() => {
      if (!isLimited) return;
      timedOutAfterMs = options.timeoutMs;
      void endService(service);
    }, options.timeoutMs);
    const { exitCode, signal } = await service.ended;
    clearTimeout(timer);
    await waitForWorkers(service.pid);
    const ending: Ending = { exitCode, signal, tail, cancelled: me.cancelled, timedOutAfterMs };
    const last = update(label, { exitCode, output });
    finish(label, job.command === "restore-test" ? judgeRestoreTest(ending) : judge(last, ending));
  }

  function read(label: string, line: string, from: string, tail: string[], output: string[]): void {
    const job = jobs.get(label) as Job;
    if (job.command === "restore-test") {
      if (from === "stdout") keep(output, line);
      else push(tail, line, TAIL);
      return;
    }
    const reached = readProgress(line, progress.get(label) ?? { fraction: 0, bytes: 0 });
    if (reached !== null) {
      progress.set(label, reached);
      events.emit(label);
      return;
    }
    const set = readSetLabel(line);
    if (set !== undefined) update(label, { set });
    // pgBackRest's log repeats the result, indented.
    if (job.command === "verify" && !/^(P\d+ | {8})/.test(line)) keep(output, line);
    const level = levelOf(line);
    if (level === "warn") update(label, { warnings: [...job.warnings, textOf(line)].slice(-WARNINGS) });
    if (level === "detail" && /DETAIL:/.test(line)) return;
    push(tail, line, TAIL);
    if (level !== "detail") log[level](job.command, textOf(line), { label, stanza: job.stanza });
  }

  /** A process of an earlier backup-api that still runs. */
  async function adopt(job: Job, me: Running): Promise<void> {
    const [pid, started] = [job.pid as number, job.pidStarted as string];
    log.warn(job.command, "goes on although the backup-api that started it has ended", { label: job.label, pid });
    const limit = performance.now() + options.timeoutMs;
    while (!(await waitUntilEnded(pid, started, 1000))) {
      if (me.cancelled !== null || performance.now() > limit) await terminate(pid, "SIGTERM", CANCEL_LIMIT_MS);
    }
    await waitForWorkers(pid);
    finish(
      job.label,
      me.cancelled === null ? afterLoss(job, null, now()) : { status: "CANCELLED", error: me.cancelled },
    );
  }

  async function adoptOrGiveUp(job: Job): Promise<void> {
    const { label, pid, pidStarted } = job;
    if (pid !== null && pidStarted !== null && (await isAlive(pid, pidStarted))) {
      const me: Running = { service: null, cancelled: null };
      running.set(label, me);
      void adopt(job, me);
    } else {
      finish(label, afterLoss(job, null, now()));
    }
  }

  function cancel(label: string, why: string): Promise<Job> | undefined {
    const me = running.get(label);
    if (me === undefined) return undefined;
    me.cancelled ??= why;
    if (me.service !== null) void endService(me.service);
    return api.wait(label, 2 * CANCEL_LIMIT_MS);
  }

  const api: Jobs = {
    start(request) {
      if (isStopping) throw new RestoreError("TERMINATED", "backup-api is being stopped");
      const group = groupOf(request.command);
      const inTheWay = list().find(
        (job) => running.has(job.label) && job.stanza === request.stanza && groupOf(job.command) === group,
      );
      if (inTheWay !== undefined) return { job: inTheWay, isNew: false };
      const job = newJob(request, new Date(), (label) => jobs.has(label));
      const me: Running = { service: null, cancelled: null };
      jobs.set(job.label, job);
      running.set(job.label, me);
      log.info(job.command, "starts", { label: job.label, stanza: job.stanza, type: job.type, by: job.by });
      follow(job, me).catch((error) => finish(job.label, { status: "ERROR", error: messageOf(error) }));
      return { job, isNew: true };
    },
    cancel: (label) => cancel(label, "cancelled on request"),
    find: (label) => jobs.get(label),
    list,
    progress: (label) => progress.get(label) ?? null,
    amend: (label, change) => void update(label, change),
    wait(label, limitMs, signal) {
      return new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          unwatch();
          signal?.removeEventListener("abort", done);
          resolve(jobs.get(label) as Job);
        };
        const unwatch = api.watch(label, () => {
          if (!running.has(label)) done();
        });
        const timer = setTimeout(done, Math.min(limitMs, LONGEST_TIMER_MS));
        signal?.addEventListener("abort", done);
        if (!running.has(label) || signal?.aborted) done();
      });
    },
    watch(label, listener) {
      events.on(label, listener);
      return () => void events.off(label, listener);
    },
    onEnd: (listener) => void events.on("end", listener),
    async stop(graceMs) {
      isStopping = true;
      const end = performance.now() + graceMs;
      const all = [...running.keys()];
      await Promise.all(all.map((label) => api.wait(label, Math.max(0, end - performance.now()))));
      await Promise.all(all.map((label) => cancel(label, "backup-api was stopped while it ran")));
    },
    journalFailures: () => journalFailures,
  };
  for (const job of list()) if (!hasEnded(job)) await adoptOrGiveUp(job);
  return api;
}

const now = () => new Date().toISOString();

async function endService(service: Service): Promise<void> {
  service.kill("SIGTERM");
  const timer = setTimeout(() => service.kill("SIGKILL"), CANCEL_LIMIT_MS);
  await service.ended;
  clearTimeout(timer);
}

function keep(lines: string[], line: string): void {
  if (lines.length < HEAD && line.trim() !== "") lines.push(line);
}

function push(lines: string[], line: string, limit: number): void {
  lines.push(line);
  if (lines.length > limit) lines.shift();
}
