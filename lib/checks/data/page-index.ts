/** One index against a range of its heap: suspected from the files, believed only when the server's own pages say so. */

import { type HeapRange, type HintSink, heapPage, type LineProblem, lineProblem } from "../../pages/heap.ts";
import { IndexScan, type ScanOptions } from "../../pages/index-scan.ts";
import { LineKeys, NO_KEY, type RowKeys } from "../../pages/keys.ts";
import { isAllZero, type Pages } from "../../pages/page.ts";
import { enumerate, plural } from "../check.ts";
import { describeFailure, isDamage } from "../failure.ts";
import type { Session } from "../session.ts";
import { blockList, type IndexFile, readBufferPages, readBuffers } from "./page-files.ts";

export interface PageProblem {
  where?: string | undefined;
  what: string;
}

/** How often the server is asked before it is believed, and how long in between. */
const ROUNDS = 3;
const PAUSE_MS = 250;
/** Entries and rows that are asked for again. */
const MOST_ASKED = 2000;

interface Entry {
  block: number;
  offset: number;
  /** When that is what is wrong with it. */
  key: number | undefined;
  /** Blocks of the index. */
  at: Set<number>;
  what: LineProblem | typeof OTHER_KEY;
}

const OTHER_KEY = "of another key";

/** What was suspected and not refuted so far. */
interface Doubt {
  /** By block and offset of the heap. */
  entries: Map<string, Entry>;
  /** Lines of the range. */
  missing: number[];
  links: { from: number; to: number }[];
  broken: Map<number, string>;
  zeroRoot: boolean;
}

const isClear = ({ entries, missing, links, broken, zeroRoot }: Doubt) =>
  entries.size === 0 && missing.length === 0 && links.length === 0 && broken.size === 0 && !zeroRoot;

const keyOf = ({ block, offset }: { block: number; offset: number }) => `${block},${offset}`;

/**
 * `scan` is what the files said. Null when there was more to suspect than to ask, and what was asked was refuted: the table
 * changes faster than it can be read.
 */
export async function confirmIndex(
  session: Session,
  table: string,
  index: IndexFile,
  options: ScanOptions,
  scan: IndexScan,
  hints: HintSink,
): Promise<PageProblem[] | null> {
  const lost = scan.lost();
  const suspectsMissing = options.missing?.any() === true;
  const doubt: Doubt = {
    entries: new Map(),
    missing: [],
    links: scan.links,
    broken: new Map(scan.problems.map(({ block, what }) => [block, what])),
    zeroRoot: lost.includes(0),
  };
  for (const suspect of scan.suspects) {
    const known = doubt.entries.get(keyOf(suspect));
    if (known !== undefined) known.at.add(suspect.at);
    else if (doubt.entries.size < MOST_ASKED) {
      doubt.entries.set(keyOf(suspect), { ...suspect, key: suspect.key, at: new Set([suspect.at]), what: undefined });
    }
  }
  const watched = new Set([...lost, ...scan.links.map(({ to }) => to)]);
  if (isClear(doubt) && watched.size === 0 && !suspectsMissing) return [];
  await session.need("pageinspect");
  const { range } = options;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      // The heap before and after the index: a line that is unused both times was not in use in between.
      await refuteEntries(session, table, doubt, options.keys, hints);
      const blocks = [...doubt.broken.keys(), ...[...doubt.entries.values()].flatMap(({ at }) => [...at])];
      const again = new IndexScan({ ...options, watched });
      const everything = suspectsMissing || watched.size > 0;
      await scanBuffers(session, index, again, everything ? null : blocks);
      if (again.suspects.length === again.suspected) {
        const found = new Map(again.suspects.map((suspect) => [keyOf(suspect), suspect.key]));
        for (const [key, entry] of doubt.entries) {
          if (found.has(key)) entry.key = found.get(key);
          else doubt.entries.delete(key);
        }
      }
      const broken = new Set(again.problems.map(({ block }) => block));
      for (const block of doubt.broken.keys()) if (!broken.has(block)) doubt.broken.delete(block);
      await refuteEntries(session, table, doubt, options.keys, hints);
      if (options.missing !== null) {
        const candidates = round === 0 ? options.missing.first(MOST_ASKED) : doubt.missing;
        doubt.missing = await stillNeeded(session, table, range, candidates, options, hints);
      }
      if (watched.size > 0) {
        const pages = await readBufferPages(session, index.name, watched);
        const isLost = (block: number) => {
          const page = pages.get(block) ?? null;
          return page === null || isAllZero(page, 0);
        };
        doubt.links = again.links.filter(({ to }) => isLost(to));
        doubt.zeroRoot &&= isLost(0);
      }
      if (isClear(doubt)) return scan.suspected > MOST_ASKED || options.missing?.any() === true ? null : [];
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    return [{ what: describeFailure(error).message }];
  }
  return describe(table, range, doubt, scan, options);
}

async function refuteEntries(
  session: Session,
  table: string,
  doubt: Doubt,
  keys: RowKeys | undefined,
  hints: HintSink,
): Promise<void> {
  const pages = await readBufferPages(
    session,
    table,
    [...doubt.entries.values()].map(({ block }) => block),
  );
  for (const [key, entry] of doubt.entries) {
    const page = pages.get(entry.block) ?? null;
    entry.what = lineProblem(page, entry.offset);
    if (entry.what === undefined && page !== null && keys !== undefined && hasOtherKey(page, entry, keys, hints)) {
      entry.what = OTHER_KEY;
    }
    if (entry.what === undefined) doubt.entries.delete(key);
  }
}

function hasOtherKey(page: Pages, { block, offset, key }: Entry, { reader }: RowKeys, hints: HintSink): boolean {
  const keys = new LineKeys(reader);
  const now = heapPage(page, block, hints, [keys]);
  const line = now.line(block, offset);
  if (key === undefined || line < 0 || !now.needed.has(line)) return false;
  return keys.of(line) !== NO_KEY && keys.of(line) !== key;
}

/** Of some blocks, or of all that there are now. */
async function scanBuffers(
  session: Session,
  index: IndexFile,
  scan: IndexScan,
  blocks: readonly number[] | null,
): Promise<void> {
  const wanted = blocks === null ? null : [...new Set(blocks)];
  if (wanted?.length === 0) return;
  const size = `pg_relation_size('${index.oid}'::oid::regclass) / current_setting('block_size')::int`;
  let i = 0;
  await readBuffers(
    session,
    index.name,
    wanted === null ? `generate_series(0::bigint, ${size} - 1)` : blockList(wanted),
    (page) => {
      if (page !== null) scan.page(page, 0, wanted === null ? i : (wanted[i] as number));
      i++;
    },
  );
}

/** Lines that still have a live row, and that no entry was seen of. */
async function stillNeeded(
  session: Session,
  table: string,
  range: HeapRange,
  lines: readonly number[],
  { missing }: ScanOptions,
  hints: HintSink,
): Promise<number[]> {
  const places = lines.filter((line) => missing?.has(line)).map((line) => ({ line, ...range.placeOf(line) }));
  const pages = await readBufferPages(
    session,
    table,
    places.map(({ block }) => block),
  );
  const left: number[] = [];
  for (const { line, block, offset } of places) {
    const page = pages.get(block) ?? null;
    const now = page === null ? null : heapPage(page, block, hints);
    const nowLine = now === null ? -1 : now.line(block, offset);
    if (now !== null && nowLine >= 0 && now.needed.has(nowLine)) left.push(line);
    else missing?.clear(line);
  }
  return left;
}

function describe(table: string, range: HeapRange, doubt: Doubt, scan: IndexScan, options: ScanOptions): PageProblem[] {
  const problems: PageProblem[] = [];
  const item = ({ block, offset }: { block: number; offset: number }) => `block ${block} item ${offset}`;
  const among = (confirmed: number, suspected: number) =>
    suspected > confirmed ? ` (of ${suspected} suspected ones)` : "";
  if (doubt.zeroRoot) problems.push({ where: "block 0", what: "the first page of the index is all zeros" });
  for (const [block, what] of doubt.broken)
    problems.push({ where: `block ${block}`, what: `impossible page: ${what}` });
  const links = new Map(doubt.links.map((link) => [link.to, link.from]));
  for (const [to, from] of links) {
    const what = to < options.blocks ? "is all zeros" : "does not exist";
    problems.push({ where: `block ${to}`, what: `block ${from} leads to this page, which ${what}` });
  }
  const byKind = new Map<string, Entry[]>();
  for (const entry of doubt.entries.values()) {
    const what = entry.what ?? "";
    byKind.set(what, [...(byKind.get(what) ?? []), entry]);
  }
  for (const [what, entries] of byKind) {
    const blocks = [...new Set(entries.flatMap(({ at }) => [...at]))].sort((a, b) => a - b);
    problems.push({
      where: `${blocks.length === 1 ? "block" : "blocks"} ${enumerate(blocks.map(String))}`,
      what:
        `${plural(entries.length, "entry", "entries")}${among(doubt.entries.size, scan.suspected)} ` +
        `${what === OTHER_KEY ? `with another key than their rows of ${table}` : `for rows of ${table} that are ${what}`}: ` +
        enumerate(entries.map(item)),
    });
  }
  if (doubt.missing.length > 0) {
    const suspected = options.missing?.count() ?? 0;
    problems.push({
      what:
        `${plural(doubt.missing.length, "live row")}${among(doubt.missing.length, suspected)} of ${table} ` +
        `without an entry: ${enumerate(doubt.missing.map((line) => item(range.placeOf(line))))}`,
    });
  }
  return problems;
}
