/** Which blocks of which tables are read on the source: a budget, spread over all of them. */

import { createHash } from "node:crypto";

/** Blocks of a full range: 1 MB. */
export const RANGE_BLOCKS = 128;

export interface PlannedTable {
  /** Of all databases, unique: for the choice of its ranges. */
  key: string;
  blocks: number;
  /** What reading one block costs with its share of TOAST. */
  bytesPerBlock: number;
}

/** Blocks from `from` to before `to`; null is the end, whatever it is by then. */
export interface Range {
  from: number;
  to: number | null;
}

/**
 * Ranges for each table, in its order. Every table gets something and big ones more; the same seed gives the same ranges.
 * `budgetBytes` null: everything.
 */
export function planRanges(tables: readonly PlannedTable[], budgetBytes: number | null, seed: string): Range[][] {
  if (budgetBytes === null) return tables.map((table) => allRanges(table.blocks, RANGE_BLOCKS));
  // With very many tables a whole range of each would cost more than the budget.
  const least = tables.reduce((sum, t) => sum + Math.min(t.blocks, RANGE_BLOCKS) * t.bytesPerBlock, 0);
  const step = Math.max(1, Math.min(RANGE_BLOCKS, Math.floor((RANGE_BLOCKS * budgetBytes) / Math.max(1, least))));
  const minimum = tables.map((t) => Math.min(t.blocks, step) * t.bytesPerBlock);
  const left = Math.max(0, budgetBytes - minimum.reduce((sum, bytes) => sum + bytes, 0));
  const rest = tables.map((t, i) => t.blocks * t.bytesPerBlock - (minimum[i] as number));
  const wanted = rest.reduce((sum, bytes) => sum + bytes, 0);
  if (wanted <= left) return tables.map((table) => allRanges(table.blocks, step));
  return tables.map((table, i) => {
    const bytes = (minimum[i] as number) + (left / wanted) * (rest[i] as number);
    const all = Math.max(1, Math.ceil(table.blocks / step));
    const count = Math.min(all, Math.max(1, Math.floor(bytes / table.bytesPerBlock / step)));
    return count === all ? allRanges(table.blocks, step) : spread(table, step, all, count, seed);
  });
}

/** The last one has no end, so that what is appended later is looked at too. */
function allRanges(blocks: number, step: number): Range[] {
  const ranges: Range[] = [];
  for (let from = 0; from === 0 || from < blocks; from += step) {
    ranges.push({ from, to: from + step >= blocks ? null : from + step });
  }
  return ranges;
}

/** One of each of `count` equal stretches. */
function spread(table: PlannedTable, step: number, all: number, count: number, seed: string): Range[] {
  return Array.from({ length: count }, (_, i) => {
    const first = Math.floor((i * all) / count);
    const end = Math.floor(((i + 1) * all) / count);
    const chosen = first + (randomOf(`${seed} ${table.key} ${i}`) % (end - first));
    return { from: chosen * step, to: chosen === all - 1 ? null : (chosen + 1) * step };
  });
}

const randomOf = (text: string) => createHash("sha256").update(text).digest().readUInt32BE(0);
