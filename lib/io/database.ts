/** The only place that speaks SQL. */

import pg from "pg";
import type { Conninfo } from "../postgres/conninfo.ts";
import { breakConnection, closeConnection, connect, whenGone } from "./connection.ts";
import { copyOut } from "./copy-out.ts";

export type Row = Record<string, unknown>;

export interface Database {
  /** Rows with every value as PostgreSQL's own text (no Date, no rounding); null stays null. */
  query<T extends object = Record<string, string | null>>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  /** The one row of a query that has exactly one. */
  row<T extends object = Record<string, string | null>>(sql: string, values?: readonly unknown[]): Promise<T>;
  /**
   * The bytes of `COPY (… one column of bytea …) TO STDOUT (FORMAT binary)`, row by row as they arrive: half the size and a
   * tenth of the work of bytea as text. A value is a view that is valid during the call only. No parameters.
   */
  bytes(copy: string, onValue: (value: Buffer | null) => void): Promise<void>;
}

export interface ConnectOptions {
  /** Overrides `dbname`. */
  database?: string | undefined;
  connectTimeoutMs?: number | undefined;
  /** `statement_timeout` of the session; 0 is none. */
  statementTimeoutMs?: number | undefined;
  applicationName?: string | undefined;
  /** How long after `statementTimeoutMs` a server that says nothing is given up; 15 s unless told. */
  silenceMs?: number | undefined;
  /** Further settings for the session, by name. */
  settings?: Readonly<Record<string, string>> | undefined;
  /** Breaks the connection when aborted; the call then throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** The server's own limit speaks first; this one is for a network that went silent. */
const SILENCE_AFTER_STATEMENT_TIMEOUT_MS = 15_000;

/** PostgreSQL's and Node's largest timeout alike. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** node-postgres would turn text into JavaScript's own types and lose digits on the way. */
const asText = { getTypeParser: () => (value: unknown) => value };

/** A connection that its owner closes. */
export interface OpenDatabase extends Database {
  /** Resolves when the connection is gone, however that came about. */
  ended: Promise<void>;
  /** Cuts it at once; whatever waits for it fails. */
  cut(): void;
  close(): Promise<void>;
}

/** Connects, calls back and closes, whatever happens. Errors of PostgreSQL keep their SQLSTATE in `code`. */
export async function withDatabase<T>(
  conninfo: Conninfo,
  options: ConnectOptions,
  use: (database: Database) => Promise<T>,
): Promise<T> {
  const database = await openDatabase(conninfo, options);
  try {
    return await whileOpen(database, options.signal, use);
  } finally {
    await database.close();
  }
}

/** Calls back with it. The signal cuts it; the call then throws the signal's reason. */
export async function whileOpen<T>(
  database: OpenDatabase,
  signal: AbortSignal | undefined,
  use: (database: Database) => Promise<T>,
): Promise<T> {
  const onAbort = () => database.cut();
  signal?.addEventListener("abort", onAbort);
  try {
    signal?.throwIfAborted();
    return await use(database);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Connects; the signal ends the attempt only. For connections that live long: see `long-lived-database.ts`. */
export async function openDatabase(conninfo: Conninfo, options: ConnectOptions): Promise<OpenDatabase> {
  const { signal, statementTimeoutMs = 0, silenceMs = SILENCE_AFTER_STATEMENT_TIMEOUT_MS } = options;
  signal?.throwIfAborted();
  const client = await connect(withDatabaseName(conninfo, options.database), options, {
    application_name: options.applicationName ?? conninfo.application_name ?? "patroni-restore",
    types: asText as unknown as pg.CustomTypesConfig,
    ...(statementTimeoutMs > 0 ? { query_timeout: Math.min(statementTimeoutMs + silenceMs, MAX_TIMER_MS) } : {}),
  });
  const onAbort = () => breakConnection(client);
  signal?.addEventListener("abort", onAbort);
  try {
    signal?.throwIfAborted();
    await client.query(...settingsQuery(options));
  } catch (error) {
    await closeConnection(client);
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
  const query: Database["query"] = async (sql, values) => {
    const result = await client.query(sql, values as unknown[]);
    // A text of several statements gives a result each; the last one counts.
    return (Array.isArray(result) ? result.at(-1) : result).rows;
  };
  return {
    query,
    row: async (sql, values) => onlyRow(await query(sql, values), sql),
    bytes: (copy, onValue) => copyOut(client, copy, onValue),
    ended: whenGone(client),
    cut: () => breakConnection(client),
    close: () => closeConnection(client),
  };
}

/** SQL and values that give a session its settings. */
export function settingsQuery({ statementTimeoutMs = 0, settings }: ConnectOptions): [string, string[]] {
  const entries = Object.entries({
    statement_timeout: String(Math.min(statementTimeoutMs, MAX_TIMER_MS)),
    ...settings,
  });
  const calls = entries.map((_, i) => `pg_catalog.set_config($${2 * i + 1}, $${2 * i + 2}, false)`);
  return [`SELECT ${calls.join(", ")}`, entries.flat()];
}

export function onlyRow<T>(rows: readonly object[], sql: string): T {
  if (rows.length !== 1) throw new Error(`expected one row, got ${rows.length}: ${sql.trim().slice(0, 80)}`);
  return rows[0] as T;
}

function withDatabaseName(conninfo: Conninfo, database: string | undefined): Conninfo {
  return database === undefined ? conninfo : { ...conninfo, dbname: database };
}

/** PostgreSQL's SQLSTATE of an error, if it is one of PostgreSQL's. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

export const quoteIdentifier = (name: string) => `"${name.replaceAll('"', '""')}"`;
export const quoteLiteral = (value: string) => pg.escapeLiteral(value);
