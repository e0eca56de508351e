/** Whether sixteen times as much costs more than sixteen times as much: services that differ in one thing only. */

import { backup, createStanza, markAndWait, query, type Source, startSource, value } from "../lab/source.ts";
import { type Bench, type BenchCase, type BenchResult, connection, DATABASE, median } from "./case.ts";
import { restoreTest } from "./restore-ours.ts";

const LIMIT = 1.15;
/** The largest of each is tried `--runs` times, the others, where less time drowns in noise, so many times as often. */
const SMALL_RUNS = 3;

export const growthCase: BenchCase = {
  name: "growth",
  title: "Growth: what a byte and an object cost as there are more of them",
  runs: 1,
  run,
};

interface Dimension {
  name: string;
  unit: string;
  /** From small to large; each is made of the one before it. */
  sizes: readonly number[];
  /**
   * Makes it of this size; of WAL behind `backupAt`, the LSN of the one backup. What it is measured by comes back: objects, or
   * millions of bytes.
   */
  grow(bench: Bench, source: Source, size: number, backupAt: string): Promise<number>;
  /** Parts of a run that depend on it, the others are of no matter here. */
  parts: readonly Part[];
  /** The first size is backed up only: WAL grows behind a backup. */
  oneBackup?: boolean;
}

/** Milliseconds of one run. */
interface Costs {
  mark: number;
  bootstrap: number;
  recovery: number;
  verify: number;
}
type Part = keyof Costs;

interface Size {
  units: number;
  runs: Costs[];
}

const SEGMENTS_BETWEEN_CHECKPOINTS = 14;

const tenth = (scale: number, most: number) => Math.max(1, Math.round((most * scale) / 50));

/** With the sizes that --scale 50, the default, stands for. */
const dimensions = (scale: number): Dimension[] => [
  {
    name: "data",
    unit: "MB",
    sizes: [10, 40, 160].map((size) => tenth(scale, size)),
    parts: ["mark", "bootstrap", "verify"],
    async grow({ lab }, source, size) {
      await lab.mustRun("pgbench", ["--initialize", "--quiet", `--scale=${size}`, ...connection(source)]);
      return Number(await value(source, `SELECT pg_database_size('${DATABASE}')`)) / 1e6;
    },
  },
  {
    name: "databases",
    unit: "database",
    sizes: [1, 20, 200].map((size) => tenth(scale, size)),
    parts: ["mark", "bootstrap", "verify"],
    async grow(_, source, size) {
      // An instance without a single table is taken for an empty one.
      await query(source, "CREATE TABLE IF NOT EXISTS one (id int PRIMARY KEY)", { database: DATABASE });
      const have = Number(await value(source, "SELECT count(*) FROM pg_database WHERE datname ~ '^d[0-9]+$'"));
      for (let n = have; n < size; n++) await query(source, `CREATE DATABASE d${n} TEMPLATE ${DATABASE}`);
      return size;
    },
  },
  {
    name: "tables",
    unit: "table",
    sizes: [100, 2000, 20_000].map((size) => tenth(scale, size)),
    parts: ["mark", "bootstrap", "verify"],
    grow: growTables,
  },
  {
    name: "WAL",
    unit: "segment",
    sizes: [14, 56].map((size) => tenth(scale, size)),
    parts: ["recovery"],
    oneBackup: true,
    async grow({ lab, signal }, source, size, backupAt) {
      const load = ["--no-vacuum", "--protocol=prepared", "--client=4", "--jobs=2", "--transactions=1000"];
      const written = async () =>
        Number(await value(source, `SELECT pg_current_wal_insert_lsn() - '${backupAt}'::pg_lsn`)) / 2 ** 24;
      for (let checkpoint = 0; (await written()) < size; ) {
        signal.throwIfAborted();
        // The first change of a page after a checkpoint writes all of it: without one, ever fewer bytes for each transaction.
        if ((await written()) >= checkpoint + SEGMENTS_BETWEEN_CHECKPOINTS) {
          await query(source, "CHECKPOINT");
          checkpoint = await written();
        }
        await lab.mustRun("pgbench", [...load, ...connection(source)]);
      }
      return await written();
    },
  },
];

/** Every second one is a partition, a hundred to a partitioned table. */
async function growTables({ signal }: Bench, source: Source, size: number): Promise<number> {
  const have = Number(
    await value(source, "SELECT count(*) FROM pg_class WHERE relname ~ '^(table|part)_[0-9]+$'", {
      database: DATABASE,
    }),
  );
  for (let from = have; from < size; from += 500) {
    signal.throwIfAborted();
    await query(
      source,
      `DO $$ BEGIN FOR i IN ${from}..${Math.min(from + 500, size) - 1} LOOP
         IF i % 2 = 0 THEN
           EXECUTE format('CREATE TABLE table_%s (id int PRIMARY KEY, amount numeric NOT NULL, at timestamptz)', i);
           EXECUTE format('INSERT INTO table_%s SELECT g, g FROM generate_series(1, 100) AS g', i);
         ELSE
           IF i % 200 = 1 THEN
             EXECUTE format('CREATE TABLE parts_%s (id int, amount numeric NOT NULL) PARTITION BY LIST (id)', i / 200);
           END IF;
           EXECUTE format('CREATE TABLE part_%s PARTITION OF parts_%s FOR VALUES IN (%s)', i, i / 200, i);
           EXECUTE format('INSERT INTO part_%s SELECT %s, g FROM generate_series(1, 100) AS g', i, i);
         END IF;
       END LOOP; END $$`,
      { database: DATABASE },
    );
  }
  return size;
}

async function run(bench: Bench): Promise<BenchResult> {
  const measured: { dimension: Dimension; sizes: Size[] }[] = [];
  for (const dimension of dimensions(bench.scale)) measured.push({ dimension, sizes: await measure(bench, dimension) });
  return {
    ratios: measured.flatMap(({ dimension: { name, unit, parts }, sizes }) =>
      parts.map((part) => {
        const [middle, large] = sizes.slice(-2) as [Size, Size];
        const times = (large.units / middle.units).toFixed(0);
        return {
          what: `${part} for each ${unit}: ${times} times the ${name} : the middle size`,
          value: each(large, part) / each(middle, part),
          limit: LIMIT,
        };
      }),
    ),
    tables: measured.map(({ dimension: { name, unit, parts }, sizes }) => ({
      head: [
        name,
        ...parts.flatMap((part) => [
          `${part}, s`,
          `ms for each ${unit}`,
          `ms for each ${unit} more than the size before`,
        ]),
      ],
      rows: sizes.map((size, i) => [
        size.units.toFixed(0),
        ...parts.flatMap((part) => [
          (cost(size, part) / 1000).toFixed(2),
          each(size, part).toFixed(2),
          i === 0 ? "" : more(sizes[i - 1] as Size, size, part).toFixed(2),
        ]),
      ]),
    })),
    notes: [
      `medians of ${bench.runs} runs of the largest size and ${bench.runs * SMALL_RUNS} of the others; the limit is for the largest : the middle size, ` +
        "with nothing subtracted: what a run costs however small the service is (starts, the archive, polls) is in all of them, " +
        "and the last column of each part is free of it",
      "mark reads every row; bootstrap is all its phases, recovery is replay and promotion, verify is at level full, each from " +
        "the report of restore-test --runner direct",
    ],
    raw: measured.map(({ dimension: { name }, sizes }) => ({ name, sizes })),
  };
}

async function measure(bench: Bench, dimension: Dimension): Promise<Size[]> {
  const { lab, say, signal } = bench;
  const { service, ...source } = await startSource(lab, {
    stanza: `growth-${dimension.name.toLowerCase()}`,
    parameters: {
      shared_buffers: "1GB",
      max_wal_size: "8GB",
      checkpoint_timeout: "30min",
      max_locks_per_transaction: 1024,
      synchronous_commit: "off",
    },
    pgbackrest: { "repo1-bundle": "y" },
  });
  await createStanza(lab, source);
  await query(source, `CREATE DATABASE ${DATABASE}`);
  let backupAt = "0/0";
  if (dimension.oneBackup) {
    const scale = String(tenth(bench.scale, 20));
    await lab.mustRun("pgbench", ["--initialize", "--quiet", `--scale=${scale}`, ...connection(source)]);
    await backup(lab, source, "full");
    backupAt = await value(source, "SELECT redo_lsn FROM pg_control_checkpoint()");
  }
  const sizes: Size[] = [];
  for (const [i, size] of dimension.sizes.entries()) {
    say(`${dimension.name}: making ${size}`);
    const units = await dimension.grow(bench, source, size, backupAt);
    if (!dimension.oneBackup) {
      await query(source, "VACUUM (ANALYZE)", { database: DATABASE });
      await backup(lab, source, "full");
    }
    const runs: Costs[] = [];
    const isLargest = i === dimension.sizes.length - 1;
    while (runs.length < bench.runs * (isLargest ? 1 : SMALL_RUNS)) {
      const startedAt = performance.now();
      const { file } = await markAndWait(lab, source, `growth-${dimension.name}`, {
        env: { RESTORE_MANIFEST_BUDGET: "full", RESTORE_MANIFEST_TIMEOUT: "30min" },
        signal,
      });
      const mark = performance.now() - startedAt;
      const { spans } = await restoreTest(bench, { source, receiptFile: file }, "direct");
      const sum = (...names: string[]) => names.reduce((ms, name) => ms + (spans[name] ?? 0), 0);
      runs.push({
        mark,
        bootstrap: sum("preflight", "restore", "recovery", "promote", "detach", "stop"),
        recovery: sum("recovery", "promote"),
        verify: sum("verify"),
      });
    }
    sizes.push({ units, runs });
    say(`${dimension.name}: ${JSON.stringify(runs)}`);
  }
  await service.stop("SIGINT");
  await lab.mustRun("rm", ["-rf", source.dataDir]);
  return sizes;
}

const cost = ({ runs }: Size, part: Part) => median(runs.map((one) => one[part]));
const each = (size: Size, part: Part) => cost(size, part) / size.units;
const more = (less: Size, size: Size, part: Part) => (cost(size, part) - cost(less, part)) / (size.units - less.units);
