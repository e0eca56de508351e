/** All that a check may touch: the instance by SQL, PostgreSQL's programs, and what other checks have run into. */

import { type ConnectOptions, type Database, withDatabase } from "../io/database.ts";
import { type KeptSessions, keepSessions } from "../io/kept-sessions.ts";
import { killedForMemory } from "../io/memory.ts";
import type { Snapshot } from "../manifest/manifest.ts";
import type { Conninfo } from "../postgres/conninfo.ts";
import type { Asked } from "./check.ts";
import { Pool } from "./pool.ts";
import { type Relation, rankRelations, readRelations } from "./relations.ts";
import { Stopwatch } from "./stopwatch.ts";
import { Turns } from "./turns.ts";

/** Tells one run of the server from another: it changes with every restart, and the checkpointer's with every crash. */
export interface ServerRun {
  postmasterStartedAt: string;
  /** Process number and start of the checkpointer; null when this role may not see it. */
  checkpointer: string | null;
  /** Null when this role may not see it. */
  dataDirectory: string | null;
  /** As `killedForMemory` says of this machine at that moment. */
  killedForMemory: number | null;
}

export interface Edge {
  conninfo: Conninfo;
  asked: Asked;
  /** Limit of the running check: sessions break and programs end when it is aborted. */
  signal: AbortSignal;
  /** Limit for a single statement, in milliseconds. */
  statementTimeoutMs: number;
  /** Parts of one check at the same time. */
  jobs: number;
  binDir: string | undefined;
  /** `server_version_num`. */
  serverVersion: number;
  /** Before the first check. */
  begin: ServerRun;
  /** What went wrong in the checks that could not run. */
  failures: unknown[];
  /** Asked once, whoever needs it first. */
  manifestAnswers(): Promise<Snapshot>;
  /** Nobody needs them any more: of many objects they are the biggest thing in memory. */
  forgetManifestAnswers(): void;
  /**
   * A session in `database`, or in the one of the connection string; plain names mean pg_catalog, times are UTC. Others have
   * used it before and will again: what it sets is set back, but a library stays loaded.
   */
  sql<T>(database: string | null, use: (database: Database) => Promise<T>): Promise<T>;
  /** The same in a new one, that nobody uses later. */
  newSession<T>(database: string | null, use: (database: Database) => Promise<T>): Promise<T>;
  /** Databases that let a session in, templates too (`template1`), without invalid ones; by name. */
  databases(): Promise<string[]>;
  /**
   * `work` on each of the databases, some at the same time, and together with whatever other checks have to do there: its `sql`
   * finds a session in that database. Results in order; the first exception stops the start of more.
   */
  eachDatabase<T>(names: readonly string[], work: (name: string) => Promise<T>): Promise<T[]>;
  /** Every relation with storage, of every database; asked once. */
  relations(): Promise<Relation[]>;
  /** Begins with the relations while others ask the databases; `plan` sees each list where it was read. Never waits. */
  lookAhead(plan: (name: string, database: Database, relations: readonly Relation[]) => Promise<void>): void;
  /** Shared by all checks of the data. */
  pool: Pool;
  /** For one check: `signal` is its limit, `watch` does not count what it waits for others. */
  forCheck(signal: AbortSignal, watch: Stopwatch): Edge;
  /** Ends the sessions that nobody uses any more. */
  close(): Promise<void>;
}

/** Sessions that stay open unused; of a server's connections at most a fourth. */
const MOST_KEPT = 32;

/** The bookkeeping lives here (`mark`), and cluster-wide questions are asked here. */
export const MAINTENANCE_DATABASE = "postgres";

const SESSION = {
  search_path: "pg_catalog",
  TimeZone: "UTC",
  DateStyle: "ISO, YMD",
  default_transaction_read_only: "on",
  synchronous_commit: "local",
  // Whatever the catalogs tell of a relation may wait for somebody's lock on it.
  lock_timeout: "30s",
  // What is asked here is asked once: compiling it takes longer than it saves.
  jit: "off",
};

/** Sessions of the pool; parallel queries of the server would come on top of them. */
const POOL_SESSION = {
  ...SESSION,
  max_parallel_workers_per_gather: "0",
  idle_in_transaction_session_timeout: "0",
  row_security: "off",
};

export function openEdge(
  base: Omit<
    Edge,
    | ("sql" | "newSession" | "forCheck" | "close" | "failures" | "databases" | "eachDatabase" | "pool")
    | ("manifestAnswers" | "forgetManifestAnswers" | "relations" | "lookAhead")
  > & {
    collectManifest(options: Pick<Edge, "signal" | "eachDatabase"> & { sessions: KeptSessions }): Promise<Snapshot>;
    /** The server's `max_connections`. */
    maxConnections: number;
    /** Databases in which nobody may stay: a session there makes CREATE DATABASE fail for everybody. */
    templates: ReadonlySet<string>;
    /** Of the whole of the checks of the data; null is none. */
    budgetMs: number | null;
    onProgress?(progress: { doneBytes: number; totalBytes: number; object: string }): void;
    /** Of what the checks do on each database, as far as it is known. */
    onDatabase?(done: number, total: number): void;
  },
): Edge {
  const failures: unknown[] = [];
  let answers: Promise<Snapshot> | undefined;
  let names: Promise<string[]> | undefined;
  let all: Promise<Relation[]> | undefined;
  let plan: Parameters<Edge["lookAhead"]>[0] = async () => {};
  const sessions = keepSessions(base.conninfo, Math.min(MOST_KEPT, Math.floor(base.maxConnections / 4)));
  const sql = <T>(
    database: string | null,
    use: (database: Database) => Promise<T>,
    signal: AbortSignal,
    settings = SESSION,
  ) => {
    const options = sessionOptions(base.conninfo, { ...base, database, signal, settings });
    return base.templates.has(options.database)
      ? withDatabase(base.conninfo, options, use)
      : sessions.use(options, use);
  };
  const turns = new Turns(base.jobs, base.onDatabase);
  const databases = () => {
    names ??= sql(MAINTENANCE_DATABASE, readDatabases, base.signal);
    return names;
  };
  const relations = () => {
    all ??= databases().then(async (found) => {
      const read = async (name: string, database: Database) => {
        const list = await readRelations(database, name, name === MAINTENANCE_DATABASE);
        await plan(name, database, list);
        return list;
      };
      const lists = await turns.each(found, (name) => sql(name, (database) => read(name, database), base.signal));
      return rankRelations(lists.flat(), base.asked.ledger);
    });
    return all;
  };
  const pool = new Pool({
    jobs: base.jobs,
    budgetMs: base.budgetMs,
    signal: base.signal,
    onProgress: base.onProgress,
    onFailure: (error) => failures.push(error),
    open: (database, use) => sql(database, use, base.signal, POOL_SESSION),
  });
  const make = (signal: AbortSignal, watch: Stopwatch): Edge => {
    const eachDatabase: Edge["eachDatabase"] = (names, work) =>
      watch.except(() => turns.each(names, (name) => watch.during(() => work(name))));
    return {
      ...base,
      signal,
      failures,
      manifestAnswers: () => {
        if (answers !== undefined) return watch.except(() => answers as Promise<Snapshot>);
        answers = base.collectManifest({ signal, sessions, eachDatabase });
        return answers;
      },
      forgetManifestAnswers: () => {
        answers = undefined;
      },
      sql: (database, use) => sql(database, use, signal),
      newSession: (database, use) => ask(base.conninfo, { ...base, database, signal }, use),
      databases,
      eachDatabase,
      relations: () => watch.except(relations),
      lookAhead(see) {
        plan = see;
        if (base.asked.level !== "quick") void relations().catch(() => {});
      },
      pool,
      forCheck: make,
      close: sessions.close,
    };
  };
  return make(base.signal, new Stopwatch(null, () => {}));
}

type Asking = { database: string | null } & Pick<ConnectOptions, "signal" | "statementTimeoutMs" | "settings">;

/** One session of a check. */
export const ask = <T>(conninfo: Conninfo, options: Asking, use: (database: Database) => Promise<T>): Promise<T> =>
  withDatabase(conninfo, sessionOptions(conninfo, options), use);

const sessionOptions = (
  conninfo: Conninfo,
  { database, signal, statementTimeoutMs, settings = SESSION }: Asking,
): ConnectOptions & { database: string } => ({
  database: database ?? conninfo.dbname ?? MAINTENANCE_DATABASE,
  applicationName: "patroni-restore verify",
  statementTimeoutMs,
  settings,
  signal,
});

async function readDatabases(database: Database): Promise<string[]> {
  const rows = await database.query<{ datname: string }>(
    "SELECT datname FROM pg_database WHERE datallowconn AND datconnlimit <> -2 ORDER BY datname",
  );
  return rows.map((row) => row.datname);
}

export async function readServerRun(database: Database): Promise<ServerRun> {
  const row = await database.row<{ started_at: string; checkpointer: string | null; datadir: string | null }>(
    `SELECT pg_postmaster_start_time()::text AS started_at,
            (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS datadir,
            (SELECT pid::text || ' since ' || backend_start::text
               FROM pg_stat_activity WHERE backend_type = 'checkpointer') AS checkpointer`,
  );
  return {
    postmasterStartedAt: row.started_at,
    checkpointer: row.checkpointer,
    dataDirectory: row.datadir,
    killedForMemory: await killedForMemory(),
  };
}
