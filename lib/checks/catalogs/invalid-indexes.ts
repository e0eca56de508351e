/** Indexes that are not used or not kept up: an interrupted CREATE INDEX CONCURRENTLY leaves such, so it only warns. */

import { type Check, EVERY_LEVEL } from "../check.ts";
import { askEveryDatabase, type CatalogFacts, judgeCatalogs } from "./catalogs.ts";

export const invalidIndexes: Check<CatalogFacts> = {
  id: "invalid-indexes",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  collect: (edge) =>
    askEveryDatabase(edge, async (database, name) => {
      const rows = await database.query<{ object: string; kind: string; valid: string; ready: string; live: string }>(
        SQL,
      );
      return {
        findings: [],
        notes: rows.map((row) => ({ database: name, object: `index ${row.object}`, what: describeState(row) })),
      };
    }),
  judge: (facts) =>
    judgeCatalogs("invalid-indexes", facts, {
      good: facts.notes.length > 0 ? "indexes were looked at" : "every index is valid",
      meaning: "",
      noted:
        "these indexes are not used by queries; one of a unique constraint is not enforced. A build was interrupted on the " +
        "source or at the point of recovery: REINDEX INDEX, or drop and create them again",
    }),
};

export function describeState({
  kind,
  valid,
  ready,
  live,
}: Record<"kind" | "valid" | "ready" | "live", string>): string {
  if (kind === "I") return "is not valid: some partition has no index of its own attached";
  if (live !== "true") return "was being dropped";
  return ready === "true" && valid !== "true" ? "is not valid" : "is not ready: rows are not put into it";
}

const SQL = `
SELECT format('%I.%I on %I', n.nspname, c.relname, t.relname) AS object, c.relkind AS kind,
       i.indisvalid::text AS valid, i.indisready::text AS ready, i.indislive::text AS live
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_class AS t ON t.oid = i.indrelid
 WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
 ORDER BY 1`;
