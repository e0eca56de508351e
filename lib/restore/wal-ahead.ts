/** Which WAL recovery is going to ask for, in that order, and how much of it may lie ready at once. */

import { lsnToBigInt, parseWalName, walName, walNameOf } from "../postgres/lsn.ts";

/** From which segment on a timeline is the one to read. */
export interface TimelineStart {
  timeline: number;
  segment: bigint;
}

/**
 * The way to a timeline, oldest first, from its history file. PostgreSQL asks for the segment of a switch on the new
 * timeline, which holds everything up to the switch too (PostgreSQL 15, XLogFileReadAnyTLI).
 */
export function timelinesTo(timeline: number, history: string, segmentSize: number): TimelineStart[] {
  const switches = history
    .split("\n")
    .map((line) => /^\s*(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/i.exec(line))
    .filter((match) => match !== null)
    .map((match) => ({ timeline: Number(match[1]), end: lsnToBigInt(match[2] as string) / BigInt(segmentSize) }));
  const starts = [0n, ...switches.map(({ end }) => end)];
  return [...switches.map((one) => one.timeline), timeline].map((one, index) => ({
    timeline: one,
    segment: starts[index] ?? 0n,
  }));
}

/** Bytes of a segment as the backup's own names and LSN tell; the default where they fit any size. */
export function segmentSizeFrom(first: string, startLsn: string, usual: number): number {
  const timeline = parseWalName(first)?.timeline ?? 1;
  const fits = (size: number) => startLsn === "" || walNameOf(timeline, startLsn, size) === first;
  const sizes = [usual, ...Array.from({ length: 11 }, (_, power) => 2 ** power * 1024 ** 2)];
  return sizes.find(fits) ?? usual;
}

/** Of the room that is left beside all that is needed, at most the limit; nothing when it is not enough for two segments. */
export function aheadSpace(
  limit: number,
  space: { neededBytes: number; freeBytes: number },
  segmentSize: number,
): number {
  const bytes = Math.min(limit, space.freeBytes - space.neededBytes);
  return bytes < 2 * segmentSize ? 0 : bytes;
}

/** More at once would only fetch longer what recovery may have overtaken. */
const LARGEST_BATCH = 32n;

/** What to fetch next: always what recovery needs soonest, never more than may lie ready, each segment once. */
export class WalQueue {
  private readonly segmentSize: number;
  private readonly limit: bigint;
  private readonly first: bigint;
  private readonly last: bigint | null;
  private readonly timelines: readonly TimelineStart[];
  /** Every segment before it was taken, or is no longer needed. */
  private needed: bigint;
  /** Every segment before it was asked for. */
  private asked: bigint;
  private atEnd = false;

  constructor(options: {
    first: string;
    /** The segment of the target, on whichever timeline; null where that cannot be known. */
    last: string | null;
    timelines: readonly TimelineStart[];
    segmentSize: number;
    bytes: number;
  }) {
    const { segmentSize } = options;
    const segment = (name: string) => parseWalName(name, segmentSize)?.segment ?? 0n;
    this.segmentSize = segmentSize;
    this.limit = BigInt(Math.floor(options.bytes / segmentSize));
    this.first = segment(options.first);
    this.last = options.last === null ? null : segment(options.last);
    this.timelines = options.timelines;
    this.needed = this.first;
    this.asked = this.first;
  }

  /** Empty until enough of what lies ready was taken, and for good when `ended`. */
  next(): string[] {
    if (this.ended) return [];
    const room = this.limit - (this.asked - this.needed);
    const rest = this.last === null ? room : this.last - this.asked + 1n;
    const least = min(min(LARGEST_BATCH, (this.limit + 1n) / 2n), rest);
    if (room < least) return [];
    const count = min(min(room, LARGEST_BATCH), rest);
    const from = this.asked;
    this.asked += count;
    return Array.from({ length: Number(count) }, (_, index) => this.name(from + BigInt(index)));
  }

  /** Recovery has this segment: those before it are not needed any more either. */
  passed(name: string): void {
    const segment = parseWalName(name, this.segmentSize)?.segment;
    if (segment === undefined || segment < this.needed) return;
    this.needed = segment + 1n;
    if (this.asked < this.needed) this.asked = this.needed;
  }

  isNeeded(name: string): boolean {
    const segment = parseWalName(name, this.segmentSize)?.segment;
    return segment !== undefined && segment >= this.needed;
  }

  /** What lies ready beside these is in vain: recovery fetched it by itself, or it is to be fetched again. */
  holds(name: string): boolean {
    const segment = parseWalName(name, this.segmentSize)?.segment;
    return segment !== undefined && segment >= this.needed && segment < this.asked;
  }

  /** These did not come. */
  again(names: readonly string[]): void {
    const segment = parseWalName(names[0] ?? "", this.segmentSize)?.segment;
    if (segment !== undefined && segment < this.asked) this.asked = max(segment, this.needed);
  }

  /** The archive does not have the rest. */
  end(): void {
    this.atEnd = true;
  }

  /** Recovery begins anew. */
  rewind(): void {
    this.needed = this.first;
    this.asked = this.first;
    this.atEnd = false;
  }

  get ended(): boolean {
    return this.atEnd || (this.last !== null && this.asked > this.last);
  }

  private name(segment: bigint): string {
    const { timeline } = this.timelines.findLast((one) => one.segment <= segment) ?? { timeline: 1 };
    return walName(timeline, segment, this.segmentSize);
  }
}

// Math's are for numbers only.
const min = (a: bigint, b: bigint) => (a < b ? a : b);
const max = (a: bigint, b: bigint) => (a > b ? a : b);

/** A word of the shell inside a restore_command, where PostgreSQL reads `%` first. */
const quoted = (path: string) => `'${path.replaceAll("'", "'\\''").replaceAll("%", "%%")}'`;

/**
 * A rename where the file lies ready, else as before. A history file is asked for more than once, so it stays. What was
 * taken is written down, for the report.
 */
export function restoreCommandAhead(ready: string, taken: string, otherwise: string): string {
  const file = `${quoted(ready)}/%f`;
  return (
    `case %f in *.history) take=cp;; *) take=mv;; esac; ` +
    `if $take -f ${file} "%p" 2>/dev/null; then echo %f >>${quoted(taken)}; exit 0; fi; ${otherwise}`
  );
}
