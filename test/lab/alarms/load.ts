/** The sessions that never stop: each does deed after deed, chosen by chance, until it is told to end. */

import { setMaxListeners } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Database, sqlState, withDatabase } from "../../../lib/io/database.ts";
import { parseConninfo } from "../../../lib/postgres/conninfo.ts";
import type { Source } from "../source.ts";
import type { Random } from "./random.ts";

/** What a deed is given. */
export interface Hand {
  sql(text: string): Promise<Record<string, string | null>[]>;
  random: Random;
  /** Waits for up to this long, so that a mark may come in between. */
  hold(longestMs: number): Promise<void>;
  /** Runs `work` alone with the object of this name, or not at all when another session has it. */
  claim(object: string, work: () => Promise<void>): Promise<void>;
  /** A name that was never used before. */
  fresh(prefix: string): string;
}

export interface Deed {
  name: string;
  /** How often, compared with the others of its session. */
  weight: number;
  do(hand: Hand): Promise<void>;
}

export interface SessionKind {
  name: string;
  database: string;
  deeds: readonly Deed[];
  settings?: Readonly<Record<string, string>>;
}

export interface Tally {
  done: number;
  failed: number;
  /** The first error of each SQLSTATE. */
  errors: Map<string, string>;
}

export interface Load {
  tally: ReadonlyMap<string, Tally>;
  /** Sessions lose their server and find it again by themselves; what they had prepared is resolved then. */
  stop(): Promise<void>;
}

const SETTINGS = { lock_timeout: "2s", statement_timeout: "15s", search_path: "stage, shop, public" };

export function startLoad(source: Source, kinds: readonly SessionKind[], random: Random): Load {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const claimed = new Set<string>();
  const tally = new Map<string, Tally>();
  let names = 0;

  async function session(kind: SessionKind, number: number): Promise<void> {
    const chance = random.fork(`${kind.name} ${number}`);
    const deeds = kind.deeds.flatMap((deed) => Array.from({ length: deed.weight }, () => deed));
    while (!stop.signal.aborted) {
      await withDatabase(
        parseConninfo(source.conninfo),
        { database: kind.database, applicationName: "load", settings: { ...SETTINGS, ...kind.settings } },
        async (database) => {
          const hand = handOf(database, chance);
          while (!stop.signal.aborted) await perform(chance.pick(deeds), hand, database);
        },
      ).catch(() => {});
      await sleep(200);
    }
  }

  function handOf(database: Database, chance: Random): Hand {
    return {
      sql: (text) => database.query(text),
      random: chance,
      hold: (longestMs) => sleep(chance.int(0, longestMs), undefined, { signal: stop.signal }).catch(() => {}),
      async claim(object, work) {
        if (claimed.has(object)) return;
        claimed.add(object);
        try {
          await work();
        } finally {
          claimed.delete(object);
        }
      },
      fresh: (prefix) => `${prefix}_${++names}`,
    };
  }

  async function perform(deed: Deed, hand: Hand, database: Database): Promise<void> {
    const count = tally.get(deed.name) ?? { done: 0, failed: 0, errors: new Map() };
    tally.set(deed.name, count);
    try {
      await deed.do(hand);
      count.done++;
    } catch (error) {
      count.failed++;
      const state = sqlState(error) ?? "connection";
      if (!count.errors.has(state)) count.errors.set(state, (error as Error).message);
      // Throws when the connection is gone, and the session begins anew.
      await database.query("ROLLBACK");
    }
    await sleep(0);
  }

  const sessions = kinds.map((kind, i) => session(kind, i));
  return {
    tally,
    async stop() {
      stop.abort();
      await Promise.all(sessions);
    },
  };
}
