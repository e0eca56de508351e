/**
 * Every row readable, and the block ranges that the receipt knows digested as on the source: one pass for both. At level
 * standard the receipt's ranges are always read, and the rest as far as the budget goes.
 */

import type { Manifest } from "../../manifest/schema.ts";
import {
  columnsSql,
  type DigestOptions,
  digestRangesSql,
  NO_COLUMNS,
  type RangeDigest,
  readColumns,
  readRangeDigests,
  readRangeSql,
  type TableSize,
} from "../../manifest/table-data.ts";
import type { Range } from "../../manifest/table-plan.ts";
import { type Check, plural } from "../check.ts";
import { inTurns, isSmall, lookAtAll, lookAtParts, type Part, partsOf, type Way } from "../data/relation-units.ts";
import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import { type Finding, type FoundFacts, judgeFindings, Tally } from "../findings.ts";
import type { Outcome } from "../pool.ts";
import type { Relation } from "../relations.ts";
import type { Session } from "../session.ts";

/** What a unit read of its table. */
export interface Read {
  rows: number;
  /** Ranges that the receipt knows, with the rows that it knows of in them. */
  compared: { ranges: number; rows: number; blocks: number };
  findings: Finding[];
}

export interface TableDataFacts extends FoundFacts {
  compared: { ranges: number; rows: number; blocks: number };
  /** Of all tables here. */
  blocks: number;
  /** Tables of the receipt that are not here. */
  missing: { database: string; name: string }[];
}

export const tableData: Check<TableDataFacts> = {
  id: "table-data",
  claim: "consistency",
  levels: ["standard", "full"],
  stage: "data",
  async collect(edge) {
    const { receipt, evidence } = edge.asked;
    const relations = await edge.relations();
    const { small, parts, blocks, missing } = await planTables(edge, relations);
    const options =
      receipt === null
        ? null
        : {
            horizon: receipt.manifest.horizon,
            seed: receipt.manifest.seed,
            nextXid: evidence?.recovered?.next_xid ?? receipt.manifest.next_xid,
          };
    const read = (session: Session, of: readonly Asked[]) => readAll(session, of, options, edge.serverVersion);
    const tally = new ReadTally();
    const lookAtSmall = (kind: PlannedUnit["kind"]) => {
      const ask = (relation: Relation): Asked => ({ relation, planned: small.get(relation) as Planned });
      const way: Way<Read> = {
        bytes: (relation) => small.get(relation)?.bytes ?? 0,
        always: kind === "compare",
        one: async (session, relation) => (await read(session, [ask(relation)]))[0] as Read,
        together: (session, list) => read(session, list.map(ask)),
      };
      const tables: Relation[] = [];
      for (const [relation, planned] of small) if (planned.kind === kind) tables.push(relation);
      return lookAtAll(edge, tables, way, tally.add);
    };
    await Promise.all([
      lookAtParts(
        edge,
        parts,
        async (session, part) => (await read(session, [{ relation: part.relations[0], planned: part }]))[0] as Read,
        tally.add,
      ),
      lookAtSmall("compare"),
      lookAtSmall("read"),
    ]);
    const facts = tally.facts();
    const others = relations
      .filter((r) => isTable(r) && r.method !== "heap" && !r.system)
      .map((r) => ({ database: r.database, object: r.name, bytes: r.bytes, why: `access method ${r.method}` }));
    return {
      ...facts,
      blocks,
      missing,
      notCovered: [...others, ...facts.notCovered],
    };
  },
  judge(facts, { receipt }) {
    const { compared, coverage } = facts;
    const missing = facts.missing.map(({ database, name }) => ({ database, object: name, what: "is missing here" }));
    const judgement = judgeFindings(
      "table-data",
      { ...facts, findings: [...missing, ...mergeNeighbours(facts.findings)] },
      {
        good:
          `${plural(coverage.rows ?? 0, "row")} of ${plural(coverage.relations, "table")} read` +
          (receipt === null
            ? ""
            : `; ${plural(compared.rows, "row")} in ${plural(compared.ranges, "block range")} as on the source`),
        meaning:
          "rows that cannot be read, or are not those that the source had at the target: restore an older backup set to this " +
          "target, and see what pgbackrest verify says about this one",
      },
    );
    const moved = (receipt?.manifest.tables ?? []).reduce((sum, t) => sum + t.moved, 0);
    const id = judgement.coverage?.["table-data"] as object;
    return {
      ...judgement,
      coverage: {
        "table-data": {
          ...id,
          ...(receipt === null
            ? {}
            : {
                compared_ranges: compared.ranges,
                compared_rows: compared.rows,
                compared_blocks: compared.blocks,
                of_blocks: facts.blocks,
                moved_ranges: moved,
              }),
        },
      },
    };
  },
};

const isTable = ({ kind }: Relation) => kind === "r" || kind === "m";

const BLOCK_SIZE = "SELECT current_setting('block_size') AS size";

/** Small tables of one unit, and the units of all others. */
async function planTables(edge: Edge, relations: readonly Relation[]) {
  const blockSize = Number(
    (await edge.sql(MAINTENANCE_DATABASE, (database) => database.row<{ size: string }>(BLOCK_SIZE))).size,
  );
  const known = edge.asked.receipt?.manifest.tables ?? [];
  const unseen = new Map(known.map((t) => [JSON.stringify([t.database, t.name]), t]));
  const parts: (Part & Planned)[] = [];
  const small = new Map<Relation, Planned>();
  let blocks = 0;
  const plan = (relation: Relation) => {
    const table = { blocks: Math.floor(relation.bytes / blockSize), bytes: relation.bytes + relation.otherBytes };
    const key = JSON.stringify([relation.database, relation.name]);
    const units = planUnits(table, unseen.get(key)?.ranges ?? []).map((unit) => measure(unit, table));
    unseen.delete(key);
    blocks += table.blocks;
    const [only] = units;
    if (units.length === 1 && only !== undefined && rangesOf(only).length === 1 && isSmall(relation, only.bytes)) {
      small.set(relation, only);
    } else parts.push(...partsOf(relation, units));
  };
  // What is in no list of relations was looked at by nobody, and must not count as being there.
  await inTurns(relations, (relation) => {
    if (relation.ofPeople) plan(relation);
  });
  const missing = [...unseen.values()]
    .filter(({ ranges }) => ranges.length > 0)
    .map(({ database, name }) => ({ database, name }));
  return { small, parts, blocks, missing };
}

export class ReadTally {
  private readonly tally = new Tally<Read>(({ findings }) => findings);
  private rows = 0;
  private readonly compared = { ranges: 0, rows: 0, blocks: 0 };

  readonly add = (relation: Relation, ...outcomes: readonly Outcome<Read>[]): void => {
    this.tally.add(relation, ...outcomes);
    for (const outcome of outcomes) {
      if (outcome.kind !== "done") continue;
      const { rows, compared } = outcome.value;
      this.rows += rows;
      this.compared.ranges += compared.ranges;
      this.compared.rows += compared.rows;
      this.compared.blocks += compared.blocks;
    }
  };

  facts(): FoundFacts & Pick<TableDataFacts, "compared"> {
    const sorted = this.tally.sorted();
    return { ...sorted, coverage: { ...sorted.coverage, rows: this.rows }, compared: this.compared };
  }
}

type Expected = Manifest["tables"][number]["ranges"];

type PlannedUnit = { kind: "compare"; ranges: Expected } | { kind: "read"; range: Range };

type Planned = PlannedUnit & { blocks: number; bytes: number; always: boolean };

const rangesOf = (unit: PlannedUnit): Range[] =>
  unit.kind === "read" ? [unit.range] : unit.ranges.map(([from, to]) => ({ from, to }));

/** With TOAST in proportion. */
function measure(unit: PlannedUnit, table: Pick<TableSize, "blocks" | "bytes">): Planned {
  const blocks = rangesOf(unit).reduce((sum, { from, to }) => sum + Math.max(0, (to ?? table.blocks) - from), 0);
  const bytes = table.blocks === 0 ? 0 : Math.round((blocks / table.blocks) * table.bytes);
  return { ...unit, blocks, bytes, always: unit.kind === "compare" };
}

/** 32 MB: large enough to be cheap to ask, small enough for two cores to share. */
const UNIT_BLOCKS = 4096;

/** The receipt's ranges in groups, and everything between them. */
export function planUnits(table: Pick<TableSize, "blocks">, expected: Expected): PlannedUnit[] {
  const [first] = expected;
  // Most tables. Of very many of them the work below would be nothing but garbage.
  if (expected.length === 1 && first?.[0] === 0 && first[1] === null) return [{ kind: "compare", ranges: expected }];
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

interface Asked {
  relation: Relation;
  planned: Planned;
}

/** One unit, or units of one range each in one statement; an answer for each. */
async function readAll(
  session: Session,
  of: readonly Asked[],
  options: DigestOptions | null,
  serverVersion: number,
): Promise<Read[]> {
  const columns = readColumns(await session.query(columnsSql(of.map(({ relation }) => relation.oid))));
  const sqlOf = ({ relation: { oid, name }, planned }: Asked) => {
    const table = { name, ...(columns.get(oid) ?? NO_COLUMNS) };
    const ranges = rangesOf(planned);
    return planned.kind === "compare" && options !== null
      ? digestRangesSql(table, ranges, options)
      : readRangeSql(table, ranges[0] as Range, serverVersion);
  };
  const [first, ...others] = of.map(sqlOf);
  const sql = others.length === 0 ? first : inOneStatement([first as string, ...others]);
  const found = readRangeDigests(
    of.flatMap(({ planned }) => rangesOf(planned)),
    await session.query(`${SETTINGS}; ${sql}`),
  );
  return of.map(({ relation, planned }) => {
    const its = found.splice(0, rangesOf(planned).length);
    const rows = its.reduce((sum, { count }) => sum + count, 0);
    return planned.kind === "read"
      ? { rows, compared: { ranges: 0, rows: 0, blocks: 0 }, findings: [] }
      : { rows, ...compare(relation, planned, its) };
  });
}

/** Of questions with one row each. */
const inOneStatement = (questions: readonly string[]) =>
  `${questions.map((sql, n) => `SELECT ${n} AS n, answer.* FROM (${sql}) AS answer`).join(" UNION ALL ")} ORDER BY n`;

/** What the source had, against what is here. */
export function compare(
  relation: Relation,
  { ranges, blocks }: { ranges: Expected; blocks: number },
  found: readonly RangeDigest[],
): Omit<Read, "rows"> {
  return {
    compared: { ranges: ranges.length, rows: ranges.reduce((sum, [, , count]) => sum + count, 0), blocks },
    findings: found.flatMap((digest, i) => findingsOf(relation, ranges[i] as Expected[number], digest)),
  };
}

/** As on the source, where text of values is digested; and only TID range scans, not one of the whole table for each. */
const SETTINGS = [
  "search_path = ''", "DateStyle = 'ISO, YMD'", "IntervalStyle = 'postgres'", "TimeZone = 'UTC'", "extra_float_digits = 1",
  "bytea_output = 'hex'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "xmlbinary = 'base64'",
  "quote_all_identifiers = off", "enable_seqscan = off", "jit = off",
].map((setting) => `SET LOCAL ${setting}`).join("; "); // biome-ignore format: a list

function findingsOf(
  { database, name: object }: Relation,
  [from, to, count, digest]: Expected[number],
  found: RangeDigest,
): Finding[] {
  const where = describeBlocks({ from, to });
  const findings: Finding[] = [];
  if (found.count !== count) {
    findings.push({ database, object, where, what: `${plural(found.count, "row")}, on the source ${count}` });
  } else if (found.digest !== digest) {
    const what = `${plural(found.count, "row")} as on the source, with other values`;
    findings.push({ database, object, where, what });
  }
  if (found.newer > 0) {
    findings.push({ database, object, where, what: `${plural(found.newer, "row")} written after the promotion` });
  }
  return findings;
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
