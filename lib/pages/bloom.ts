/** Bloom: signatures of one length, one after the other, without line pointers. */

import { type IndexSink, type Pages, pageLower, pageSpecial, tidBlock, tidOffset } from "./page.ts";

const HEADER = 24;
const SPECIAL = 8192 - 8;
const PAGE_ID = 0xff83;
const META = 1;
const DELETED = 2;
const MAGIC = 0xdbac0ded;
/** Where the row is; the words of its signature follow. */
const TID = 6;
const WORD = 2;
const MOST_WORDS = 256;

export function readBloomPage(pages: Pages, at: number, block: number, sink: IndexSink): void {
  const word = (offset: number) => pages.u16[(at + offset) >>> 1] as number;
  if (pageSpecial(pages, at) !== SPECIAL || word(SPECIAL + 6) !== PAGE_ID) {
    sink.broken("not a page of a bloom index");
    return;
  }
  const flags = word(SPECIAL + 2);
  if ((block === 0) !== ((flags & META) !== 0)) {
    sink.broken("not the page of a bloom index that belongs here");
    return;
  }
  if (block === 0) {
    if (pages.u32[(at + HEADER) >>> 2] !== MAGIC) sink.broken("not the metapage of a bloom index");
    return;
  }
  const count = word(SPECIAL);
  if ((flags & DELETED) !== 0 || count === 0) return;
  const size = (pageLower(pages, at) - HEADER) / count;
  if (size % WORD !== 0 || size < TID + WORD || size > TID + MOST_WORDS * WORD) {
    sink.broken(`${count} signatures in ${pageLower(pages, at) - HEADER} bytes`);
    return;
  }
  for (let i = 0; i < count; i++) {
    const start = at + HEADER + i * size;
    sink.entry(tidBlock(pages, start), tidOffset(pages, start), isEmpty(pages, start + TID, start + size));
  }
}

/** Finds nothing: each value that is not NULL sets bits. */
function isEmpty({ u16 }: Pages, from: number, to: number): boolean {
  for (let i = from >>> 1; i < to >>> 1; i++) if (u16[i] !== 0) return false;
  return true;
}
