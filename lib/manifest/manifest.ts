/** Everything that the source says about itself, asked twice with the target in between; and its restore once. */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf, RestoreError } from "../errors.ts";
import { sqlState } from "../io/database.ts";
import type { UserQuery } from "../options.ts";
import { isConnectionLost } from "../postgres/connection-error.ts";
import type { Conninfo } from "../postgres/conninfo.ts";
import { type CollationMismatch, type KnownVersions, readCollationMismatches } from "./collations.ts";
import { type Horizon, readHorizon } from "./horizon.ts";
import { askObjects, movedObjects, type Problem, type QuestionAnswers, unanswered } from "./objects.ts";
import { askQuery, type QueryAnswer } from "./queries.ts";
import { readSequences, type SequenceValue } from "./sequences.ts";
import { type Session, type SessionOptions, withManifestSession } from "./session.ts";
import {
  columnsSql,
  digestRangesSql,
  listTables,
  NO_COLUMNS,
  type RangeDigest,
  readColumns,
  readRangeDigests,
  TABLE_DATA_SINCE,
  type TableColumns,
  type TableSize,
} from "./table-data.ts";
import { planRanges, type Range } from "./table-plan.ts";

/** Where cluster-wide questions are asked. */
const CLUSTER_DATABASE = "postgres";

export interface AskOptions extends SessionOptions {
  queries: readonly UserQuery[];
  /** Whose tables together are larger has no rows of them counted: see `QueryOptions`. */
  mostBytes(query: UserQuery): number | null;
  /** Some at the same time. */
  eachDatabase(names: readonly string[], work: (name: string) => Promise<void>): Promise<unknown>;
}

export interface SnapshotOptions extends AskOptions {
  /** Bytes of tables to read; null is all of them. */
  budgetBytes: number | null;
  /** For reading tables, in milliseconds; what is not reached by then is not covered. */
  timeLimitMs: number;
}

export interface TableAnswer {
  table: TableSize;
  ranges: RangeDigest[];
  /** Ranges that were planned and not read. */
  left: number;
  problem?: string;
}

/** What was asked of one database, or of the cluster. */
export interface Snapshot {
  objects: QuestionAnswers[];
  sequences: { database: string; values: SequenceValue[] }[];
  queries: QueryAnswer[];
  tables: TableAnswer[];
  /** By database: what changed since the horizon, with all that depends on it. */
  moved: Map<string, Set<string>>;
  /** Of the first snapshot. */
  collations: (CollationMismatch & { database: string })[];
  /** What could not be asked. */
  problems: { database: string | null; what: string; why: string }[];
}

export interface Basis {
  horizon: Horizon;
  /** Chooses the ranges and goes into every digest; text of a 63-bit integer. */
  seed: string;
  /** On a restore: rows from this transaction ID on are its own. */
  nextXid?: string;
}

/** Before the first snapshot. Throws SOURCE_UNREACHABLE when it cannot connect. */
export async function beginManifest(conninfo: Conninfo, options: SessionOptions): Promise<Basis> {
  const horizon = await withManifestSession(conninfo, CLUSTER_DATABASE, options, (s) => readHorizon(s.database));
  return { horizon, seed: (randomBytes(8).readBigUInt64BE() >> 1n).toString() };
}

/** `first`: what was asked then is asked again, and no other table. */
export async function takeSnapshot(
  conninfo: Conninfo,
  basis: Basis,
  options: SnapshotOptions,
  first?: Snapshot,
): Promise<Snapshot> {
  const snapshot = emptySnapshot();
  const versions: KnownVersions = new Map();
  const databases = await withManifestSession(conninfo, CLUSTER_DATABASE, options, listDatabases);
  const inEach = (use: Use, names: readonly string[] = databases) => askEach(conninfo, names, options, snapshot, use);
  // First, and by themselves: the second time as soon after the target as can be.
  await inEach((session, name) => askSequences(snapshot, session, name));
  await askCluster(conninfo, basis, options, snapshot);
  await inEach(async (session, name) => {
    await askDatabase(snapshot, session, name, basis, options);
    if (first !== undefined) return;
    await part(snapshot, name, "versions of collations", async () => {
      const mismatches = await readCollationMismatches(session.database, versions);
      snapshot.collations.push(...mismatches.map((mismatch) => ({ database: name, ...mismatch })));
    });
    if (session.serverVersion < TABLE_DATA_SINCE) {
      snapshot.problems.push({ database: name, what: "table rows", why: "needs PostgreSQL 14" });
      return;
    }
    await part(snapshot, name, "tables", async () => {
      for (const table of await listTables(session.database, name))
        snapshot.tables.push({ table, ranges: [], left: 0 });
    });
  });
  const plan =
    first === undefined ? planTables(snapshot.tables, options.budgetBytes, basis.seed) : again(first, snapshot);
  const deadline = performance.now() + options.timeLimitMs;
  const withTables = [...new Set(snapshot.tables.map((t) => t.table.database))];
  await inEach(async (session, name) => {
    await session.database.query("SET enable_seqscan = off");
    const names = first === undefined ? null : await namesOf(session);
    const answers = snapshot.tables.filter((t) => t.table.database === name);
    await part(snapshot, name, "table rows", async () => {
      for (let at = 0; at < answers.length; at += TABLES_PER_STATEMENT) {
        const batch = answers.slice(at, at + TABLES_PER_STATEMENT);
        const sql = columnsSql(batch.map(({ table }) => table.oid));
        const columns = readColumns(await session.database.query(sql));
        for (const answer of batch) {
          const { oid, name: known } = answer.table;
          // Renamed, or dropped and made anew: another table by this name.
          if (names !== null && names.get(oid) !== known) continue;
          await readTable(session, answer, columns.get(oid) ?? NO_COLUMNS, plan.get(answer) ?? [], basis, deadline);
        }
      }
    });
  }, withTables);
  return snapshot;
}

type Use = (session: Session, name: string) => Promise<void>;

const askEach = (
  conninfo: Conninfo,
  names: readonly string[],
  options: AskOptions,
  snapshot: Snapshot,
  use: Use,
): Promise<unknown> =>
  options.eachDatabase(names, async (name) => {
    try {
      await withManifestSession(conninfo, name, options, (session) => use(session, name));
    } catch (error) {
      await explainDatabase(conninfo, name, options, error, snapshot);
    }
  });

const askSequences = (snapshot: Snapshot, { database }: Session, name: string) =>
  part(snapshot, name, "sequences", async () => {
    snapshot.sequences.push({ database: name, values: await readSequences(database) });
  });

const askCluster = (conninfo: Conninfo, { horizon }: Basis, options: SessionOptions, snapshot: Snapshot) =>
  withManifestSession(conninfo, CLUSTER_DATABASE, options, async (session) => {
    snapshot.objects.push(...(await askObjects(session, null, horizon.xid)));
  });

async function askDatabase(
  snapshot: Snapshot,
  session: Session,
  name: string,
  basis: Basis,
  { queries, mostBytes }: AskOptions,
): Promise<void> {
  const horizon = basis.horizon.xid;
  snapshot.objects.push(...(await askObjects(session, name, horizon)));
  await part(snapshot, name, "what moved", async () => {
    snapshot.moved.set(name, await movedObjects(session, horizon));
  });
  for (const query of queries.filter((q) => q.database === name)) {
    const limits = { horizon, nextXid: basis.nextXid ?? null, mostBytes: mostBytes(query) };
    snapshot.queries.push(await askQuery(session, query, limits));
  }
}

/**
 * Just before the target: a sequence leaves no trace of who set it, so one that is set there and back is only seen by looking
 * often. Those that changed since the first snapshot are taken out of it.
 */
export async function confirmSequences(conninfo: Conninfo, first: Snapshot, options: SnapshotOptions): Promise<void> {
  for (const entry of first.sequences.filter(({ values }) => values.length > 0)) {
    const now = await withManifestSession(conninfo, entry.database, options, (s) => readSequences(s.database)).catch(
      () => [],
    );
    options.signal?.throwIfAborted();
    const states = new Set(now.map((value) => `${value.name} ${value.state}`));
    entry.values = entry.values.filter((value) => states.has(`${value.name} ${value.state}`));
  }
}

/** Everything but the tables' rows, of a restore. */
export async function askRestored(conninfo: Conninfo, basis: Basis, options: AskOptions): Promise<Snapshot> {
  const snapshot = emptySnapshot();
  const databases = await withManifestSession(conninfo, CLUSTER_DATABASE, options, listDatabases);
  await askEach(conninfo, databases, options, snapshot, async (session, name) => {
    await askSequences(snapshot, session, name);
    await askDatabase(snapshot, session, name, basis, options);
  });
  await askCluster(conninfo, basis, options, snapshot);
  return snapshot;
}

const emptySnapshot = (): Snapshot => ({
  objects: [],
  sequences: [],
  queries: [],
  tables: [],
  moved: new Map(),
  collations: [],
  problems: [],
});

/** Templates are left out: a connection to one makes every CREATE DATABASE fail. */
export async function listDatabases({ database }: Session): Promise<string[]> {
  const rows = await database.query<{ datname: string }>(
    "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY datname",
  );
  return rows.map((row) => row.datname);
}

async function part(snapshot: Snapshot, database: string, what: string, ask: () => Promise<void>): Promise<void> {
  try {
    await ask();
  } catch (error) {
    if (isConnectionLost(error)) throw error;
    snapshot.problems.push({ database, what, why: messageOf(error) });
  }
}

/** The server is there, but the files or catalogs of one database are not as they should be. */
const UNUSABLE_DATABASE = /^(3D000|55000|58...|XX...)$/;

/** Dropped meanwhile: in motion, not an error. */
async function explainDatabase(
  conninfo: Conninfo,
  name: string,
  options: SessionOptions,
  error: unknown,
  snapshot: Snapshot,
): Promise<void> {
  options.signal?.throwIfAborted();
  // DROP DATABASE … (FORCE) ends our session before the database is gone from the list, not always with a word.
  const root = rootOf(error);
  const limit = performance.now() + (sqlState(root) === "57P01" || isConnectionLost(root) ? GONE_LIMIT_MS : 0);
  const isListed = async () =>
    (await withManifestSession(conninfo, CLUSTER_DATABASE, options, listDatabases)).includes(name);
  while (performance.now() < limit && (await isListed())) await sleep(200);
  if (!(await withManifestSession(conninfo, CLUSTER_DATABASE, options, listDatabases)).includes(name)) return;
  const cause = rootOf(error);
  const problem: Problem = { sqlState: sqlState(cause), message: messageOf(error) };
  if (!UNUSABLE_DATABASE.test(problem.sqlState ?? "")) throw error;
  if (!snapshot.objects.some((o) => o.database === name)) snapshot.objects.push(...unanswered(name, problem));
  snapshot.problems.push({ database: name, what: "the database", why: problem.message });
}

const rootOf = (error: unknown) => (error instanceof RestoreError ? error.cause : error);

const GONE_LIMIT_MS = 5000;

function planTables(
  tables: readonly TableAnswer[],
  budgetBytes: number | null,
  seed: string,
): Map<TableAnswer, readonly Range[]> {
  const planned = tables.map(({ table }) => ({
    key: JSON.stringify([table.database, table.name]),
    blocks: table.blocks,
    bytesPerBlock: table.blocks === 0 ? 8192 : Math.max(8192, table.bytes / table.blocks),
  }));
  const ranges = planRanges(planned, budgetBytes, seed);
  return new Map(tables.map((answer, i) => [answer, ranges[i] ?? []]));
}

async function namesOf({ database }: Session): Promise<Map<string, string>> {
  const rows = await database.query<{ oid: string; name: string }>(
    `SELECT c.oid::text, format('%I.%I', n.nspname, c.relname) AS name
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm')`,
  );
  return new Map(rows.map((row) => [row.oid, row.name]));
}

function again(first: Snapshot, snapshot: Snapshot): Map<TableAnswer, readonly Range[]> {
  const plan = new Map<TableAnswer, readonly Range[]>();
  for (const { table, ranges, left, problem } of first.tables) {
    const answer: TableAnswer = { table, ranges: [], left, ...(problem === undefined ? {} : { problem }) };
    snapshot.tables.push(answer);
    plan.set(answer, ranges);
  }
  return plan;
}

/** Whose columns are asked at once. */
const TABLES_PER_STATEMENT = 200;
/** A statement holds its lock and its snapshot only that long. */
const RANGES_PER_STATEMENT = 32;

async function readTable(
  session: Session,
  answer: TableAnswer,
  columns: TableColumns,
  ranges: readonly Range[],
  { horizon, seed }: Basis,
  deadline: number,
): Promise<void> {
  for (let at = 0; at < ranges.length; at += RANGES_PER_STATEMENT) {
    const batch = ranges.slice(at, at + RANGES_PER_STATEMENT);
    if (performance.now() > deadline) {
      answer.left += ranges.length - at;
      return;
    }
    try {
      const table = { name: answer.table.name, ...columns };
      const sql = digestRangesSql(table, batch, { horizon: horizon.xid, seed, nextXid: null });
      answer.ranges.push(...readRangeDigests(batch, await session.database.query(sql)));
    } catch (error) {
      if (isConnectionLost(error)) throw error;
      // Locked, dropped or altered: somebody is at work on it. Or this role may not read it.
      answer.left += ranges.length - at;
      answer.problem = messageOf(error);
      return;
    }
  }
}
