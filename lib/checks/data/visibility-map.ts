/** What the visibility map promises must be so: index-only scans and VACUUM believe it without looking. */

import { quoteLiteral } from "../../io/database.ts";
import { type Check, plural } from "../check.ts";
import { type Finding, type FoundFacts, judgeFindings, Tally } from "../findings.ts";
import type { Relation } from "../relations.ts";
import type { Session } from "../session.ts";
import { isHeap } from "./heap.ts";
import { blocks, lookAtAll, regclasses, type Way } from "./relation-units.ts";

/** `t_ctid` for a row, `block` for a promise about a block that the table does not have. */
export interface Broken {
  kind: "visible" | "frozen" | "beyond";
  block: string;
  item: string | null;
}

const NONE: Broken[] = [];
const MOST_ROWS = 1000;

export const visibilityMap: Check<FoundFacts> = {
  id: "visibility-map",
  claim: "consistency",
  levels: ["standard", "full"],
  stage: "data",
  async collect(edge) {
    const relations = (await edge.relations()).filter((r) => isHeap(r) && r.otherBytes > 0);
    const tally = new Tally(describeBroken);
    const way: Way<Broken[]> = {
      bytes: ({ bytes }) => bytes,
      one: look,
      together: async (session, small) =>
        (await findBroken(session, small)).length === 0 ? small.map(() => NONE) : null,
    };
    await lookAtAll(edge, relations, way, tally.add);
    return tally.sorted();
  },
  judge(facts) {
    return judgeFindings("visibility-map", facts, {
      good: `the visibility maps of ${plural(facts.coverage.relations, "table")} are true`,
      meaning:
        "index-only scans give wrong answers, and VACUUM passes over rows: either rows were lost or came back, or the map " +
        "itself is damaged (then pg_truncate_visibility_map and VACUUM make it anew)",
    });
  },
};

async function look(session: Session, relation: Relation): Promise<Broken[]> {
  const found = await findBroken(session, [relation]);
  if (found.length === 0) return [];
  // Whatever is true stays so; a row that was changed, or a bit that was set, in the middle of the first look does not.
  const again = new Set((await findBroken(session, [relation])).map(key));
  const certain = found.filter((broken) => again.has(key(broken)));
  const young = new Set(await youngRows(session, relation, certain));
  return certain.filter((broken) => broken.kind !== "visible" || !young.has(key(broken)));
}

const key = ({ kind, block, item }: Broken) => `${kind} (${block},${item})`;

async function findBroken(session: Session, relations: readonly Relation[]): Promise<Broken[]> {
  await session.need("pg_visibility");
  await session.need("pageinspect");
  return session.query<Broken>(brokenSql(relations));
}

/** Bits for blocks beyond the end are wiped when a table is truncated, so the table was once longer. */
function brokenSql(relations: readonly Relation[]): string {
  const rows = (kind: string, check: string) =>
    `(SELECT '${kind}' AS kind, split_part(ltrim(t_ctid::text, '('), ',', 1) AS block,
             rtrim(split_part(t_ctid::text, ',', 2), ')') AS item
        FROM ${regclasses(relations)} AS relation, LATERAL pg_temp.${check}(relation) AS t_ctid LIMIT ${MOST_ROWS})`;
  const firstByte = "greatest(24, 24 + (blocks - page * per_page + 3) / 4)::integer";
  return `${rows("visible", "pg_check_visible")} UNION ALL ${rows("frozen", "pg_check_frozen")} UNION ALL
    (SELECT 'beyond', (page * per_page + (byte - 24) * 4)::text, NULL
       FROM (SELECT relation, size, (size - 24) * 4 AS per_page, pg_relation_size(relation) / size AS blocks,
                    pg_relation_size(relation, 'vm') / size AS pages
               FROM ${regclasses(relations)} AS relation,
                    LATERAL CAST(current_setting('block_size') AS bigint) AS size OFFSET 0) AS heap,
            LATERAL generate_series(blocks / per_page, pages - 1) AS page,
            LATERAL (SELECT pg_temp.get_raw_page(relation::text, 'vm', page) AS bytes OFFSET 0) AS raw,
            LATERAL generate_series(${firstByte}, size - 1) AS byte
      WHERE ltrim(encode(substr(bytes, 1 + ${firstByte}), 'hex'), '0') <> ''
        AND get_byte(bytes, byte::integer) <> 0 LIMIT ${MOST_ROWS})`;
}

/**
 * Committed rows that a transaction in doubt holds this session's horizon behind: VACUUM on the source was right about
 * them, though before PostgreSQL 17 pg_check_visible counts them. https://postgr.es/c/e85662df4
 */
async function youngRows(session: Session, relation: Relation, found: readonly Broken[]): Promise<string[]> {
  const tids = found.filter(({ kind }) => kind === "visible").map(({ block, item }) => `"(${block},${item})"`);
  if (tids.length === 0) return [];
  const rows = await session.query<{ block: string; item: string }>(
    `SELECT split_part(ltrim(ctid::text, '('), ',', 1) AS block, rtrim(split_part(ctid::text, ',', 2), ')') AS item
       FROM ${relation.name}
      WHERE ctid = ANY (${quoteLiteral(`{${tids.join(",")}}`)}::tid[])
        AND age(xmin) <= age(pg_snapshot_xmin(pg_current_snapshot())::xid)
                         + coalesce(current_setting('vacuum_defer_cleanup_age', true)::integer, 0)`,
  );
  return rows.map(({ block, item }) => key({ kind: "visible", block, item }));
}

/** By block: a damaged map page names every row of thousands of blocks. */
export function describeBroken(found: readonly Broken[], relation: Relation): Finding[] {
  const { database, name: object } = relation;
  const beyond = found.filter(({ kind }) => kind === "beyond").map(({ block }) => Number(block));
  const rows = (kind: Broken["kind"], what: string): Finding[] => {
    const items = new Map<string, string[]>();
    for (const { kind: k, block, item } of found) {
      if (k === kind) items.set(block, [...(items.get(block) ?? []), item ?? ""]);
    }
    return [...items].map(([block, list]) => ({
      database,
      object,
      where: `block ${block}, ${list.length === 1 ? "item" : "items"} ${list.slice(0, 5).join(", ")}${list.length > 5 ? ", …" : ""}`,
      what,
    }));
  };
  return [
    ...rows("visible", "the visibility map says that every row of the block is visible to all, and this is not so"),
    ...rows("frozen", "the visibility map says that every row of the block is frozen, and this is not so"),
    ...(beyond.length === 0
      ? []
      : [
          {
            database,
            object,
            where: blocks(Math.min(...beyond), Math.max(...beyond) + 3),
            what: "the visibility map knows blocks that the table does not have: its end is missing",
          },
        ]),
  ];
}
