/** Rows of the catalogs belong together: a row that others point to, or that every object of its kind has, is there. */

import type { Database } from "../../io/database.ts";
import { type Check, EVERY_LEVEL } from "../check.ts";
import {
  brokenKeysSql,
  CATALOGS_SQL,
  type Catalog,
  catalogsOf,
  DEPENDENCY_CATALOGS,
  dependencySql,
  FOREIGN_KEYS_SQL,
  type ForeignKey,
  foreignKeysSql,
  referencesToAsk,
} from "./catalog-references-sql.ts";
import { rulesSql } from "./catalog-rules-sql.ts";
import { askEveryDatabase, type CatalogAnswer, type CatalogFacts, judgeCatalogs, WITHOUT_INDEXES } from "./catalogs.ts";

export interface CatalogReferencesFacts extends CatalogFacts {
  /** The server tells its references since PostgreSQL 14. */
  withReferences: boolean;
}

export const catalogReferences: Check<CatalogReferencesFacts> = {
  id: "catalog-references",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  collect: async (edge) => ({
    ...(await askEveryDatabase(edge, (database, name, cluster) =>
      readReferences(database, name, cluster, edge.serverVersion),
    )),
    withReferences: edge.serverVersion >= REFERENCES_SINCE,
  }),
  judge: ({ withReferences, ...facts }) =>
    judgeCatalogs("catalog-references", facts, {
      good: withReferences
        ? "every reference between catalogs leads to its row, and every object has the rows of its kind"
        : "every dependency leads to its object and every object has the rows of its kind (references between catalogs were " +
          "not asked for, which needs PostgreSQL 14)",
      meaning:
        "rows of the catalogs are missing, so objects of these databases are lost or cannot be used. Restore again from an " +
        "older backup; if the source answers the same, the damage is on the source (see the rows named here)",
      noted:
        "compare with the source: privileges of dropped objects are left over there too and nothing is lost by them; labels of " +
        "an enum are gone there too only if somebody deleted them by hand",
    }),
};

/** pg_get_catalog_foreign_keys() */
const REFERENCES_SINCE = 140_000;

interface Row {
  catalog: string;
  object: string;
  what: string;
  note: string;
}

export async function readReferences(
  database: Database,
  name: string,
  cluster: boolean,
  serverVersion: number,
): Promise<CatalogAnswer> {
  await database.query(WITHOUT_INDEXES);
  const catalogs = catalogsOf(await database.query<Record<keyof Catalog, string>>(CATALOGS_SQL));
  const keys =
    serverVersion >= REFERENCES_SINCE ? await database.query<Record<keyof ForeignKey, string>>(FOREIGN_KEYS_SQL) : [];
  const references = keys.map(
    (key): ForeignKey => ({
      table: key.table,
      columns: JSON.parse(key.columns),
      referenced: key.referenced,
      referencedColumns: JSON.parse(key.referencedColumns),
      array: key.array === "true",
      optional: key.optional === "true",
    }),
  );
  const asked = referencesToAsk(references, catalogs, { cluster, serverVersion });
  const broken = asked.length === 0 ? [] : await database.query<{ key: string }>(brokenKeysSql(asked, catalogs));
  const statement = foreignKeysSql(
    broken.map(({ key }) => asked[Number(key)] as ForeignKey),
    catalogs,
  );
  const rows: Row[] = [];
  if (statement !== null) rows.push(...(await database.query<Row & object>(statement)));
  rows.push(...(await database.query<Row & object>(dependencySql(catalogs, cluster))));
  rows.push(...(await database.query<Row & object>(rulesSql(serverVersion))));
  const shared = new Set(catalogs.filter((c) => c.shared).map((c) => c.name));
  const found = (noted: boolean) =>
    rows
      .filter((row) => (row.note === "true") === noted)
      .map(({ catalog, object, what }) => ({
        database: shared.has(catalog) && !DEPENDENCY_CATALOGS.has(catalog) ? null : name,
        object: `${catalog}: ${object}`,
        what,
      }));
  return { findings: found(false), notes: found(true), counts: { references: asked.length } };
}
