/** What an exception of the edge means: the server is away, the data is damaged, or a right is missing. */

import { messageOf, RestoreError } from "../errors.ts";

interface ServerError {
  code?: unknown;
  schema?: unknown;
  table?: unknown;
  column?: unknown;
  constraint?: unknown;
  detail?: unknown;
  where?: unknown;
}

/** SQLSTATE, or the operating system's or Node's code (`ECONNREFUSED`). */
export function errorCode(error: unknown): string | null {
  const code = (rootOf(error) as ServerError | null)?.code;
  return typeof code === "string" ? code : null;
}

/** A RestoreError explains another one. */
function rootOf(error: unknown): unknown {
  return error instanceof RestoreError && error.cause !== undefined ? error.cause : error;
}

/** `permission denied for table marker (SQLSTATE 42501, table patroni_restore.marker)`. */
export function describeFailure(error: unknown): {
  message: string;
  hint: string | undefined;
  facts: Record<string, unknown>;
} {
  const server = (rootOf(error) ?? {}) as ServerError;
  // The code of a RestoreError is its own name.
  const code = error instanceof RestoreError && error.cause === undefined ? null : errorCode(error);
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : null);
  const object = [server.schema, server.table, server.column].map(text).filter((part) => part !== null);
  const notes = [
    code === null ? null : /^[0-9A-Z]{5}$/.test(code) ? `SQLSTATE ${code}` : code,
    object.length > 0 ? object.join(".") : null,
  ].filter((note) => note !== null && !messageOf(error).includes(note));
  const detail = text(server.detail);
  return {
    message: `${messageOf(error)}${notes.length > 0 ? ` (${notes.join(", ")})` : ""}${detail === null ? "" : `; ${detail}`}`,
    hint: hintOf(error),
    facts: { error: messageOf(error), code, ...(text(server.where) === null ? {} : { where: server.where }) },
  };
}

function hintOf(error: unknown): string | undefined {
  const code = errorCode(error);
  if (code === "42501") return "connect as a superuser of the restored instance";
  if (code?.startsWith("28")) return "the instance refused the role: see its pg_hba.conf, PGPASSFILE and --superuser";
  if (code === "53300") return "no connection was left: lower --jobs or raise max_connections";
  if (code === "55P03") return "somebody held a lock on it for as long: see pg_locks, and repeat it when nobody does";
  if (code === "57014") return "the statement was cancelled or took too long: raise --check-timeout";
  if (isAway(error)) return AWAY_HINT;
  return undefined;
}

export const AWAY_HINT =
  "PostgreSQL was stopped while the checks ran. Patroni 3.0 to 4.x does that when its DCS is away for longer than " +
  "retry_timeout: see Patroni's log";

/** The server was stopped, is starting, or cannot be reached: it says nothing about the data. */
export function isAway(error: unknown): boolean {
  const code = errorCode(error);
  if (code !== null && /^(57P0[1-5]|08...|E(CONN|PIPE|TIMEDOUT|NOENT|HOST|NET).*)$/.test(code)) return true;
  return /^(Connection terminated|Query read timeout|timeout expired|timeout exceeded|Client has encountered a connection error)/.test(
    messageOf(rootOf(error)),
  );
}

/** 57P02: the server ended this session because another one crashed. */
export function isCrash(error: unknown): boolean {
  return errorCode(error) === "57P02";
}

/**
 * What the machine could not give, in the words of PostgreSQL, its programs and libc. A full quota and memory that a file
 * system lacks have the SQLSTATE of an internal error (PostgreSQL 15, elog.c, errcode_for_file_access).
 */
export const OUT_OF_MEANS =
  /out of memory|Cannot allocate memory|No space left on device|Disk quota exceeded|too many (clients|connections)|remaining connection slots/;

/**
 * Damage that PostgreSQL itself reports: XX000-XX002 (internal error, data or index corrupted), 58xxx (a file is missing
 * or unreadable), and 3D000 for a database in the catalog whose directory is gone.
 * https://www.postgresql.org/docs/15/errcodes-appendix.html
 */
export function isDamage(error: unknown): boolean {
  const code = errorCode(error);
  if (OUT_OF_MEANS.test(messageOf(rootOf(error)))) return false;
  return code !== null && (/^XX00[0-2]$/.test(code) || /^58...$/.test(code) || code === "3D000");
}

/** 42, 22, 38, 39, P0, …: an expression of the user's could not be evaluated; it says nothing about the data. */
export const isExpression = (error: unknown) => /^(0A|22|2F|38|39|42|P0)/.test(errorCode(error) ?? "");
