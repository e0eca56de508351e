/** A connection whose answers depend on nothing but the data, and that never makes anybody wait. */

import { RestoreError } from "../errors.ts";
import { type Database, sqlState, withDatabase } from "../io/database.ts";
import type { KeptSessions } from "../io/kept-sessions.ts";
import { explainConnectionError, isConnectionLost } from "../postgres/connection-error.ts";
import type { Conninfo } from "../postgres/conninfo.ts";

export interface Session {
  database: Database;
  /** The encoding that rows are stored in. */
  encoding: string;
  /** `server_version_num`. */
  serverVersion: number;
}

export interface SessionOptions {
  statementTimeoutMs: number;
  signal?: AbortSignal | undefined;
  /** Where sessions are kept; elsewhere each is a new one. */
  sessions?: KeptSessions | undefined;
}

/** An ALTER that holds its lock is somebody at work: the answer counts as in motion rather than being waited for. */
const LOCK_TIMEOUT_MS = 1000;

/** Settings that change how values read or in which order rows come, and what must not happen while looking. */
export const PINNED: Readonly<Record<string, string>> = {
  search_path: "",
  client_encoding: "UTF8",
  DateStyle: "ISO, YMD",
  IntervalStyle: "postgres",
  TimeZone: "UTC",
  extra_float_digits: "1",
  bytea_output: "hex",
  lc_monetary: "C",
  lc_numeric: "C",
  lc_time: "C",
  quote_all_identifiers: "off",
  standard_conforming_strings: "on",
  xmlbinary: "base64",
  xmloption: "content",
  synchronize_seqscans: "off",
  max_parallel_workers_per_gather: "0",
  jit: "off",
  // An answer that row-level security would thin out is an error instead.
  row_security: "off",
  default_transaction_read_only: "on",
  lock_timeout: String(LOCK_TIMEOUT_MS),
};

/** For mark's look at the queries too. Throws SOURCE_UNREACHABLE when it cannot connect. */
export async function withManifestSession<T>(
  conninfo: Conninfo,
  database: string,
  options: SessionOptions,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  try {
    const { statementTimeoutMs, signal, sessions } = options;
    const request = { database, statementTimeoutMs, signal, settings: PINNED };
    const work = async (connection: Database) => {
      const row = await connection.row<{ encoding: string; version: string }>(
        "SELECT getdatabaseencoding() AS encoding, current_setting('server_version_num') AS version",
      );
      return await use({ database: connection, encoding: row.encoding, serverVersion: Number(row.version) });
    };
    return await (sessions === undefined ? withDatabase(conninfo, request, work) : sessions.use(request, work));
  } catch (error) {
    if (error instanceof RestoreError) throw error;
    if (
      !isConnectionLost(error) &&
      !["28P01", "28000", "3D000", "53300", "42501", "55000"].includes(sqlState(error) ?? "")
    ) {
      throw error;
    }
    const { message, hint } = explainConnectionError(error, conninfo);
    throw new RestoreError("SOURCE_UNREACHABLE", `cannot ask database "${database}": ${message}`, {
      hint,
      cause: error,
    });
  }
}
