/**
 * Every row readable, and the block ranges that the receipt knows digested as on the source: one pass for both. At level
 * standard the receipt's ranges are always read, and the rest as far as the budget goes.
 */

import type { Manifest } from "../../manifest/schema.ts";
import {
  type DataTable,
  digestRangesSql,
  listTables,
  type RangeDigest,
  readRangeDigests,
  readRangeSql,
} from "../../manifest/table-data.ts";
import type { Range } from "../../manifest/table-plan.ts";
import { inParallel } from "../../parallel.ts";
import { type Check, plural } from "../check.ts";
import { type Looked, lookAt } from "../data/relation-units.ts";
import type { Edge } from "../edge.ts";
import { type Finding, judgeFindings, type NotCovered, sortOutcomes } from "../findings.ts";
import { type Relation, unitOf } from "../relations.ts";

interface Read {
  rows: number;
  /** Of the table, in the ranges that the receipt knows. */
  comparedBlocks: number;
  /** What the receipt knows of it; empty when it only was to be read. */
  compared: { expected: Range & { count: number; digest: string }; found: RangeDigest }[];
}

export interface TableDataFacts {
  items: Looked<Read>[];
  /** Of all tables here. */
  blocks: number;
  /** Tables of the receipt that are not here. */
  missing: { database: string; name: string }[];
  notCovered: NotCovered[];
}

export const tableData: Check<TableDataFacts> = {
  id: "table-data",
  claim: "consistency",
  levels: ["standard", "full"],
  stage: "data",
  async collect(edge) {
    const relations = await edge.relations();
    const isTable = ({ kind }: Relation) => kind === "r" || kind === "m";
    const byOid = new Map(relations.filter(isTable).map((r) => [`${r.database} ${r.oid}`, r]));
    const names = await edge.databases();
    const tables = (
      await inParallel(names, edge.jobs, (name) => edge.sql(name, (database) => listTables(database, name)))
    ).flat();
    const known = new Map(
      (edge.asked.receipt?.manifest.tables ?? []).map((t) => [JSON.stringify([t.database, t.name]), t]),
    );
    const jobs = tables.flatMap((table) => {
      const relation = byOid.get(`${table.database} ${table.oid}`);
      if (relation === undefined) return [];
      const expected = known.get(JSON.stringify([table.database, table.name]))?.ranges ?? [];
      return planUnits(table, expected).map((unit) => ({ table, relation, unit }));
    });
    const looked = await Promise.all(jobs.map(({ table, relation, unit }) => readUnit(edge, table, relation, unit)));
    const items = looked.filter((item) => item !== null);
    // Listed as a relation too: what nobody looked at must not count as being there.
    const seen = tables.filter((t) => byOid.has(`${t.database} ${t.oid}`));
    const here = new Set(seen.map((t) => JSON.stringify([t.database, t.name])));
    return {
      items,
      blocks: seen.reduce((sum, t) => sum + t.blocks, 0),
      missing: [...known.values()].filter(
        (t) => t.ranges.length > 0 && !here.has(JSON.stringify([t.database, t.name])),
      ),
      notCovered: relations
        .filter((r) => isTable(r) && r.method !== "heap" && !r.system)
        .map((r) => ({ database: r.database, object: r.name, bytes: r.bytes, why: `access method ${r.method}` })),
    };
  },
  judge(facts, { receipt }) {
    const sorted = sortOutcomes(facts.items, findingsOf);
    const reads = facts.items.flatMap(({ outcome }) => (outcome.kind === "done" ? [outcome.value] : []));
    const rows = reads.reduce((sum, read) => sum + read.rows, 0);
    const compared = reads.reduce((sum, read) => sum + read.compared.length, 0);
    const comparedBlocks = reads.reduce((sum, read) => sum + read.comparedBlocks, 0);
    const comparedRows = reads.reduce((sum, read) => sum + read.compared.reduce((n, c) => n + c.expected.count, 0), 0);
    const missing = facts.missing.map(({ database, name }) => ({ database, object: name, what: "is missing here" }));
    const judgement = judgeFindings(
      "table-data",
      {
        findings: [...missing, ...mergeNeighbours(sorted.findings)],
        failed: sorted.failed,
        notCovered: [...facts.notCovered, ...sorted.notCovered],
        coverage: { ...sorted.coverage, rows },
      },
      {
        good:
          `${plural(rows, "row")} of ${plural(sorted.coverage.relations, "table")} read` +
          (receipt === null
            ? ""
            : `; ${plural(comparedRows, "row")} in ${plural(compared, "block range")} as on the source`),
        meaning:
          "rows that cannot be read, or are not those that the source had at the target: restore an older backup set to this " +
          "target, and see what pgbackrest verify says about this one",
      },
    );
    const moved = receipt?.manifest.tables.reduce((sum, t) => sum + t.moved, 0) ?? 0;
    const id = judgement.coverage?.["table-data"] as object;
    return {
      ...judgement,
      coverage: {
        "table-data": {
          ...id,
          ...(receipt === null
            ? {}
            : {
                compared_ranges: compared,
                compared_rows: comparedRows,
                compared_blocks: comparedBlocks,
                of_blocks: facts.blocks,
                moved_ranges: moved,
              }),
        },
      },
    };
  },
};

type Expected = Manifest["tables"][number]["ranges"];

type PlannedUnit = { kind: "compare"; ranges: Expected } | { kind: "read"; range: Range };

/** 32 MB: large enough to be cheap to ask, small enough for two cores to share. */
const UNIT_BLOCKS = 4096;

/** The receipt's ranges in groups, and everything between them. */
export function planUnits(table: Pick<DataTable, "blocks">, expected: Expected): PlannedUnit[] {
  const sorted = [...expected].sort((a, b) => a[0] - b[0]);
  const units: PlannedUnit[] = [];
  let group: Expected = [];
  let blocks = 0;
  for (const range of sorted) {
    group.push(range);
    blocks += (range[1] ?? Math.max(table.blocks, range[0] + 1)) - range[0];
    if (blocks >= UNIT_BLOCKS || group.length >= 64) {
      units.push({ kind: "compare", ranges: group });
      group = [];
      blocks = 0;
    }
  }
  if (group.length > 0) units.push({ kind: "compare", ranges: group });
  let at = 0;
  const gap = (end: number | null) => {
    const last = end ?? table.blocks;
    for (; at < last; at += UNIT_BLOCKS) {
      const to = Math.min(at + UNIT_BLOCKS, last);
      units.push({ kind: "read", range: { from: at, to: end === null && to === last ? null : to } });
    }
  };
  for (const [from, to] of sorted) {
    gap(from);
    at = to ?? Number.POSITIVE_INFINITY;
  }
  gap(null);
  return units;
}

async function readUnit(
  edge: Edge,
  table: DataTable,
  relation: Relation,
  unit: PlannedUnit,
): Promise<Looked<Read> | null> {
  const { asked } = edge;
  const manifest = asked.receipt?.manifest;
  const ranges: Range[] = unit.kind === "read" ? [unit.range] : unit.ranges.map(([from, to]) => ({ from, to }));
  const blocks = ranges.reduce((sum, { from, to }) => sum + Math.max(0, (to ?? table.blocks) - from), 0);
  const share = table.blocks === 0 ? 0 : (blocks / table.blocks) * table.bytes;
  const of = { ...unitOf(relation, Math.round(share)), always: unit.kind === "compare" };
  return await lookAt(edge, relation, of, async (session) => {
    if (unit.kind === "read" || manifest === undefined) {
      const sql = readRangeSql(table, ranges[0] as Range, edge.serverVersion);
      const [row] = await session.query(`${SETTINGS}; ${sql}`);
      return { rows: Number(row?.count), comparedBlocks: 0, compared: [] };
    }
    const nextXid = asked.evidence?.recovered?.next_xid ?? manifest.next_xid;
    const sql = digestRangesSql(table, ranges, { horizon: manifest.horizon, seed: manifest.seed, nextXid });
    const found = readRangeDigests(ranges, await session.query(`${SETTINGS}; ${sql}`));
    const compared = unit.ranges.map(([from, to, count, digest], i) => ({
      expected: { from, to, count, digest },
      found: found[i] as RangeDigest,
    }));
    return { rows: compared.reduce((sum, c) => sum + c.found.count, 0), comparedBlocks: blocks, compared };
  });
}

/** As on the source, where text of values is digested; and only TID range scans, not one of the whole table for each. */
const SETTINGS = [
  "search_path = ''", "DateStyle = 'ISO, YMD'", "IntervalStyle = 'postgres'", "TimeZone = 'UTC'", "extra_float_digits = 1",
  "bytea_output = 'hex'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "xmlbinary = 'base64'",
  "quote_all_identifiers = off", "enable_seqscan = off", "jit = off",
].map((setting) => `SET LOCAL ${setting}`).join("; "); // biome-ignore format: a list

function findingsOf(read: Read, relation: Relation): Finding[] {
  const { database, name: object } = relation;
  return read.compared.flatMap(({ expected, found }) => {
    const where = describeBlocks(expected);
    const findings: Finding[] = [];
    if (found.count !== expected.count) {
      findings.push({
        database,
        object,
        where,
        what: `${plural(found.count, "row")}, on the source ${expected.count}`,
      });
    } else if (found.digest !== expected.digest) {
      findings.push({
        database,
        object,
        where,
        what: `${plural(found.count, "row")} as on the source, with other values`,
      });
    }
    if (found.newer > 0) {
      findings.push({ database, object, where, what: `${plural(found.newer, "row")} written after the promotion` });
    }
    return findings;
  });
}

const describeBlocks = ({ from, to }: Range) => (to === null ? `blocks from ${from}` : `blocks ${from} to ${to - 1}`);

/** A lost table is one thing to say, not one for each megabyte. */
export function mergeNeighbours(findings: readonly Finding[]): Finding[] {
  const byTable = new Map<string, Finding[]>();
  for (const finding of findings) {
    const key = JSON.stringify([finding.database, finding.object]);
    byTable.set(key, [...(byTable.get(key) ?? []), finding]);
  }
  return [...byTable.values()].flatMap((list) => {
    if (list.length <= 3) return list;
    const first = list[0] as Finding;
    return [{ ...first, where: `${list.length} block ranges, the first: ${first.where ?? "?"}` }];
  });
}
