/** The only place that speaks SQL. */

import pg from "pg";
import type { Conninfo } from "../conninfo.ts";

export type Row = Record<string, unknown>;

export interface Database {
  /** Rows with every value as PostgreSQL's own text (no Date, no rounding); null stays null. */
  query<T extends object = Record<string, string | null>>(sql: string, values?: readonly unknown[]): Promise<T[]>;
  /** The one row of a query that has exactly one. */
  row<T extends object = Record<string, string | null>>(sql: string, values?: readonly unknown[]): Promise<T>;
}

export interface ConnectOptions {
  /** Overrides `dbname`. */
  database?: string | undefined;
  connectTimeoutMs?: number | undefined;
  /** `statement_timeout` of the session; 0 is none. */
  statementTimeoutMs?: number | undefined;
  applicationName?: string | undefined;
  /** Further settings for the session, by name. */
  settings?: Readonly<Record<string, string>> | undefined;
}

/** node-postgres would turn text into JavaScript's own types and lose digits on the way. */
const asText = { getTypeParser: () => (value: unknown) => value };

/** Connects, calls back and closes, whatever happens. Errors of PostgreSQL keep their SQLSTATE in `code`. */
export async function withDatabase<T>(
  conninfo: Conninfo,
  options: ConnectOptions,
  use: (database: Database) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({
    ...clientConfig(conninfo, options),
    connectionTimeoutMillis: options.connectTimeoutMs ?? 10_000,
    types: asText as unknown as pg.CustomTypesConfig,
  });
  // A connection that breaks while idle raises an event; the next query reports it too.
  client.on("error", () => {});
  try {
    await client.connect();
    const settings = {
      statement_timeout: String(options.statementTimeoutMs ?? 0),
      ...options.settings,
    };
    for (const [name, value] of Object.entries(settings)) {
      await client.query("SELECT pg_catalog.set_config($1, $2, false)", [name, value]);
    }
    const query: Database["query"] = async (sql, values) => {
      const result = await client.query(sql, values as unknown[]);
      // A text of several statements gives a result each; the last one counts.
      return (Array.isArray(result) ? result.at(-1) : result).rows;
    };
    const row: Database["row"] = async (sql, values) => {
      const rows = (await query(sql, values)) as never[];
      if (rows.length !== 1) throw new Error(`expected one row, got ${rows.length}: ${sql.trim().slice(0, 80)}`);
      return rows[0] as never;
    };
    return await use({ query, row });
  } finally {
    await Promise.race([client.end().catch(() => {}), new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
  }
}

function clientConfig(conninfo: Conninfo, options: ConnectOptions): pg.ClientConfig {
  const host = conninfo.hostaddr ?? conninfo.host;
  const database = options.database ?? conninfo.dbname;
  const ssl = sslConfig(conninfo.sslmode ?? process.env.PGSSLMODE, conninfo);
  return {
    ...(host === undefined ? defaultHost() : { host }),
    ...(conninfo.port === undefined ? {} : { port: Number(conninfo.port) }),
    ...(conninfo.user === undefined ? {} : { user: conninfo.user }),
    ...(database === undefined ? {} : { database }),
    ...(conninfo.password === undefined ? {} : { password: conninfo.password }),
    ...(conninfo.options === undefined ? {} : { options: conninfo.options }),
    ...(ssl === undefined ? {} : { ssl }),
    application_name: options.applicationName ?? "patroni-restore",
  };
}

/** libpq goes to the socket directory without a host; node-postgres would go to localhost. */
function defaultHost(): { host?: string } {
  return process.env.PGHOST === undefined ? { host: "/var/run/postgresql" } : {};
}

function sslConfig(mode: string | undefined, conninfo: Conninfo): pg.ClientConfig["ssl"] | undefined {
  if (mode === undefined || mode === "disable" || mode === "allow" || mode === "prefer") return undefined;
  const verify = mode === "verify-ca" || mode === "verify-full";
  return {
    rejectUnauthorized: verify,
    ...(mode === "verify-ca" ? { checkServerIdentity: () => undefined } : {}),
    ...(conninfo.sslrootcert ? { ca: readText(conninfo.sslrootcert) } : {}),
    ...(conninfo.sslcert ? { cert: readText(conninfo.sslcert) } : {}),
    ...(conninfo.sslkey ? { key: readText(conninfo.sslkey) } : {}),
  };
}

import { readFileSync } from "node:fs";

const readText = (path: string) => readFileSync(path, "utf8");

/** PostgreSQL's SQLSTATE of an error, if it is one of PostgreSQL's. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

export const quoteIdentifier = (name: string) => `"${name.replaceAll('"', '""')}"`;
export const quoteLiteral = (value: string) => pg.escapeLiteral(value);
