/** One table with its indexes, page by page: the heap is read once for both of the checks that look at it. */

import { ginHasEveryRow } from "../../pages/gin.ts";
import { HeapRange, type HintSink, heapPage } from "../../pages/heap.ts";
import { IndexScan, READERS, type ScanOptions } from "../../pages/index-scan.ts";
import { KeyReader, KeySum, LineKeys, type RowKeys } from "../../pages/keys.ts";
import { Neighbours } from "../../pages/neighbours.ts";
import { isAllZero, type Pages } from "../../pages/page.ts";
import { enumerate, plural } from "../check.ts";
import { describeFailure, isDamage } from "../failure.ts";
import type { Session } from "../session.ts";
import { confirmBrin } from "./page-brin.ts";
import type { Clog } from "./page-clog.ts";
import {
  FileMoved,
  type IndexFile,
  type PageSource,
  readBufferPages,
  readFile,
  readTableFiles,
  type TableFiles,
} from "./page-files.ts";
import { confirmHints, confirmMultis, HintJudge } from "./page-hints.ts";
import { confirmIndex, type PageProblem } from "./page-index.ts";
import type { MultiRange } from "./page-multixact.ts";

export interface IndexPages {
  index: string;
  oid: string;
  entries: number;
  /** Every live row has an entry with its own key. */
  keysCompared: boolean;
  /** And none has the key of another one, byte by byte. Not looked at, and false, where it has more than one column. */
  keysDistinct: boolean;
  problems: PageProblem[];
  notCovered: string | null;
}

export interface TablePages {
  rows: { blocks: number; lines: number };
  /** What is wrong with the table itself. */
  table: PageProblem[];
  /** By name of the index. */
  indexes: IndexPages[];
  /** All-zero blocks before the last that is not, and nothing that needs them. */
  zeroBlocks: number[];
  /** Multixacts that rows name, and of which pg_multixact was asked; `more`: not of all. */
  multixacts: { asked: number; more: boolean };
}

export interface Surroundings extends PageSource {
  clog: Clog;
  multis: MultiRange;
  /** What the bookkeeping of one table may take, in bytes; a larger one is looked at in parts. */
  memory: number;
}

const ROUNDS = 3;
const PAUSE_MS = 250;
const ATTEMPTS = 3;
const MOST_ASKED = 1000;
/** Between two looks at how much memory is left: at most 300,000 lines. */
const STEP_BLOCKS = 1024;
/** Hash leaves out rows with NULL, bloom has nothing to say of them. */
const NULLS_MATTER = new Set(["hash", "bloom"]);

export interface Table {
  oid: string;
  name: string;
}

/** A text when it cannot be read: why. */
export async function readTable(session: Session, table: Table, around: Surroundings): Promise<TablePages | string> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const { result, isGone } = await readOnce(session, [table], around);
    if (isGone) return "it went away meanwhile";
    if (result !== null) return result[0] as TablePages;
  }
  return "it changes faster than it can be read";
}

/** Null when one of them is gone or changes: then each must be read by itself. */
export async function readTables(
  session: Session,
  tables: readonly Table[],
  around: Surroundings,
): Promise<TablePages[] | null> {
  return (await readOnce(session, tables, around)).result;
}

async function readOnce(
  session: Session,
  tables: readonly Table[],
  around: Surroundings,
): Promise<{ result: TablePages[] | null; isGone: boolean }> {
  const oids = tables.map(({ oid }) => oid);
  const before = await readTableFiles(session, oids);
  if (before.size < tables.length) return { result: null, isGone: true };
  const result: TablePages[] = [];
  try {
    for (const { oid, name } of tables) {
      const read = await new TableReader(session, name, before.get(oid) as TableFiles, around).read();
      if (read === null) return { result: null, isGone: false };
      result.push(read);
    }
  } catch (error) {
    if (error instanceof FileMoved) return { result: null, isGone: false };
    throw error;
  }
  // Rewritten meanwhile: what was read belongs to nothing.
  const after = await readTableFiles(session, oids);
  const isSame = oids.every((oid) => {
    const now = new Set(pathsOf(after.get(oid)));
    return pathsOf(before.get(oid)).every((path) => now.has(path));
  });
  return { result: isSame ? result : null, isGone: false };
}

const pathsOf = (files: TableFiles | undefined) =>
  files === undefined ? [] : [files.path, ...files.indexes.map(({ path }) => path)];

class TableReader {
  private readonly session: Session;
  private readonly name: string;
  private readonly files: TableFiles;
  private readonly around: Surroundings;
  private readonly hints: HintJudge;
  private readonly result: TablePages = {
    rows: { blocks: 0, lines: 0 },
    table: [],
    indexes: [],
    zeroBlocks: [],
    multixacts: { asked: 0, more: false },
  };
  private readonly zero: number[] = [];
  /** Of a range; the other half is for the parts of it whose keys are compared one by one. */
  private readonly halfOfMemory: number;
  private lastFilled = -1;
  private unsettled = false;

  constructor(session: Session, name: string, files: TableFiles, around: Surroundings) {
    this.session = session;
    this.name = name;
    this.files = files;
    this.around = around;
    this.hints = new HintJudge(around.clog, around.multis);
    this.halfOfMemory = around.memory / 2;
  }

  async read(): Promise<TablePages | null> {
    const { files, result } = this;
    const nullable = files.indexes.filter(
      (i) => NULLS_MATTER.has(i.method) && i.nullable && i.column > 0 && !i.partial,
    );
    for (const index of files.indexes) {
      const known = index.method in READERS || index.method === "brin";
      const notCovered = known ? null : `index type ${index.method} is not known here`;
      const keysCompared = index.keys !== null;
      const { name, oid } = index;
      const none = { entries: 0, keysDistinct: false, problems: [] };
      result.indexes.push({ index: name, oid, keysCompared, notCovered, ...none });
    }
    let from = 0;
    do {
      const sums = new Map(
        files.indexes.flatMap(({ oid, keys }) => (keys === null ? [] : [[oid, new KeySum(new KeyReader(keys))]])),
      );
      const range = new HeapRange(from, {
        nullable: nullable.map(({ column }) => column),
        keys: [...sums.values()],
        likelyBlocks: files.blocks - from,
        memory: this.halfOfMemory,
      });
      from = await this.readHeap(range);
      for (const index of files.indexes) {
        if (index.method in READERS) await this.readIndex(index, range, sums.get(index.oid));
      }
      await this.judgeHeap(range);
    } while (from < files.blocks);
    for (const index of files.indexes) {
      if (index.method === "brin") {
        this.of(index).problems.push(...(await confirmBrin(this.session, index, this.around)));
      }
    }
    const hints = await confirmHints(this.session, this.name, this.hints);
    if (hints === null) this.unsettled = true;
    const multis = await confirmMultis(this.session, this.name, this.hints);
    result.table.push(...(hints ?? []), ...multis);
    result.multixacts = { asked: this.hints.multis.size, more: this.hints.moreMultis };
    result.zeroBlocks = await this.judgeZero();
    result.rows.blocks = files.blocks;
    return this.unsettled ? null : result;
  }

  private of(index: IndexFile) {
    return this.result.indexes.find(({ oid }) => oid === index.oid) as TablePages["indexes"][number];
  }

  /** Until the end, or until it takes too much memory; returns where to go on. */
  private async readHeap(range: HeapRange): Promise<number> {
    const next = await this.readBlocks(range, this.files.blocks, this.hints);
    this.result.rows.lines += range.lines;
    if (range.blocks > range.zero.length) {
      const zero = new Set(range.zero);
      for (let i = range.firstBlock + range.blocks - 1; i > this.lastFilled; i--) if (!zero.has(i)) this.lastFilled = i;
    }
    for (const block of range.zero) this.zero.push(block);
    return next;
  }

  private async readBlocks(range: HeapRange, before: number, hints: HintSink): Promise<number> {
    const { files, session, around } = this;
    const step = Math.min(around.segmentBlocks, STEP_BLOCKS);
    let next = range.firstBlock;
    while (next < before && (next === range.firstBlock || range.hasRoomFor(step))) {
      const end = Math.min(before, next + step);
      await readFile(session, { ...around, path: files.path }, next, end, (pages, at) => range.add(pages, at, hints));
      next = end;
    }
    return next;
  }

  private async readIndex(index: IndexFile, range: HeapRange, sum: KeySum | undefined): Promise<void> {
    const of = this.of(index);
    const { scan, options } = await this.scanIndex(index, range, sum);
    of.entries += range.firstBlock === 0 ? scan.entries : 0;
    if (range.uncertain > 0 || range.broken.length > 0 || (sum?.unknown ?? 0) > 0) of.keysCompared = false;
    const isEven = sum === undefined || sum.isEven;
    const isSound = isEven && scan.suspected + scan.problems.length === 0 && options.missing?.any() === false;
    of.keysDistinct = of.keysCompared && isSound && options.neighbours?.areDistinct() === true;
    if (isEven) await this.confirm(index, scan, options);
    else await this.compareKeys(index, range, new LineKeys(sum.reader));
  }

  /** Finds out which ones differ: a part of the rows at a time, as many as their keys leave memory for. */
  private async compareKeys(index: IndexFile, { firstBlock, blocks }: HeapRange, keys: LineKeys): Promise<void> {
    const end = firstBlock + blocks;
    for (let from = firstBlock; from < end; ) {
      keys.clear();
      const part = new HeapRange(from, { keys: [keys], likelyBlocks: end - from, memory: this.halfOfMemory });
      from = await this.readBlocks(part, end, this.hints.statusOnly);
      const { scan, options } = await this.scanIndex(index, part, keys);
      await this.confirm(index, scan, options);
    }
  }

  private async scanIndex(index: IndexFile, range: HeapRange, keys: RowKeys | undefined) {
    const { session, files, around } = this;
    const everyRow = !index.partial && (index.method !== "hash" || index.column > 0);
    const missing = everyRow ? range.needed.copy() : null;
    const nulls = range.nulls.get(index.column);
    if (nulls !== undefined && index.method === "hash") missing?.without(nulls);
    const options: ScanOptions = {
      method: index.method,
      range,
      heapBlocks: files.blocks,
      missing,
      keys,
      blocks: index.blocks,
    };
    // Rows of one chain have one entry.
    const isWhole = range.blocks === files.blocks && range.live === range.needed.count();
    if (isWhole && index.keys?.columns.length === 1) options.neighbours = new Neighbours(index.blocks);
    if (index.method === "bloom") options.nulls = index.column > 0 ? nulls : "any";
    const scan = new IndexScan(options);
    let oldGin = false;
    await readFile(session, { ...around, path: index.path }, 0, index.blocks, (pages, at, block) => {
      scan.page(pages, at, block);
      if (block === 0 && index.method === "gin") oldGin = !ginHasEveryRow(pages, at) && !isAllZero(pages, at);
    });
    if (oldGin) options.missing = null;
    return { scan, options };
  }

  private async confirm(index: IndexFile, scan: IndexScan, options: ScanOptions): Promise<void> {
    const { problems } = this.of(index);
    const found = await confirmIndex(this.session, this.name, index, options, scan, this.hints.statusOnly);
    if (found === null) this.unsettled = true;
    else problems.push(...found.filter((p) => !problems.some((q) => q.what === p.what && q.where === p.where)));
  }

  /** Pages that no server would have written, and rows that no line leads to. */
  private async judgeHeap(range: HeapRange): Promise<void> {
    const { session, name, result } = this;
    let places = [
      ...range.broken.map(({ block, what }) => ({ block, what, offset: 0 })),
      ...range.orphans.map((place) => ({ ...place, what: "" })),
    ].slice(0, MOST_ASKED);
    if (places.length === 0) return;
    await session.need("pageinspect");
    try {
      for (let round = 0; round < ROUNDS && places.length > 0; round++) {
        if (round > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
        const pages = await readBufferPages(
          session,
          name,
          places.map(({ block }) => block),
        );
        places = places.filter(({ block, what, offset }) => {
          const page = pages.get(block) ?? null;
          if (page === null) return false;
          const now = heapPage(page, block, this.hints.statusOnly);
          if (what !== "") return now.broken.some((broken) => broken.what === what);
          return now.orphans.some((orphan) => orphan.offset === offset);
        });
      }
    } catch (error) {
      if (!isDamage(error)) throw error;
      result.table.push({ what: describeFailure(error).message });
      return;
    }
    for (const { block, what } of places) {
      if (what !== "") result.table.push({ where: `block ${block}`, what: `impossible page: ${what}` });
    }
    const orphans = places
      .filter(({ what }) => what === "")
      .map(({ block, offset }) => `block ${block} item ${offset}`);
    if (orphans.length > 0) {
      const what = `${plural(orphans.length, "live row")} inside a chain of updates whose start is gone`;
      result.table.push({ where: enumerate(orphans), what });
    }
  }

  /** Blocks that were extended and never filled are a crash's; those that the visibility map vouches for are damage. */
  private async judgeZero(): Promise<number[]> {
    const { session, name, result } = this;
    const inside = this.zero.filter((block) => block < this.lastFilled);
    if (inside.length === 0) return inside;
    await session.need("pageinspect");
    const asked = inside.slice(0, MOST_ASKED);
    const pages = await readBufferPages(session, name, asked);
    const still = asked.filter((block) => {
      const page = pages.get(block) ?? null;
      return page !== null && isAllZero(page, 0);
    });
    const maps = await readBufferPages(session, name, still.map(mapBlock), "vm");
    const vouched = still.filter((block) => isAllVisible(maps.get(mapBlock(block)) ?? null, block));
    if (vouched.length > 0) {
      const blocks = enumerate(vouched.map(String));
      result.table.push({
        where: `${vouched.length === 1 ? "block" : "blocks"} ${blocks}`,
        what: `${plural(vouched.length, "block")} all zeros, where the visibility map says that there are rows for everybody`,
      });
    }
    return [...still, ...inside.slice(MOST_ASKED)];
  }
}

/** Two bits for each block of the heap, after the header of the page. */
const MAP_BLOCKS = (8192 - 24) * 4;
const mapBlock = (block: number) => Math.floor(block / MAP_BLOCKS);

function isAllVisible(map: Pages | null, block: number): boolean {
  if (map === null) return false;
  const i = block % MAP_BLOCKS;
  return ((((map.u8[24 + (i >>> 2)] as number) >>> ((i & 3) * 2)) & 1) as number) === 1;
}
