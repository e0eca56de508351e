/** BRIN: a map from ranges of heap blocks to summaries. A range without one is legitimate. */

import {
  lineCount,
  lineFlags,
  lineOffset,
  linePointer,
  NORMAL,
  type Pages,
  pageSpecial,
  tidBlock,
  tidOffset,
} from "./page.ts";

const SPECIAL = 8192 - 8;
const META = 0xf091;
const REVMAP = 0xf092;
const REGULAR = 0xf093;
const MAGIC = 0xa8109cfa;
const REVMAP_ITEMS = Math.floor((8192 - 24 - 8) / 6);

export interface BrinSink {
  meta(pagesPerRange: number, lastRevmapBlock: number): void;
  /** The summary of the `range`th range is said to be there. */
  mapped(range: number, block: number, offset: number): void;
  /** A summary of the range that starts at `heapBlock`. */
  summary(block: number, offset: number, heapBlock: number): void;
  broken(what: string): void;
}

export function readBrinPage(pages: Pages, at: number, block: number, sink: BrinSink): void {
  if (pageSpecial(pages, at) !== SPECIAL) {
    sink.broken("not a page of a BRIN index");
    return;
  }
  const type = pages.u16[(at + SPECIAL + 6) >>> 1] as number;
  if (![META, REVMAP, REGULAR].includes(type) || (block === 0) !== (type === META)) {
    sink.broken("not the page of a BRIN index that belongs here");
    return;
  }
  if (type === META) {
    const word = (i: number) => pages.u32[(at + 24 + 4 * i) >>> 2] as number;
    if (word(0) !== MAGIC) {
      sink.broken("not the metapage of a BRIN index");
      return;
    }
    sink.meta(word(2), word(3));
  } else if (type === REVMAP) {
    for (let i = 0; i < REVMAP_ITEMS; i++) {
      const offset = tidOffset(pages, at + 24 + 6 * i);
      if (offset !== 0) sink.mapped((block - 1) * REVMAP_ITEMS + i, tidBlock(pages, at + 24 + 6 * i), offset);
    }
  } else {
    const lines = lineCount(pages, at);
    for (let offset = 1; offset <= lines; offset++) {
      const pointer = linePointer(pages, at, offset);
      if (lineFlags(pointer) !== NORMAL) continue;
      const start = lineOffset(pointer);
      if (start < 24 || start % 8 !== 0 || start + 8 > SPECIAL) {
        sink.broken(`item ${offset} lies outside the page`);
        return;
      }
      sink.summary(block, offset, pages.u32[(at + start) >>> 2] as number);
    }
  }
}
