/**
 * What the source answered about itself, twice, with the target in between. What is equal both times was not touched, so a
 * restore to the target must answer the same; what differs was in motion and proves nothing.
 */

import { messageOf, RestoreError } from "../errors.ts";
import { type Database, sqlState, withDatabase } from "../io/database.ts";
import type { UserQuery } from "../options.ts";
import { explainConnectionError, isConnectionLost } from "../postgres/connection-error.ts";
import type { Conninfo } from "../postgres/conninfo.ts";
import { CLUSTER_QUESTIONS, DATABASE_QUESTIONS, digestSql, type Question } from "./manifest-questions.ts";
import { MARKER_DATABASE } from "./marker.ts";
import type { ManifestEntry } from "./receipt.ts";
import { inQueryTransaction, userQueryDigestSql } from "./user-queries.ts";

export interface ManifestAnswer {
  /** `roles`, `app: tables`, `app: query "orders"`. */
  id: string;
  /** Null for what belongs to the whole cluster. */
  database: string | null;
  question: string;
  /** Rows of the answer; 0 when there is none. */
  count: number;
  /** SHA-256, hexadecimal; empty when the question could not be answered. */
  digest: string;
  /** Why it could not be answered. */
  problem?: { sqlState: string | undefined; message: string };
}

export interface CollectOptions {
  queries: readonly UserQuery[];
  statementTimeoutMs: number;
  signal?: AbortSignal | undefined;
}

/** Connections to the server at the same time. */
const PARALLEL_DATABASES = 4;

/** An ALTER that holds its lock is somebody at work: the answer counts as in motion rather than being waited for. */
const LOCK_TIMEOUT_MS = 5000;

/** Objects that vanish while they are described fail once, not twice. */
const ATTEMPTS = 3;

/** The server is there, but the files or catalogs of one database are not as they should be. */
const UNUSABLE_DATABASE = /^(3D000|55000|58...|XX...)$/;

/** Settings that change how values read or in which order rows come, and what must not happen while looking. */
const PINNED: Readonly<Record<string, string>> = {
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
  // An answer that row-level security would thin out is an error instead.
  row_security: "off",
  default_transaction_read_only: "on",
  lock_timeout: String(LOCK_TIMEOUT_MS),
};

/** Asks everything of every database, a few at a time. Throws SOURCE_UNREACHABLE when it cannot connect. */
export async function collectManifest(conninfo: Conninfo, options: CollectOptions): Promise<ManifestAnswer[]> {
  const first = await withManifestSession(conninfo, MARKER_DATABASE, options, async (session) => ({
    databases: await listDatabases(session.database),
    cluster: await askAll(session, null, CLUSTER_QUESTIONS),
  }));
  const perDatabase = await mapLimited(first.databases, PARALLEL_DATABASES, async (name) => {
    const queries = options.queries.filter((query) => query.database === name);
    try {
      return await withManifestSession(conninfo, name, options, async (session) => [
        ...(await askAll(session, name, DATABASE_QUESTIONS)),
        ...(await askQueries(session, queries)),
      ]);
    } catch (error) {
      // Dropped between listing and asking: in motion, not an error.
      const databases = await withManifestSession(conninfo, MARKER_DATABASE, options, (s) => listDatabases(s.database));
      if (!databases.includes(name)) return [];
      const problem = { sqlState: sqlState((error as Error).cause), message: messageOf(error) };
      if (!UNUSABLE_DATABASE.test(problem.sqlState ?? "")) throw error;
      return [...DATABASE_QUESTIONS.map((q) => ofQuestion(name, q)), ...queries.map(ofQuery)].map((of) =>
        unanswered(of, problem),
      );
    }
  });
  return [...first.cluster, ...perDatabase.flat()];
}

interface Session {
  database: Database;
  /** The encoding that rows are stored in. */
  encoding: string;
}

/** A connection whose answers depend on nothing but the data. For mark's look at the queries too. */
export async function withManifestSession<T>(
  conninfo: Conninfo,
  database: string,
  options: Pick<CollectOptions, "statementTimeoutMs" | "signal">,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  try {
    return await withDatabase(
      conninfo,
      { database, statementTimeoutMs: options.statementTimeoutMs, signal: options.signal },
      async (connection) => {
        const names = Object.keys(PINNED);
        const calls = names.map((_, i) => `pg_catalog.set_config($${2 * i + 1}, $${2 * i + 2}, false)`);
        await connection.query(`SELECT ${calls.join(", ")}`, Object.entries(PINNED).flat());
        const { encoding } = await connection.row<{ encoding: string }>("SELECT getdatabaseencoding() AS encoding");
        return await use({ database: connection, encoding });
      },
    );
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

/** Templates are left out: a connection to one makes every CREATE DATABASE fail. */
async function listDatabases(database: Database): Promise<string[]> {
  const rows = await database.query<{ datname: string }>(
    "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname",
  );
  return rows.map((row) => row.datname);
}

async function askAll(session: Session, database: string | null, questions: readonly Question[]) {
  const answers: ManifestAnswer[] = [];
  for (const question of questions) {
    const { sql } = question;
    const of = ofQuestion(database, question);
    answers.push(
      await attempt(of, () =>
        session.database.row(digestSql(`SELECT * FROM (${sql}) AS q(line)`, "line"), [session.encoding]),
      ),
    );
  }
  return answers;
}

async function askQueries(session: Session, queries: readonly UserQuery[]) {
  const answers: ManifestAnswer[] = [];
  for (const query of queries) {
    answers.push(
      await attempt(ofQuery(query), () =>
        inQueryTransaction(session.database, () => session.database.row(userQueryDigestSql(query), [session.encoding])),
      ),
    );
  }
  return answers;
}

/** `question` of every user query; their id tells them apart. */
export const QUERY_QUESTION = "query";

export const queryId = (query: UserQuery) => `${query.database}: query "${query.name}"`;

type Asked = Pick<ManifestAnswer, "id" | "database" | "question">;

const ofQuestion = (database: string | null, { name }: Question): Asked => ({
  id: database === null ? name : `${database}: ${name}`,
  database,
  question: name,
});

const ofQuery = (query: UserQuery): Asked => ({
  id: queryId(query),
  database: query.database,
  question: QUERY_QUESTION,
});

const unanswered = (of: Asked, problem: NonNullable<ManifestAnswer["problem"]>): ManifestAnswer => ({
  ...of,
  count: 0,
  digest: "",
  problem,
});

async function attempt(of: Asked, ask: () => Promise<Record<string, string | null>>): Promise<ManifestAnswer> {
  for (let n = 1; ; n++) {
    try {
      const { count, digest } = await ask();
      return { ...of, count: Number(count), digest: digest ?? "" };
    } catch (error) {
      const state = sqlState(error);
      if (isConnectionLost(error)) throw error;
      // "cache lookup failed" and the like: the catalog changed under the question.
      if (state === "XX000" && n < ATTEMPTS) continue;
      return unanswered(of, { sqlState: state, message: messageOf(error) });
    }
  }
}

async function mapLimited<T, R>(items: readonly T[], limit: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = new Array(items.length);
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as T);
    }
  };
  const settled = await Promise.allSettled(Array.from({ length: Math.min(limit, items.length) }, worker));
  const failed = settled.find((result) => result.status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
  return results;
}

/** Equal at S1 and S2 is proof; anything else, also what was answered only once, was in motion. */
export function mergeManifest(s1: readonly ManifestAnswer[], s2: readonly ManifestAnswer[]): ManifestEntry[] {
  const before = new Map(s1.map((answer) => [answer.id, answer]));
  const after = new Map(s2.map((answer) => [answer.id, answer]));
  return [...new Map([...before, ...after]).values()].map(({ id, database, question, count, digest }) => {
    const [a, b] = [before.get(id), after.get(id)];
    const same = a !== undefined && b !== undefined && a.digest !== "" && a.digest === b.digest && a.count === b.count;
    return { id, database, question, count, digest, moved: !same };
  });
}

export interface ManifestComparison {
  /** Entries that were answered exactly as on the source. */
  equal: number;
  /** Entries that were in motion on the source: they prove nothing. */
  moved: number;
  different: { id: string; expectedCount: number; foundCount: number }[];
  /** Ids that the source answered and nobody answers here, such as those of a database that is not there. */
  missing: string[];
  /** Ids that are answered here and were not on the source. */
  unexpected: string[];
  /** Questions that failed here. */
  unanswered: { id: string; message: string }[];
}

export function compareManifest(
  entries: readonly ManifestEntry[],
  answers: readonly ManifestAnswer[],
): ManifestComparison {
  const found = new Map(answers.map((answer) => [answer.id, answer]));
  const known = new Set(entries.map((entry) => entry.id));
  const result: ManifestComparison = {
    equal: 0,
    moved: 0,
    different: [],
    missing: [],
    unexpected: answers.filter((answer) => !known.has(answer.id)).map((answer) => answer.id),
    unanswered: [],
  };
  for (const entry of entries) {
    const answer = found.get(entry.id);
    if (entry.moved) result.moved++;
    else if (answer === undefined) result.missing.push(entry.id);
    else if (answer.problem !== undefined) result.unanswered.push({ id: entry.id, message: answer.problem.message });
    else if (answer.digest === entry.digest && answer.count === entry.count) result.equal++;
    else result.different.push({ id: entry.id, expectedCount: entry.count, foundCount: answer.count });
  }
  return result;
}
