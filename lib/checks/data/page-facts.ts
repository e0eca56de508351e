/** What the checks that stand on the page pass learn from it: collected while it runs, once, whichever of them asks first. */

import type { Edge } from "../edge.ts";
import { type Finding, type FoundFacts, Tally } from "../findings.ts";
import type { Outcome, Pool } from "../pool.ts";
import type { Relation } from "../relations.ts";
import type { PageProblem } from "./page-index.ts";
import { type PassItem, pagePass } from "./page-pass.ts";
import type { IndexPages, TablePages } from "./page-table.ts";
import { isSmall } from "./relation-units.ts";

export interface IndexEntriesFacts extends FoundFacts {
  entries: number;
}

export interface RowStatusFacts extends FoundFacts {
  zeroBlocks: { relation: Pick<Relation, "database" | "name">; blocks: readonly number[] }[];
  /** Asked, and tables with more than were asked. */
  multixacts: { asked: number; tablesWithMore: number };
}

export class PageFacts {
  /** Indexes in which every live row was found with its own key. */
  readonly keysCompared = new Set<Relation>();
  /** And none has the key of another one: see `IndexPages.keysDistinct`. */
  readonly keysDistinct = new Set<Relation>();
  private entries = 0;
  private readonly indexes = new Tally<IndexPages>(({ problems }, index) =>
    findingsOf(problems, index, `index ${index.name}`),
  );
  private rows = 0;
  private readonly zeroBlocks: RowStatusFacts["zeroBlocks"] = [];
  private readonly multixacts = { asked: 0, tablesWithMore: 0 };
  private readonly tables = new Tally<TablePages>(({ table }, relation) => findingsOf(table, relation, relation.name));

  private readonly known = new Set<Relation>();
  private readonly awaited = new Map<Relation, () => void>();

  /** Resolves when what was learned of that table, which is no small one, is here; never when nothing will be. */
  async added(table: Relation): Promise<void> {
    if (!this.known.has(table)) await new Promise<void>((resolve) => this.awaited.set(table, resolve));
  }

  readonly add = ({ relation, indexes, outcome }: PassItem): void => {
    this.tables.add(relation, outcome);
    if (outcome.kind === "done") this.addRows(relation, outcome.value);
    for (const index of indexes) this.addIndex(index, outcome);
    if (!isSmall(relation, relation.bytes)) this.known.add(relation);
    this.awaited.get(relation)?.();
  };

  private addRows(relation: Relation, { rows, multixacts, zeroBlocks }: TablePages): void {
    this.rows += rows.lines;
    this.multixacts.asked += multixacts.asked;
    if (multixacts.more) this.multixacts.tablesWithMore++;
    if (zeroBlocks.length > 0) this.zeroBlocks.push({ relation, blocks: zeroBlocks });
  }

  private addIndex(index: Relation, outcome: Outcome<TablePages>): void {
    this.indexes.add(index, outcomeOf(index, outcome));
    const pages = outcome.kind === "done" ? pagesOf(index, outcome.value) : undefined;
    if (pages?.keysCompared === true) this.keysCompared.add(index);
    if (pages?.keysDistinct === true) this.keysDistinct.add(index);
    if (pages?.notCovered === null) this.entries += pages.entries;
  }

  indexEntries(): IndexEntriesFacts {
    return { ...this.indexes.sorted(), entries: this.entries };
  }

  rowStatus(): RowStatusFacts {
    const sorted = this.tables.sorted();
    const { zeroBlocks, multixacts } = this;
    return { ...sorted, coverage: { ...sorted.coverage, rows: this.rows }, zeroBlocks, multixacts };
  }
}

const pagesOf = ({ oid }: Relation, { indexes }: TablePages) => indexes.find((index) => index.oid === oid);

function outcomeOf(index: Relation, outcome: Outcome<TablePages>): Outcome<IndexPages> {
  if (outcome.kind !== "done") return outcome;
  const pages = pagesOf(index, outcome.value);
  // Dropped or rebuilt since the list was made: there is another one now, or none.
  if (pages === undefined) return { kind: "left-out", why: "it went away meanwhile" };
  return pages.notCovered === null ? { kind: "done", value: pages } : { kind: "left-out", why: pages.notCovered };
}

const findingsOf = (problems: readonly PageProblem[], { database }: Relation, object: string): Finding[] =>
  problems.map(({ where, what }) => ({ database, object, where, what }));

interface Pass {
  facts: PageFacts;
  done: Promise<PageFacts>;
}

const passes = new WeakMap<Pool, Pass>();

function passOf(edge: Edge): Pass {
  const known = passes.get(edge.pool);
  if (known !== undefined) return known;
  const facts = new PageFacts();
  const pass = { facts, done: pagePass(edge, facts.add).then(() => facts) };
  passes.set(edge.pool, pass);
  return pass;
}

export const pageFacts = (edge: Edge): Promise<PageFacts> => passOf(edge).done;

/** OIDs of the indexes of a table in which no key is there twice, as soon as its pages are read; none when they cannot be. */
export async function distinctIndexes(edge: Edge, table: Relation): Promise<ReadonlySet<string>> {
  const { facts, done } = passOf(edge);
  // What keeps the pages from being read is said by index-entries.
  await Promise.race([facts.added(table), done.catch(() => {})]);
  return new Set(table.indexes.filter((index) => facts.keysDistinct.has(index)).map(({ oid }) => oid));
}
