/** A BRIN index in itself: its map leads to summaries of the ranges that they are said to be of. */

import { readBrinPage } from "../../pages/brin.ts";
import { headerProblem, isAllZero, isNew, type Pages } from "../../pages/page.ts";
import { enumerate, plural } from "../check.ts";
import { describeFailure, isDamage } from "../failure.ts";
import type { Session } from "../session.ts";
import { type IndexFile, type PageSource, readBuffers, readFile } from "./page-files.ts";
import type { PageProblem } from "./page-index.ts";

const ROUNDS = 3;
const PAUSE_MS = 250;

const placeKey = (block: number, offset: number) => block * 2048 + offset;

class BrinScan {
  readonly problems = new Map<string, PageProblem>();
  private pagesPerRange = 1;
  private lastRevmap = 0;
  private readonly mapped: { range: number; block: number; offset: number }[] = [];
  private readonly summaries = new Map<number, number>();

  page(pages: Pages, at: number, block: number): void {
    const report = (what: string) => this.problems.set(`${block} ${what}`, { where: `block ${block}`, what });
    const broken = (what: string) => report(`impossible page: ${what}`);
    if (isNew(pages, at) && isAllZero(pages, at)) {
      if (block <= this.lastRevmap) report(`the ${block === 0 ? "first page" : "map"} of the index is all zeros`);
      return;
    }
    const what = headerProblem(pages, at);
    if (what !== null) {
      broken(what);
      return;
    }
    readBrinPage(pages, at, block, {
      meta: (pagesPerRange, last) => {
        this.pagesPerRange = pagesPerRange;
        this.lastRevmap = last;
      },
      mapped: (range, at, offset) => this.mapped.push({ range, block: at, offset }),
      summary: (at, offset, heapBlock) => this.summaries.set(placeKey(at, offset), heapBlock),
      broken,
    });
  }

  finish(): Map<string, PageProblem> {
    const wrong = this.mapped.filter(
      ({ range, block, offset }) => this.summaries.get(placeKey(block, offset)) !== range * this.pagesPerRange,
    );
    for (const { range } of wrong) {
      const from = range * this.pagesPerRange;
      const what = "the map leads to no summary of this range";
      this.problems.set(`range ${from}`, { where: `range at block ${from} of the table`, what });
    }
    return this.problems;
  }
}

export async function confirmBrin(session: Session, index: IndexFile, source: PageSource): Promise<PageProblem[]> {
  const scan = new BrinScan();
  await readFile(session, { ...source, path: index.path }, 0, index.blocks, (pages, at, block) =>
    scan.page(pages, at, block),
  );
  let problems = scan.finish();
  if (problems.size === 0) return [];
  await session.need("pageinspect");
  try {
    for (let round = 0; round < ROUNDS && problems.size > 0; round++) {
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const again = new BrinScan();
      let block = 0;
      await readBuffers(session, index.name, `generate_series(0::bigint, ${index.blocks - 1})`, (page) => {
        if (page !== null) again.page(page, 0, block);
        block++;
      });
      const now = again.finish();
      problems = new Map([...problems].filter(([key]) => now.has(key)));
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    return [{ what: describeFailure(error).message }];
  }
  const list = [...problems.values()];
  const [first] = list;
  if (list.length <= 3 || first === undefined) return list;
  const where = enumerate(list.map((problem) => problem.where ?? ""));
  return [{ where, what: `${plural(list.length, "problem")}: ${first.what}` }];
}
