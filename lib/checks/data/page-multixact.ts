/** Multixacts that rows name: pg_multixact must know who was in them. */

import type { Database } from "../../io/database.ts";
import { xidPrecedes } from "../../pages/clog.ts";
import { describeFailure, errorCode, isDamage } from "../failure.ts";
import type { Session } from "../session.ts";

/** Those from `oldest` on that come before `next`: rows may name them, and they were written before the rows were. */
export interface MultiRange {
  oldest: number;
  next: number;
}

/** After a checkpoint, so that `next` is as late as it can be. */
export async function readMultiRange(database: Database): Promise<MultiRange> {
  const { oldest, next } = await database.row<{ oldest: string; next: string }>(
    "SELECT oldest_multi_xid::text AS oldest, next_multixact_id::text AS next FROM pg_control_checkpoint()",
  );
  return { oldest: Number(oldest), next: Number(next) };
}

export const inRange = (multi: number, { oldest, next }: MultiRange) =>
  !xidPrecedes(multi, oldest) && xidPrecedes(multi, next);

const AT_ONCE = 1000;
/** Bad ones that are told apart; one is enough to know that rows are lost. */
const MOST_BAD = 20;
/** For a position that is zero the server waits until somebody has written it: for ever. */
const PATIENCE_MS = 10_000;
const TIMED_OUT = "57014";

/** Those without members, each with why. */
export async function lostMultis(
  session: Session,
  multis: readonly number[],
  range: MultiRange,
): Promise<Map<number, string>> {
  const bad = new Map<number, string>();
  for (let i = 0; i < multis.length; i += AT_ONCE) await ask(session, multis.slice(i, i + AT_ONCE), range, bad);
  return bad;
}

async function ask(
  session: Session,
  multis: readonly number[],
  range: MultiRange,
  bad: Map<number, string>,
): Promise<void> {
  if (multis.length === 0 || bad.size >= MOST_BAD) return;
  try {
    const rows = await session.query<{ multi: string }>(
      `SET LOCAL statement_timeout = ${PATIENCE_MS};
       SELECT m::text AS multi FROM unnest('{${multis.join(",")}}'::bigint[]) AS m
         LEFT JOIN LATERAL pg_get_multixact_members(m::text::xid) AS x ON true
        GROUP BY m HAVING count(x.xid) FILTER (WHERE x.xid <> '0') = 0 LIMIT ${MOST_BAD}`,
    );
    for (const { multi } of rows) bad.set(Number(multi), "nobody is in it");
  } catch (error) {
    if (errorCode(error) === TIMED_OUT) {
      const lost = await withoutPosition(session, multis, range);
      if (lost.length === 0) throw error;
      for (const multi of lost) bad.set(multi, "its place in pg_multixact/members is not known");
    } else if (!isDamage(error)) {
      throw error;
    } else if (multis.length === 1) {
      bad.set(multis[0] as number, describeFailure(error).message);
    } else {
      const half = Math.ceil(multis.length / 2);
      await ask(session, multis.slice(0, half), range, bad);
      await ask(session, multis.slice(half), range, bad);
    }
  }
}

/** Members begin at a multixact's own position and end at the one of the next, of the last one at what the server knows. */
async function withoutPosition(
  session: Session,
  multis: readonly number[],
  { next }: MultiRange,
): Promise<readonly number[]> {
  const isZero = (multi: string) =>
    `encode(pg_read_binary_file('pg_multixact/offsets/' || upper(lpad(to_hex(${multi} / 65536), 4, '0')),
                                ${multi} % 65536 * 4, 4, true), 'hex') = '00000000'`;
  const rows = await session.query<{ multi: string }>(
    `SELECT m::text AS multi FROM unnest('{${multis.join(",")}}'::bigint[]) AS m,
            LATERAL (SELECT CASE m WHEN 4294967295 THEN 1 ELSE m + 1 END AS following) AS f
      WHERE ${isZero("m")} OR following <> ${next} AND ${isZero("following")} LIMIT ${MOST_BAD}`,
  );
  return rows.map(({ multi }) => Number(multi));
}
