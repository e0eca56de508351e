/** Heap: which line pointers an index may point at, which rows are certainly alive, and what hint bits say of whom. */

import { Bits } from "./bits.ts";
import { ABORTED, COMMITTED } from "./clog.ts";
import type { RowKeys } from "./keys.ts";
import {
  headerProblem,
  isAllZero,
  isNew,
  lineCount,
  lineFlags,
  lineLength,
  lineOffset,
  linePointer,
  NORMAL,
  type Pages,
  pageSpecial,
  REDIRECT,
  UNUSED,
} from "./page.ts";

const TUPLE_HEADER = 23;

// t_infomask
const HAS_NULL = 0x0001;
const XMAX_EXCLUSIVE_LOCK = 0x0040;
const XMAX_LOCKS = 0x0050;
const XMAX_LOCK_ONLY = 0x0080;
const XMIN_COMMITTED = 0x0100;
const XMIN_INVALID = 0x0200;
const XMIN_FROZEN = 0x0300;
const XMAX_COMMITTED = 0x0400;
const XMAX_INVALID = 0x0800;
const XMAX_IS_MULTI = 0x1000;
/** Left by the VACUUM FULL of PostgreSQL 8.4 and before. */
const MOVED = 0xc000;
// t_infomask2
const ATTRIBUTES = 0x07ff;
const HOT_UPDATED = 0x4000;
const HEAP_ONLY = 0x8000;

/** Its inserter committed and nobody deleted it: seen by everybody, whatever pg_xact says. */
const ALIVE = XMIN_COMMITTED | XMAX_INVALID;

/** A claim that a row's hint bits make; its place is for the report. */
export interface HintSink {
  xid(xid: number, claim: Claim, block: number, offset: number): void;
  /** The row was updated, deleted or locked by several transactions. */
  multi?(multi: number, block: number, offset: number): void;
  /** COMMITTED or ABORTED, of a transaction that was over when all was read; otherwise what is not known. */
  status?(xid: number): number | undefined;
}

export type Claim = typeof XMIN_WAS_COMMITTED | typeof XMIN_WAS_ABORTED | typeof XMAX_WAS_COMMITTED;
export const XMIN_WAS_COMMITTED = 0;
export const XMIN_WAS_ABORTED = 1;
export const XMAX_WAS_COMMITTED = 2;

/** FrozenTransactionId and those before it belong to no transaction. */
const FIRST_NORMAL_XID = 3;

const infomask = ({ u16 }: Pages, tuple: number) => u16[(tuple + 20) >>> 1] as number;
const infomask2 = ({ u16 }: Pages, tuple: number) => u16[(tuple + 18) >>> 1] as number;

/** Seen by everybody, seen by nobody any more, or neither for certain: its transactions may be running. */
type Fate = typeof LIVE | typeof GONE | typeof UNCERTAIN;
const LIVE = 0;
const GONE = 1;
const UNCERTAIN = 2;

/** As HeapTupleSatisfiesMVCC (access/heap/heapam_visibility.c) for a snapshot that sees all that is over. */
function fateOf(pages: Pages, tuple: number, hints: HintSink): Fate {
  const mask = infomask(pages, tuple);
  if ((mask & ALIVE) === ALIVE) return LIVE;
  if ((mask & MOVED) !== 0) return UNCERTAIN;
  if ((mask & XMIN_COMMITTED) === 0) {
    if ((mask & XMIN_INVALID) !== 0) return GONE;
    const inserter = xmin(pages, tuple);
    const status = inserter < FIRST_NORMAL_XID ? COMMITTED : hints.status?.(inserter);
    if (status === ABORTED) return GONE;
    if (status !== COMMITTED) return UNCERTAIN;
  }
  if ((mask & XMAX_INVALID) !== 0) return LIVE;
  const lockedOnly = (mask & XMAX_LOCK_ONLY) !== 0 || (mask & (XMAX_IS_MULTI | XMAX_LOCKS)) === XMAX_EXCLUSIVE_LOCK;
  if (lockedOnly) return LIVE;
  if ((mask & XMAX_IS_MULTI) !== 0) return UNCERTAIN;
  if ((mask & XMAX_COMMITTED) !== 0) return GONE;
  const deleter = pages.u32[(tuple + 4) >>> 2] as number;
  const status = deleter < FIRST_NORMAL_XID ? ABORTED : hints.status?.(deleter);
  return status === COMMITTED ? GONE : status === ABORTED ? LIVE : UNCERTAIN;
}

/** Start of the tuple; -1 when a line pointer in use leads out of the page. */
function tupleStart(pages: Pages, at: number, pointer: number): number {
  const start = lineOffset(pointer);
  const length = lineLength(pointer);
  const sound = start % 8 === 0 && start >= 24 && length >= TUPLE_HEADER && start + length <= pageSpecial(pages, at);
  return sound ? at + start : -1;
}

/** `undefined`: an index may point here. */
export type LineProblem =
  | "beyond the end of the table"
  | "in a block that is all zeros"
  | "unused"
  | "inside a chain of updates"
  | undefined;

/** Of one page as the server sees it; null when the block is beyond the end. */
export function lineProblem(pages: Pages | null, offset: number): LineProblem {
  if (pages === null) return "beyond the end of the table";
  if (isNew(pages, 0)) return "in a block that is all zeros";
  if (offset < 1 || offset > lineCount(pages, 0)) return "unused";
  const pointer = linePointer(pages, 0, offset);
  if (lineFlags(pointer) === UNUSED) return "unused";
  if (lineFlags(pointer) !== NORMAL) return undefined;
  const tuple = tupleStart(pages, 0, pointer);
  return tuple >= 0 && (infomask2(pages, tuple) & HEAP_ONLY) !== 0 ? "inside a chain of updates" : undefined;
}

/** MaxHeapTuplesPerPage of 8 KB pages (access/htup_details.h). */
const MOST_LINES_OF_A_BLOCK = 291;

export interface HeapRangeOptions {
  /** Columns (attnum) of which NULLs are to be told. */
  nullable?: readonly number[];
  keys?: readonly RowKeys[];
  /** How many blocks may be added. */
  likelyBlocks?: number;
  /** What the lines may take, in bytes; see `hasRoomFor`. */
  memory?: number;
}

/** Some blocks of a heap, in order, from `firstBlock` on. */
export class HeapRange {
  readonly firstBlock: number;
  private readonly likelyBlocks: number;
  private readonly mostLines: number;
  /** Lines that everything here has room for. */
  private room = 0;
  /** Where the lines of each block start, in the order of the bits. */
  private starts = new Uint32Array(1024);
  blocks = 0;
  lines = 0;
  /** An index may point at it. */
  readonly allowed = new Bits();
  /** An index that holds every row must point at it: there is a live row in it, or at the end of its chain of updates. */
  readonly needed = new Bits();
  /** Of these columns (attnum): the line's row has a NULL in it. */
  readonly nulls: ReadonlyMap<number, Bits>;
  /** Of the needed lines, for each index that is asked about. */
  readonly keys: readonly RowKeys[];
  /** Rows that everybody sees. */
  live = 0;
  /** All-zero blocks. */
  readonly zero: number[] = [];
  /** No server would have written them; the server is asked again before that is believed. */
  readonly broken: { block: number; what: string }[] = [];
  /** Rows of which it is not certain whether they are alive, and so not needed here. */
  uncertain = 0;
  /** Live rows inside a chain that no line leads to. */
  readonly orphans: { block: number; offset: number }[] = [];

  constructor(
    firstBlock: number,
    { nullable = [], keys = [], likelyBlocks = 1, memory = Number.POSITIVE_INFINITY }: HeapRangeOptions = {},
  ) {
    this.firstBlock = firstBlock;
    this.keys = keys;
    this.nulls = new Map(nullable.map((attnum) => [attnum, new Bits()]));
    this.likelyBlocks = likelyBlocks;
    // Each index works on a copy of what is needed.
    const ofKeys = keys.reduce((sum, { bytesPerLine }) => sum + bytesPerLine, 0);
    this.mostLines = memory / (ofKeys + (3 + nullable.length) / 8);
  }

  /** Whether so many more blocks stay within the memory, however many lines they have. */
  hasRoomFor(blocks: number): boolean {
    return this.lines + blocks * MOST_LINES_OF_A_BLOCK <= this.mostLines;
  }

  /** The number of a line; -1 when the block has no such line. Only for blocks of the range. */
  line(block: number, offset: number): number {
    const i = block - this.firstBlock;
    const start = this.starts[i] as number;
    return offset >= 1 && start + offset <= (this.starts[i + 1] as number) ? start + offset - 1 : -1;
  }

  placeOf(line: number): { block: number; offset: number } {
    let [low, high] = [0, this.blocks];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] as number) <= line) low = middle;
      else high = middle;
    }
    // Blocks without lines start where the next one starts.
    while (low > 0 && (this.starts[low] as number) > line) low--;
    return { block: this.firstBlock + low, offset: line - (this.starts[low] as number) + 1 };
  }

  /** The next block. */
  add(pages: Pages, at: number, hints: HintSink): void {
    const block = this.firstBlock + this.blocks;
    const first = this.lines;
    const count = this.countLines(pages, at, block);
    this.blocks++;
    this.lines += count;
    if (this.blocks >= this.starts.length) {
      const larger = new Uint32Array(this.starts.length * 2);
      larger.set(this.starts);
      this.starts = larger;
    }
    this.starts[this.blocks] = this.lines;
    if (count === 0) return;
    this.reserve();

    const { u16, u32 } = pages;
    const special = pageSpecial(pages, at);
    let chained = false;
    for (let offset = 1, line = first; offset <= count; offset++, line++) {
      const pointer = u32[(at + 20 + offset * 4) >>> 2] as number;
      const flags = (pointer >>> 15) & 3;
      if (flags === UNUSED) continue;
      if (flags !== NORMAL) {
        this.allowed.set(line);
        continue;
      }
      const start = pointer & 0x7fff;
      const length = pointer >>> 17;
      if ((start & 7) !== 0 || start < 24 || length < TUPLE_HEADER || start + length > special) {
        this.broken.push({ block, what: `item ${offset} lies outside the page` });
        this.allowed.set(line);
        continue;
      }
      const tuple = at + start;
      const mask = u16[(tuple + 20) >>> 1] as number;
      const mask2 = u16[(tuple + 18) >>> 1] as number;
      const fate = (mask & ALIVE) === ALIVE ? LIVE : fateOf(pages, tuple, hints);
      const alive = fate === LIVE;
      if (fate === UNCERTAIN) this.uncertain++;
      else if (alive) this.live++;
      if ((mask2 & HEAP_ONLY) !== 0) {
        if (alive) chained = true;
      } else {
        this.allowed.set(line);
        if (alive) {
          this.needed.set(line);
          if (this.nulls.size > 0) this.noteNulls(pages, tuple, line);
          for (const keys of this.keys) keys.note(pages, tuple, tuple + length, line);
        }
      }
      const inserter = mask & XMIN_FROZEN;
      if (inserter !== 0 && inserter !== XMIN_FROZEN && (mask & MOVED) === 0) {
        const xid = u32[tuple >>> 2] as number;
        const claim = inserter === XMIN_COMMITTED ? XMIN_WAS_COMMITTED : XMIN_WAS_ABORTED;
        if (xid >= FIRST_NORMAL_XID) hints.xid(xid, claim, block, offset);
      }
      if ((mask & (XMAX_COMMITTED | XMAX_INVALID | XMAX_IS_MULTI | XMAX_LOCK_ONLY)) === XMAX_COMMITTED) {
        const xid = u32[(tuple + 4) >>> 2] as number;
        if ((mask & XMAX_LOCKS) !== XMAX_EXCLUSIVE_LOCK && (mask & MOVED) === 0 && xid >= FIRST_NORMAL_XID) {
          hints.xid(xid, XMAX_WAS_COMMITTED, block, offset);
        }
      } else if ((mask & (XMAX_IS_MULTI | XMAX_INVALID)) === XMAX_IS_MULTI && (mask & MOVED) === 0) {
        // Locked in PostgreSQL 9.2 or before, and upgraded: its members were not taken along.
        const upgraded = (mask & XMAX_LOCK_ONLY) !== 0 && (mask & XMAX_LOCKS) === 0;
        if (!upgraded) hints.multi?.(u32[(tuple + 4) >>> 2] as number, block, offset);
      }
    }
    if (chained) this.followChains(pages, at, block, first, count, hints);
  }

  /** At once for all that there is likely to be: to grow is to copy everything into new memory, what nobody wrote to is none. */
  private reserve(): void {
    const { lines } = this;
    if (lines <= this.room) return;
    const likely = (lines / this.blocks) * this.likelyBlocks * 1.05;
    this.room = Math.ceil(Math.min(Math.max(1.5 * lines, likely), Math.max(lines, this.mostLines)));
    for (const of of [this.allowed, this.needed, ...this.nulls.values(), ...this.keys]) of.reserve(this.room);
  }

  private countLines(pages: Pages, at: number, block: number): number {
    if (isNew(pages, at) && isAllZero(pages, at)) {
      this.zero.push(block);
      return 0;
    }
    const what = headerProblem(pages, at);
    if (what === null) return lineCount(pages, at);
    this.broken.push({ block, what });
    return 0;
  }

  /** A live row inside a chain belongs to the line that the chain starts at. */
  private followChains(pages: Pages, at: number, block: number, first: number, count: number, hints: HintSink): void {
    const reached = new Uint8Array(count + 1);
    for (let root = 1; root <= count; root++) {
      const pointer = linePointer(pages, at, root);
      let offset = lineOffset(pointer);
      // Who made the next member; null when that is not known.
      let maker: number | null = null;
      let sure = true;
      if (lineFlags(pointer) !== REDIRECT) {
        const tuple = lineFlags(pointer) === NORMAL ? tupleStart(pages, at, pointer) : -1;
        if (tuple < 0 || (infomask2(pages, tuple) & (HEAP_ONLY | HOT_UPDATED)) !== HOT_UPDATED) continue;
        offset = nextInChain(pages, tuple);
        maker = updaterOf(pages, tuple);
        sure = maker !== null;
      }
      for (let step = 0; step <= count && offset >= 1 && offset <= count; step++) {
        const member = linePointer(pages, at, offset);
        const tuple = lineFlags(member) === NORMAL ? tupleStart(pages, at, member) : -1;
        if (tuple < 0 || (infomask2(pages, tuple) & HEAP_ONLY) === 0) break;
        // The update may have been undone and its place be in another chain by now.
        sure = sure && (maker === null || maker === xmin(pages, tuple));
        reached[offset] = 1;
        if (sure && fateOf(pages, tuple, hints) === LIVE) {
          const line = first + root - 1;
          this.needed.set(line);
          if (this.nulls.size > 0) this.noteNulls(pages, tuple, line);
          for (const keys of this.keys) keys.note(pages, tuple, tuple + lineLength(member), line);
        }
        if ((infomask2(pages, tuple) & HOT_UPDATED) === 0) break;
        offset = nextInChain(pages, tuple);
        maker = updaterOf(pages, tuple);
        sure = sure && maker !== null;
      }
    }
    for (let offset = 1; offset <= count; offset++) {
      const pointer = linePointer(pages, at, offset);
      const tuple = lineFlags(pointer) === NORMAL ? tupleStart(pages, at, pointer) : -1;
      if (tuple < 0 || reached[offset] === 1) continue;
      if ((infomask2(pages, tuple) & HEAP_ONLY) !== 0 && (infomask(pages, tuple) & ALIVE) === ALIVE) {
        this.orphans.push({ block, offset });
      }
    }
  }

  private noteNulls(pages: Pages, tuple: number, line: number): void {
    const columns = infomask2(pages, tuple) & ATTRIBUTES;
    const hasNull = (infomask(pages, tuple) & HAS_NULL) !== 0;
    for (const [attnum, bits] of this.nulls) {
      const bit = ((pages.u8[tuple + TUPLE_HEADER + ((attnum - 1) >>> 3)] as number) >>> ((attnum - 1) & 7)) & 1;
      // A column that was added later: its default may be NULL.
      if (attnum > columns || (hasNull && bit === 0)) bits.set(line);
    }
  }
}

const xmin = ({ u32 }: Pages, tuple: number) => u32[tuple >>> 2] as number;

/** A multixact does not tell. */
const updaterOf = (pages: Pages, tuple: number) =>
  (infomask(pages, tuple) & XMAX_IS_MULTI) !== 0 ? null : (pages.u32[(tuple + 4) >>> 2] as number);

/** HOT updates stay in the page. */
const nextInChain = ({ u16 }: Pages, tuple: number) => u16[(tuple + 16) >>> 1] as number;

/** One page as a range of its own: what the server says when it is asked again. */
export function heapPage(pages: Pages, block: number, hints: HintSink, keys: readonly RowKeys[] = []): HeapRange {
  const range = new HeapRange(block, { keys });
  range.add(pages, 0, hints);
  return range;
}
