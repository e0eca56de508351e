/** B-tree, with duplicates merged into posting lists (PostgreSQL 13). */

import {
  DEAD,
  type IndexSink,
  lineCount,
  lineFlags,
  lineLength,
  linePointer,
  type Pages,
  pageSpecial,
  RESERVED,
  tidBlock,
  tidOffset,
  tupleAt,
  tupleInfo,
} from "./page.ts";

const SPECIAL = 8192 - 16;
const LEAF = 1;
const DELETED = 4;
const META = 8;
const HALF_DEAD = 16;
const MAGIC = 0x053162;
const IS_POSTING = 0x2000;
const OFFSET_MASK = 0x0fff;

export function readBtreePage(pages: Pages, at: number, block: number, sink: IndexSink): void {
  if (pageSpecial(pages, at) !== SPECIAL) {
    sink.broken("not a page of a B-tree");
    return;
  }
  const special = at + SPECIAL;
  const word = (offset: number) => pages.u32[(special + offset) >>> 2] as number;
  const flags = pages.u16[(special + 12) >>> 1] as number;
  if ((block === 0) !== ((flags & META) !== 0)) {
    sink.broken("not a page of a B-tree");
    return;
  }
  if (block === 0) {
    const meta = (i: number) => pages.u32[(at + 24 + 4 * i) >>> 2] as number;
    if (meta(0) !== MAGIC) {
      sink.broken("not the metapage of a B-tree");
      return;
    }
    // Root and fast root; an empty index has none.
    for (const root of [meta(2), meta(4)]) if (root !== 0) sink.link(root);
    return;
  }
  if ((flags & DELETED) !== 0) return;
  const [previous, next] = [word(0), word(4)];
  const isLeaf = (flags & LEAF) !== 0;
  if (isLeaf) sink.leaf?.(previous, next);
  if ((flags & HALF_DEAD) !== 0) return;
  if (previous !== 0) sink.link(previous);
  if (next !== 0) sink.link(next);
  const lines = lineCount(pages, at);
  // The first one of a page with a right sibling is the high key.
  for (let offset = next === 0 ? 1 : 2; offset <= lines; offset++) {
    const pointer = linePointer(pages, at, offset);
    const start = tupleAt(pages, at, offset, pointer, sink);
    if (start < 0) return;
    if (!isLeaf) {
      sink.link(tidBlock(pages, start));
      continue;
    }
    const killed = lineFlags(pointer) === DEAD;
    if ((tupleInfo(pages, start) & RESERVED) === 0) {
      const key = sink.keyReader?.entry(pages, start, start + lineLength(pointer));
      sink.entry(tidBlock(pages, start), tidOffset(pages, start), killed, key);
    } else readPosting(pages, start, lineLength(pointer), sink, killed);
  }
}

/** The block number says where the list starts in the tuple, the offset how long it is. */
function readPosting(pages: Pages, start: number, length: number, sink: IndexSink, killed: boolean): void {
  const state = tidOffset(pages, start);
  const list = tidBlock(pages, start);
  const count = state & OFFSET_MASK;
  if ((state & IS_POSTING) === 0 || list < 8 || list % 2 !== 0 || list + count * 6 > length) {
    sink.broken("an entry of a leaf that is neither a row nor a list of rows");
    return;
  }
  const key = sink.keyReader?.entry(pages, start, start + list);
  for (let i = 0, at = start + list; i < count; i++, at += 6) {
    sink.entry(tidBlock(pages, at), tidOffset(pages, at), killed, key);
  }
}
