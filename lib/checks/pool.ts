/**
 * Work on the data: the units of all checks share a few sessions, the biggest first; at level standard a time budget, the
 * most urgent first. A unit that fails leaves its session usable, and nothing that a session does is kept.
 */

import { setImmediate as nextTurn } from "node:timers/promises";
import { type Database, sqlState } from "../io/database.ts";
import { isAway } from "./failure.ts";
import type { Relation } from "./relations.ts";
import { openSession, type Session } from "./session.ts";

/** Plain data, because there may be very many: what is done with it is said once for all of them. */
export interface Unit {
  database: string;
  /** What it looks at, or at a part of it; a relation is proven when all its units are done. */
  relations: readonly Relation[];
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

/** Units of one call in one database. */
interface Lot {
  /** Those that wait, the first in order last. */
  units: Unit[];
  /** Of arrival: what is equal otherwise keeps its order. */
  number: number;
  use(session: Session, unit: Unit): Promise<unknown>;
  answer(unit: Unit, outcome: Outcome<unknown>): void;
}

interface Job {
  lot: Lot;
  unit: Unit;
}

export const HELD = "locked by a prepared transaction left in doubt";

/** A session is kept this long although units of another database would come first. */
const STAY_MS = 1000;
/** After a crash the server is back by then, or it will not come back. */
const AWAY_LIMIT_MS = 10_000;
const AWAY_PAUSE_MS = 250;

export class Pool {
  /** By database. */
  private readonly waiting = new Map<string, Set<Lot>>();
  private lots = 0;
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

  constructor(options: PoolOptions) {
    this.options = options;
    this.mostWorkers = Math.max(1, options.jobs);
  }

  /** `each` gets the outcome of every unit, as it comes. Rejects only with the reason of the signal, or what `each` throws. */
  async work<U extends Unit, T>(
    units: readonly U[],
    use: (session: Session, unit: U) => Promise<T>,
    each: (unit: U, outcome: Outcome<T>) => void,
  ): Promise<void> {
    const { signal } = this.options;
    signal.throwIfAborted();
    const begun = units.filter((unit) => unit.held !== true);
    for (const unit of units.filter(({ held }) => held === true)) {
      for (const relation of unit.relations) relation.proven = false;
      each(unit, { kind: "left-out", why: HELD });
    }
    if (begun.length === 0) return;
    this.startedAt ??= performance.now();
    this.totalBytes += begun.reduce((sum, { bytes }) => sum + bytes, 0);
    await new Promise<void>((resolve, reject) => {
      let left = begun.length;
      const answer = (unit: Unit, outcome: Outcome<unknown>) => {
        try {
          if (!signal.aborted) this.note(unit, outcome);
          each(unit as U, outcome as Outcome<T>);
        } catch (error) {
          reject(error);
        }
        if (--left === 0) resolve();
      };
      const lots = new Map<string, Lot>();
      // Stable, so that what is equal stays in its order.
      for (const unit of begun.sort((a, b) => this.order(a, b)).reverse()) {
        const lot = lots.get(unit.database) ?? { units: [], number: this.lots++, use: use as Lot["use"], answer };
        lots.set(unit.database, lot);
        lot.units.push(unit);
      }
      for (const [database, lot] of lots) this.put(database, lot);
      // Only when all that is asked for at once is known, so that the order is right.
      queueMicrotask(() => this.startWorkers());
    });
    signal.throwIfAborted();
  }

  private note({ relations, bytes }: Unit, outcome: Outcome<unknown>): void {
    if (outcome.kind === "failed") this.options.onFailure?.(outcome.error);
    for (const relation of relations) relation.proven = relation.proven !== false && outcome.kind === "done";
    this.doneBytes += bytes;
    const { doneBytes, totalBytes } = this;
    this.options.onProgress?.({ doneBytes, totalBytes, object: relations[0]?.name ?? "" });
  }

  private put(database: string, lot: Lot): void {
    const lots = this.waiting.get(database) ?? new Set();
    this.waiting.set(database, lots.add(lot));
  }

  private putBack({ lot, unit }: Job): void {
    lot.units.push(unit);
    this.put(unit.database, lot);
  }

  private startWorkers(): void {
    let waiting = 0;
    for (const lots of this.waiting.values()) for (const { units } of lots) waiting += units.length;
    while (this.workers < this.mostWorkers && this.starting < waiting) {
      this.workers++;
      this.starting++;
      void this.serve().finally(() => {
        this.workers--;
        if (this.waiting.size > 0) this.startWorkers();
      });
    }
  }

  /** One session after another, each in the database of the next unit, until nothing waits. */
  private async serve(): Promise<void> {
    // A turn of the event loop, so that every check has put in what it has.
    await nextTurn();
    this.starting--;
    let awaySince: number | null = null;
    for (let job = this.next(); job !== null; job = this.next()) {
      const { database } = job.unit;
      let unanswered: Job | null = job;
      let opened = false;
      try {
        await this.options.open(database, async (connection) => {
          const session = await openSession(connection);
          const since = performance.now();
          opened = true;
          awaySince = null;
          this.openSessions++;
          try {
            for (let doing: Job | null = job; doing !== null; doing = this.next({ database, since })) {
              unanswered = null;
              await this.do(session, doing);
            }
            await connection.query("ROLLBACK");
          } finally {
            this.openSessions--;
          }
        });
      } catch (error) {
        if (this.options.signal.aborted) {
          if (unanswered !== null) fail(unanswered, error);
          this.failAll(error);
        } else if (opened) {
          // The unit that lost the session is answered.
        } else if (isAway(error)) {
          awaySince ??= performance.now();
          this.putBack(job);
          if (performance.now() - awaySince < AWAY_LIMIT_MS) await this.pause();
          else this.failAll(error);
        } else if (sqlState(error) === "53300" && this.openSessions > 0) {
          this.mostWorkers = Math.max(1, this.workers - 1);
          this.putBack(job);
          return;
        } else {
          fail(job, error);
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

  /** Throws only when the session is lost; the unit is answered then, too. */
  private async do(session: Session, { lot, unit }: Job): Promise<void> {
    let value: unknown;
    try {
      value = await lot.use(session, unit);
    } catch (error) {
      fail({ lot, unit }, error);
      if (isAway(error)) throw error;
      return;
    }
    lot.answer(unit, { kind: "done", value });
  }

  private failAll(error: unknown, database?: string): void {
    for (const [name, lots] of this.waiting) {
      if (database !== undefined && name !== database) continue;
      this.waiting.delete(name);
      for (const lot of lots) for (const unit of lot.units.splice(0)) fail({ lot, unit }, error);
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
      if (job !== null && (best === null || this.before(job, best))) best = job;
    }
    return session !== undefined && best !== own ? null : this.take(best);
  }

  private first(database: string): Job | null {
    let best: Job | null = null;
    for (const lot of this.waiting.get(database) ?? []) {
      const job = { lot, unit: lot.units.at(-1) as Unit };
      if (best === null || this.before(job, best)) best = job;
    }
    return best;
  }

  private take(job: Job | null): Job | null {
    if (job === null) return null;
    const { database } = job.unit;
    job.lot.units.pop();
    if (job.lot.units.length === 0) this.remove(database, job.lot);
    return job;
  }

  private remove(database: string, lot: Lot): void {
    const lots = this.waiting.get(database);
    lots?.delete(lot);
    if (lots?.size === 0) this.waiting.delete(database);
  }

  private leaveOut(): void {
    for (const [name, lots] of this.waiting) {
      for (const lot of lots) {
        const late = lot.units.filter(isLate);
        lot.units = lot.units.filter((unit) => !isLate(unit));
        if (lot.units.length === 0) this.remove(name, lot);
        for (const unit of late) lot.answer(unit, { kind: "left-out", why: "the budget was spent" });
      }
    }
  }

  private before(a: Job, b: Job): boolean {
    return (this.order(a.unit, b.unit) || a.lot.number - b.lot.number) < 0;
  }

  /** Negative when `a` goes first. */
  private order(a: Unit, b: Unit): number {
    return (
      Number(isLate(a)) - Number(isLate(b)) ||
      (this.options.budgetMs === null ? 0 : a.rank - b.rank) ||
      b.bytes - a.bytes
    );
  }
}

const isLate = ({ always }: Unit) => always !== true;

const fail = ({ lot, unit }: Job, error: unknown) => lot.answer(unit, { kind: "failed", error });
