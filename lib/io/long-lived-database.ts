/**
 * A connection that lives as long as its program: made again with back-off when it is lost, used by one piece of work at a
 * time, and open about being away. A session: what is bound to one (advisory locks) is gone with it, so there must be no
 * pooler that hands transactions to other sessions in between.
 */

import { setTimeout as delay } from "node:timers/promises";
import { RestoreError } from "../errors.ts";
import { explainConnectionError, isConnectionLost } from "../postgres/connection-error.ts";
import type { Conninfo } from "../postgres/conninfo.ts";
import { type ConnectOptions, type Database, type OpenDatabase, onlyRow, openDatabase } from "./database.ts";

/** Thrown while there is no connection, and when it is lost in the middle: a COMMIT may have been done then. */
export class DatabaseAway extends Error {
  override readonly name = "DatabaseAway";
}

export interface LongLivedDatabase {
  /** Why there is no connection, lower-case; null when there is one. */
  problem(): string | null;
  /** Calls back with the connection to itself, in order of the calls. Throws DatabaseAway. */
  use<T>(work: (database: Database) => Promise<T>): Promise<T>;
  /** The same in one transaction, rolled back when the work throws. */
  transaction<T>(work: (database: Database) => Promise<T>, how?: TransactionMode): Promise<T>;
  /** Resolves with the first connection, or with why the first attempt failed. */
  firstAttempt: Promise<unknown>;
  /** Work that was begun is done first. */
  close(): Promise<void>;
}

export type TransactionMode = "" | "ISOLATION LEVEL REPEATABLE READ READ ONLY";

export interface LongLivedOptions extends Omit<ConnectOptions, "signal"> {
  /** Work before anybody else's on each new connection; when it throws, the connection counts as failed. */
  prepare?(database: Database, signal: AbortSignal): Promise<void>;
  onConnected?(): void;
  /** Once each time it is lost or can't be made, with the reason; the same reason is not told twice in a row. */
  onAway?(problem: string): void;
}

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 5_000;

/** Both sides notice within some 15 s that the other's machine or the network is gone. Ignored on Unix sockets. */
const KEEPALIVES = {
  tcp_keepalives_idle: "5",
  tcp_keepalives_interval: "3",
  tcp_keepalives_count: "3",
  tcp_user_timeout: "15000",
};

export function openLongLivedDatabase(conninfo: Conninfo, options: LongLivedOptions): LongLivedDatabase {
  const closing = new AbortController();
  let current: OpenDatabase | null = null;
  let problem: string | null = "it was not connected to yet";
  let queue: Promise<unknown> = Promise.resolve();
  let tellFirst: (error: unknown) => void = () => {};
  const firstAttempt = new Promise<unknown>((resolve) => {
    tellFirst = resolve;
  });

  async function connectOnce(): Promise<OpenDatabase> {
    const database = await openDatabase(conninfo, {
      ...options,
      settings: { ...KEEPALIVES, ...options.settings },
      signal: closing.signal,
    });
    try {
      await options.prepare?.(database, closing.signal);
      // Closed meanwhile: nobody would close this one.
      closing.signal.throwIfAborted();
      return database;
    } catch (error) {
      await database.close();
      throw error;
    }
  }

  function away(reason: string): void {
    const isNew = reason !== problem;
    problem = reason;
    if (isNew && !closing.signal.aborted) options.onAway?.(reason);
  }

  async function keepConnected(): Promise<void> {
    let wait = FIRST_DELAY_MS;
    while (!closing.signal.aborted) {
      try {
        current = await connectOnce();
        problem = null;
        wait = FIRST_DELAY_MS;
        options.onConnected?.();
        tellFirst(null);
        await current.ended;
        current = null;
        if (problem === null) away("the connection was lost");
      } catch (error) {
        away(error instanceof RestoreError ? error.message : explainConnectionError(error, conninfo).message);
        tellFirst(error);
      }
      await delay(wait, undefined, { signal: closing.signal }).catch(() => {});
      wait = Math.min(wait * 2, LONGEST_DELAY_MS);
    }
  }

  async function run<T>(work: (database: Database) => Promise<T>): Promise<T> {
    const database = current;
    if (database === null) throw new DatabaseAway(`the database is away: ${problem}`);
    // Only what the connection says tells of the connection: the work may throw whatever it wants.
    const heard = async <R>(answer: Promise<R>): Promise<R> => {
      try {
        return await answer;
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        // After a silence the server may still be at it: nothing more is said on this connection.
        database.cut();
        if (current === database) current = null;
        away(explainConnectionError(error, conninfo).message);
        throw new DatabaseAway(`the database is away: ${problem}`, { cause: error });
      }
    };
    return await work({
      query: (sql, values) => heard(database.query(sql, values)),
      row: async (sql, values) => onlyRow(await heard(database.query(sql, values)), sql),
      bytes: (copy, onValue) => heard(database.bytes(copy, onValue)),
    });
  }

  const use: LongLivedDatabase["use"] = (work) => {
    const result = queue.then(() => run(work));
    queue = result.catch(() => {});
    return result;
  };

  const done = keepConnected();
  return {
    problem: () => (current === null ? problem : null),
    use,
    transaction: (work, how = "") =>
      use(async (database) => {
        await database.query(`BEGIN ${how}`);
        try {
          const result = await work(database);
          await database.query("COMMIT");
          return result;
        } catch (error) {
          if (!(error instanceof DatabaseAway)) await database.query("ROLLBACK");
          throw error;
        }
      }),
    firstAttempt,
    async close() {
      const last = queue;
      await last;
      closing.abort();
      await current?.close();
      await done;
    },
  };
}
