/** GIN: a tree of keys, lists or trees of rows for each key, and a list of rows not yet sorted in. */

import {
  type IndexSink,
  lineCount,
  lineLength,
  linePointer,
  NO_BLOCK,
  type Pages,
  pageLower,
  pageSpecial,
  tidBlock,
  tidOffset,
  tupleAt,
} from "./page.ts";

const SPECIAL = 8192 - 8;
const DATA = 1;
const LEAF = 2;
const DELETED = 4;
const META = 8;
const LIST = 16;
const COMPRESSED = 128;
const ROOT = 1;
const TREE_POSTING = 0xffff;
const COMPRESSED_LIST = 0x80000000;
/** Right bound of a page of a posting tree, aligned. */
const DATA_START = 32;
const POSTING_ITEM = 10;

export function readGinPage(pages: Pages, at: number, block: number, sink: IndexSink): void {
  if (pageSpecial(pages, at) !== SPECIAL) {
    sink.broken("not a page of a GIN index");
    return;
  }
  const flags = pages.u16[(at + SPECIAL + 6) >>> 1] as number;
  if ((block === 0) !== ((flags & META) !== 0)) {
    sink.broken("not the page of a GIN index that belongs here");
    return;
  }
  if (block === 0) {
    const pending = pages.u32[(at + 24) >>> 2] as number;
    sink.link(ROOT);
    if (pending !== NO_BLOCK) sink.link(pending);
    return;
  }
  if ((flags & DELETED) !== 0) return;
  if ((flags & DATA) !== 0) {
    readPostingPage(pages, at, flags, sink);
    return;
  }
  const right = pages.u32[(at + SPECIAL) >>> 2] as number;
  if (right !== NO_BLOCK) sink.link(right);
  const lines = lineCount(pages, at);
  for (let offset = 1; offset <= lines; offset++) {
    const pointer = linePointer(pages, at, offset);
    const start = tupleAt(pages, at, offset, pointer, sink);
    if (start < 0) return;
    if ((flags & LIST) !== 0) sink.entry(tidBlock(pages, start), tidOffset(pages, start), false);
    else if ((flags & LEAF) === 0) sink.link(tidBlock(pages, start));
    else readKey(pages, start, lineLength(pointer), sink);
  }
}

/** Since 9.1 every row has an entry, if only one that says that there is nothing in it. */
export const ginHasEveryRow = (pages: Pages, at: number) => ((pages.u32[(at + 24 + 48) >>> 2] as number) | 0) >= 1;

/** The offset is the number of rows; the block number says where they are. */
function readKey(pages: Pages, start: number, length: number, sink: IndexSink): void {
  const rows = tidOffset(pages, start);
  const where = tidBlock(pages, start);
  if (rows === TREE_POSTING) {
    sink.link(where);
    return;
  }
  if (rows === 0) return;
  const list = (where & ~COMPRESSED_LIST) >>> 0;
  const room = length - list;
  if (list < 8 || list % 2 !== 0 || room < 0) {
    sink.broken("a key whose rows lie outside of it");
    return;
  }
  if ((where & COMPRESSED_LIST) === 0) {
    if (rows * 6 > room) {
      sink.broken("a key whose rows lie outside of it");
      return;
    }
    for (let i = 0; i < rows; i++) entry(pages, start + list + i * 6, sink);
  } else if (readSegment(pages, start + list, room, sink) < 0) sink.broken("a list of rows that ends too late");
}

function readPostingPage(pages: Pages, at: number, flags: number, sink: IndexSink): void {
  const right = pages.u32[(at + SPECIAL) >>> 2] as number;
  if (right !== NO_BLOCK) sink.link(right);
  const count = pages.u16[(at + SPECIAL + 4) >>> 1] as number;
  if ((flags & LEAF) === 0) {
    if (DATA_START + count * POSTING_ITEM > SPECIAL) {
      sink.broken("more children than there is room for");
      return;
    }
    for (let i = 0; i < count; i++) sink.link(tidBlock(pages, at + DATA_START + i * POSTING_ITEM));
  } else if ((flags & COMPRESSED) === 0) {
    if (DATA_START + count * 6 > SPECIAL) {
      sink.broken("more rows than there is room for");
      return;
    }
    for (let i = 0; i < count; i++) entry(pages, at + DATA_START + i * 6, sink);
  } else {
    const end = at + pageLower(pages, at);
    for (let segment = at + DATA_START; segment < end; ) {
      const size = readSegment(pages, segment, end - segment, sink);
      if (size < 0) {
        sink.broken("a list of rows that ends too late");
        return;
      }
      segment += size;
    }
  }
}

const entry = (pages: Pages, at: number, sink: IndexSink) =>
  sink.entry(tidBlock(pages, at), tidOffset(pages, at), false);

/** Eleven bits of a number are the offset, the rest is the block. */
const OFFSET_BITS = 11;
const OFFSET_MASK = (1 << OFFSET_BITS) - 1;

/** The first row, then differences, seven bits a byte, lowest first. Returns the aligned size, -1 when it exceeds `room`. */
function readSegment(pages: Pages, start: number, room: number, sink: IndexSink): number {
  if (room < 8) return -1;
  const bytes = pages.u16[(start + 6) >>> 1] as number;
  const end = start + 8 + bytes;
  if (8 + bytes > room) return -1;
  let block = tidBlock(pages, start);
  let offset = tidOffset(pages, start);
  sink.entry(block, offset, false);
  const { u8 } = pages;
  for (let i = start + 8; i < end; ) {
    let byte = u8[i++] as number;
    let low = byte & 0x7f;
    let high = 0;
    for (let shift = 7; byte >= 0x80; shift += 7) {
      // Five bytes fit in 32 bits with room to carry; what is above goes to the block at once.
      if (i >= end || shift > 42) return -1;
      byte = u8[i++] as number;
      if (shift < 28) low |= (byte & 0x7f) << shift;
      else high += (byte & 0x7f) * 2 ** (shift - OFFSET_BITS);
    }
    offset += low & OFFSET_MASK;
    block += (low >>> OFFSET_BITS) + (offset >>> OFFSET_BITS) + high;
    offset &= OFFSET_MASK;
    sink.entry(block, offset, false);
  }
  return 8 + bytes + (bytes & 1);
}
