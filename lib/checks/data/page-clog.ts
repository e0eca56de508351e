/** pg_xact as it is on disk, read once for all tables. */

import type { Database } from "../../io/database.ts";
import { segmentName, XIDS_PER_SEGMENT, xidPrecedes, xidStatus } from "../../pages/clog.ts";

/** 256 million transactions; what is older than that in a cluster with more is not compared. */
const MOST_SEGMENTS = 256;

export interface Clog {
  /** Transactions before it were over, or listed as running, when the files were read. Its low half. */
  nextXid: number;
  /** All before it were over, and so were their subtransactions: those without a status were cut off by a crash. */
  oldestRunning: number;
  /** The cluster needs to know nothing before it. */
  oldestXid: number;
  /** The oldest one that is held here. */
  from: number;
  /** Undefined when its file is missing or too short. */
  status(xid: number): number | undefined;
}

export async function readClog(database: Database): Promise<Clog> {
  const { next, running, oldest } = await database.row<{ next: string; running: string; oldest: string }>(
    `SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next, pg_snapshot_xmin(pg_current_snapshot())::text AS running,
            oldest_xid::text AS oldest FROM pg_control_checkpoint()`,
  );
  await checkpoint(database);
  const nextXid = lowHalf(next);
  const oldestXid = Number(oldest);
  const segments = new Map<number, Uint8Array>();
  const last = Math.floor(nextXid / XIDS_PER_SEGMENT);
  const count = Math.min(
    MOST_SEGMENTS,
    last - Math.floor(oldestXid / XIDS_PER_SEGMENT) + 1 + (nextXid < oldestXid ? 4096 : 0),
  );
  for (let i = 0; i < count; i++) {
    const segment = (last - i + 4096) % 4096;
    const path = `pg_xact/${segmentName(segment * XIDS_PER_SEGMENT)}`;
    await database.bytes(
      `COPY (SELECT pg_read_binary_file('${path}', 0, 262144, true)) TO STDOUT (FORMAT binary)`,
      (value) => value !== null && segments.set(segment, new Uint8Array(value)),
    );
  }
  const heldFrom = (((last - count + 1 + 4096) % 4096) * XIDS_PER_SEGMENT) >>> 0;
  return {
    nextXid,
    oldestRunning: lowHalf(running),
    oldestXid,
    from: xidPrecedes(heldFrom, oldestXid) ? oldestXid : heldFrom,
    status: (xid) => {
      const segment = segments.get(Math.floor(xid / XIDS_PER_SEGMENT));
      return segment === undefined ? undefined : xidStatus(segment, xid);
    },
  };
}

const lowHalf = (fullXid: string) => Number(BigInt(fullXid) & 0xffffffffn);

/** Brings the files up to date; without the right to do it, the server is only asked about more. */
async function checkpoint(database: Database): Promise<void> {
  await database.query("CHECKPOINT").catch((error) => {
    if ((error as { code?: unknown }).code !== "42501") throw error;
  });
}
