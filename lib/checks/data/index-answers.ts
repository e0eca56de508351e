/**
 * Indexes that amcheck cannot check give the rows that their tables hold: each row is asked for by its own value. B-trees are
 * left to `btree`.
 */

import { quoteLiteral } from "../../io/database.ts";
import { hasUnboundedKey } from "../../pages/gist.ts";
import { type Check, enumerate, inParallel, type Judgement, plural } from "../check.ts";
import type { Edge } from "../edge.ts";
import { errorCode } from "../failure.ts";
import { type Finding, type FoundFacts, judgeFindings, SHOWN, sortOutcomes } from "../findings.ts";
import type { Outcome, Session } from "../pool.ts";
import type { Relation } from "../relations.ts";
import {
  type AskableIndex,
  askableColumns,
  choicesOf,
  comparison,
  type IndexColumn,
  isAskable,
  isExact,
  isWhole,
  lostQuestion,
  masksQuestion,
  outermost,
  PLANS,
  reachedQuestion,
  rowsQuestion,
  type Sample,
  sampleOf,
  settings,
  usesOnly,
} from "./index-questions.ts";
import { readBuffers } from "./page-files.ts";

/** What one index answered. */
export interface IndexAnswer {
  /** Rows that were asked for, and rows of the table. */
  rows: number;
  ofRows: number;
  /** Values with another answer than the table's. */
  bad: number;
  /** Some of them: by place. */
  wrong: { tid: string; found: number; other: string }[];
  /** Rows that are in the index but not found by their value, where a NaN of the past would explain it: places. */
  doubtful: string[];
  /** Why less than all was asked; null when everything was. */
  why: string | null;
}

export interface IndexAnswersFacts extends FoundFacts {
  rows: number;
  ofRows: number;
  /** Of which only a part of the rows was asked for. */
  sampled: number;
  doubtful: readonly { database: string; index: string; rows: readonly string[] }[];
}

/** Blocks of the table that are asked first, and all that are at level standard. */
const SAMPLE_BLOCKS = 64;
/** At level full: most for one index. */
const FULL_ROWS = 10_000_000;

const GB = 1024 ** 3;

/** What one index may take together, and one statement of a sample, in milliseconds. */
const allowance = (full: boolean, bytes: number) =>
  full ? { totalMs: 20_000 + (60_000 * bytes) / GB, sampleMs: 10_000 } : { totalMs: 2000, sampleMs: 700 };
const brinAllowance = (full: boolean, bytes: number) =>
  full ? { totalMs: 5000 + (10_000 * bytes) / GB, ranges: 256 } : { totalMs: 1500, ranges: 8 };

/** A statement that took too long, of our own accord. */
const TIMED_OUT = "57014";

class Clock {
  private readonly endsAt: number;

  constructor(totalMs: number) {
    this.endsAt = performance.now() + totalMs;
  }

  left(most = Number.POSITIVE_INFINITY): number {
    return Math.min(most, this.endsAt - performance.now());
  }
}

interface Described extends AskableIndex {
  /** Without schema or quotes, as plans have it. */
  plainName: string;
  blocks: number;
  tableRows: number;
  /** Of the table and the index. */
  bytes: number;
  /** BRIN. */
  pagesPerRange: number;
}

export const indexAnswers: Check<IndexAnswersFacts> = {
  id: "index-answers",
  claim: "consistency",
  stage: "data",
  levels: ["standard", "full"],
  async collect(edge) {
    const full = edge.asked.level === "full";
    const relations = (await edge.relations()).filter(
      (r) => r.kind === "i" && r.valid && !r.system && r.method !== "btree",
    );
    const described = await describeIndexes(edge, relations);
    const items = await Promise.all(
      relations.map(async (relation) => {
        const index = described.get(relation);
        const unit = { database: relation.database, object: relation.name, bytes: relation.bytes, rank: relation.rank };
        const outcome: Outcome<IndexAnswer> =
          index === undefined
            ? { kind: "left-out", why: "it was dropped meanwhile" }
            : await edge.pool.run(unit, (session) => askIndex(session, index, full, edge.statementTimeoutMs));
        return { relation, outcome };
      }),
    );
    return summarize(items);
  },
  judge: judgeIndexAnswers,
};

export function summarize(items: readonly { relation: Relation; outcome: Outcome<IndexAnswer> }[]): IndexAnswersFacts {
  const rows = { asked: 0, of: 0, sampled: 0 };
  const notCovered: IndexAnswersFacts["notCovered"][number][] = [];
  const doubtful: IndexAnswersFacts["doubtful"][number][] = [];
  for (const { relation, outcome } of items) {
    if (outcome.kind !== "done") continue;
    const { value } = outcome;
    rows.asked += value.rows;
    rows.of += value.ofRows;
    if (value.doubtful.length > 0) {
      doubtful.push({ database: relation.database, index: relation.name, rows: value.doubtful.slice(0, 20) });
    }
    if (value.rows > 0 && value.rows < value.ofRows) rows.sampled++;
    if (value.why !== null) {
      const { database, name: object, bytes } = relation;
      notCovered.push({ database, object, bytes, why: value.why });
    }
  }
  const unasked = new Set(
    items.filter((i) => i.outcome.kind === "done" && i.outcome.value.rows === 0 && i.outcome.value.why !== null),
  );
  const sorted = sortOutcomes(
    items.map((item) =>
      unasked.has(item)
        ? { ...item, outcome: { kind: "left-out", why: reasonOf(item.outcome) } as typeof item.outcome }
        : item,
    ),
    findingsOf,
  );
  const listed = new Set(sorted.notCovered.map((n) => `${n.database} ${n.object}`));
  return {
    ...sorted,
    notCovered: [...sorted.notCovered, ...notCovered.filter((n) => !listed.has(`${n.database} ${n.object}`))],
    coverage: { ...sorted.coverage, rows: rows.asked },
    rows: rows.asked,
    ofRows: rows.of,
    sampled: rows.sampled,
    doubtful,
  };
}

const reasonOf = (outcome: Outcome<IndexAnswer>) =>
  outcome.kind === "done" ? (outcome.value.why ?? "nothing was asked") : "nothing was asked";

export function findingsOf({ bad, wrong }: IndexAnswer, relation: Relation): Finding[] {
  if (bad === 0 || wrong.length === 0) return [];
  const object = `index ${relation.name}`;
  const at = (rows: IndexAnswer["wrong"]) => `rows at ${enumerate(rows.map((w) => w.tid))} of its table`;
  const kinds: [IndexAnswer["wrong"], string][] = [
    [wrong.filter((w) => w.found === 0), "the index does not find them by their own value"],
    [wrong.filter((w) => w.found > 1), "the index finds them more than once"],
    [
      wrong.filter((w) => w.found === 1),
      `asked for them, the index gives others: ${wrong.find((w) => w.other !== "")?.other}`,
    ],
  ];
  const count = bad > 1 ? ` (${plural(bad, "value")} answered differently)` : "";
  return kinds
    .filter(([rows]) => rows.length > 0)
    .map(([rows, what]) => ({
      database: relation.database,
      object,
      where: rows[0]?.tid === "" ? undefined : at(rows),
      what: rows[0]?.tid === "" ? (rows[0]?.other ?? "") : `${what}${count}`,
    }));
}

export function judgeIndexAnswers(facts: IndexAnswersFacts): Judgement {
  const judged = judgeFindings("index-answers", facts, {
    good: `${plural(facts.coverage.relations, "index", "indexes")} found ${facts.rows} of ${facts.ofRows} rows by their own values`,
    meaning:
      "these indexes and their tables disagree, so queries that use the index give wrong answers: rows were lost or changed in " +
      "one of them. REINDEX repairs it when the table is right, which the same question on the source tells",
  });
  const result: Judgement = {
    ...judged,
    facts: {
      ...judged.facts,
      rows: facts.rows,
      of_rows: facts.ofRows,
      sampled_indexes: facts.sampled,
      ...(facts.doubtful.length > 0 ? { doubtful: facts.doubtful.slice(0, SHOWN) } : {}),
    },
    coverage: { "index-answers": { ...facts.coverage, of_rows: facts.ofRows, sampled_relations: facts.sampled } },
  };
  if ((judged.status !== "pass" && judged.status !== "skipped") || facts.doubtful.length === 0) return result;
  const list = facts.doubtful.map((d) => `${d.database}: index ${d.index} (rows at ${enumerate(d.rows)} of its table)`);
  return {
    ...result,
    status: "warn",
    summary: `${plural(facts.doubtful.length, "index does", "indexes do")} not find rows that are in them: ${enumerate(list, 3)}`,
    hint:
      "values like NaN, even if deleted since, do that to an index of such an operator class, so the source's probably does it " +
      "too: REINDEX repairs it",
  };
}

/** 42, 22, 38, 39, P0, …: an expression of the user's could not be evaluated; it says nothing about the index. */
const isExpression = (error: unknown) => /^(0A|22|2F|38|39|42|P0)/.test(errorCode(error) ?? "");

const nothing = (index: Described, why: string): IndexAnswer => ({
  rows: 0,
  ofRows: Math.max(0, index.tableRows),
  bad: 0,
  wrong: [],
  doubtful: [],
  why,
});

async function askIndex(session: Session, index: Described, full: boolean, timeoutMs: number): Promise<IndexAnswer> {
  if (askableColumns(index).length === 0)
    return nothing(index, `no operator of ${opclasses(index)} finds a row by its own value`);
  const most = timeoutMs > 0 ? timeoutMs : Number.POSITIVE_INFINITY;
  const ask = index.method === "brin" ? askRanges : askWith;
  try {
    return await ask(session, index, full, most, false);
  } catch (error) {
    if (!isExpression(error)) throw error;
    try {
      return await ask(session, index, full, most, true);
    } catch (again) {
      if (!isExpression(again)) throw again;
      return nothing(index, `its expressions cannot be evaluated here: ${(again as Error).message}`);
    }
  }
}

const opclasses = (index: AskableIndex) => enumerate([...new Set(index.columns.map((c) => c.opclass))]);

/** Each value would read the summaries of all ranges again, so only some are asked for: those that a range must cover. */
async function askRanges(
  session: Session,
  index: Described,
  full: boolean,
  timeoutMs: number,
  userPath: boolean,
): Promise<IndexAnswer> {
  const { totalMs, ranges } = brinAllowance(full, index.bytes);
  const clock = new Clock(totalMs);
  const before = (plan = "") => settings(plan, clock.left(timeoutMs), userPath);
  const count = Math.ceil(index.blocks / index.pagesPerRange);
  const starts = spread(count, ranges).map((range) => range * index.pagesPerRange);
  const answer = { ...nothing(index, ""), ofRows: 0, why: null as string | null };
  const columns = index.columns.map((column): Described => ({ ...index, columns: [column] }));
  const plans = new Map<Described, { plan: string; index: Described } | null>();
  let asked = 0;
  try {
    for (const from of starts) {
      for (const column of columns) {
        if (askableColumns(column).length === 0) continue;
        const tids = (
          await session.query<{ tid: string }>(`${before()}${outermost(column, from, from + index.pagesPerRange)}`)
        ).map((row) => row.tid);
        if (tids.length === 0) continue;
        const explain = (chosen: Described, plan: string) =>
          `${before(plan)}EXPLAIN (FORMAT JSON) ${lostQuestion(chosen, tids)}`;
        const known = plans.get(column);
        const chosen = known !== undefined ? known : await choosePlan(session, column, explain);
        plans.set(column, chosen);
        if (chosen === null) return nothing(index, CANNOT_USE);
        const lost = await session.query<{ tid: string }>(`${before(chosen.plan)}${lostQuestion(chosen.index, tids)}`);
        answer.rows += tids.length;
        if (lost.length === 0) continue;
        if (!column.columns.every((c) => isExact(index.method, c))) answer.doubtful.push(...lost.map(({ tid }) => tid));
        else {
          answer.bad += lost.length;
          answer.wrong.push(...lost.map(({ tid }) => ({ tid, found: 0, other: "" })));
        }
      }
      asked++;
      if (clock.left() < 50) break;
    }
  } catch (error) {
    if (errorCode(error) !== TIMED_OUT) throw error;
  }
  answer.ofRows = Math.max(index.tableRows, answer.rows);
  if (asked < count) answer.why = `${asked} of ${plural(count, "block range")} were asked for`;
  else answer.ofRows = answer.rows;
  return answer;
}

/** Evenly, with the first and the last. */
export function spread(count: number, most: number): number[] {
  const chosen = Math.min(count, most);
  return Array.from({ length: chosen }, (_, i) =>
    chosen === 1 ? count - 1 : Math.floor((i * (count - 1)) / (chosen - 1)),
  );
}

const CANNOT_USE = "PostgreSQL cannot be made to use this index for the question";

async function askWith(
  session: Session,
  index: Described,
  full: boolean,
  timeoutMs: number,
  userPath: boolean,
): Promise<IndexAnswer> {
  const { totalMs, sampleMs } = allowance(full, index.bytes);
  const clock = new Clock(totalMs);
  const limit = (ms: number) => () => clock.left(Math.min(ms, timeoutMs));
  const sizes = [SAMPLE_BLOCKS, 4, 1].filter((size, at) => at === 0 || size < index.blocks);
  let slow = "asking took too long";
  for (const size of sizes) {
    if (clock.left() < 50) break;
    const sample = sampleOf(index.blocks, size);
    const startedAt = performance.now();
    try {
      const first = await askSample(session, index, sample, limit(sampleMs), userPath);
      if ("unusable" in first) return nothing(index, first.unusable);
      if (!full || isWhole(sample) || first.bad > 0) return explain(first, sample);
      const wider = widen(index, sample, first.rows, performance.now() - startedAt, clock.left() / 2);
      if (wider === sample) return explain(first, sample);
      try {
        const all = await askSample(session, index, wider, limit(clock.left()), userPath);
        if (!("unusable" in all)) return explain(all, wider);
      } catch (error) {
        if (errorCode(error) !== TIMED_OUT) throw error;
      }
      return explain(first, sample);
    } catch (error) {
      if (errorCode(error) !== TIMED_OUT) throw error;
      slow = `asking for the rows of ${plural(size, "block")} took too long`;
    }
  }
  return nothing(index, slow);

  function explain(answer: IndexAnswer, sample: Sample): IndexAnswer {
    if (isWhole(sample)) return answer;
    const ofRows = Math.max(answer.ofRows, index.tableRows, answer.rows);
    return { ...answer, ofRows, why: `${answer.rows} of about ${ofRows} rows were asked for` };
  }
}

/** How much more of the table can be asked for, from what the sample took. */
function widen(index: Described, sample: Sample, rows: number, spentMs: number, mostMs: number): Sample {
  const whole: Sample = { step: 1, width: 1, blocks: index.blocks };
  const equal = askableColumns(index).some(({ match }) => match.kind === "equal");
  // Together the values of an equality have as many answers as there are rows, however common some of them are.
  if (equal && index.tableRows <= FULL_ROWS) return whole;
  const affordable = Math.min(FULL_ROWS, (rows * mostMs) / Math.max(1, spentMs));
  if (affordable >= index.tableRows) return whole;
  const width = Math.floor((sample.step * affordable) / Math.max(1, index.tableRows));
  return width <= sample.width ? sample : { ...sample, width };
}

async function askSample(
  session: Session,
  index: Described,
  sample: Sample,
  timeoutMs: () => number,
  userPath: boolean,
): Promise<IndexAnswer | { unusable: string }> {
  const before = (plan = "") => settings(plan, timeoutMs(), userPath);
  const masks = await session.query<{ mask: string; rows: string }>(`${before()}${masksQuestion(index, sample)}`);
  const answer: IndexAnswer = { rows: 0, ofRows: 0, bad: 0, wrong: [], doubtful: [], why: null };
  let unusable: string | undefined;
  for (const { mask, rows } of masks) {
    // Values that such an index leaves out by design are nothing that it could lose.
    if (!isAskable(index, mask)) continue;
    answer.ofRows += Number(rows);
    const explain = (chosen: Described, plan: string) =>
      `${before(plan)}EXPLAIN (FORMAT JSON) ${comparison(chosen, mask, sample)}`;
    const chosen = await choosePlan(session, index, explain);
    if (chosen === null) {
      unusable = CANNOT_USE;
      continue;
    }
    const [row] = await session.query<{ rows: string; bad: string; keys: string | null }>(
      `${before(chosen.plan)}${comparison(chosen.index, mask, sample)}`,
    );
    answer.rows += Number(row?.rows ?? 0);
    if (Number(row?.bad ?? 0) === 0) continue;
    const keys = JSON.parse(row?.keys ?? "[]") as string[];
    const rowsWrong = await session.query<{ tid: string; found: string; other: string }>(
      `${before(chosen.plan)}${rowsQuestion(chosen.index, mask, sample, keys)}`,
    );
    const wrong = rowsWrong.map((w) => ({ tid: w.tid, found: Number(w.found), other: w.other }));
    const lost = wrong.filter((w) => w.found === 0).map((w) => w.tid);
    const doubtful = new Set(
      lost.length === 0 || index.columns.every((c) => isExact(index.method, c)) || !(await mayHoldNan(session, index))
        ? []
        : await reachedAnyway(session, index, mask, lost, before),
    );
    answer.doubtful.push(...doubtful);
    const certain = wrong.filter((w) => !doubtful.has(w.tid));
    answer.wrong.push(...certain);
    answer.bad += certain.length === 0 ? 0 : Number(row?.bad);
  }
  if (unusable !== undefined && answer.rows === 0) return { unusable };
  return unusable === undefined ? answer : { ...answer, why: unusable };
}

/** Operator classes of GiST whose keys are nothing but numbers, and how long each is. */
const NUMBERS: Readonly<Record<string, 4 | 8>> = {
  box_ops: 8,
  point_ops: 8,
  circle_ops: 8,
  poly_ops: 8,
  gist_float8_ops: 8,
  gist_float4_ops: 4,
};

/** Looked at only when rows are not found; beyond this the doubt stays. */
const MOST_BYTES = 1024 ** 3;

/** Whether NaN can be why rows are not found: false when no inner page of the index has one. */
async function mayHoldNan(session: Session, index: Described): Promise<boolean> {
  const [column] = index.columns;
  const bytes = index.columns.length === 1 && index.method === "gist" ? NUMBERS[column?.opclass ?? ""] : undefined;
  if (bytes === undefined || index.bytes > MOST_BYTES) return true;
  let found = false;
  await session.need("pageinspect");
  await readBuffers(
    session,
    index.name,
    `generate_series(0, pg_relation_size(${quoteLiteral(index.name)}::regclass) / 8192 - 1)`,
    (pages) => {
      if (pages !== null && hasUnboundedKey(pages, 0, bytes)) found = true;
    },
  );
  return found;
}

/** Of the rows that were not found by value: those that are in the index, or may be. */
async function reachedAnyway(
  session: Session,
  index: Described,
  mask: string,
  tids: readonly string[],
  before: (plan?: string) => string,
): Promise<readonly string[]> {
  if (!mask.includes("0")) return tids;
  const question = reachedQuestion(index, mask, tids);
  const chosen = await choosePlan(session, index, (_, plan) => `${before(plan)}EXPLAIN (FORMAT JSON) ${question}`);
  if (chosen === null) return tids;
  const rows = await session.query<{ tid: string }>(`${before(chosen.plan)}${question}`);
  return rows.map((row) => row.tid);
}

async function choosePlan(
  session: Session,
  index: Described,
  explain: (index: Described, plan: string) => string,
): Promise<{ plan: string; index: Described } | null> {
  for (let choice = 0; choice < choicesOf(index); choice++) {
    for (const plan of PLANS) {
      const chosen = { ...index, choice };
      const [row] = await session.query<{ "QUERY PLAN": string }>(explain(chosen, plan));
      if (row !== undefined && usesOnly(row["QUERY PLAN"], index.plainName)) return { plan, index: chosen };
    }
  }
  return null;
}

async function describeIndexes(edge: Edge, relations: readonly Relation[]): Promise<Map<Relation, Described>> {
  const databases = [...new Set(relations.map((r) => r.database))];
  const described = new Map<Relation, Described>();
  await inParallel(databases, edge.jobs, async (name) => {
    const wanted = relations.filter((r) => r.database === name);
    const oids = `{${wanted.map((r) => r.oid).join(",")}}`;
    const rows = await edge.sql(name, (database) =>
      database.query<Record<string, string | null>>(DESCRIBE.replace("$oids", quoteLiteral(oids))),
    );
    const byOid = new Map(rows.map((row) => [row.oid, row]));
    for (const relation of wanted) {
      const row = byOid.get(relation.oid);
      if (row === undefined) continue;
      described.set(relation, {
        name: relation.name,
        plainName: row.plain_name ?? "",
        table: row.table_name ?? "",
        method: relation.method ?? "",
        columns: JSON.parse(row.columns ?? "[]") as IndexColumn[],
        predicate: row.predicate ?? null,
        choice: 0,
        blocks: Number(row.blocks),
        tableRows: Number(row.table_rows),
        bytes: Number(row.table_bytes) + relation.bytes,
        pagesPerRange: Number(row.pages_per_range),
      });
    }
  });
  return described;
}

const DESCRIBE = `
SELECT c.oid::text, c.relname AS plain_name, format('%I.%I', tn.nspname, t.relname) AS table_name,
       pg_get_expr(i.indpred, i.indrelid) AS predicate,
       (pg_relation_size(t.oid) / current_setting('block_size')::int8)::text AS blocks,
       greatest(t.reltuples, 0)::int8::text AS table_rows, pg_relation_size(t.oid)::text AS table_bytes,
       coalesce((SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'pages_per_range'), '128') AS pages_per_range,
       (SELECT json_agg(json_build_object(
                 'expression', pg_get_indexdef(c.oid, k.n, true),
                 'collation', CASE WHEN co.oid IS NOT NULL THEN format('%I.%I', con.nspname, co.collname) END,
                 'deterministic', coalesce(co.collisdeterministic, true),
                 'opclass', oc.opcname,
                 'category', ty.typcategory,
                 'searchNulls', coalesce(pg_index_column_has_property(c.oid, k.n, 'search_nulls'), false),
                 'operators', coalesce((
                   SELECT json_agg(json_build_object('operator', format('OPERATOR(%I.%s)', opn.nspname, op.oprname),
                                                     'name', op.oprname, 'left', format_type(ao.amoplefttype, NULL),
                                                     'right', format_type(ao.amoprighttype, NULL))
                                   ORDER BY ao.amopstrategy)
                     FROM pg_amop AS ao JOIN pg_operator AS op ON op.oid = ao.amopopr
                     JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace
                    WHERE ao.amopfamily = oc.opcfamily AND ao.amoppurpose = 's' AND ao.amoplefttype = oc.opcintype), '[]'))
               ORDER BY k.n)
          FROM generate_series(1, i.indnkeyatts) AS k (n)
          JOIN pg_opclass AS oc ON oc.oid = i.indclass[k.n - 1]
          JOIN pg_type AS ty ON ty.oid = oc.opcintype
          LEFT JOIN pg_collation AS co ON co.oid = i.indcollation[k.n - 1]
          LEFT JOIN pg_namespace AS con ON con.oid = co.collnamespace)::text AS columns
  FROM pg_class AS c
  JOIN pg_index AS i ON i.indexrelid = c.oid
  JOIN pg_class AS t ON t.oid = i.indrelid
  JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
 WHERE c.oid = ANY ($oids::oid[])`;
