/** A BRIN index is asked for rows that its summaries must cover. */

import { plural } from "../check.ts";
import { errorCode } from "../failure.ts";
import type { Session } from "../session.ts";
import {
  CANNOT_USE,
  Clock,
  choosePlan,
  type Described,
  type IndexAnswer,
  nothing,
  TIMED_OUT,
} from "./index-description.ts";
import { askableColumns, isExact, lostQuestion, outermost, settings } from "./index-questions.ts";

const GB = 1024 ** 3;

/** What one index may take, in milliseconds and ranges. */
const brinAllowance = (full: boolean, bytes: number) =>
  full ? { totalMs: 5000 + (10_000 * bytes) / GB, ranges: 256 } : { totalMs: 1500, ranges: 8 };

/** Each value would read the summaries of all ranges again, so only some are asked for: those that a range must cover. */
export async function askRanges(
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
