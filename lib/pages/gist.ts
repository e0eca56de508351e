/** GiST. Right links are left out: they may lead to pages that were deleted and used again. */

import {
  DEAD,
  type IndexSink,
  lineCount,
  lineFlags,
  lineLength,
  lineOffset,
  linePointer,
  type Pages,
  pageSpecial,
  tidBlock,
  tidOffset,
  tupleAt,
} from "./page.ts";

/**
 * Whether an inner page has a key with NaN or an infinity in it, for keys of float8 (8 bytes a number) or float4. NaN compares
 * with nothing, so a page that ever took one in may hide its other rows; without one, hidden rows are damage.
 */
export function hasUnboundedKey(pages: Pages, at: number, bytesPerNumber: 4 | 8): boolean {
  const flags = pages.u16[(at + SPECIAL + 12) >>> 1] as number;
  if ((flags & (LEAF | DELETED)) !== 0) return false;
  const exponent = bytesPerNumber === 8 ? 0x7ff00000 : 0x7f800000;
  for (let offset = 1; offset <= lineCount(pages, at); offset++) {
    const pointer = linePointer(pages, at, offset);
    const end = at + lineOffset(pointer) + lineLength(pointer);
    // The high half of a float8, little-endian.
    const first = at + lineOffset(pointer) + TUPLE_HEADER + bytesPerNumber - 4;
    for (let word = first; word + 4 <= end; word += bytesPerNumber) {
      if (((pages.u32[word >>> 2] as number) & exponent) === exponent) return true;
    }
  }
  return false;
}

const TUPLE_HEADER = 8;

const SPECIAL = 8192 - 16;
const PAGE_ID = 0xff81;
const LEAF = 1;
const DELETED = 2;

export function readGistPage(pages: Pages, at: number, block: number, sink: IndexSink): void {
  if (pageSpecial(pages, at) !== SPECIAL || pages.u16[(at + SPECIAL + 14) >>> 1] !== PAGE_ID) {
    sink.broken("not a page of a GiST index");
    return;
  }
  const flags = pages.u16[(at + SPECIAL + 12) >>> 1] as number;
  if ((flags & DELETED) !== 0) {
    if (block === 0) sink.broken("the root is a deleted page");
    return;
  }
  const lines = lineCount(pages, at);
  for (let offset = 1; offset <= lines; offset++) {
    const pointer = linePointer(pages, at, offset);
    const start = tupleAt(pages, at, offset, pointer, sink);
    if (start < 0) return;
    if ((flags & LEAF) === 0) sink.link(tidBlock(pages, start));
    else sink.entry(tidBlock(pages, start), tidOffset(pages, start), lineFlags(pointer) === DEAD);
  }
}
