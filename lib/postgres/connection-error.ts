/** Why a connection to PostgreSQL failed, in words, from the codes of Node.js and PostgreSQL. */

import { messageOf } from "../errors.ts";
import type { Conninfo } from "./conninfo.ts";

export interface Explanation {
  /** Lower-case, with the values, no final period. */
  message: string;
  hint?: string | undefined;
}

interface CodedError {
  code?: unknown;
  errors?: unknown[];
}

export function explainConnectionError(error: unknown, conninfo: Conninfo): Explanation {
  // Node.js tries every address of a name and collects the failures; they rarely differ.
  const collected = (error as CodedError | null)?.errors;
  if (Array.isArray(collected) && collected.length > 0) return explainConnectionError(collected[0], conninfo);
  const host = conninfo.hostaddr ?? conninfo.host ?? "the default socket directory";
  const place = `${host}${host.startsWith("/") ? "/.s.PGSQL." : " port "}${conninfo.port ?? "5432"}`;
  const code = String((error as CodedError | null)?.code ?? "");
  const message = messageOf(error);
  switch (code) {
    case "ECONNREFUSED":
      return { message: `connection to ${place} was refused`, hint: "is PostgreSQL running there, on this port" };
    case "ENOENT":
      return { message: `no server listens on ${place}`, hint: "is PostgreSQL running, with this socket directory" };
    case "EACCES":
      return { message: `no permission to use the socket ${place}` };
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return { message: `host name "${host}" cannot be resolved` };
    case "ETIMEDOUT":
      return { message: `no answer from ${place}`, hint: "is a firewall in between" };
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return { message: `no route to ${place}` };
    case "28P01":
      return { message, hint: "check the password in PGPASSFILE, PGPASSWORD or the environment" };
    case "28000":
      // The other reasons, no such role or one without LOGIN, say it all; the file's name is in every language.
      return /pg_hba\.conf/.test(message)
        ? { message, hint: "the server's pg_hba.conf does not let this user in from here" }
        : { message };
    case "3D000":
    case "42501":
    case "57P03":
      return { message };
    case "53300":
      return { message: `${message}`, hint: "raise max_connections, or free connections on the server" };
    case "57P01":
      return { message: `the connection to ${place} was ended by the server: it stops or restarts` };
  }
  if (/password must be a string|no password/i.test(message)) {
    return { message: `${place} asks for a password and none was given`, hint: "use PGPASSFILE or PGPASSWORD" };
  }
  if (/timeout expired|read timeout/i.test(message)) return { message: `no answer from ${place} within the limit` };
  if (code === "ECONNRESET" || code === "EPIPE" || /terminated|not queryable|ended/i.test(message)) {
    return { message: `the connection to ${place} was lost`, hint: "did the server restart or fail over" };
  }
  return { message: `connection to ${place} failed: ${message}` };
}

/** True when there is no connection any more, as opposed to a statement that failed on a good one. */
export function isConnectionLost(error: unknown): boolean {
  const code = String((error as CodedError | null)?.code ?? "");
  return !/^[0-9A-Z]{5}$/.test(code) || /^(08|57P)/.test(code) || code === "EPIPE";
}
