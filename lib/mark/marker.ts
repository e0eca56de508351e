/**
 * The bookkeeping of restore tests on the source: one row before the target (marker), one after it (fence). Both are
 * restored with the data, so that the restored instance tells by itself where its recovery stopped.
 */

import type { Database } from "../io/database.ts";

/** The database that every cluster has. */
export const MARKER_DATABASE = "postgres";
export const MARKER_SCHEMA = "patroni_restore";

/** The comment on the schema: a schema of the same name without it belongs to somebody else. */
export const SCHEMA_TAG = "patroni-restore: bookkeeping of restore tests, version 1";

/** `schema`: null when it does not exist. */
export const FIND_SCHEMA_SQL = `
SELECT pg_catalog.obj_description(n.oid, 'pg_namespace') AS comment,
       o.rolname AS owner,
       (o.rolsuper OR o.rolname = current_user) AS owner_is_trusted,
       coalesce(bool_and(pg_catalog.has_schema_privilege(n.oid, 'USAGE')
         AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
         AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
         AND pg_catalog.has_table_privilege(c.oid, 'DELETE')) FILTER (WHERE c.relname IN ('marker', 'fence')), false) AS writable,
       count(c.oid) FILTER (WHERE c.relname IN ('marker', 'fence') AND c.relkind = 'r'
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid)
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid)) AS tables
  FROM pg_catalog.pg_namespace AS n
  JOIN pg_catalog.pg_roles AS o ON o.oid = n.nspowner
  LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid
 WHERE n.nspname = '${MARKER_SCHEMA}'
 GROUP BY n.oid, o.rolname, o.rolsuper`;

/** What `FIND_SCHEMA_SQL` found. */
export interface FoundSchema {
  comment: string | null;
  owner: string;
  /** Owned by a superuser or by the role that marks; anybody else's tables could run code as the role that marks. */
  ownerIsTrusted: boolean;
  writable: boolean;
  /** How many of the two tables are there as plain tables without triggers or rules. */
  tables: number;
}

export async function findSchema(database: Database): Promise<FoundSchema | null> {
  const [row] = await database.query(FIND_SCHEMA_SQL);
  if (row === undefined) return null;
  return {
    comment: row.comment ?? null,
    owner: row.owner ?? "",
    ownerIsTrusted: row.owner_is_trusted === "t",
    writable: row.writable === "t",
    tables: Number(row.tables),
  };
}

/** The sentence for a schema that must not be touched; null when it is ours or absent. */
export function judgeSchema(schema: FoundSchema | null, role: string): { message: string; hint: string } | null {
  if (schema === null) return null;
  if (schema.comment !== SCHEMA_TAG) {
    return {
      message: `schema ${MARKER_SCHEMA} exists and is not ours (no comment tag)`,
      hint: `rename or drop it in database ${MARKER_DATABASE}; nothing was touched`,
    };
  }
  if (!schema.ownerIsTrusted) {
    return {
      message: `schema ${MARKER_SCHEMA} belongs to "${schema.owner}", which is neither a superuser nor the role that marks`,
      hint: "give it to the role that marks with ALTER SCHEMA … OWNER TO, its tables too, after a look at what is in it",
    };
  }
  if (schema.tables !== 2) {
    return {
      message: `schema ${MARKER_SCHEMA} does not hold the two plain tables marker and fence`,
      hint: `somebody changed them; drop the schema in database ${MARKER_DATABASE} and the next mark makes it anew`,
    };
  }
  if (!schema.writable) {
    return {
      message: `role "${role}" may not write the markers in schema ${MARKER_SCHEMA}`,
      hint:
        `GRANT USAGE ON SCHEMA ${MARKER_SCHEMA} and GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA ${MARKER_SCHEMA} ` +
        `to it, or mark as "${schema.owner}" or a superuser`,
    };
  }
  return null;
}

/** Any constant serves; it only has to be the same for every mark. */
const CREATION_LOCK = 7_236_218_001;

/** Creates the schema if it is missing. Safe when several marks run at once: they wait for each other. */
export async function ensureSchema(database: Database): Promise<void> {
  if ((await findSchema(database)) !== null) return;
  await database.query("BEGIN");
  try {
    await database.query(`SELECT pg_catalog.pg_advisory_xact_lock(${CREATION_LOCK})`);
    if ((await findSchema(database)) === null) {
      await database.query(CREATE_SCHEMA_SQL);
      for (const { statement } of await database.query<{ statement: string }>(REVOKE_DEFAULTS_SQL)) {
        await database.query(statement);
      }
    }
    await database.query("COMMIT");
  } catch (error) {
    await database.query("ROLLBACK").catch(() => {});
    throw error;
  }
}

const CREATE_SCHEMA_SQL = `
CREATE SCHEMA ${MARKER_SCHEMA};
COMMENT ON SCHEMA ${MARKER_SCHEMA} IS '${SCHEMA_TAG}';
CREATE TABLE ${MARKER_SCHEMA}.marker (id pg_catalog.text PRIMARY KEY, marked_at pg_catalog.timestamptz NOT NULL);
CREATE TABLE ${MARKER_SCHEMA}.fence (id pg_catalog.text PRIMARY KEY, fenced_at pg_catalog.timestamptz NOT NULL)`;

/** ALTER DEFAULT PRIVILEGES of the source may have granted the new objects to anybody. */
const REVOKE_DEFAULTS_SQL = `
SELECT format('REVOKE ALL ON SCHEMA ${MARKER_SCHEMA} FROM %s', grantee) AS statement
  FROM (SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
          FROM pg_namespace AS n, aclexplode(n.nspacl) AS a
         WHERE n.nspname = '${MARKER_SCHEMA}' AND a.grantee <> n.nspowner
        UNION SELECT 'PUBLIC') AS g(grantee)
UNION ALL
SELECT format('REVOKE ALL ON ALL TABLES IN SCHEMA ${MARKER_SCHEMA} FROM %s', grantee)
  FROM (SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
          FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace, aclexplode(c.relacl) AS a
         WHERE n.nspname = '${MARKER_SCHEMA}' AND a.grantee <> c.relowner
        UNION SELECT 'PUBLIC') AS g(grantee)`;

/** `YYYY-MM-DD HH24:MI:SS.US+00`: the only form that loses nothing between PostgreSQL and pgBackRest. */
const asTargetTime = (expression: string) =>
  `pg_catalog.to_char(${expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'`;

export const CLOCK_SQL = `SELECT ${asTargetTime("pg_catalog.clock_timestamp()")} AS time`;

/** Times differ by at least a millisecond from one step to the next, whatever the clock's resolution. */
export const WAIT_A_TICK_SQL = "SELECT pg_catalog.pg_sleep(0.002)";

const insertSql = (table: "marker" | "fence", column: string) =>
  `INSERT INTO ${MARKER_SCHEMA}.${table} (id, ${column}) VALUES ($1, pg_catalog.clock_timestamp()) ` +
  `RETURNING ${asTargetTime(column)} AS time`;

const pruneSql = (table: "marker" | "fence", column: string) =>
  `DELETE FROM ${MARKER_SCHEMA}.${table} WHERE ${column} < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)`;

/** Inserts and commits the marker, and prunes what is older than `keepMs`. Returns the row's time. */
export async function insertMarker(database: Database, id: string, keepMs: number): Promise<string> {
  await database.query("BEGIN");
  try {
    await database.query(pruneSql("marker", "marked_at"), [keepMs / 1000]);
    await database.query(pruneSql("fence", "fenced_at"), [keepMs / 1000]);
    const { time } = await database.row<{ time: string }>(insertSql("marker", "marked_at"), [id]);
    await database.query("COMMIT");
    return time;
  } catch (error) {
    await database.query("ROLLBACK").catch(() => {});
    throw error;
  }
}

/** Inserts and commits the fence. Returns the row's time. */
export async function insertFence(database: Database, id: string): Promise<string> {
  const { time } = await database.row<{ time: string }>(insertSql("fence", "fenced_at"), [id]);
  return time;
}

/** For the checks of a restored instance: the marker's and the fence's time by id, null where there is no such row. */
export const FIND_MARKER_SQL = `
SELECT (SELECT ${asTargetTime("marked_at")} FROM ${MARKER_SCHEMA}.marker WHERE id = $1) AS marked_at,
       (SELECT ${asTargetTime("fenced_at")} FROM ${MARKER_SCHEMA}.fence WHERE id = $1) AS fenced_at`;

/** Without a receipt: the newest marker, no row when there is none. */
export const NEWEST_MARKER_SQL = `
SELECT id, ${asTargetTime("marked_at")} AS marked_at FROM ${MARKER_SCHEMA}.marker ORDER BY marked_at DESC, id DESC LIMIT 1`;

/** Sortable, unique, and valid as the tail of a restore point's name: `20261122T233501Z-1a2b3c4d`. */
export function markerId(sourceTime: string, random: Uint8Array): string {
  const compact = sourceTime.slice(0, 19).replace(/[-:]/g, "").replace(" ", "T");
  return `${compact}Z-${Buffer.from(random.subarray(0, 4)).toString("hex")}`;
}

/** Name of the restore point between marker and fence (PostgreSQL allows 63 bytes). */
export const restorePointName = (id: string) => `patroni-restore-${id}`;
