/** The service that is marked: what must hold before anything is written to it. */

import { type Database, quoteIdentifier } from "../io/database.ts";
import { type FoundSchema, findSchema, judgeSchema, MARKER_DATABASE, MARKER_SCHEMA } from "./marker.ts";

export interface SourceFacts {
  role: string;
  inRecovery: boolean;
  readOnly: boolean;
  archiveMode: string;
  /** Null when the role may not read it. */
  archiveCommand: string | null;
  archiveLibrary: string | null;
  mayReadSettings: boolean;
  maySwitchWal: boolean;
  mayCreateRestorePoint: boolean;
  mayCreateSchema: boolean;
  /** Databases that accept connections but not from this role. */
  closedDatabases: string[];
  schema: FoundSchema | null;
  archiver: ArchiverFacts;
  /** Null in recovery. */
  timeline: number | null;
  systemIdentifier: string;
  serverVersion: string;
  serverVersionNum: number;
  walSegmentSize: number;
  dataChecksums: boolean;
  databases: string[];
  superusers: string[];
  sharedPreloadLibraries: string;
  identity: ServerIdentity;
  /** The source's clock minus this machine's, in milliseconds, as exact as a round trip allows. */
  clockDifferenceMs: number;
}

/** Of one run of one server: any change means that the answers come from somewhere else. */
export interface ServerIdentity {
  systemIdentifier: string;
  timeline: string;
  startedAt: string;
}

export interface ArchiverFacts {
  lastArchivedWal: string | null;
  lastArchivedAt: string | null;
  lastFailedWal: string | null;
  lastFailedAt: string | null;
  /** The last attempt failed. */
  failing: boolean;
}

const IDENTITY_SQL = `
SELECT c.system_identifier, CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END AS timeline,
       pg_postmaster_start_time() AS started_at
  FROM pg_control_system() AS c`;

export async function readIdentity(database: Database): Promise<ServerIdentity> {
  const row = await database.row<Record<"system_identifier" | "timeline" | "started_at", string>>(IDENTITY_SQL);
  return { systemIdentifier: row.system_identifier, timeline: row.timeline, startedAt: row.started_at };
}

export const sameServer = (a: ServerIdentity, b: ServerIdentity) =>
  a.systemIdentifier === b.systemIdentifier && a.timeline === b.timeline && a.startedAt === b.startedAt;

/** Times in UTC to the second: `2026-11-22 03:12:07+00`. */
const ARCHIVER_SQL = `
SELECT last_archived_wal, last_failed_wal,
       to_char(last_archived_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00' AS last_archived_at,
       to_char(last_failed_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00' AS last_failed_at,
       last_failed_time IS NOT NULL AND last_failed_time > coalesce(last_archived_time, '-infinity') AS failing
  FROM pg_stat_archiver`;

export async function readArchiver(database: Database): Promise<ArchiverFacts> {
  const row = await database.row(ARCHIVER_SQL);
  return {
    lastArchivedWal: row.last_archived_wal ?? null,
    lastArchivedAt: row.last_archived_at ?? null,
    lastFailedWal: row.last_failed_wal ?? null,
    lastFailedAt: row.last_failed_at ?? null,
    failing: row.failing === "t",
  };
}

const FACTS_SQL = `
SELECT current_user AS role,
       pg_is_in_recovery() AS in_recovery,
       current_setting('transaction_read_only')::bool OR current_setting('default_transaction_read_only')::bool AS read_only,
       current_setting('archive_mode') AS archive_mode,
       current_setting('server_version') AS server_version,
       current_setting('server_version_num') AS server_version_num,
       current_setting('data_checksums') AS data_checksums,
       (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') AS wal_segment_size,
       pg_has_role('pg_read_all_settings', 'USAGE') AS may_read_settings,
       has_function_privilege('pg_switch_wal()', 'EXECUTE') AS may_switch_wal,
       has_function_privilege('pg_create_restore_point(text)', 'EXECUTE') AS may_create_restore_point,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       (SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2) AS databases,
       (SELECT json_agg(datname ORDER BY datname) FROM pg_database
         WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 AND NOT has_database_privilege(oid, 'CONNECT')) AS closed_databases,
       (SELECT json_agg(rolname ORDER BY oid) FROM pg_roles WHERE rolsuper AND rolcanlogin) AS superusers,
       extract(epoch FROM clock_timestamp()) * 1000 AS clock_ms`;

const SETTINGS_SQL = `
SELECT current_setting('archive_command') AS archive_command,
       current_setting('archive_library', true) AS archive_library,
       current_setting('shared_preload_libraries') AS shared_preload_libraries`;

export async function readSourceFacts(database: Database): Promise<SourceFacts> {
  const before = Date.now();
  const row = await database.row(FACTS_SQL);
  const after = Date.now();
  const mayReadSettings = row.may_read_settings === "t";
  const settings = mayReadSettings ? await database.row(SETTINGS_SQL) : {};
  const identity = await readIdentity(database);
  const names = (json: string | null | undefined): string[] => JSON.parse(json ?? "null") ?? [];
  return {
    role: row.role ?? "",
    inRecovery: row.in_recovery === "t",
    readOnly: row.read_only === "t",
    archiveMode: row.archive_mode ?? "",
    archiveCommand: settings.archive_command ?? null,
    archiveLibrary: settings.archive_library ?? null,
    mayReadSettings,
    maySwitchWal: row.may_switch_wal === "t",
    mayCreateRestorePoint: row.may_create_restore_point === "t",
    mayCreateSchema: row.may_create_schema === "t",
    closedDatabases: names(row.closed_databases),
    schema: await findSchema(database),
    archiver: await readArchiver(database),
    timeline: identity.timeline === "" ? null : Number.parseInt(identity.timeline, 16),
    systemIdentifier: identity.systemIdentifier,
    serverVersion: row.server_version ?? "",
    serverVersionNum: Number(row.server_version_num),
    walSegmentSize: Number(row.wal_segment_size),
    dataChecksums: row.data_checksums === "on",
    databases: names(row.databases),
    superusers: names(row.superusers),
    sharedPreloadLibraries: settings.shared_preload_libraries ?? "",
    identity,
    clockDifferenceMs: clockDifference(Number(row.clock_ms), before, after),
  };
}

/** Zero when the source's time lies within the round trip. */
export function clockDifference(sourceMs: number, beforeMs: number, afterMs: number): number {
  if (sourceMs < beforeMs) return sourceMs - beforeMs;
  return sourceMs > afterMs ? sourceMs - afterMs : 0;
}

export interface Problem {
  message: string;
  hint?: string | undefined;
}

const STORES_NOTHING = /^\s*(?:(?:\/usr)?\/bin\/)?(?:true|:|exit\s+0|echo\b[^>|&;]*|cd\s+\.)\s*(?:#.*)?$/;

/** Everything that keeps the source from being marked, all at once. Nothing was changed yet. */
export function judgeSource(facts: SourceFacts): Problem[] {
  const problems: Problem[] = [];
  if (facts.inRecovery) {
    problems.push({
      message: "marker must be written to the primary; pg_is_in_recovery() is true",
      hint: "connect to the primary; target_session_attrs and load balancers are no proof of it",
    });
  } else if (facts.readOnly) {
    problems.push({
      message: "marker must be written to the primary; the session is read-only (default_transaction_read_only is on)",
      hint: "somebody made the server, the database or the role read-only, perhaps because its disk is full",
    });
  }
  problems.push(...judgeArchiving(facts));
  if (!facts.inRecovery) problems.push(...judgePrivileges(facts));
  const schemaProblem = judgeSchema(facts.schema, facts.role);
  if (schemaProblem !== null) problems.push(schemaProblem);
  return problems;
}

function judgeArchiving(facts: SourceFacts): Problem[] {
  if (facts.archiveMode === "off") {
    return [
      {
        message: "source does not archive: archive_mode is off, so the marker cannot reach the repository",
        hint: "set archive_mode = on and archive_command, and restart the server",
      },
    ];
  }
  if (!facts.mayReadSettings) return [];
  const { archiveCommand, archiveLibrary } = facts;
  if (!archiveCommand && !archiveLibrary) {
    return [
      {
        message: `source does not archive: archive_mode is ${facts.archiveMode} but archive_command is empty`,
        hint: "set archive_command to pgbackrest --stanza=<stanza> archive-push %p and reload",
      },
    ];
  }
  if (!archiveLibrary && archiveCommand && STORES_NOTHING.test(archiveCommand)) {
    return [
      {
        message: `source does not archive: archive_command "${archiveCommand}" stores nothing`,
        hint: "set archive_command to pgbackrest --stanza=<stanza> archive-push %p and reload",
      },
    ];
  }
  return [];
}

function judgePrivileges(facts: SourceFacts): Problem[] {
  const role = quoteIdentifier(facts.role);
  const needs: [boolean, string, string][] = [
    [facts.mayReadSettings, "read archive_command", `GRANT pg_read_all_settings TO ${role}`],
    [
      facts.mayCreateRestorePoint,
      "create a restore point",
      `GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO ${role}`,
    ],
    [facts.maySwitchWal, "switch WAL", `GRANT EXECUTE ON FUNCTION pg_switch_wal() TO ${role}`],
    [
      facts.mayCreateSchema || facts.schema !== null,
      `create the schema ${MARKER_SCHEMA}`,
      `GRANT CREATE ON DATABASE ${MARKER_DATABASE} TO ${role}`,
    ],
    ...facts.closedDatabases.map((name): [boolean, string, string] => [
      false,
      `connect to database "${name}"`,
      `GRANT CONNECT ON DATABASE ${quoteIdentifier(name)} TO ${role}`,
    ]),
  ];
  return needs
    .filter(([granted]) => !granted)
    .map(([, what, grant]) => ({
      message: `role ${role} may not ${what}`,
      hint: `${grant} in database ${MARKER_DATABASE}, or mark as a superuser`,
    }));
}

/** Sentences that do not stop the mark. */
export function warnAboutSource(facts: SourceFacts): string[] {
  const warnings: string[] = [];
  const { archiver } = facts;
  if (archiver.failing) {
    const since = archiver.lastArchivedAt === null ? "ever" : `since ${archiver.lastArchivedAt}`;
    warnings.push(
      `source has not archived ${since} (last failure ${archiver.lastFailedWal} at ${archiver.lastFailedAt}): ` +
        "recentness cannot pass until it does",
    );
  }
  if (Math.abs(facts.clockDifferenceMs) > 1000) {
    const seconds = (Math.abs(facts.clockDifferenceMs) / 1000).toFixed(1);
    warnings.push(`clocks differ by ${seconds} s; target is taken from the source`);
  }
  return warnings;
}
