/** What every page of PostgreSQL 8.3 and later has in common: header, line pointers, index tuples. */

import type { KeyReader } from "./keys.ts";

export const PAGE_SIZE = 8192;

/** The only layout since PostgreSQL 8.3. */
const LAYOUT_VERSION = 4;
const KNOWN_FLAGS = 0x7;
const HEADER_LENGTH = 24;

/** The same bytes as numbers of 1, 2 and 4 bytes: one or more pages, each at a multiple of the page size. */
export interface Pages {
  u8: Uint8Array;
  u16: Uint16Array;
  u32: Uint32Array;
}

/** Copies only bytes that are not aligned. */
export function pagesOf(bytes: Uint8Array): Pages {
  const u8 = bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes);
  return {
    u8,
    u16: new Uint16Array(u8.buffer, u8.byteOffset, u8.byteLength >>> 1),
    u32: new Uint32Array(u8.buffer, u8.byteOffset, u8.byteLength >>> 2),
  };
}

export const pageLower = ({ u16 }: Pages, at: number) => u16[(at + 12) >>> 1] as number;
export const pageSpecial = ({ u16 }: Pages, at: number) => u16[(at + 16) >>> 1] as number;

/** Never initialized: PostgreSQL tells it by pd_upper. Legitimate only when every other byte is zero too. */
export const isNew = ({ u16 }: Pages, at: number) => u16[(at + 14) >>> 1] === 0;

export function isAllZero({ u32 }: Pages, at: number): boolean {
  for (let i = at >>> 2; i < (at + PAGE_SIZE) >>> 2; i++) if (u32[i] !== 0) return false;
  return true;
}

/** Why no server would have written this header; null when it is sound. Not for a page that `isNew`. */
export function headerProblem({ u16 }: Pages, at: number): string | null {
  const word = (offset: number) => u16[(at + offset) >>> 1] as number;
  const [flags, lower, upper, special, version] = [word(10), word(12), word(14), word(16), word(18)];
  if (version !== (PAGE_SIZE | LAYOUT_VERSION)) return `page size and version are ${version}`;
  if ((flags & ~KNOWN_FLAGS) !== 0) return `unknown page flags ${flags}`;
  if (lower < HEADER_LENGTH || lower > upper || upper > special || special > PAGE_SIZE || special % 8 !== 0) {
    return `free space from ${lower} to ${upper}, special space at ${special}`;
  }
  return null;
}

/** How many line pointers there are; offsets start at 1. */
export const lineCount = (pages: Pages, at: number) => (pageLower(pages, at) - HEADER_LENGTH) >> 2;

export const UNUSED = 0;
export const NORMAL = 1;
export const REDIRECT = 2;
export const DEAD = 3;

export const linePointer = ({ u32 }: Pages, at: number, offset: number) =>
  u32[(at + HEADER_LENGTH + (offset - 1) * 4) >>> 2] as number;
export const lineFlags = (pointer: number) => (pointer >>> 15) & 3;
export const lineOffset = (pointer: number) => pointer & 0x7fff;
export const lineLength = (pointer: number) => pointer >>> 17;

/** ItemPointerData: the block in two halves, then the offset. */
export const tidBlock = ({ u16 }: Pages, at: number) =>
  (((u16[at >>> 1] as number) << 16) | (u16[(at >>> 1) + 1] as number)) >>> 0;
export const tidOffset = ({ u16 }: Pages, at: number) => u16[(at >>> 1) + 2] as number;

/** Second half of an IndexTupleData. */
export const tupleInfo = ({ u16 }: Pages, at: number) => u16[(at >>> 1) + 3] as number;
export const tupleSize = (info: number) => info & 0x1fff;
/** INDEX_AM_RESERVED_BIT */
export const RESERVED = 0x2000;

export const NO_BLOCK = 0xffffffff;

/** What the pages of an index say, one after the other. */
export interface IndexSink {
  /** For the keys of a B-tree's entries, when somebody wants to know them. */
  keyReader?: KeyReader | undefined;
  /**
   * Of a leaf: a row that the index knows; `killed` when no scan will give it, as one found out that nobody sees the row
   * any more, or as none of its values is in the entry.
   */
  entry(block: number, offset: number, killed: boolean, key?: number): void;
  /** A leaf of a B-tree, before its entries; 0 stands for none. */
  leaf?(left: number, right: number): void;
  /** Another page of the index that is in use. */
  link(block: number): void;
  /** The page cannot be one of this index. */
  broken(what: string): void;
}

/** Of one initialized page with a sound header. `at` is where it starts. */
export type ReadIndexPage = (pages: Pages, at: number, block: number, sink: IndexSink) => void;

/** Where the tuple of a line pointer starts; -1 and a complaint when it cannot be there. */
export function tupleAt(pages: Pages, at: number, offset: number, pointer: number, sink: IndexSink): number {
  const start = lineOffset(pointer);
  const length = lineLength(pointer);
  if (start < HEADER_LENGTH || start % 8 !== 0 || length < 8 || start + length > pageSpecial(pages, at)) {
    sink.broken(`item ${offset} lies outside the page`);
    return -1;
  }
  return at + start;
}
