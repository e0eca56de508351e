/** SP-GiST: leaf tuples and inner tuples, each with a state of its own. */

import {
  type IndexSink,
  lineCount,
  lineLength,
  linePointer,
  NO_BLOCK,
  type Pages,
  pageSpecial,
  tidBlock,
  tidOffset,
  tupleAt,
  tupleInfo,
  tupleSize,
} from "./page.ts";

const SPECIAL = 8192 - 8;
const PAGE_ID = 0xff82;
const META = 1;
const DELETED = 2;
const LEAF = 4;
const MAGIC = 0xba0babee;
const LIVE = 0;
const ROOT = 1;
const NULLS_ROOT = 2;

export function readSpgistPage(pages: Pages, at: number, block: number, sink: IndexSink): void {
  if (pageSpecial(pages, at) !== SPECIAL || pages.u16[(at + SPECIAL + 6) >>> 1] !== PAGE_ID) {
    sink.broken("not a page of an SP-GiST index");
    return;
  }
  const flags = pages.u16[(at + SPECIAL) >>> 1] as number;
  if ((block === 0) !== ((flags & META) !== 0)) {
    sink.broken("not the page of an SP-GiST index that belongs here");
    return;
  }
  if (block === 0) {
    if (pages.u32[(at + 24) >>> 2] !== MAGIC) {
      sink.broken("not the metapage of an SP-GiST index");
      return;
    }
    sink.link(ROOT);
    sink.link(NULLS_ROOT);
    return;
  }
  if ((flags & DELETED) !== 0) return;
  const lines = lineCount(pages, at);
  for (let offset = 1; offset <= lines; offset++) {
    const pointer = linePointer(pages, at, offset);
    const start = tupleAt(pages, at, offset, pointer, sink);
    if (start < 0) return;
    const head = pages.u32[start >>> 2] as number;
    if ((head & 3) !== LIVE) continue;
    if ((flags & LEAF) !== 0) sink.entry(tidBlock(pages, start + 6), tidOffset(pages, start + 6), false);
    else readInner(pages, start, lineLength(pointer), head, sink);
  }
}

/** A prefix, then a node with a downlink for each label. */
function readInner(pages: Pages, start: number, length: number, head: number, sink: IndexSink): void {
  const nodes = (head >>> 3) & 0x1fff;
  let node = start + 8 + (head >>> 16);
  for (let i = 0; i < nodes; i++) {
    const size = tupleSize(tupleInfo(pages, node));
    if (size < 8 || node + size > start + length) {
      sink.broken("an inner tuple that is longer than itself");
      return;
    }
    const child = tidBlock(pages, node);
    if (child !== NO_BLOCK && tidOffset(pages, node) !== 0) sink.link(child);
    node += size;
  }
}
