/**
 * Work on the data: the units of all checks share a few sessions, the biggest first; at level standard a time budget, the
 * most urgent first. A unit that fails leaves its session usable, and nothing that a session does is kept.
 */

import { messageOf } from "../errors.ts";
import { type Database, sqlState } from "../io/database.ts";
import { isAway } from "./failure.ts";
import { type Tool, toolSql } from "./tools.ts";

export interface Unit {
  database: string;
  /** What it belongs to, as in `Relation.name`; a relation is proven when all its units are done. */
  object: string;
  /** Small ones that are looked at in the same unit. */
  also?: readonly string[];
  /** What will be read: decides the order and counts as covered. */
  bytes: number;
  /** At level standard: lower goes first, and waits for the budget after that. See `Relation.rank`. */
  rank: number;
  /** See `Relation.held`: it is left out without waiting. */
  held?: boolean;
  /** Done however little time is left: what the source was asked is asked here too. */
  always?: boolean;
}

export type Outcome<T> =
  | { kind: "done"; value: T }
  | { kind: "failed"; error: unknown }
  /** Not begun: the budget was spent. */
  | { kind: "left-out"; why: string };

export interface Session {
  /** Rows as text. Whatever it does is undone, and an error leaves the session usable. No parameters. */
  query<T extends object = Record<string, string | null>>(sql: string): Promise<T[]>;
  /** As `Database.bytes`. */
  bytes(copy: string, onValue: (value: Buffer | null) => void): Promise<void>;
  /**
   * Makes the functions of a contrib library callable as `pg_temp.<name>`, without an extension and without a trace. Throws
   * ToolMissing when the library is not installed here or the instance may not be written to.
   */
  need(tool: Tool): Promise<void>;
}

/** The image lacks a library, or the instance is in recovery: it says nothing about the data. */
export class ToolMissing extends Error {
  constructor(tool: Tool, cause: unknown) {
    super(`${tool} is not available here: ${messageOf(cause)}`, { cause });
  }
}

export interface PoolOptions {
  /** Sessions at the same time. */
  jobs: number;
  /** Milliseconds from the first unit; null is none: everything is done. */
  budgetMs: number | null;
  signal: AbortSignal;
  open<T>(database: string, use: (database: Database) => Promise<T>): Promise<T>;
  onProgress?: ((progress: { doneBytes: number; totalBytes: number; object: string }) => void) | undefined;
  /** Told of every unit that failed, for whoever judges the run of the server. */
  onFailure?: ((error: unknown) => void) | undefined;
}

interface Job {
  unit: Unit;
  /** Of arrival: what is equal otherwise keeps its order. */
  number: number;
  /** Throws only when the session is lost; the unit is answered then, too. */
  run(session: Session): Promise<void>;
  leaveOut(why: string): void;
  fail(error: unknown): void;
}

export const HELD = "locked by a prepared transaction left in doubt";

/** A session is kept this long although units of another database would come first. */
const STAY_MS = 1000;
/** After a crash the server is back by then, or it will not come back. */
const AWAY_LIMIT_MS = 10_000;
const AWAY_PAUSE_MS = 250;

export class Pool {
  /** By database, the first in order last; sorted only when somebody takes from it. */
  private readonly waiting = new Map<string, { jobs: Job[]; sorted: boolean }>();
  private arrived = 0;
  private workers = 0;
  /** Workers that have not taken their first job yet. */
  private starting = 0;
  private openSessions = 0;
  /** Goes down when the server has no more connections. */
  private mostWorkers: number;
  private startedAt: number | undefined;
  private doneBytes = 0;
  private totalBytes = 0;
  private readonly options: PoolOptions;
  /** By database and object: whether every unit so far was done. */
  readonly objects = new Map<string, boolean>();

  constructor(options: PoolOptions) {
    this.options = options;
    this.mostWorkers = Math.max(1, options.jobs);
  }

  /** Never rejects, except with the reason of the signal. */
  async run<T>(unit: Unit, use: (session: Session) => Promise<T>): Promise<Outcome<T>> {
    this.options.signal.throwIfAborted();
    if (unit.held === true) {
      this.objects.set(objectKey(unit), false);
      return { kind: "left-out", why: HELD };
    }
    this.startedAt ??= performance.now();
    const outcome = await new Promise<Outcome<T>>((resolve) => {
      this.totalBytes += unit.bytes;
      this.add({
        unit,
        number: this.arrived++,
        run: async (session) => {
          try {
            resolve({ kind: "done", value: await use(session) });
          } catch (error) {
            resolve({ kind: "failed", error });
            if (isAway(error)) throw error;
          }
        },
        leaveOut: (why) => resolve({ kind: "left-out", why }),
        fail: (error) => resolve({ kind: "failed", error }),
      });
      // Only when all that is asked for at once is known, so that the order is right.
      queueMicrotask(() => this.startWorkers());
    });
    this.options.signal.throwIfAborted();
    if (outcome.kind === "failed") this.options.onFailure?.(outcome.error);
    for (const object of [unit.object, ...(unit.also ?? [])]) {
      const key = objectKey({ database: unit.database, object });
      this.objects.set(key, (this.objects.get(key) ?? true) && outcome.kind === "done");
    }
    this.doneBytes += unit.bytes;
    this.options.onProgress?.({ doneBytes: this.doneBytes, totalBytes: this.totalBytes, object: unit.object });
    return outcome;
  }

  private add(job: Job): void {
    const queue = this.waiting.get(job.unit.database);
    if (queue === undefined) this.waiting.set(job.unit.database, { jobs: [job], sorted: true });
    else {
      queue.jobs.push(job);
      queue.sorted = false;
    }
  }

  private startWorkers(): void {
    const waiting = [...this.waiting.values()].reduce((count, queue) => count + queue.jobs.length, 0);
    while (this.workers < this.mostWorkers && this.starting < waiting) {
      this.workers++;
      this.starting++;
      void this.work().finally(() => {
        this.workers--;
        if (this.waiting.size > 0) this.startWorkers();
      });
    }
  }

  /** One session after another, each in the database of the next unit, until nothing waits. */
  private async work(): Promise<void> {
    // A turn of the event loop, so that every check has put in what it has.
    await new Promise((resolve) => setImmediate(resolve));
    this.starting--;
    let awaySince: number | null = null;
    for (let job = this.next(); job !== null; job = this.next()) {
      const { database } = job.unit;
      let current: Job | null = job;
      let opened = false;
      try {
        await this.options.open(database, async (connection) => {
          const session = await openSession(connection);
          const since = performance.now();
          opened = true;
          awaySince = null;
          this.openSessions++;
          try {
            for (; current !== null; current = this.next({ database, since })) await current.run(session);
          } finally {
            this.openSessions--;
          }
        });
      } catch (error) {
        if (this.options.signal.aborted) {
          (current ?? job).fail(error);
          this.failAll(error);
        } else if (opened) current?.fail(error);
        else if (isAway(error)) {
          awaySince ??= performance.now();
          this.add(job);
          if (performance.now() - awaySince < AWAY_LIMIT_MS) await this.pause();
          else this.failAll(error);
        } else if (sqlState(error) === "53300" && this.openSessions > 0) {
          this.mostWorkers = Math.max(1, this.workers - 1);
          this.add(job);
          return;
        } else {
          job.fail(error);
          this.failAll(error, database);
        }
      }
    }
  }

  private async pause(): Promise<void> {
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.options.signal.removeEventListener("abort", end);
        resolve();
      };
      const timer = setTimeout(end, AWAY_PAUSE_MS);
      this.options.signal.addEventListener("abort", end);
    });
  }

  private failAll(error: unknown, database?: string): void {
    for (const [name, queue] of this.waiting) {
      if (database !== undefined && name !== database) continue;
      this.waiting.delete(name);
      for (const job of queue.jobs) job.fail(error);
    }
  }

  /** The first in order; for an open session only if it is of its database. Whatever the budget leaves out is answered. */
  private next(session?: { database: string; since: number }): Job | null {
    const { signal, budgetMs } = this.options;
    if (signal.aborted) this.failAll(signal.reason);
    else if (budgetMs !== null && performance.now() - (this.startedAt ?? 0) > budgetMs) this.leaveOut();
    const own = session === undefined ? null : this.first(session.database);
    if (session !== undefined && (own === null || performance.now() - session.since < STAY_MS)) return this.take(own);
    let best = own;
    for (const name of this.waiting.keys()) {
      const job = this.first(name);
      if (job !== null && (best === null || this.order(job, best) < 0)) best = job;
    }
    return session !== undefined && best !== own ? null : this.take(best);
  }

  private first(database: string): Job | null {
    const queue = this.waiting.get(database);
    if (queue === undefined) return null;
    if (!queue.sorted) {
      queue.jobs.sort((a, b) => this.order(b, a));
      queue.sorted = true;
    }
    return queue.jobs.at(-1) ?? null;
  }

  private take(job: Job | null): Job | null {
    if (job === null) return null;
    const { database } = job.unit;
    const jobs = this.waiting.get(database)?.jobs;
    jobs?.pop();
    if (jobs?.length === 0) this.waiting.delete(database);
    return job;
  }

  private leaveOut(): void {
    for (const [name, queue] of this.waiting) {
      const staying = queue.jobs.filter((job) => job.unit.always === true);
      for (const job of queue.jobs) if (job.unit.always !== true) job.leaveOut("the budget was spent");
      if (staying.length === 0) this.waiting.delete(name);
      else queue.jobs = staying;
    }
  }

  /** Negative when `a` goes first. */
  private order({ unit: a, number: arrivalA }: Job, { unit: b, number: arrivalB }: Job): number {
    const late = (unit: Unit) => (unit.always === true ? 0 : 1);
    return (
      late(a) - late(b) ||
      (this.options.budgetMs === null ? 0 : a.rank - b.rank) ||
      b.bytes - a.bytes ||
      arrivalA - arrivalB
    );
  }
}

export const objectKey = ({ database, object }: { database: string; object: string }) =>
  JSON.stringify([database, object]);

/**
 * Messages are read by programs; damage must be an error whatever the restored configuration says; and no event trigger of
 * the user's may see the functions that are made here. Only a superuser may set these.
 */
const SETTINGS = `
  SELECT set_config(name, value, true)
    FROM pg_settings
    JOIN (VALUES ('lc_messages', 'C'), ('zero_damaged_pages', 'off'), ('ignore_checksum_failure', 'off'),
                 ('session_replication_role', 'replica'), ('event_triggers', 'off')) AS wanted (name, value) USING (name)
   WHERE current_setting('is_superuser') = 'on'`;

/** No file, no such function in it, no right to it. Damage of the catalogs or a lock is something else. */
function meansMissing(error: unknown): boolean {
  const code = sqlState(error) ?? "";
  if (code === "58P01") return /could not (access file "\$libdir|load library)/.test(messageOf(error));
  return /^(42|25|0A)/.test(code);
}

async function openSession(connection: Database): Promise<Session> {
  let writable = true;
  let beginError: unknown;
  await connection.query("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE").catch(async (error) => {
    if (sqlState(error) === undefined) throw error;
    writable = false;
    beginError = error;
    await connection.query("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY");
  });
  await connection.query(SETTINGS);
  await connection.query("SAVEPOINT unit");
  const tools = new Map<Tool, unknown>();
  // Every statement starts from the savepoint: what the one before did, broke or locked is undone.
  const query: Session["query"] = (sql) => connection.query(`ROLLBACK TO unit; ${sql}`);
  const make = async (tool: Tool) => {
    if (!writable) return beginError;
    try {
      await query(`${toolSql(tool)}; RELEASE unit; SAVEPOINT unit`);
      return null;
    } catch (error) {
      if (isAway(error) || !meansMissing(error)) throw error;
      return error;
    }
  };
  return {
    query,
    bytes: (copy, onValue) => connection.bytes(`ROLLBACK TO unit; ${copy}`, onValue),
    async need(tool) {
      if (!tools.has(tool)) tools.set(tool, await make(tool));
      const problem = tools.get(tool);
      if (problem !== null) throw new ToolMissing(tool, problem);
    },
  };
}
