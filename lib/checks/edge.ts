/** All that a check may touch: the instance by SQL, PostgreSQL's programs, and what other checks have run into. */

import { type ConnectOptions, type Database, withDatabase } from "../io/database.ts";
import type { ManifestAnswer } from "../mark/manifest.ts";
import type { Conninfo } from "../postgres/conninfo.ts";
import type { Asked } from "./check.ts";

/** Tells one run of the server from another: it changes with every restart, and the checkpointer's with every crash. */
export interface ServerRun {
  postmasterStartedAt: string;
  /** Process number and start of the checkpointer; null when this role may not see it. */
  checkpointer: string | null;
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
  manifestAnswers(): Promise<ManifestAnswer[]>;
  /** A session in `database`, or in the one of the connection string; plain names mean pg_catalog, times are UTC. */
  sql<T>(database: string | null, use: (database: Database) => Promise<T>): Promise<T>;
  withSignal(signal: AbortSignal): Edge;
}

/** The bookkeeping lives here (`mark`), and cluster-wide questions are asked here. */
export const MAINTENANCE_DATABASE = "postgres";

const SESSION = {
  search_path: "pg_catalog",
  TimeZone: "UTC",
  DateStyle: "ISO, YMD",
  default_transaction_read_only: "on",
  synchronous_commit: "local",
};

export function openEdge(
  base: Omit<Edge, "sql" | "withSignal" | "failures" | "manifestAnswers"> & {
    collectManifest(signal: AbortSignal): Promise<ManifestAnswer[]>;
  },
): Edge {
  const failures: unknown[] = [];
  let answers: Promise<ManifestAnswer[]> | undefined;
  const make = (signal: AbortSignal): Edge => ({
    ...base,
    signal,
    failures,
    manifestAnswers: () => {
      answers ??= base.collectManifest(signal);
      return answers;
    },
    sql: (database, use) => ask(base.conninfo, { database, signal, statementTimeoutMs: base.statementTimeoutMs }, use),
    withSignal: make,
  });
  return make(base.signal);
}

/** One session of a check. */
export function ask<T>(
  conninfo: Conninfo,
  options: { database: string | null } & Pick<ConnectOptions, "signal" | "statementTimeoutMs">,
  use: (database: Database) => Promise<T>,
): Promise<T> {
  return withDatabase(
    conninfo,
    {
      database: options.database ?? conninfo.dbname ?? MAINTENANCE_DATABASE,
      statementTimeoutMs: options.statementTimeoutMs,
      applicationName: "patroni-restore verify",
      settings: SESSION,
      signal: options.signal,
    },
    use,
  );
}

export async function readServerRun(database: Database): Promise<ServerRun> {
  const row = await database.row<{ started_at: string; checkpointer: string | null }>(
    `SELECT pg_postmaster_start_time()::text AS started_at,
            (SELECT pid::text || ' since ' || backend_start::text
               FROM pg_stat_activity WHERE backend_type = 'checkpointer') AS checkpointer`,
  );
  return { postmasterStartedAt: row.started_at, checkpointer: row.checkpointer };
}
