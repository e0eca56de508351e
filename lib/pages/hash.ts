/** Hash: buckets with chains of overflow pages; which block a bucket starts at follows from the metapage. */

import {
  DEAD,
  type IndexSink,
  lineCount,
  lineFlags,
  linePointer,
  NO_BLOCK,
  type Pages,
  pageSpecial,
  tidBlock,
  tidOffset,
  tupleAt,
} from "./page.ts";

const SPECIAL = 8192 - 16;
const PAGE_ID = 0xff80;
const OVERFLOW = 1;
const BUCKET = 2;
const META = 8;
const TYPES = 0xf;
const MAGIC = 0x6440640;
const VERSION = 4;

export function readHashPage(pages: Pages, at: number, block: number, sink: IndexSink): void {
  if (pageSpecial(pages, at) !== SPECIAL) {
    sink.broken("not a page of a hash index");
    return;
  }
  const special = at + SPECIAL;
  if (pages.u16[(special + 14) >>> 1] !== PAGE_ID) {
    sink.broken("not a page of a hash index");
    return;
  }
  const word = (offset: number) => pages.u32[(special + offset) >>> 2] as number;
  const type = (pages.u16[(special + 12) >>> 1] as number) & TYPES;
  if ((block === 0) !== (type === META)) {
    sink.broken("not the page of a hash index that belongs here");
    return;
  }
  if (type === META) {
    readMeta(pages, at, sink);
    return;
  }
  if (type !== BUCKET && type !== OVERFLOW) return;
  const next = word(4);
  if (next !== NO_BLOCK) sink.link(next);
  const lines = lineCount(pages, at);
  for (let offset = 1; offset <= lines; offset++) {
    const pointer = linePointer(pages, at, offset);
    const start = tupleAt(pages, at, offset, pointer, sink);
    if (start < 0) return;
    sink.entry(tidBlock(pages, start), tidOffset(pages, start), lineFlags(pointer) === DEAD);
  }
}

function readMeta(pages: Pages, at: number, sink: IndexSink): void {
  const word = (offset: number) => pages.u32[(at + 24 + offset) >>> 2] as number;
  if (word(0) !== MAGIC || word(4) !== VERSION) {
    sink.broken("not the metapage of a hash index");
    return;
  }
  const buckets = word(24) + 1;
  for (let bucket = 0; bucket < buckets; bucket++) {
    // Overflow and bitmap pages that were made before the bucket stand before it.
    const others = bucket === 0 ? 0 : word(52 + 4 * (splitPoint(bucket + 1) - 1));
    sink.link(bucket + others + 1);
  }
}

/** Groups of buckets double; from the tenth on each is made in four phases. */
const SINGLE_PHASE_GROUPS = 10;

function splitPoint(buckets: number): number {
  const group = buckets <= 1 ? 0 : 32 - Math.clz32(buckets - 1);
  if (group < SINGLE_PHASE_GROUPS) return group;
  return SINGLE_PHASE_GROUPS + (group - SINGLE_PHASE_GROUPS) * 4 + (((buckets - 1) >>> (group - 3)) & 3);
}
