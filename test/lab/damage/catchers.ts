/** The product's checks by what they look at: the one place that knows their names. */

export const CATCHERS = {
  /** Page checksums, while the instance is stopped. */
  checksums: ["page-checksums"],
  /** Every row can be read. */
  rows: ["table-data"],
  /** Rows are the source's. */
  data: ["table-data", "queries"],
  heap: ["heap"],
  indexes: ["btree", "index-entries", "index-answers", "pages"],
  files: ["relation-files", "pages"],
  maps: ["visibility-map", "heap"],
  transactions: ["row-status", "transaction-files", "heap"],
  constraints: ["constraints"],
  catalogs: ["catalog-references", "builtin-rows", "schema-dump"],
  libraries: ["libraries"],
  collations: ["collations"],
  sequences: ["sequences", "sequence-values"],
  largeObjects: ["large-objects", "table-data"],
  objects: ["manifest"],
  /** The server does not start, or guard will not touch it. */
  start: ["start", "guard"],
} as const satisfies Record<string, readonly string[]>;
