/** Collations whose recorded version is not the one of this machine's libraries. */

import { type Database, sqlState } from "../io/database.ts";

export interface CollationVersion {
  oid: string;
  /** `collation public."de"`, or `the default collation`. */
  name: string;
  /** False for the database's default, which pg_database records. */
  own: boolean;
  recorded: string;
  actual: string | null;
  /** It cannot be used on this machine at all. */
  error: string | null;
}

export interface CollationMismatch {
  name: string;
  recorded: string;
  actual: string;
}

type Version = Pick<CollationVersion, "actual" | "error">;

/** By provider and locale: the same in every database, and ICU takes a millisecond for each of its hundreds. */
export type KnownVersions = Map<string, Version>;

/** All that has a version recorded. */
export async function readCollationVersions(database: Database, known: KnownVersions): Promise<CollationVersion[]> {
  const rows = await database.query<{ oid: string; name: string; recorded: string; own: string; locale: string }>(SQL);
  const asked = [...new Map(rows.filter((row) => !known.has(row.locale)).map((row) => [row.locale, row])).values()];
  const versions = await askVersions(database, asked);
  for (const [i, { locale }] of asked.entries()) known.set(locale, versions[i] as Version);
  return rows.map(({ oid, name, recorded, own, locale }) => ({
    oid,
    name,
    recorded,
    own: own === "true",
    ...(known.get(locale) as Version),
  }));
}

/** On the source: what an upgrade of its libraries has left behind. */
export async function readCollationMismatches(
  database: Database,
  known: KnownVersions = new Map(),
): Promise<CollationMismatch[]> {
  return (await readCollationVersions(database, known)).filter(differs).map(describeMismatch);
}

export const differs = ({ recorded, actual, error }: CollationVersion) => error === null && recorded !== actual;

export const describeMismatch = ({ name, recorded, actual }: CollationVersion): CollationMismatch => ({
  name,
  recorded,
  actual: actual ?? "none",
});

/** Columns that are not there in every version are looked up by name. */
const SQL = `
SELECT c.oid::text AS oid, 'collation ' || format('%I.%I', n.nspname, c.collname) AS name, c.collversion AS recorded,
       'true' AS own, c.collprovider::text || ' ' || coalesce(r.row ->> 'colllocale', r.row ->> 'colliculocale', c.collcollate) AS locale
  FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace
 CROSS JOIN LATERAL (SELECT to_jsonb(c) AS row) AS r
 WHERE c.collversion IS NOT NULL AND c.collprovider <> 'd'
   AND c.collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))
UNION ALL
SELECT d.oid::text, 'the default collation', r.row ->> 'datcollversion', 'false',
       'default ' || (r.row ->> 'datlocprovider') || ' '
         || coalesce(r.row ->> 'datlocale', r.row ->> 'daticulocale', d.datcollate)
  FROM pg_database AS d CROSS JOIN LATERAL (SELECT to_jsonb(d) AS row) AS r
 WHERE d.datname = current_database() AND r.row ->> 'datcollversion' IS NOT NULL`;

const versionSql = ({ oid, own }: { oid: string; own: string }) =>
  own === "true" ? `pg_collation_actual_version(${oid})` : `pg_database_collation_actual_version(${oid})`;

/** All at once; one by one when some locale is not known here, which is an error. */
async function askVersions(database: Database, rows: readonly { oid: string; own: string }[]): Promise<Version[]> {
  if (rows.length === 0) return [];
  try {
    const all = rows.map((row, i) => `(${i}, ${versionSql(row)})`).join(", ");
    const found = await database.query<{ actual: string | null }>(
      `SELECT v.actual FROM (VALUES ${all}) AS v(i, actual) ORDER BY v.i`,
    );
    return found.map(({ actual }) => ({ actual, error: null }));
  } catch {
    const versions: Version[] = [];
    for (const row of rows) {
      try {
        const { actual } = await database.row<{ actual: string | null }>(`SELECT ${versionSql(row)} AS actual`);
        versions.push({ actual, error: null });
      } catch (error) {
        // The locale is missing, or ICU is not built in.
        if (!/^(22023|42704|0A000|XX000|58...)$/.test(sqlState(error) ?? "")) throw error;
        versions.push({ actual: null, error: error instanceof Error ? error.message : String(error) });
      }
    }
    return versions;
  }
}
