/**
 * Functions of PostgreSQL's contrib libraries, made callable without CREATE EXTENSION: as functions in pg_temp of a
 * transaction that is rolled back. Signatures from contrib/<library>/*.sql of PostgreSQL 15.
 */

const FUNCTIONS = {
  amcheck: {
    bt_index_check: "(index regclass, heapallindexed boolean) RETURNS void",
    bt_index_parent_check: "(index regclass, heapallindexed boolean, rootdescend boolean) RETURNS void",
    verify_heapam:
      "(relation regclass, on_error_stop boolean, check_toast boolean, skip text, startblock bigint, endblock bigint, " +
      "OUT blkno bigint, OUT offnum integer, OUT attnum integer, OUT msg text) RETURNS SETOF record",
  },
  /** PostgreSQL 17 and later: older ones would not read what is told to them. */
  amcheck_unique: {
    bt_index_check_unique: "(index regclass, heapallindexed boolean, checkunique boolean) RETURNS void",
    bt_index_parent_check_unique:
      "(index regclass, heapallindexed boolean, rootdescend boolean, checkunique boolean) RETURNS void",
  },
  pageinspect: {
    get_raw_page: "(text, text, int8) RETURNS bytea",
    page_checksum: "(page bytea, blkno int8) RETURNS smallint",
  },
  pg_prewarm: {
    pg_prewarm: "(regclass, mode text, fork text, first_block int8, last_block int8) RETURNS int8",
  },
  pg_visibility: {
    pg_check_visible: "(regclass, t_ctid OUT tid) RETURNS SETOF tid",
    pg_check_frozen: "(regclass, t_ctid OUT tid) RETURNS SETOF tid",
  },
} as const;

export type Tool = keyof typeof FUNCTIONS;

const LIBRARIES: Partial<Record<Tool, string>> = { amcheck_unique: "amcheck" };

/** C names that differ from the SQL ones. */
const SYMBOLS: Readonly<Record<string, string>> = {
  get_raw_page: "get_raw_page_fork_1_9",
  page_checksum: "page_checksum_1_9",
  bt_index_check_unique: "bt_index_check",
  bt_index_parent_check_unique: "bt_index_parent_check",
};

/** These take NULL for a block number. */
const NOT_STRICT = new Set(["verify_heapam", "pg_prewarm"]);

/** One text of statements for a session. */
export function toolSql(tool: Tool): string {
  return Object.entries(FUNCTIONS[tool])
    .map(([name, signature]) => {
      const symbol = SYMBOLS[name] ?? name;
      const strict = NOT_STRICT.has(name) ? "" : " STRICT";
      const library = LIBRARIES[tool] ?? tool;
      return `CREATE FUNCTION pg_temp.${name}${signature} AS '$libdir/${library}', '${symbol}' LANGUAGE C${strict}`;
    })
    .join("; ");
}
