/** What a benchmark is, and the arithmetic they share. */

import type { Lab } from "../lab/lab.ts";
import { createStanza, query, type Source, startSource } from "../lab/source.ts";

export interface BenchCase {
  name: string;
  title: string;
  /** How often everything is measured unless --runs says otherwise. */
  runs: number;
  run(bench: Bench): Promise<BenchResult>;
}

export interface Bench {
  lab: Lab;
  /** pgbench's: 100,000 rows and 15 MB each. */
  scale: number;
  runs: number;
  signal: AbortSignal;
  /** Makes something once, in a lab of its own that lives until all benchmarks are over. */
  shared<T>(name: string, make: (lab: Lab) => Promise<T>): Promise<T>;
  /** Where the service of the restores stays for the next run; null: it is made anew. */
  keepIn: string | null;
  /** Path of the public script pgbackrest_auto; null: what it does is done without it. */
  pgbackrestAuto: string | null;
  /** Progress, not part of the result. */
  say(text: string): void;
}

export interface BenchResult {
  /** Ours divided by theirs; `limit` is the most that it may be. */
  ratios: { what: string; value: number; limit?: number }[];
  tables: { head: string[]; rows: string[][] }[];
  notes: string[];
  /** Every single measurement. */
  raw: unknown;
}

export const DATABASE = "bench";

/** pgbench's tables, checksums on, vacuumed, in a server whose archive is a pgBackRest repository. */
export async function startService(
  { lab, scale, say }: Bench,
  parameters: Record<string, string> = {},
): Promise<Source> {
  const { service: _, ...source } = await startSource(lab, {
    stanza: "bench",
    parameters: {
      shared_buffers: "1GB",
      maintenance_work_mem: "256MB",
      max_wal_size: "8GB",
      checkpoint_timeout: "30min",
      wal_compression: "lz4",
      ...parameters,
    },
  });
  if (parameters.archive_mode !== "off") await createStanza(lab, source);
  say(`making ${scale * 100_000} rows`);
  await query(source, `CREATE DATABASE ${DATABASE}`);
  await lab.mustRun("pgbench", ["--initialize", "--quiet", `--scale=${scale}`, ...connection(source)]);
  await query(source, "CHECKPOINT");
  return source;
}

export const connection = (source: Source) => [
  "--host=127.0.0.1",
  `--port=${source.port}`,
  "--username=postgres",
  DATABASE,
];

export function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

/** Between two values it is interpolated. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const [low, high] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  if (low === undefined || high === undefined) return Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

export const range = (values: readonly number[], digits = 1) =>
  `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`;
