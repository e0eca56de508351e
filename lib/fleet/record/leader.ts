/**
 * Who leads: the scheduler whose session holds an advisory lock. It is gone with the session, so a scheduler that is killed
 * or loses the database is followed at once. One that hangs keeps its session (its kernel answers for it): it has to show
 * itself every second, stops to believe in itself when it could not, and is disconnected by a standby some seconds later.
 */

import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../errors.ts";
import type { Database } from "../../io/database.ts";
import { DatabaseAway, type LongLivedDatabase } from "../../io/long-lived-database.ts";
import type { Log } from "../../log.ts";
import { LOCK_CLASS, LOCKS } from "./session.ts";

const EVERY_MS = 1_000;

/** Longer than a statement's limit; shorter than HUNG_AFTER, so that the old leader knows before there is a new one. */
const BELIEVED_FOR_MS = 15_000;
const HUNG_AFTER_SECONDS = 25;

const HELD = `SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
  WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted
    AND l.classid = ${LOCK_CLASS} AND l.objid = ${LOCKS.leader} AND l.objsubid = 2`;

export interface Leader {
  leads(): boolean;
  /** There is a session: the lock may be free. */
  sessionMade(): void;
  /** The session is gone, and the lock with it. */
  sessionLost(): void;
  /** Gives the lock away. */
  stop(): Promise<void>;
}

/** `isWanted`: false while this scheduler does not want to lead. */
export function standForLeader(database: LongLivedDatabase, log: Log, isWanted: () => boolean): Leader {
  const stopping = new AbortController();
  let holds = false;
  let wake = () => {};
  let confirmedAt = Number.NEGATIVE_INFINITY;

  function become(isLeader: boolean, why: string): void {
    if (isLeader === holds) return;
    holds = isLeader;
    if (isLeader) log.info("fleet", "this scheduler leads");
    else log.warn("fleet", `this scheduler does not lead any more: ${why}`);
  }

  async function ask(): Promise<void> {
    const askedAt = performance.now();
    await database.use(async (db) => {
      if (!isWanted()) {
        if (holds) await release(db);
        return become(false, "it was told not to");
      }
      const isMine = await holdsLock(db);
      if (isMine) confirmedAt = askedAt;
      become(isMine, "another one has taken over");
      if (!isMine) await endHungLeader(db, log);
    });
  }

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      await ask().catch((error) => {
        if (!(error instanceof DatabaseAway)) log.warn("fleet", `cannot ask who leads: ${messageOf(error)}`);
      });
      await Promise.race([
        delay(EVERY_MS, undefined, { signal: stopping.signal }).catch(() => {}),
        new Promise<void>((resolve) => {
          wake = resolve;
        }),
      ]);
    }
  }

  const done = loop();
  return {
    leads: () => holds && performance.now() - confirmedAt < BELIEVED_FOR_MS,
    sessionMade: () => wake(),
    sessionLost: () => become(false, "the database is away"),
    async stop() {
      stopping.abort();
      await done;
      if (holds) await database.use(release).catch(() => {});
      holds = false;
    },
  };
}

/** Takes the lock when nobody has it. */
async function holdsLock(db: Database): Promise<boolean> {
  const { holds } = await db.row(
    `SELECT CASE WHEN EXISTS (${HELD} AND l.pid = pg_backend_pid()) THEN true ELSE pg_try_advisory_lock($1, $2) END AS holds`,
    [LOCK_CLASS, LOCKS.leader],
  );
  return holds === "t";
}

/** In a transaction: this very session holds the lock, and so it will at the COMMIT. */
export async function isLeader(db: Database): Promise<boolean> {
  return (await db.query(`${HELD} AND l.pid = pg_backend_pid()`)).length > 0;
}

const release = (db: Database) => db.query("SELECT pg_advisory_unlock($1, $2)", [LOCK_CLASS, LOCKS.leader]);

/** A leader says something every second; a role may end sessions of its own. Of another role nothing is seen here. */
async function endHungLeader(db: Database, log: Log): Promise<void> {
  const ended = await db.query(
    `SELECT a.application_name AS name, pg_terminate_backend(a.pid) AS ended
     FROM pg_stat_activity a
     WHERE a.state_change < clock_timestamp() - make_interval(secs => $1)
       AND EXISTS (${HELD} AND l.pid = a.pid)`,
    [HUNG_AFTER_SECONDS],
  );
  for (const { name } of ended) {
    log.warn("fleet", `the leader said nothing for ${HUNG_AFTER_SECONDS} s and was disconnected`, { leader: name });
  }
}
