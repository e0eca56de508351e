/**
 * Sessions that are used again. A new one costs the server a process, and everything that the process reads of its catalogs
 * before it can plan its first query: together most of what a short question takes.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Conninfo } from "../postgres/conninfo.ts";
import {
  type ConnectOptions,
  type Database,
  type OpenDatabase,
  openDatabase,
  settingsQuery,
  sqlState,
  whileOpen,
} from "./database.ts";

export interface KeptSessions {
  /**
   * As `withDatabase`, in a session that may have been used before: what it sets is set back, and it must leave no transaction
   * open. After an error the session is closed, so that nobody inherits what was wrong with it. Its name and the limit on the
   * server's silence stay those of its first use.
   */
  use<T>(options: ConnectOptions & { database: string }, work: (database: Database) => Promise<T>): Promise<T>;
  /** Closes those that nobody uses; later ones are not kept. */
  close(): Promise<void>;
}

/** Those that came last. */
const RECENT = 8;
/** Of a server that has no connection left. */
const FULL_LIMIT_MS = 2000;
const FULL_PAUSE_MS = 50;

/** `most`: so many stay open unused; there may be more of them in use. */
export function keepSessions(conninfo: Conninfo, most: number): KeptSessions {
  /** The one that came last is the last. */
  const idle: { database: string; session: OpenDatabase }[] = [];
  let room = most;

  function take(database: string): OpenDatabase | undefined {
    const at = idle.findLastIndex((kept) => kept.database === database);
    return at < 0 ? undefined : idle.splice(at, 1)[0]?.session;
  }

  /**
   * Questions go through the databases in the same order again and again, so the first ones stay; the last ones because a
   * database is often asked several things in a row.
   */
  async function putBack(database: string, session: OpenDatabase): Promise<void> {
    idle.push({ database, session });
    if (idle.length > room) await idle.splice(Math.max(0, room - RECENT), 1)[0]?.session.close();
  }

  const closeIdle = () => Promise.all(idle.splice(0).map(({ session }) => session.close()));

  async function openNew(options: ConnectOptions): Promise<OpenDatabase> {
    for (const startedAt = performance.now(); ; ) {
      try {
        return await openDatabase(conninfo, options);
      } catch (error) {
        // Too many connections: ours that nobody uses are some of them, and those that ask something short are gone soon.
        if (sqlState(error) !== "53300" || performance.now() - startedAt > FULL_LIMIT_MS) throw error;
        await (idle.length > 0 ? closeIdle() : sleep(FULL_PAUSE_MS));
      }
    }
  }

  async function open(options: ConnectOptions & { database: string }): Promise<OpenDatabase> {
    for (let session = take(options.database); session !== undefined; session = take(options.database)) {
      try {
        await whileOpen(session, options.signal, async (database) => {
          await database.query("DISCARD ALL");
          await database.query(...settingsQuery(options));
        });
        return session;
      } catch {
        // The server has ended it meanwhile.
        await session.close();
        options.signal?.throwIfAborted();
      }
    }
    return openNew(options);
  }

  return {
    async use(options, work) {
      const session = await open(options);
      try {
        const result = await whileOpen(session, options.signal, work);
        await (options.signal?.aborted === true ? session.close() : putBack(options.database, session));
        return result;
      } catch (error) {
        await session.close();
        throw error;
      }
    },
    async close() {
      room = Number.NEGATIVE_INFINITY;
      await closeIdle();
    },
  };
}
