/** Questions to the catalogs, generated from what PostgreSQL tells of itself: references, and dependencies by class. */

import { quoteIdentifier, quoteLiteral } from "../../io/database.ts";

export interface Catalog {
  name: string;
  oid: string;
  shared: boolean;
  /** Type names by column. */
  columns: Record<string, string>;
}

/** What pg_get_catalog_foreign_keys() tells. */
export interface ForeignKey {
  table: string;
  columns: string[];
  referenced: string;
  referencedColumns: string[];
  /** The last column is an array, each of whose elements is a reference. */
  array: boolean;
  /** Zero means "none". */
  optional: boolean;
}

export const CATALOGS_SQL = `
SELECT c.relname AS name, c.oid::text AS oid, c.relisshared::text AS shared,
       json_object_agg(a.attname, t.typname)::text AS columns
  FROM pg_class AS c
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE c.relnamespace = 11 AND c.relkind = 'r' AND c.oid < 16384
 GROUP BY c.oid, c.relname, c.relisshared
 ORDER BY c.oid`;

export const catalogsOf = (rows: readonly Record<keyof Catalog, string>[]): Catalog[] =>
  rows.map((row) => ({
    name: row.name,
    oid: row.oid,
    shared: row.shared === "true",
    columns: JSON.parse(row.columns),
  }));

export const FOREIGN_KEYS_SQL = `
SELECT f.relname AS "table", to_json(k.fkcols)::text AS columns,
       p.relname AS referenced, to_json(k.pkcols)::text AS "referencedColumns",
       k.is_array::text AS "array", k.is_opt::text AS optional
  FROM pg_get_catalog_foreign_keys() AS k
  JOIN pg_class AS f ON f.oid = k.fktable
  JOIN pg_class AS p ON p.oid = k.pktable
 WHERE f.relkind = 'r' AND p.relkind = 'r'`;

/** Per statement and question: enough to act on, and a database in ruins does not flood the report. */
const MOST = 50;

/** Those to ask for. */
export function referencesToAsk(
  keys: readonly ForeignKey[],
  catalogs: readonly Catalog[],
  { cluster, serverVersion }: { cluster: boolean; serverVersion: number },
): ForeignKey[] {
  const byName = new Map(catalogs.map((c) => [c.name, c]));
  return keys.filter((key) => {
    const catalog = byName.get(key.table);
    if (catalog === undefined || !byName.has(key.referenced)) return false;
    if (catalog.shared && !cluster) return false;
    // As large as the data: the check of large objects asks.
    if (key.table === "pg_largeobject") return false;
    // DROP ROLE forgot the grantor until 16.
    return !(key.table === "pg_auth_members" && key.columns[0] === "grantor" && serverVersion < 160_000);
  });
}

/** Whole rows, by name; null when there is nothing to ask. */
export function foreignKeysSql(keys: readonly ForeignKey[], catalogs: readonly Catalog[]): string | null {
  const byName = new Map(catalogs.map((c) => [c.name, c]));
  if (keys.length === 0) return null;
  return keys.map((key) => foreignKeySql(key, byName.get(key.table) as Catalog)).join("\nUNION ALL\n");
}

const isByOid = (key: ForeignKey) => key.columns.length === 1 && key.referencedColumns[0] === "oid";

/**
 * Which of these keys have a reference that leads nowhere, by position: all the references meet all the objects in a single
 * join, where 200 joins, a hash table for each, would be planned and filled for nothing.
 */
export function brokenKeysSql(keys: readonly ForeignKey[], catalogs: readonly Catalog[]): string {
  const oidOf = (name: string) => `${catalogs.find((c) => c.name === name)?.oid}::oid`;
  const all = keys.map((key, i) => ({ key, i }));
  const byOid = all.filter(({ key }) => isByOid(key));
  const referenced = [...new Set(byOid.map(({ key }) => key.referenced))];
  const objects = referenced.map(
    (name) => `SELECT ${oidOf(name)} AS class, oid AS object FROM ${quoteIdentifier(name)}`,
  );
  const references = byOid.map(({ key, i }) => {
    const [value] = valuesOf(key) as [string];
    const { from, where } = referencing(key);
    return `SELECT ${i} AS key, ${oidOf(key.referenced)} AS class, ${value}::oid AS object ${from} WHERE ${where}`;
  });
  const others = all
    .filter(({ key }) => !isByOid(key))
    .map(({ key, i }) => `SELECT ${i} AS key WHERE EXISTS (${leadsNowhere(key)})`);
  const questions = [...others];
  if (byOid.length > 0) {
    questions.push(`SELECT r.key FROM (${references.join("\nUNION ALL\n")}) AS r
 WHERE NOT EXISTS (SELECT FROM (${objects.join(" UNION ALL ")}) AS o WHERE o.class = r.class AND o.object = r.object)`);
  }
  return `SELECT DISTINCT key::text AS key FROM (${questions.join("\nUNION ALL\n")}) AS broken`;
}

function valuesOf(key: ForeignKey): string[] {
  const last = key.columns.length - 1;
  return key.columns.map((column, i) => (key.array && i === last ? "element.value" : `fk.${quoteIdentifier(column)}`));
}

/** The rows that refer to something at all. */
function referencing(key: ForeignKey): { from: string; where: string } {
  const elements = key.array
    ? ` CROSS JOIN LATERAL unnest(fk.${quoteIdentifier(key.columns.at(-1) as string)}) AS element(value)`
    : "";
  return {
    from: `FROM ${quoteIdentifier(key.table)} AS fk${elements}`,
    where: valuesOf(key)
      .map((v) => `${v} IS NOT NULL${key.optional ? ` AND ${v} <> 0` : ""}`)
      .join(" AND "),
  };
}

/** The rows whose reference leads nowhere. */
function leadsNowhere(key: ForeignKey, select = ""): string {
  const { from, where } = referencing(key);
  const value = valuesOf(key);
  const matches = key.referencedColumns.map((column, i) => `pk.${quoteIdentifier(column)} = ${value[i]}`);
  return `SELECT ${select} ${from} WHERE ${where}
   AND NOT EXISTS (SELECT FROM ${quoteIdentifier(key.referenced)} AS pk WHERE ${matches.join(" AND ")})`;
}

function foreignKeySql(key: ForeignKey, catalog: Catalog): string {
  const last = key.columns.length - 1;
  const shown = valuesOf(key).map((v, i) => (i < last || isNumber(catalog, key, i) ? `${v}::text` : `${v}::oid::text`));
  const target = key.referencedColumns.map((column, i) => `'${column} ' || ${shown[i]}`).join(" || ', ' || ");
  const select = `${quoteLiteral(key.table)} AS catalog, ${describeRow(catalog, "fk", key)} AS object,
  ${quoteLiteral(`its ${key.columns.join(", ")} leads to no row of ${key.referenced}: `)} || ${target} AS what, 'false' AS note`;
  return `(${leadsNowhere(key, select)} LIMIT ${MOST})`;
}

/** regproc and the like would be looked up to be shown; they are oids in the first place. */
const isNumber = (catalog: Catalog, key: ForeignKey, index: number) =>
  /^_?int|^int2vector/.test(catalog.columns[key.columns[index] as string] ?? "");

/** `orders (OID 16401)`, or its reference columns for a catalog without OIDs. */
function describeRow(catalog: Catalog, alias: string, key: ForeignKey): string {
  const name = Object.entries(catalog.columns).find(([, type]) => type === "name")?.[0];
  const parts = name === undefined ? [] : [`${alias}.${quoteIdentifier(name)}::text`];
  if ("oid" in catalog.columns) {
    parts.push(`'(OID ' || ${alias}.oid || ')'`);
  } else {
    const id = Object.keys(catalog.columns).find((column) => /^(attrelid|starelid|.*oid|.*id)$/.test(column));
    const column = id ?? (key.columns[0] as string);
    parts.push(`${quoteLiteral(`(${column} `)} || ${alias}.${quoteIdentifier(column)}::oid || ')'`);
  }
  return parts.join(" || ' ' || ");
}

interface Dependency {
  catalog: string;
  side: string;
  classColumn: string;
  objectColumn: string;
  subColumn: string | null;
  where: string;
  note: boolean;
  cluster: boolean;
}

/** Classes of the objects are rows of pg_class themselves, so no foreign key can say what they point to. */
const DEPENDENCIES: readonly Dependency[] = [
  dependency("pg_depend", "", { subColumn: "objsubid", where: "d.deptype <> 'p'" }),
  dependency("pg_depend", "ref", { subColumn: "refobjsubid", where: "d.deptype <> 'p'" }),
  dependency("pg_shdepend", "", {
    where: "d.deptype <> 'p' AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
  }),
  dependency("pg_shdepend", "", { where: "d.deptype <> 'p' AND d.dbid = 0", cluster: true }),
  dependency("pg_shdepend", "ref", { where: "true", cluster: true }),
  dependency("pg_description", "", { classColumn: "classoid", objectColumn: "objoid", subColumn: "objsubid" }),
  dependency("pg_seclabel", "", { classColumn: "classoid", objectColumn: "objoid", subColumn: "objsubid" }),
  // Harmless when left over: only pg_dump reads it, by its object.
  dependency("pg_init_privs", "", { classColumn: "classoid", objectColumn: "objoid", note: true }),
  dependency("pg_shdescription", "", { classColumn: "classoid", objectColumn: "objoid", cluster: true }),
  dependency("pg_shseclabel", "", { classColumn: "classoid", objectColumn: "objoid", cluster: true }),
];

/** pg_shdepend is shared, but its rows belong to a database each. */
export const DEPENDENCY_CATALOGS: ReadonlySet<string> = new Set(["pg_shdepend"]);

function dependency(catalog: string, prefix: string, rest: Partial<Dependency>): Dependency {
  return {
    catalog,
    side: prefix === "ref" ? "the object it refers to" : "its object",
    classColumn: `${prefix}classid`,
    objectColumn: `${prefix}objid`,
    subColumn: null,
    where: "true",
    note: false,
    cluster: false,
    ...rest,
  };
}

export function dependencySql(catalogs: readonly Catalog[], cluster: boolean): string {
  const objects = catalogs
    .filter((c) => "oid" in c.columns)
    .map((c) => `SELECT ${c.oid}::oid AS class, oid AS object FROM ${quoteIdentifier(c.name)}`);
  // Large objects go by the catalog of their pages: 2613 is pg_largeobject.
  objects.push("SELECT 2613::oid, oid FROM pg_largeobject_metadata");
  const questions = DEPENDENCIES.filter((d) => cluster || !d.cluster).flatMap((d) => {
    const name = `(SELECT relname FROM pg_class AS c WHERE c.oid = d.${d.classColumn})`;
    const row = `coalesce(${name}::text, 'class ' || d.${d.classColumn}) || ' ' || d.${d.objectColumn}`;
    const shown =
      d.catalog === "pg_depend" && d.classColumn === "refclassid"
        ? `'dependency of ' || coalesce((SELECT relname FROM pg_class AS c WHERE c.oid = d.classid)::text, 'class ' || d.classid) || ' ' || d.objid || ' on ' || ${row}`
        : d.subColumn === null
          ? row
          : `${row} || CASE WHEN d.${d.subColumn} <> 0 THEN ', column ' || d.${d.subColumn} ELSE '' END`;
    const ask = (where: string, what: string) => `(SELECT '${d.catalog}' AS catalog, ${shown} AS object,
  ${quoteLiteral(what)} AS what, '${d.note}' AS note FROM ${d.catalog} AS d WHERE ${d.where} AND ${where} LIMIT ${MOST})`;
    const missing = ask(
      `NOT EXISTS (SELECT FROM objects AS o WHERE o.class = d.${d.classColumn} AND o.object = d.${d.objectColumn})`,
      `${d.side} does not exist`,
    );
    if (d.subColumn === null) return [missing];
    const column = ask(
      `d.${d.classColumn} = 1259 AND d.${d.subColumn} <> 0 AND NOT EXISTS (SELECT FROM pg_attribute AS a
        WHERE a.attrelid = d.${d.objectColumn} AND a.attnum = d.${d.subColumn})`,
      `the column of ${d.side} does not exist`,
    );
    return [missing, column];
  });
  return `WITH objects AS MATERIALIZED (${objects.join(" UNION ALL ")})\n${questions.join("\nUNION ALL\n")}`;
}
