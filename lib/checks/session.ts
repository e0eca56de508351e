/**
 * What a unit of work on the data may do: whatever it does is undone, a statement that fails leaves the session usable, and
 * contrib functions can be called without an extension.
 */

import { messageOf } from "../errors.ts";
import { type Database, sqlState } from "../io/database.ts";
import { isAway } from "./failure.ts";
import { type Tool, toolSql } from "./tools.ts";

export interface Session {
  /** Rows as text. Whatever it does is undone, and an error leaves the session usable. No parameters. */
  query<T extends object = Record<string, string | null>>(sql: string): Promise<T[]>;
  /** As `Database.bytes`. */
  bytes(copy: string, onValue: (value: Buffer | null) => void): Promise<void>;
  /**
   * Makes the functions of a contrib library callable as `pg_temp.<name>`, without an extension and without a trace. Throws
   * ToolMissing when the library is not installed here or the instance may not be written to.
   */
  need(tool: Tool): Promise<void>;
}

/** The image lacks a library, or the instance is in recovery: it says nothing about the data. */
export class ToolMissing extends Error {
  constructor(tool: Tool, cause: unknown) {
    super(`${tool} is not available here: ${messageOf(cause)}`, { cause });
  }
}

/**
 * Messages are read by programs; damage must be an error whatever the restored configuration says; and no event trigger of
 * the user's may see the functions that are made here. Only a superuser may set these.
 */
const SETTINGS = `
  SELECT set_config(name, value, true)
    FROM (VALUES ('lc_messages', 'C'), ('zero_damaged_pages', 'off'), ('ignore_checksum_failure', 'off'),
                 ('session_replication_role', 'replica'), ('event_triggers', 'off')) AS wanted (name, value)
   WHERE current_setting('is_superuser') = 'on' AND current_setting(name, true) IS NOT NULL`;

/** No file, no such function in it, no right to it. Damage of the catalogs or a lock is something else. */
function meansMissing(error: unknown): boolean {
  const code = sqlState(error) ?? "";
  if (code === "58P01") return /could not (access file "\$libdir|load library)/.test(messageOf(error));
  return /^(42|25|0A)/.test(code);
}

/** In the one transaction of a connection, which its owner rolls back. */
export async function openSession(connection: Database): Promise<Session> {
  let writable = true;
  let beginError: unknown;
  await connection.query("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE").catch(async (error) => {
    if (sqlState(error) === undefined) throw error;
    writable = false;
    beginError = error;
    await connection.query("BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED READ ONLY");
  });
  await connection.query(SETTINGS);
  await connection.query("SAVEPOINT unit");
  const tools = new Map<Tool, unknown>();
  // Every statement starts from the savepoint: what the one before did, broke or locked is undone.
  const query: Session["query"] = (sql) => connection.query(`ROLLBACK TO unit; ${sql}`);
  const make = async (tool: Tool) => {
    if (!writable) return beginError;
    try {
      await query(`${toolSql(tool)}; RELEASE unit; SAVEPOINT unit`);
      return null;
    } catch (error) {
      if (isAway(error) || !meansMissing(error)) throw error;
      return error;
    }
  };
  return {
    query,
    bytes: (copy, onValue) => connection.bytes(`ROLLBACK TO unit; ${copy}`, onValue),
    async need(tool) {
      if (!tools.has(tool)) tools.set(tool, await make(tool));
      const problem = tools.get(tool);
      if (problem !== null) throw new ToolMissing(tool, problem);
    },
  };
}
