/** Places the marker on the source and learns there what its restore must look like. */

import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { combineProblems, messageOf, RestoreError } from "../errors.ts";
import { type Database, sqlState, withDatabase } from "../io/database.ts";
import { isWritable, lstatIfExists } from "../io/files.ts";
import type { Log } from "../log.ts";
import { readNextXid } from "../manifest/horizon.ts";
import {
  beginManifest,
  confirmSequences,
  type Snapshot,
  type SnapshotOptions,
  takeSnapshot,
} from "../manifest/manifest.ts";
import { queryId } from "../manifest/queries.ts";
import { mergeSnapshots } from "../manifest/schema.ts";
import { withManifestSession } from "../manifest/session.ts";
import { checkUserQuery } from "../manifest/user-queries.ts";
import type { Settings, UserQuery } from "../options.ts";
import { inParallel } from "../parallel.ts";
import { explainConnectionError, isConnectionLost } from "../postgres/connection-error.ts";
import { type Conninfo, describeConninfo, parseConninfo } from "../postgres/conninfo.ts";
import { lsnToBigInt, walName } from "../postgres/lsn.ts";
import { timeToMicros } from "../postgres/target.ts";
import { formatDuration } from "../units.ts";
import { waitUntilArchived } from "./archiving.ts";
import {
  CLOCK_SQL,
  ensureSchema,
  insertFence,
  insertMarker,
  MARKER_DATABASE,
  markerId,
  restorePointName,
  WAIT_A_TICK_SQL,
} from "./marker.ts";
import { RECEIPT_SCHEMA_VERSION, type Receipt } from "./receipt.ts";
import {
  judgeSource,
  type Problem,
  readIdentity,
  readSourceFacts,
  type SourceFacts,
  sameServer,
  warnAboutSource,
} from "./source.ts";

export interface MarkInput {
  /** libpq connection string of the primary; its `dbname` is of no importance. */
  source: string;
  queries: readonly UserQuery[];
  /** Limit for each statement on the source. */
  timeoutMs: number;
  archiveTimeoutMs: number;
  /** Older markers are removed from the source. */
  keepMarkersMs: number;
  manifest: ManifestInput;
}

/** What describing the source may cost it. */
export interface ManifestInput {
  /** Bytes of tables to read, before the marker and again after the target; null is all of them. */
  budgetBytes: number | null;
  /** For reading tables, each time. */
  timeLimitMs: number;
  connections: number;
}

export const manifestInput = (
  settings: Settings<"manifestBudget" | "manifestTimeout" | "manifestConnections">,
): ManifestInput => ({
  budgetBytes: settings.manifestBudget === "full" ? null : settings.manifestBudget,
  timeLimitMs: settings.manifestTimeout,
  connections: settings.manifestConnections,
});

export interface MarkContext {
  log: Log;
  signal: AbortSignal;
}

/** Waiting for somebody's lock on the tiny tables of the bookkeeping is never worth long. */
const LOCK_TIMEOUT_MS = 10_000;

/**
 * Marker, target, fence, archived: when this returns, a recovery to the receipt's target will find the marker and not the
 * fence. Throws SOURCE_UNREACHABLE for everything about the source, SETTINGS_INVALID for queries that cannot be compared.
 */
export async function mark(input: MarkInput, context: MarkContext): Promise<Receipt> {
  const { log, signal } = context;
  return await withSource(input, context, async (database, conninfo) => {
    const facts = await requireSource(database, conninfo, input, context);
    const options = snapshotOptions(input, signal);

    await ensureSchema(database);
    const basis = await beginManifest(conninfo, options);
    const s1 = await takeSnapshot(conninfo, basis, options);
    requireQueryAnswers(input.queries, s1);
    log.info("mark", "source described", {
      objects: s1.objects.reduce((sum, answers) => sum + answers.objects.length, 0),
      tables: s1.tables.length,
      ranges: s1.tables.reduce((sum, table) => sum + table.ranges.length, 0),
    });

    const { time: now } = await database.row<{ time: string }>(CLOCK_SQL);
    const id = markerId(now, randomBytes(4));
    const markedAt = await insertMarker(database, id, input.keepMarkersMs);
    await confirmSequences(conninfo, s1, options);
    await database.query(WAIT_A_TICK_SQL);
    // Only now: a target at the marker's own time would stop recovery just before the marker's commit.
    const { time } = await database.row<{ time: string }>(CLOCK_SQL);
    const name = restorePointName(id);
    const { lsn } = await database.row<{ lsn: string }>("SELECT pg_create_restore_point($1) AS lsn", [name]);
    log.info("mark", "marker placed", { id, target: time, lsn });

    const s2 = await takeSnapshot(conninfo, basis, options, s1);
    const manifest = await mergeSnapshots(basis, s1, s2, await readNextXid(database));
    warnNotCovered(manifest.not_covered, log);
    await database.query(WAIT_A_TICK_SQL);
    const fencedAt = await insertFence(database, id);
    const { fence_lsn } = await database.row<{ fence_lsn: string }>("SELECT pg_current_wal_lsn() AS fence_lsn");
    requireOrder(markedAt, time, fencedAt);

    const fenceWal = segmentBefore(Number.parseInt(facts.identity.timeline, 16), fence_lsn, facts.walSegmentSize);
    await database.query("SELECT pg_switch_wal()");
    await requireSameServer(conninfo, input, context, facts);
    log.info("mark", "fence placed, waiting until its WAL is archived", { lsn: fence_lsn, wal: fenceWal });
    const startedAt = performance.now();
    await waitUntilArchived(
      database,
      { wal: fenceWal, walSegmentSize: facts.walSegmentSize, timeoutMs: input.archiveTimeoutMs },
      context,
    );
    await requireSameServer(conninfo, input, context, facts);
    log.info("mark", "archived", { wal: fenceWal, after: formatDuration(performance.now() - startedAt) });

    return {
      schema_version: RECEIPT_SCHEMA_VERSION,
      id,
      marked_at: markedAt,
      target: { time, lsn, name },
      fence_wal: fenceWal,
      fence_lsn,
      timeline: Number.parseInt(facts.identity.timeline, 16),
      system_identifier: facts.systemIdentifier,
      server_version: facts.serverVersion,
      server_version_num: facts.serverVersionNum,
      wal_segment_size: facts.walSegmentSize,
      data_checksums: facts.dataChecksums,
      databases: facts.databases,
      superusers: facts.superusers,
      shared_preload_libraries: facts.sharedPreloadLibraries,
      manifest,
      queries: input.queries.map(({ name, database, sql }) => ({ name, database, sql })),
    };
  });
}

/** Everything that `mark` checks before it writes, and nothing else. For a dry run and for preflight. */
export async function checkSource(input: MarkInput, context: MarkContext): Promise<SourceFacts> {
  return await withSource(input, context, async (database, conninfo) => {
    const facts = await requireSource(database, conninfo, input, context);
    const options = snapshotOptions(input, context.signal);
    const basis = await beginManifest(conninfo, options);
    requireQueryAnswers(input.queries, await takeSnapshot(conninfo, basis, options));
    return facts;
  });
}

async function withSource<T>(
  input: MarkInput,
  { signal }: MarkContext,
  use: (database: Database, conninfo: Conninfo) => Promise<T>,
): Promise<T> {
  const conninfo = readConninfo(input.source);
  try {
    return await connectToSource(conninfo, input, signal, (database) => use(database, conninfo));
  } catch (error) {
    if (error instanceof RestoreError) throw error;
    throw explainSourceError(error, conninfo, input.timeoutMs);
  }
}

const connectToSource = <T>(
  conninfo: Conninfo,
  input: MarkInput,
  signal: AbortSignal,
  use: (database: Database) => Promise<T>,
) =>
  withDatabase(
    conninfo,
    {
      database: MARKER_DATABASE,
      statementTimeoutMs: input.timeoutMs,
      signal,
      settings: {
        // A synchronous standby that is away must not hold the marker; statement_timeout would not end that wait.
        synchronous_commit: "local",
        lock_timeout: String(Math.min(input.timeoutMs, LOCK_TIMEOUT_MS)),
        search_path: "",
      },
    },
    use,
  );

function readConninfo(source: string): Conninfo {
  try {
    return parseConninfo(source);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `--source: ${messageOf(error)}`, {
      hint: 'write it as "host=db1 port=5432 user=postgres"',
    });
  }
}

function explainSourceError(error: unknown, conninfo: Conninfo, timeoutMs: number): unknown {
  const state = sqlState(error);
  const place = describeConninfo(conninfo) || "the default place";
  const fail = (message: string, hint?: string) =>
    new RestoreError("SOURCE_UNREACHABLE", message, { hint, cause: error });
  if (isConnectionLost(error) || ["28P01", "28000", "3D000", "53300"].includes(state ?? "")) {
    // A TypeError and its like are bugs of ours and keep their stack.
    if (state === undefined && error instanceof Error && error.constructor !== Error && !("code" in error))
      return error;
    const { message, hint } = explainConnectionError(error, conninfo);
    return fail(`cannot reach the source (${place}): ${message}`, hint);
  }
  switch (state) {
    case "57014":
      return fail(`a statement on the source did not end within ${timeoutMs / 1000} s`, "raise --timeout");
    case "55P03":
      return fail(
        `a lock on the bookkeeping of the source was not granted within ${Math.min(timeoutMs, LOCK_TIMEOUT_MS) / 1000} s`,
        "look in pg_locks for who holds it",
      );
    case "42501":
      return fail(`the source refused: ${messageOf(error)}`, "grant what it names, or mark as a superuser");
    case "25006":
      return fail(`the source is read-only: ${messageOf(error)}`, "connect to the primary");
    case "53100":
      return fail(`the source has no space left: ${messageOf(error)}`);
  }
  return fail(`the source refused: ${messageOf(error)}`);
}

/** Throws all problems at once; nothing was changed. */
async function requireSource(
  database: Database,
  conninfo: Conninfo,
  input: MarkInput,
  { log, signal }: MarkContext,
): Promise<SourceFacts> {
  const facts = await readSourceFacts(database);
  const sourceProblems = judgeSource(facts);
  const queryProblems = await checkQueries(conninfo, input, facts.databases, signal);
  const problems = [...sourceProblems, ...queryProblems];
  if (problems.length > 0) {
    throw combineProblems(sourceProblems.length > 0 ? "SOURCE_UNREACHABLE" : "SETTINGS_INVALID", problems);
  }
  for (const warning of warnAboutSource(facts)) log.warn("mark", warning);
  return facts;
}

async function checkQueries(
  conninfo: Conninfo,
  input: MarkInput,
  databases: readonly string[],
  signal: AbortSignal,
): Promise<Problem[]> {
  const problems: Problem[] = duplicates(input.queries.map(queryId)).map((id) => ({
    message: `two queries have the same name: ${id}`,
    hint: "rename one of them",
  }));
  for (const name of new Set(input.queries.map((query) => query.database))) {
    const queries = input.queries.filter((query) => query.database === name);
    if (!databases.includes(name)) {
      for (const query of queries) {
        problems.push({
          message: `query "${query.name}" asks database "${name}", which the source does not have`,
          hint: `its databases are ${databases.join(", ")}`,
        });
      }
      continue;
    }
    const options = { statementTimeoutMs: input.timeoutMs, signal };
    await withManifestSession(conninfo, name, options, async (session) => {
      for (const query of queries) {
        problems.push(...(await checkUserQuery(session.database, session.encoding, query)));
      }
    });
  }
  return problems;
}

const duplicates = (items: readonly string[]) => [...new Set(items.filter((item, i) => items.indexOf(item) !== i))];

function requireQueryAnswers(queries: readonly UserQuery[], { queries: answers }: Snapshot): void {
  const answered = new Set(answers.map(queryId));
  const problems = [
    ...answers
      .filter((a) => a.problem !== undefined)
      .map((a) => ({ message: `${queryId(a)} failed: ${a.problem?.message}` })),
    ...queries.filter((q) => !answered.has(queryId(q))).map((q) => ({ message: `${queryId(q)} got no answer` })),
  ];
  if (problems.length > 0) throw combineProblems("SOURCE_UNREACHABLE", problems);
}

const snapshotOptions = (input: MarkInput, signal: AbortSignal): SnapshotOptions => ({
  ...input.manifest,
  eachDatabase: (names, work) => inParallel(names, input.manifest.connections, work),
  queries: input.queries,
  mostBytes: () => input.manifest.budgetBytes,
  statementTimeoutMs: input.timeoutMs,
  signal,
});

/** It proves nothing about the restore; that is not to happen in silence. */
function warnNotCovered(list: Receipt["manifest"]["not_covered"], log: Log): void {
  for (const { database, what, why } of list) {
    log.warn("mark", `not covered: ${what}${database === null ? "" : ` of database "${database}"`}: ${why}`);
  }
}

/**
 * The segment that holds the last byte before `lsn`. A record that ends exactly on a boundary lies in the segment before it;
 * pg_walfile_name() says so before PostgreSQL 17 and says otherwise since.
 */
export function segmentBefore(timeline: number, lsn: string, segmentSize: number): string {
  return walName(timeline, (lsnToBigInt(lsn) - 1n) / BigInt(segmentSize), segmentSize);
}

/** A clock that was set back in between would put marker or fence on the wrong side of the target. */
export function requireOrder(markedAt: string, target: string, fencedAt: string): void {
  if (timeToMicros(markedAt) < timeToMicros(target) && timeToMicros(target) < timeToMicros(fencedAt)) return;
  throw new RestoreError(
    "SOURCE_UNREACHABLE",
    `the source's clock went backwards: marker ${markedAt}, target ${target}, fence ${fencedAt}`,
    { hint: "wait until its time is synchronised, then mark again" },
  );
}

/** On a new connection, because the one that is open stays with a server that lost its role or its address. */
async function requireSameServer(
  conninfo: Conninfo,
  input: MarkInput,
  { signal }: MarkContext,
  facts: SourceFacts,
): Promise<void> {
  const identity = await connectToSource(conninfo, input, signal, readIdentity);
  if (sameServer(identity, facts.identity)) return;
  const describe = (i: SourceFacts["identity"]) =>
    `system identifier ${i.systemIdentifier}, timeline ${i.timeline || "none (in recovery)"}, started ${i.startedAt}`;
  throw new RestoreError(
    "SOURCE_UNREACHABLE",
    `the source restarted or failed over while it was marked: ${describe(facts.identity)} became ${describe(identity)}`,
    { hint: "mark again; connect to one server and not to a pool of several" },
  );
}

/** Before the source is touched: a mark without a receipt is for nothing. Throws PREFLIGHT_FAILED. */
export async function requireWritable(path: string): Promise<void> {
  const directory = dirname(path);
  const found = await lstatIfExists(path);
  const parent = await lstatIfExists(directory);
  const why = found?.isDirectory()
    ? "it is a directory"
    : parent === undefined
      ? `directory ${directory} does not exist`
      : (await isWritable(directory))
        ? null
        : `directory ${directory} is not writable`;
  if (why !== null) throw new RestoreError("PREFLIGHT_FAILED", `cannot write the receipt ${path}: ${why}`);
}
