/** What one index says of a range of its heap: entries that lead nowhere, and lines that it should know. */

import { Bits } from "./bits.ts";
import { readBloomPage } from "./bloom.ts";
import { readBtreePage } from "./btree.ts";
import { readGinPage } from "./gin.ts";
import { readGistPage } from "./gist.ts";
import { readHashPage } from "./hash.ts";
import type { HeapRange } from "./heap.ts";
import { type KeyReader, NO_KEY, type RowKeys } from "./keys.ts";
import type { Neighbours } from "./neighbours.ts";
import { headerProblem, type IndexSink, isAllZero, isNew, type Pages, type ReadIndexPage } from "./page.ts";
import { readSpgistPage } from "./spgist.ts";

export const READERS: Readonly<Record<string, ReadIndexPage>> = {
  bloom: readBloomPage,
  btree: readBtreePage,
  gin: readGinPage,
  gist: readGistPage,
  hash: readHashPage,
  spgist: readSpgistPage,
};

export interface Suspect {
  /** Block of the index. */
  at: number;
  /** Where its entry leads. */
  block: number;
  offset: number;
  /** Of the entry, when it is not that of its row. */
  key?: number;
}

/** More than that are counted only. */
const MOST_SUSPECTS = 50_000;

export interface ScanOptions {
  method: string;
  range: HeapRange;
  /** Beyond it there is nothing, whichever range is looked at. */
  heapBlocks: number;
  /** Lines that the index should know: cleared when an entry is seen. Null when not every row has one. */
  missing: Bits | null;
  /** Lines whose entries are right to find nothing: they may have NULL in every column. */
  nulls?: Bits | "any" | undefined;
  /** What its entries must have as keys. */
  keys?: RowKeys | undefined;
  /** Of the index. */
  blocks: number;
  /** Told of the keys of all live entries. */
  neighbours?: Neighbours | undefined;
  /** Blocks of the index of which it matters who leads to them. */
  watched?: ReadonlySet<number>;
}

export class IndexScan implements IndexSink {
  readonly keyReader: KeyReader | undefined;
  entries = 0;
  readonly suspects: Suspect[] = [];
  suspected = 0;
  readonly problems: { block: number; what: string }[] = [];
  readonly zero = new Set<number>();
  /** From one block of the index to another that is watched, or that does not exist. */
  readonly links: { from: number; to: number }[] = [];
  private readonly linked = new Bits();
  private readonly options: ScanOptions;
  private readonly read: ReadIndexPage;
  private block = 0;

  constructor(options: ScanOptions) {
    this.options = options;
    this.read = READERS[options.method] as ReadIndexPage;
    this.keyReader = options.keys?.reader;
    this.linked.reserve(options.blocks);
  }

  page(pages: Pages, at: number, block: number): void {
    this.block = block;
    if (isNew(pages, at) && isAllZero(pages, at)) {
      this.zero.add(block);
      return;
    }
    const what = headerProblem(pages, at);
    if (what === null) this.read(pages, at, block, this);
    else this.broken(what);
  }

  /** All-zero blocks that are in use: the first one of an index always is. */
  lost(): number[] {
    return [...this.zero].filter((block) => block === 0 || this.linked.has(block));
  }

  entry(block: number, offset: number, killed: boolean, key = NO_KEY): void {
    this.entries++;
    const { range, heapBlocks, missing, nulls, keys } = this.options;
    const i = block - range.firstBlock;
    if (i < 0 || i >= range.blocks) {
      if (block >= heapBlocks) this.suspect(block, offset);
      return;
    }
    const line = range.line(block, offset);
    if (line < 0 || !range.allowed.has(line)) this.suspect(block, offset);
    else {
      if (missing !== null && (!killed || nulls === "any" || nulls?.has(line) === true)) missing.clear(line);
      if (keys === undefined || killed || !range.needed.has(line)) return;
      this.options.neighbours?.entry(this.block, key);
      if (!keys.entry(line, key)) this.suspect(block, offset, key);
    }
  }

  leaf(left: number, right: number): void {
    this.options.neighbours?.leaf(this.block, left, right);
  }

  link(to: number): void {
    if (to < this.options.blocks) this.linked.set(to);
    if (to >= this.options.blocks || this.options.watched?.has(to) === true) this.links.push({ from: this.block, to });
  }

  broken(what: string): void {
    if (this.problems.length < MOST_SUSPECTS) this.problems.push({ block: this.block, what });
  }

  private suspect(block: number, offset: number, key?: number): void {
    this.suspected++;
    if (this.suspects.length >= MOST_SUSPECTS) return;
    this.suspects.push({ at: this.block, block, offset, ...(key === undefined ? {} : { key }) });
  }
}
