/** Large objects: every page belongs to an object and has a size and a number that it can have. */

import type { Check } from "../check.ts";
import { type Coverage, type Finding, judgeFindings, type NotCovered, Tally } from "../findings.ts";
import { unitOf } from "../relations.ts";

export interface LargeObjectFacts {
  findings: Finding[];
  failed: { error: unknown }[];
  notCovered: NotCovered[];
  coverage: Coverage;
}

export interface LargeObjectRow {
  loid: string;
  pages: string;
  orphan: string;
  /** Pages with a negative number. */
  negative: string;
  /** Pages longer than a quarter of a block, which is what a page holds. */
  long: string;
}

/** pg_largeobject */
const PAGES_OID = "2613";

export const largeObjects: Check<LargeObjectFacts> = {
  id: "large-objects",
  claim: "consistency",
  levels: ["standard", "full"],
  stage: "data",
  async collect(edge) {
    const relations = (await edge.relations()).filter((relation) => relation.oid === PAGES_OID && relation.bytes > 0);
    const tally = new Tally<LargeObjectRow[]>((rows, { database }) => rows.map((row) => describeObject(database, row)));
    await edge.pool.work(
      relations.map((relation) => ({ ...unitOf(relation), relation, held: false })),
      (session) => session.query<LargeObjectRow>(SQL),
      ({ relation }, outcome) => tally.add(relation, outcome),
    );
    return tally.sorted();
  },
  judge: (facts) =>
    judgeFindings("large-objects", facts, {
      good: "every page of large objects belongs to one and has its size",
      meaning:
        "large objects are damaged or lost: their contents cannot be read or have no owner. Compare them with the source " +
        "(pg_largeobject_metadata), or restore an older backup",
    }),
};

export function describeObject(database: string, row: LargeObjectRow): Finding {
  const count = (text: string) => (text === "1" ? "1 page" : `${text} pages`);
  const problems = [
    row.orphan === "true" ? `has ${count(row.pages)} and no row in pg_largeobject_metadata` : null,
    row.negative === "0" ? null : `has ${count(row.negative)} with a negative number`,
    row.long === "0" ? null : `has ${count(row.long)} longer than a page can be`,
  ];
  return { database, object: `large object ${row.loid}`, what: problems.filter((p) => p !== null).join("; ") };
}

const SQL = `
SELECT l.loid::text AS loid, count(*)::text AS pages, bool_or(m.oid IS NULL)::text AS orphan,
       count(*) FILTER (WHERE l.pageno < 0)::text AS negative,
       count(*) FILTER (WHERE octet_length(l.data) > s.most)::text AS long
  FROM pg_largeobject AS l
 CROSS JOIN (SELECT current_setting('block_size')::integer / 4 AS most) AS s
  LEFT JOIN pg_largeobject_metadata AS m ON m.oid = l.loid
 WHERE m.oid IS NULL OR l.pageno < 0 OR octet_length(l.data) > s.most
 GROUP BY l.loid
 ORDER BY l.loid`;
