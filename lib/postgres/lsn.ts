/** LSNs stay text (`0/3000028`) as PostgreSQL prints them; these are the few computations on them. */

export const DEFAULT_WAL_SEGMENT_SIZE = 16 * 1024 ** 2;

export function isLsn(text: string): boolean {
  return /^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/.test(text);
}

export function lsnToBigInt(lsn: string): bigint {
  const [high = "", low = ""] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) + BigInt(`0x${low}`);
}

/** Negative, zero or positive, as a comparator. */
export function compareLsn(a: string, b: string): number {
  const difference = lsnToBigInt(a) - lsnToBigInt(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** `000000020000000A000000F3` → timeline 2, segment number counted from 0. Null when it is not a segment's name. */
export function parseWalName(
  name: string,
  segmentSize = DEFAULT_WAL_SEGMENT_SIZE,
): { timeline: number; segment: bigint } | null {
  const match = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})/.exec(name);
  if (!match?.[1] || !match[2] || !match[3]) return null;
  const perLog = 0x1_0000_0000n / BigInt(segmentSize);
  return {
    timeline: Number.parseInt(match[1], 16),
    segment: BigInt(`0x${match[2]}`) * perLog + BigInt(`0x${match[3]}`),
  };
}

/** The name of the WAL segment that holds `lsn` on `timeline`. */
export function walNameOf(timeline: number, lsn: string, segmentSize = DEFAULT_WAL_SEGMENT_SIZE): string {
  return walName(timeline, lsnToBigInt(lsn) / BigInt(segmentSize), segmentSize);
}

export function walName(timeline: number, segment: bigint, segmentSize = DEFAULT_WAL_SEGMENT_SIZE): string {
  const perLog = 0x1_0000_0000n / BigInt(segmentSize);
  const hex = (n: bigint | number) => n.toString(16).toUpperCase().padStart(8, "0");
  return hex(timeline) + hex(segment / perLog) + hex(segment % perLog);
}
