/**
 * The horizon: the oldest transaction that was running when the source began to describe itself. Every older one had ended
 * by then, so a row version that an older transaction made can only have been deleted since. If it is there at S1 and at S2
 * it was there in between, at the target; and the restore cannot have one that S1 did not have. That is why only such rows
 * are compared, and why no change during the mark, not even one that is taken back, can look like damage.
 */

import type { Database } from "../io/database.ts";

export interface Horizon {
  /** 32-bit transaction ID as `xmin` shows it. */
  xid: string;
}

/** `pg_snapshot_xmin` counts the transactions of all databases, and prepared ones. */
export async function readHorizon(database: Database): Promise<Horizon> {
  const { xmin } = await database.row<{ xmin: string }>("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin");
  return { xid: toXid32(xmin) };
}

/** The next transaction ID to be given out, 32 bits of it. */
export async function readNextXid(database: Database): Promise<string> {
  const { xmax } = await database.row<{ xmax: string }>("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xmax");
  return toXid32(xmax);
}

export const toXid32 = (xid8: string): string => (BigInt(xid8) & 0xffff_ffffn).toString();

/**
 * SQL: whether transaction ID `xid` (an expression) precedes `than`. IDs are compared modulo 2^32 and the permanent ones
 * precede all. Frozen rows keep their `xmin`, however old: what is not among the 2^30 IDs from `than` on precedes it.
 * `age` counts from one point within a statement, which cancels out.
 * https://www.postgresql.org/docs/15/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
 */
export function precedes(xid: string, than: string): string {
  // One evaluation for each row: it is asked of all of them.
  return `(((age(${xid}) - (SELECT age('${than}'::xid)::int8 - 1073741823)) & 4294967295) > 1073741823)`;
}

/**
 * SQL: whether the row version is settled: made before the horizon, and not deleted by a transaction since. A commit is in
 * the WAL, and in the restore, some time before the source shows it (it is flushed, a synchronous standby answers), so a row
 * that such a transaction deletes may still be seen at S2. Locks look the same and cost a little coverage.
 */
export const settled = (row: string, horizon: string): string =>
  `(${precedes(`${row}.xmin`, horizon)} AND ${precedes(`${row}.xmax`, horizon)})`;
