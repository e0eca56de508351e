/** pg_xact: two bits for each transaction, 1,048,576 of them in a file. */

export const XIDS_PER_SEGMENT = 32 * 8192 * 4;

export const IN_PROGRESS = 0;
export const COMMITTED = 1;
export const ABORTED = 2;
export const SUB_COMMITTED = 3;

/** `0A3F` */
export const segmentName = (xid: number) =>
  Math.floor(xid / XIDS_PER_SEGMENT)
    .toString(16)
    .toUpperCase()
    .padStart(4, "0");

/** Undefined beyond the end of the file. */
export function xidStatus(segment: Uint8Array, xid: number): number | undefined {
  const i = xid % XIDS_PER_SEGMENT;
  const byte = segment[i >>> 2];
  return byte === undefined ? undefined : (byte >>> ((i & 3) * 2)) & 3;
}

/** Both within 2^31 of each other, as PostgreSQL keeps them. */
export const xidPrecedes = (a: number, b: number) => ((a - b) | 0) < 0;
