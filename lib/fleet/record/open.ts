/** The record in PostgreSQL: one session for what schedulers do, which holds the leader's lock, and one for people's questions. */

import { setTimeout as delay } from "node:timers/promises";
import { messageOf, RestoreError } from "../../errors.ts";
import { type Database, sqlState, withDatabase } from "../../io/database.ts";
import { DatabaseAway, openLongLivedDatabase } from "../../io/long-lived-database.ts";
import type { Log } from "../../log.ts";
import { explainConnectionError } from "../../postgres/connection-error.ts";
import type { Conninfo } from "../../postgres/conninfo.ts";
import type { History, Store } from "../store.ts";
import { takeSlot } from "./begin.ts";
import { changesReader, healTransactions } from "./changes.ts";
import { historyOf } from "./history.ts";
import { isLeader, standForLeader } from "./leader.ts";
import { checkPrivileges, migrate, schemaVersion } from "./migrate.ts";
import { writeQueue } from "./queue.ts";
import { isRefused, type PackedChange, pack, withoutReport, writeChange } from "./record-change.ts";
import { type Retention, removeOld } from "./retention.ts";
import { MIGRATIONS } from "./schema.ts";
import { countBackup, gone, seen, want } from "./services.ts";
import { sessionOptions } from "./session.ts";
import { useTimescale } from "./timescale.ts";

export interface StoreOptions {
  /** Directly to PostgreSQL or through what keeps a session together: a pooler of transactions loses the leader's lock. */
  conninfo: Conninfo;
  /** Host name and process ID, or the pod's name. */
  scheduler: string;
  retention: Retention;
  log: Log;
  /** Closes the store. */
  signal?: AbortSignal;
  /** False while this scheduler does not want to lead; it gives the lock away then. */
  mayLead?(): boolean;
}

const AWAY_POLL_MS = 500;
const MIGRATION_LIMIT_MS = 30 * 60_000;
const RETENTION_EVERY_MS = 15 * 60_000;
/** What waits for the database when the store is closed gets so long to be written. */
const CLOSING_LIMIT_MS = 5_000;

/**
 * Connects, and brings the schema up to date. A database that is away is waited for in the background; what only a person
 * can put right (no such database or user, a schema of a newer program, missing privileges) is thrown.
 */
export async function openStore(options: StoreOptions): Promise<Store & History> {
  const { scheduler, log, signal, retention } = options;
  signal?.throwIfAborted();
  // Of several hosts the one that can be written to.
  const conninfo: Conninfo = { target_session_attrs: "read-write", ...options.conninfo };
  const session = sessionOptions(scheduler);
  let isPrepared = false;

  /** At the first connection in full; at later ones the server may be another. */
  async function prepare(db: Database, signal: AbortSignal): Promise<void> {
    if (!isPrepared || (await schemaVersion(db)) !== MIGRATIONS.length) {
      const settings = { ...session.settings, lock_timeout: "0" };
      const long = { ...session, settings, statementTimeoutMs: MIGRATION_LIMIT_MS, signal };
      await withDatabase(conninfo, long, async (own) => {
        await migrate(own, log);
        await useTimescale(own, retention.historyMs, log).catch((error) =>
          log.warn("fleet", `TimescaleDB could not be used in full: ${messageOf(error)}`),
        );
      });
    }
    await checkPrivileges(db);
    await healTransactions(db);
    isPrepared = true;
  }

  const database = openLongLivedDatabase(conninfo, {
    ...session,
    prepare,
    onConnected: () => {
      changes.reset();
      leader.sessionMade();
      log.info("fleet", "connected to the record");
    },
    onAway: (problem) => {
      leader.sessionLost();
      log.warn("fleet", `the record is away: ${problem}`, { waiting: queue.size() });
    },
  });
  const changes = changesReader(database);
  const leader = standForLeader(database, log, options.mayLead ?? (() => true));
  const queue = writeQueue<PackedChange>({ write, onFailure });

  async function write(change: PackedChange): Promise<"written" | Error> {
    const what = `status ${change.status} of test ${change.test}`;
    const done = await database
      .transaction((db) => writeChange(db, change))
      .catch(async (error) => {
        if (!isRefused(error)) throw error;
        log.error("fleet", `${what} was refused, tried without its report: ${messageOf(error)}`);
        return database
          .transaction((db) => writeChange(db, withoutReport(change)))
          .catch((again) => {
            if (!isRefused(again)) throw again;
            return new Error(`${what} cannot be recorded: ${messageOf(again)}`);
          });
      });
    if (done === "second end") log.warn("fleet", `${what} came after its end and changes nothing`);
    if (done === "no such test") log.error("fleet", `${what} is lost: the record does not know the test`);
    return done instanceof Error ? done : "written";
  }

  function onFailure(error: unknown, waiting: number): void {
    // That it is away was said already.
    if (error instanceof DatabaseAway) return;
    log.warn("fleet", `status changes can't be recorded, and wait: ${messageOf(error)}`, { waiting });
  }

  /** Made when somebody asks: a standby that nobody looks at needs no second session. */
  let forPeople: ReturnType<typeof openLongLivedDatabase> | null = null;
  async function readingSession() {
    forPeople ??= openLongLivedDatabase(conninfo, session);
    await forPeople.firstAttempt;
    return forPeople;
  }

  const closing = new AbortController();
  async function tidyUp(): Promise<void> {
    while (!closing.signal.aborted) {
      await delay(RETENTION_EVERY_MS, undefined, { signal: closing.signal }).catch(() => {});
      if (!leader.leads() || closing.signal.aborted) continue;
      try {
        const removed = await removeOld(database, retention, leader.leads);
        if (Object.values(removed).some((n) => n > 0)) log.info("fleet", "old tests were removed", removed);
      } catch (error) {
        log.warn("fleet", `old tests could not be removed: ${messageOf(error)}`);
      }
    }
  }

  let closed: Promise<void> | null = null;
  const close = () => {
    closed ??= (async () => {
      closing.abort();
      signal?.removeEventListener("abort", close);
      await queue.close(database.problem() === null ? CLOSING_LIMIT_MS : 0);
      await leader.stop();
      await Promise.all([database.close(), forPeople?.close()]);
    })();
    return closed;
  };

  const failure = await database.firstAttempt;
  if (failure !== null && (signal?.aborted || isForPeople(failure))) {
    await close();
    signal?.throwIfAborted();
    throw explained(failure, conninfo);
  }
  signal?.addEventListener("abort", close);
  void tidyUp();

  return {
    leads: leader.leads,
    problem: database.problem,
    changes: changes.read,
    seen: (services) => seen(database, services),
    gone: (ids) => gone(database, ids),
    async want(service, by, token) {
      if (await want(database, service, by, token)) return;
      throw new RestoreError("SETTINGS_INVALID", `the record knows no service "${service}"`);
    },
    countBackup: (service, label) => countBackup(database, service, label),
    begin: (test, limits) =>
      database.transaction(async (db) =>
        (await isLeader(db)) ? takeSlot(db, test, limits) : "this scheduler does not lead",
      ),
    async holds(test) {
      for (;;) {
        try {
          return await database.transaction(
            async (db) =>
              (await isLeader(db)) && (await db.query("SELECT FROM slots WHERE test = $1", [test])).length > 0,
          );
        } catch (error) {
          if (!(error instanceof DatabaseAway) || closing.signal.aborted) throw error;
          await delay(AWAY_POLL_MS, undefined, { signal: closing.signal }).catch(() => {});
        }
      }
    },
    // Reports are big: they are packed at once, and wait as text.
    record: async (change) => queue.add(`${change.status} of test ${change.test}`, pack(change)),
    pending: queue.size,
    tests: async (service, limit) => historyOf(await readingSession()).tests(service, limit),
    test: async (id) => historyOf(await readingSession()).test(id),
    close,
  };
}

/** Waiting does not help: the record's own errors, no such user, password, database, nor right to connect. */
const isForPeople = (error: unknown) =>
  error instanceof RestoreError || /^(28...|3D000|42501)$/.test(sqlState(error) ?? "");

function explained(error: unknown, conninfo: Conninfo): RestoreError {
  if (error instanceof RestoreError) return error;
  const isMissing = sqlState(error) === "3D000";
  const { message, hint = isMissing ? "make it with createdb, or correct --record" : undefined } =
    explainConnectionError(error, conninfo);
  return new RestoreError("SETTINGS_INVALID", `the record cannot be used: ${message}`, { hint, cause: error });
}
