/**
 * Tables by block range: a number of rows and a digest. A physical restore keeps every row version where it was, so place
 * (`ctid`) and maker (`xmin`) are digested with the values. Only rows older than the horizon count (see horizon.ts).
 */

import type { Database } from "../io/database.ts";
import { precedes } from "./horizon.ts";
import { LOCKED_RELATIONS } from "./question.ts";
import type { Range } from "./table-plan.ts";

export interface TableSize {
  database: string;
  oid: string;
  /** `public.orders`, as SQL wants it. */
  name: string;
  blocks: number;
  /** With TOAST and its index. */
  bytes: number;
}

/** What is digested of a table; asked when it is read, because of very many tables it is a lot of text. */
export interface TableColumns {
  /** SQL, for ROW(…): place, maker and values. */
  row: string;
  /** SQL: the values of varying length alone, which may be compressed or elsewhere; empty when there are none. */
  values: string;
}

export interface RangeDigest extends Range {
  /** Rows older than the horizon. */
  count: number;
  /** Of these rows, 16 hexadecimal digits; 0 when there is none. */
  digest: string;
  /** Of these rows, those that somebody since the horizon deletes or locks; counted on the source only. */
  unsettled: number;
  /** Rows that no transaction of the source before the target can have made; counted on a restore only. */
  newer: number;
}

/** TID range scans and extended hashes of records: https://www.postgresql.org/docs/release/14.0/ */
export const TABLE_DATA_SINCE = 140_000;

/**
 * Types whose own extended hash covers the value. All others, such as json, xml and geometric ones, are hashed as text: some
 * have no hash, and some types of extensions have one that takes different values for equal.
 */
const HASHED = [
  "bool", "bytea", "char", "name", "int8", "int2", "int4", "text", "oid", "float4", "float8", "bpchar", "varchar", "date",
  "time", "timestamp", "timestamptz", "interval", "timetz", "numeric", "uuid", "inet", "cidr", "macaddr", "jsonb",
]; // biome-ignore format: a list

/** Extensions whose tables detaching changes, so that their jobs do not run. */
const DETACHED_EXTENSIONS = ["pg_cron", "timescaledb"];

const COLUMN = `
CASE WHEN t.typtype = 'e' OR (t.typnamespace = 'pg_catalog'::regnamespace AND t.typname IN (${HASHED.map((n) => `'${n}'`).join(", ")}))
     THEN format('t.%I', a.attname)
     -- As a number: its text depends on what can be found by name.
     WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typname ~ '^reg' THEN format('t.%I::oid', a.attname)
     ELSE format('t.%I::text', a.attname) END`;

const TABLES = "pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_am AS m ON m.oid = c.relam";

/** Of pg_class c, pg_namespace n and pg_am m: not foreign, unlogged or temporary ones, nor the mark's own. */
export const WITH_ROWS_OF_PEOPLE = `
c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND (c.relkind = 'r' OR c.relispopulated) AND m.amname = 'heap'
AND ((n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'patroni_restore'))
     OR c.oid = 'pg_largeobject'::regclass)
AND c.oid NOT IN (
  SELECT d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
   WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
     AND e.extname IN (${DETACHED_EXTENSIONS.map((name) => `'${name}'`).join(", ")}))`;

/** Every table with rows of people. */
export async function listTables(database: Database, name: string): Promise<TableSize[]> {
  const rows = await database.query<Record<string, string>>(`
SELECT c.oid::text AS oid, format('%I.%I', n.nspname, c.relname) AS name,
       (CASE WHEN l.relation IS NULL THEN pg_relation_size(c.oid) / current_setting('block_size')::int
             ELSE greatest(c.relpages, 0) END)::text AS blocks,
       (CASE WHEN l.relation IS NULL THEN coalesce(pg_table_size(c.oid), 0)
             ELSE greatest(c.relpages, 0)::int8 * current_setting('block_size')::int END)::text AS bytes
  FROM ${TABLES}
  LEFT JOIN (SELECT DISTINCT relation FROM (${LOCKED_RELATIONS}) AS locked) AS l ON l.relation = c.oid
 WHERE ${WITH_ROWS_OF_PEOPLE} ORDER BY c.oid`);
  return rows.map((row) => ({
    database: name,
    oid: row.oid as string,
    name: row.name as string,
    blocks: Number(row.blocks),
    bytes: Number(row.bytes),
  }));
}

/** For `readColumns`. Without parameters. */
export const columnsSql = (oids: readonly string[]) => `
SELECT a.attrelid::text AS oid, concat_ws(', ', 't.ctid', 't.xmin', string_agg(${COLUMN}, ', ' ORDER BY a.attnum)) AS row,
       string_agg(${COLUMN}, ', ' ORDER BY a.attnum) FILTER (WHERE a.attlen < 0) AS values
  FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE a.attrelid IN (${oids.join(", ")}) AND a.attnum > 0 AND NOT a.attisdropped GROUP BY a.attrelid`;

/** By OID. */
export const readColumns = (rows: readonly Record<string, string | null>[]): Map<string, TableColumns> =>
  new Map(rows.map(({ oid, row, values }) => [oid ?? "", { row: row ?? NO_COLUMNS.row, values: values ?? "" }]));

/** Of a table that has none, which its rows do not mind. */
export const NO_COLUMNS: TableColumns = { row: "t.ctid, t.xmin", values: "" };

/** What tells a restore's own rows from the source's: none of the source's before the target is from `nextXid` on. */
export interface DigestOptions {
  horizon: string;
  seed: string;
  nextXid: string | null;
}

export type DigestedTable = Pick<TableSize, "name"> & TableColumns;

/**
 * One row per range, in its order: `count`, `digest`, `unsettled`, `newer`. Without parameters. One sub-select that is planned
 * once and run for each range: as a UNION of them, planning took a fifth of the whole.
 */
export function digestRangesSql(table: DigestedTable, ranges: readonly Range[], options: DigestOptions): string {
  const { horizon, seed, nextXid } = options;
  const isRestore = nextXid !== null;
  const busy = isRestore ? "false" : `old AND NOT ${precedes("xmax", horizon)}`;
  // A newer row that passes for old makes another digest. Not ahead of the present either: rows that were frozen long ago keep
  // IDs that come round again.
  const newer = isRestore ? `NOT old AND NOT ${precedes("xmin", nextXid)} AND age(xmin) >= 0` : "false";
  const bounds = ranges.map(({ from, to }, i) => `(${i}, '(${from},0)'::tid, '(${to ?? END_OF_BLOCKS},0)'::tid)`);
  // OFFSET 0 keeps the inner expressions from being computed once for each use.
  return `
SELECT found[1] AS count, found[2] AS digest, found[3] AS unsettled, found[4] AS newer
  FROM (SELECT i, (
    SELECT ARRAY[(count(*) FILTER (WHERE old))::text,
                 lpad(to_hex(coalesce(bit_xor(hash) FILTER (WHERE old), 0)), 16, '0'),
                 (count(*) FILTER (WHERE ${busy}))::text, (count(*) FILTER (WHERE ${newer}))::text]
      FROM (SELECT hash_record_extended(ROW(${table.row}), ${seed}) AS hash, ${precedes("t.xmin", horizon)} AS old,
                   t.xmin, t.xmax
              FROM ONLY ${table.name} AS t WHERE t.ctid >= range.low AND t.ctid < range.high OFFSET 0) AS row) AS found
          FROM (VALUES ${bounds.join(", ")}) AS range (i, low, high) OFFSET 0) AS answers
 ORDER BY i`;
}

/** No block has this number (storage/block.h, InvalidBlockNumber). */
const END_OF_BLOCKS = 0xffff_ffff;

/**
 * Reads every value of a range that is more than bits in its row, and says how many rows there are. `serverVersion` as in
 * `server_version_num`.
 */
export function readRangeSql(table: DigestedTable, range: Range, serverVersion: number): string {
  const record = `ROW(${table.values})`;
  const hash =
    table.values === ""
      ? "0"
      : serverVersion < TABLE_DATA_SINCE
        ? `max(hashtext(${record}::text))`
        : `bit_xor(hash_record_extended(${record}, 0))`;
  return `SELECT count(*)::text AS count, ${hash}::text AS digest FROM ONLY ${table.name} AS t WHERE ${condition(range)}`;
}

function condition({ from, to }: Range): string {
  const lower = `t.ctid >= '(${from},0)'::tid`;
  return to === null ? lower : `${lower} AND t.ctid < '(${to},0)'::tid`;
}

export function readRangeDigests(
  ranges: readonly Range[],
  rows: readonly Record<string, string | null>[],
): RangeDigest[] {
  return ranges.map((range, i) => ({
    ...range,
    count: Number(rows[i]?.count),
    digest: rows[i]?.digest ?? "",
    unsettled: Number(rows[i]?.unsettled),
    newer: Number(rows[i]?.newer),
  }));
}
