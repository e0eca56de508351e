/** One index is asked for the rows of its table by their own values, in a sample of blocks or in all. */

import { quoteLiteral } from "../../io/database.ts";
import { hasUnboundedKey } from "../../pages/gist.ts";
import { enumerate, plural } from "../check.ts";
import { errorCode, isExpression } from "../failure.ts";
import type { Session } from "../session.ts";
import { askRanges } from "./index-ask-brin.ts";
import {
  CANNOT_USE,
  Clock,
  choosePlan,
  type Described,
  type IndexAnswer,
  nothing,
  TIMED_OUT,
} from "./index-description.ts";
import {
  type AskableIndex,
  askableColumns,
  comparison,
  isAskable,
  isExact,
  isWhole,
  masksQuestion,
  reachedQuestion,
  rowsQuestion,
  type Sample,
  sampleOf,
  settings,
} from "./index-questions.ts";
import { readBuffers } from "./page-files.ts";

/** Blocks of the table that are asked first, and all that are at level standard. */
const SAMPLE_BLOCKS = 64;
/** At level full: most for one index. */
const FULL_ROWS = 10_000_000;

const GB = 1024 ** 3;

/** What one index may take together, and one statement of a sample, in milliseconds. */
const allowance = (full: boolean, bytes: number) =>
  full ? { totalMs: 20_000 + (60_000 * bytes) / GB, sampleMs: 10_000 } : { totalMs: 2000, sampleMs: 700 };

export async function askIndex(
  session: Session,
  index: Described,
  full: boolean,
  timeoutMs: number,
): Promise<IndexAnswer> {
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
