/** Makes the schema what this program needs, whoever else does the same at this moment. */

import { RestoreError } from "../../errors.ts";
import { type Database, quoteIdentifier, sqlState } from "../../io/database.ts";
import type { Log } from "../../log.ts";
import { MIGRATIONS, SCHEMA } from "./schema.ts";
import { LOCK_CLASS, LOCKS } from "./session.ts";

/** xid8. */
const OLDEST_SERVER = 13;

/** The number of the newest migration that was applied; null without our schema or an empty one. Throws when it is no good. */
export async function schemaVersion(db: Database): Promise<number | null> {
  const state = await db.row(
    `SELECT current_setting('server_version_num') AS server,
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1) AS relations,
       (SELECT count(*) FROM information_schema.columns
         WHERE table_schema = $1 AND table_name = 'migrations' AND column_name IN ('version', 'applied_at')) AS columns,
       has_schema_privilege(to_regnamespace($1), 'USAGE') AS usage`,
    [SCHEMA],
  );
  if (Number(state.server) < OLDEST_SERVER * 10_000) {
    throw new RestoreError("SETTINGS_INVALID", `the record needs PostgreSQL ${OLDEST_SERVER} or newer`);
  }
  if (state.usage === "f") throw await notAllowed(db, `GRANT USAGE ON SCHEMA ${SCHEMA}`);
  if (Number(state.relations) === 0) return null;
  // information_schema shows only what the role may use.
  if (Number(state.columns) !== 2) {
    const isThere = await db.row("SELECT to_regclass($1) AS name", [`${SCHEMA}.migrations`]);
    if (isThere.name !== null && (await isCommented(db))) throw await notAllowed(db, GRANT_TABLES);
    throw new RestoreError("SETTINGS_INVALID", `schema ${SCHEMA} is there and is not a record of fleet`, {
      hint: "drop or rename it, or give the record a database of its own",
    });
  }
  const { version } = await db.row(`SELECT max(version) AS version FROM ${SCHEMA}.migrations`);
  if (Number(version) > MIGRATIONS.length) {
    throw new RestoreError(
      "SETTINGS_INVALID",
      `schema ${SCHEMA} has version ${version}, and this program knows ${MIGRATIONS.length} at most`,
      { hint: "run the newest version of fleet that ever used this database, or a newer one" },
    );
  }
  return Number(version);
}

const GRANT_TABLES = `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${SCHEMA}`;

const isCommented = async (db: Database) =>
  (await db.row("SELECT obj_description(to_regnamespace($1), 'pg_namespace') AS text", [SCHEMA])).text === COMMENT;

const COMMENT = "Restore tests of the fleet (patroni-restore)";

/** Applies what is missing, each migration once. `db` is a session of its own, with time enough. */
export async function migrate(db: Database, log: Log): Promise<void> {
  try {
    if ((await schemaVersion(db)) === MIGRATIONS.length) return;
    await db.query("BEGIN");
    await db.query("SELECT pg_advisory_xact_lock($1, $2)", [LOCK_CLASS, LOCKS.migrate]);
    // Again: another scheduler may have done it while this one waited.
    const before = await schemaVersion(db);
    if (before === null) await createSchema(db);
    for (const [index, sql] of MIGRATIONS.entries()) {
      if (index < (before ?? 0)) continue;
      await db.query(sql);
      await db.query("INSERT INTO migrations (version) VALUES ($1)", [index + 1]);
    }
    await db.query("COMMIT");
    if (before !== MIGRATIONS.length) {
      log.info("fleet", `schema ${SCHEMA} is at version ${MIGRATIONS.length}`, { from: before ?? "nothing" });
    }
  } catch (error) {
    if (sqlState(error) !== "42501") throw error;
    await db.query("ROLLBACK");
    throw await notAllowed(db);
  }
}

/** An empty schema that somebody made for us is as good. */
async function createSchema(db: Database): Promise<void> {
  const { name } = await db.row("SELECT to_regnamespace($1) AS name", [SCHEMA]);
  if (name === null) await db.query(`CREATE SCHEMA ${SCHEMA}`);
  const { owned } = await db.row(
    "SELECT pg_has_role(nspowner, 'USAGE') AS owned FROM pg_namespace WHERE nspname = $1",
    [SCHEMA],
  );
  if (owned === "t") await db.query(`COMMENT ON SCHEMA ${SCHEMA} IS '${COMMENT}'`);
  await db.query(
    "CREATE TABLE migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
  );
}

/** Throws unless the role may do what a scheduler does. */
export async function checkPrivileges(db: Database): Promise<void> {
  const { missing } = await db.row(
    `SELECT string_agg(DISTINCT name, ', ' ORDER BY name) AS missing
     FROM unnest('{services,tests,slots,status_changes}'::text[]) AS name,
       unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS privilege
     WHERE NOT has_table_privilege(name::regclass, privilege)`,
  );
  if (missing !== null) throw await notAllowed(db, GRANT_TABLES);
}

async function notAllowed(db: Database, grant?: string): Promise<RestoreError> {
  const row = await db.row(
    "SELECT current_user AS role, current_database() AS database, to_regnamespace($1) AS schema",
    [SCHEMA],
  );
  const role = quoteIdentifier(row.role ?? "");
  const database = quoteIdentifier(row.database ?? "");
  const what = row.schema === null ? `create schema ${SCHEMA}` : `use schema ${SCHEMA}`;
  const owner =
    row.schema === null
      ? `CREATE SCHEMA ${SCHEMA} AUTHORIZATION ${role}; (or: GRANT CREATE ON DATABASE ${database} TO ${role};)`
      : `ALTER SCHEMA ${SCHEMA} OWNER TO ${role};`;
  const hint = grant === undefined ? owner : `${grant} TO ${role};`;
  return new RestoreError("SETTINGS_INVALID", `role ${role} may not ${what} in database ${database}`, {
    hint: `as an administrator of database ${database}: ${hint}`,
  });
}
