/** Collations sort as they did when they were recorded: an index sorted in another way loses rows. */

import type { Database } from "../../io/database.ts";
import { type CollationVersion, differs, readCollationVersions } from "../../manifest/collations.ts";
import type { Receipt } from "../../mark/receipt.ts";
import { type Check, EVERY_LEVEL, enumerate, plural } from "../check.ts";
import { askEveryDatabase, type CatalogFacts, judgeCatalogs } from "./catalogs.ts";

export interface DifferingCollation extends Pick<CollationVersion, "name" | "recorded" | "actual" | "error"> {
  database: string;
  /** What sorts by it. */
  users: string[];
}

export interface CollationsFacts extends CatalogFacts {
  differing: DifferingCollation[];
}

export const collations: Check<CollationsFacts> = {
  id: "collations",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  async collect(edge) {
    const known = new Map();
    const differing: DifferingCollation[] = [];
    const facts = await askEveryDatabase(edge, async (database, name) => {
      const versions = await readCollationVersions(database, known);
      differing.push(...(await withUsers(database, name, versions)));
      return { findings: [], counts: { collations: versions.length } };
    });
    return { ...facts, differing };
  },
  judge: ({ differing, ...facts }, { receipt }) => {
    const judged = differing.map((collation) => judgeCollation(collation, receipt));
    const of = (bad: boolean) => judged.filter((j) => j.bad === bad).map((j) => j.finding);
    const all = { ...facts, findings: [...facts.findings, ...of(true)], notes: [...facts.notes, ...of(false)] };
    return judgeCatalogs("collations", all, {
      good: "every collation in use has the version that was recorded, or the source's",
      meaning:
        "this image sorts text in another way than the one that built these objects: queries by index may miss rows and " +
        "duplicates may get in. Restore in an image with the source's C library (or ICU), or REINDEX what is named here, then " +
        "ALTER COLLATION (or ALTER DATABASE) … REFRESH VERSION. If the source warns of the same, do it there",
      noted:
        "where the source has the same two versions, REINDEX there what sorts by the collation; then, or where nothing does, " +
        "ALTER COLLATION (or ALTER DATABASE) … REFRESH VERSION",
    });
  },
};

/** Bad unless nothing sorts by it, or the source itself sorts by the same version under the same record. */
export function judgeCollation(collation: DifferingCollation, receipt: Receipt | null) {
  const { database, name, recorded, actual, error, users } = collation;
  // The source is not asked about templates.
  const onSource = (receipt?.manifest.collation_mismatches ?? []).some(
    (m) =>
      (m.database === database || !receipt?.databases.includes(database)) &&
      m.name === name &&
      m.recorded === recorded &&
      m.actual === (actual ?? "none"),
  );
  const same = onSource && error === null;
  const what =
    error !== null
      ? `cannot be used here: ${error}`
      : `version ${recorded} was recorded, here it is ${actual ?? "none"}${same ? " as on the source" : ""}`;
  const used = users.length > 0;
  return {
    bad: used && !same,
    finding: {
      database,
      object: name,
      what: used ? `${what}; ${plural(users.length, "object")} by it: ${enumerate(users, 3)}` : what,
    },
  };
}

async function withUsers(
  database: Database,
  name: string,
  versions: readonly CollationVersion[],
): Promise<DifferingCollation[]> {
  const differing = versions.filter((version) => version.error !== null || differs(version));
  if (differing.length === 0) return [];
  const users = await readUsers(database);
  return differing.map(({ oid, own, ...rest }) => ({
    ...rest,
    database: name,
    // 100 is the collation "default", which stands for the database's.
    users: users.filter((u) => u.collation === (own ? oid : "100")).map((u) => u.object),
  }));
}

/**
 * Indexes that sort (a hash is the same for every deterministic collation, and the pattern operator classes compare bytes),
 * range partitions, and constraints that name the collation.
 */
async function readUsers(database: Database): Promise<{ collation: string; object: string }[]> {
  return database.query(`
SELECT DISTINCT k.coll::text AS "collation", 'index ' || format('%I.%I', n.nspname, c.relname) AS object
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_am AS a ON a.oid = c.relam
 CROSS JOIN LATERAL unnest(i.indcollation::oid[], i.indclass::oid[]) AS k(coll, opclass)
  LEFT JOIN pg_collation AS l ON l.oid = k.coll
  LEFT JOIN pg_opclass AS o ON o.oid = k.opclass
 WHERE k.coll <> 0 AND c.relkind = 'i'
   AND NOT (a.amname = 'hash' AND coalesce(l.collisdeterministic, true))
   AND o.opcname NOT IN ('text_pattern_ops', 'varchar_pattern_ops', 'bpchar_pattern_ops')
UNION
SELECT k.coll::text, 'partitions of ' || format('%I.%I', n.nspname, c.relname)
  FROM pg_partitioned_table AS p
  JOIN pg_class AS c ON c.oid = p.partrelid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL unnest(p.partcollation::oid[]) AS k(coll)
  LEFT JOIN pg_collation AS l ON l.oid = k.coll
 WHERE k.coll <> 0 AND (p.partstrat = 'r' OR NOT coalesce(l.collisdeterministic, true))
UNION
SELECT d.refobjid::text, 'constraint ' || quote_ident(k.conname)
  FROM pg_depend AS d JOIN pg_constraint AS k ON k.oid = d.objid
 WHERE d.classid = 2606 AND d.refclassid = 3456
 ORDER BY 2`);
}
