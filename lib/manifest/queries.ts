/** The user's queries, asked of the source and of its restore alike. */

import { messageOf } from "../errors.ts";
import { quoteIdentifier, sqlState } from "../io/database.ts";
import type { UserQuery } from "../options.ts";
import { isConnectionLost } from "../postgres/connection-error.ts";
import { precedes, settled } from "./horizon.ts";
import type { Problem } from "./objects.ts";
import type { Session } from "./session.ts";
import { inQueryTransaction, relationsOf, userQueryDigestSql } from "./user-queries.ts";

export interface QueryAnswer {
  name: string;
  database: string;
  /** Rows of the result; 0 when there is none. */
  count: number;
  /** SHA-256, hexadecimal; empty when it could not be answered. */
  digest: string;
  /**
   * The tables it reads: `<rows older than the horizon>/<newer ones>` of each. While it is the same, and without newer ones,
   * the result cannot have been another in between. Null when they are too large to be counted for this.
   */
  tables: string | null;
  problem?: Problem;
}

export const queryId = (query: { database: string; name: string }) => `${query.database}: query "${query.name}"`;

export interface QueryOptions {
  horizon: string;
  /** On a restore: what is newer than this is its own and no motion of the source. */
  nextXid: string | null;
  /** Tables larger than this together are not counted; null counts all. */
  mostBytes: number | null;
}

export async function askQuery(session: Session, query: UserQuery, options: QueryOptions): Promise<QueryAnswer> {
  const of = { name: query.name, database: query.database };
  try {
    return await inQueryTransaction(session.database, async () => {
      const { count, digest } = await session.database.row(userQueryDigestSql(query), [session.encoding]);
      const tables = await countTables(session, query, options);
      return { ...of, count: Number(count), digest: digest ?? "", tables };
    });
  } catch (error) {
    if (isConnectionLost(error)) throw error;
    return {
      ...of,
      count: 0,
      digest: "",
      tables: null,
      problem: { sqlState: sqlState(error), message: messageOf(error) },
    };
  }
}

async function countTables(
  session: Session,
  query: UserQuery,
  { horizon, nextXid, mostBytes }: QueryOptions,
): Promise<string | null> {
  const relations = await relationsOf(session.database, session.encoding, query);
  const names = relations.map((r) => `${quoteIdentifier(r.schema)}.${quoteIdentifier(r.name)}`).sort();
  if (names.length === 0) return "";
  if (mostBytes !== null) {
    const sizes = names.map((name) => `pg_relation_size('${name.replaceAll("'", "''")}'::regclass)`);
    const { bytes } = await session.database.row(`SELECT (${sizes.join(" + ")})::text AS bytes`);
    if (Number(bytes) > mostBytes) return null;
  }
  const old = precedes("t.xmin", horizon);
  const newer = nextXid === null ? `NOT ${settled("t", horizon)}` : `NOT ${old} AND ${precedes("t.xmin", nextXid)}`;
  const counts = names.map(
    (name) =>
      `(SELECT format('%s/%s', count(*) FILTER (WHERE ${old}), count(*) FILTER (WHERE ${newer})) FROM ONLY ${name} AS t)`,
  );
  const { tables } = await session.database.row<{ tables: string }>(
    `SELECT concat_ws(' ', ${counts.join(", ")}) AS tables`,
  );
  return tables;
}

/** None of the tables has rows that the source made after the horizon. */
export const hasNoNewRows = ({ tables }: QueryAnswer) => tables !== null && !/\/[^0]/.test(tables);

/** Nothing that the query reads changed from the first to the second time, nor in between. */
export function stoodStill(first: QueryAnswer, second: QueryAnswer): boolean {
  return first.tables === second.tables && hasNoNewRows(second);
}
