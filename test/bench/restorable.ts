/** A service that was backed up, went on writing, was marked and is gone: all that a restore needs, and nothing else runs. */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Receipt } from "../../lib/mark/receipt.ts";
import {
  backup,
  copyRepository,
  createStanza,
  markAndWait,
  query,
  type Source,
  startSource,
  value,
} from "../lab/source.ts";
import { type Bench, connection, DATABASE } from "./case.ts";

export interface Restorable {
  source: Source;
  receiptFile: string;
  receipt: Receipt;
  /** Every WAL segment from the backup's start to the target, by name. */
  segments: string[];
  /** In words. */
  description: string;
}

/** 56 at pgbench's scale 50: more WAL than data, as on a service that works and is backed up once a day. */
const SEGMENTS_PER_SCALE = 56 / 50;
const SEGMENT = 16 * 1024 ** 2;

/** Made once for all benchmarks of a run. */
export const restorable = (bench: Bench): Promise<Restorable> =>
  bench.shared("restorable", async (lab) => {
    const { keepIn } = bench;
    if (keepIn === null) return make({ ...bench, lab });
    const file = join(keepIn, `scale-${bench.scale}`, "restorable.json");
    const kept = await readFile(file, "utf8").catch(() => null);
    if (kept === null) return keep(lab, await make({ ...bench, lab }), file);
    const found = JSON.parse(kept) as Restorable;
    const source = await copyRepository(lab, found.source);
    // Where user postgres can read it.
    return {
      ...found,
      source,
      receiptFile: await lab.writeFile("receipt.json", await readFile(found.receiptFile, "utf8")),
    };
  });

async function keep(lab: Bench["lab"], made: Restorable, file: string): Promise<Restorable> {
  const directory = join(file, "..");
  const kept = { repository: join(directory, "repo"), receiptFile: join(directory, "receipt.json") };
  await mkdir(directory, { recursive: true });
  const copy = (from: string, to: string) => lab.mustRun("cp", ["--archive", from, to], { asRoot: true });
  await copy(made.source.repository, kept.repository);
  await copy(made.receiptFile, kept.receiptFile);
  const source = { ...made.source, repository: kept.repository };
  await writeFile(file, JSON.stringify({ ...made, source, receiptFile: kept.receiptFile }));
  return made;
}

async function make({ lab, scale, say }: Bench): Promise<Restorable> {
  const { service, ...source } = await startSource(lab, {
    stanza: "bench",
    parameters: {
      shared_buffers: "1GB",
      maintenance_work_mem: "256MB",
      max_wal_size: "4GB",
      checkpoint_timeout: "30min",
      // It is in the restored configuration too, so fsync must be as a real service has it.
      fsync: "on",
      synchronous_commit: "off",
    },
    // The default of later versions, and what a repository in an object store needs.
    pgbackrest: { "repo1-bundle": "y" },
  });
  await createStanza(lab, source);
  say(`making ${scale * 100_000} rows`);
  await query(source, `CREATE DATABASE ${DATABASE}`);
  await lab.mustRun("pgbench", ["--initialize", "--quiet", `--scale=${scale}`, ...connection(source)]);
  say("full backup");
  await backup(lab, source, "full");
  const size = await value(source, `SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database`);
  const begin = await value(source, "SELECT pg_current_wal_insert_lsn()");
  const bytes = async () => Number(await value(source, `SELECT pg_current_wal_insert_lsn() - '${begin}'::pg_lsn`));
  const wanted = Math.round(scale * SEGMENTS_PER_SCALE) * SEGMENT;
  say(`making ${Math.round(wanted / SEGMENT)} WAL segments`);
  const load = ["--no-vacuum", "--protocol=prepared", "--client=4", "--jobs=2", "--transactions=1500"];
  while ((await bytes()) < wanted) await lab.mustRun("pgbench", [...load, ...connection(source)]);
  say("mark");
  const { file, receipt } = await markAndWait(lab, source);
  await service.stop("SIGINT");
  const segments = await archivedSegments(lab, source, receipt);
  return {
    source,
    receiptFile: file,
    receipt,
    segments,
    description: `${size} of databases (pgbench's tables, scale ${scale}), ${segments.length} WAL segments of pgbench from the backup to the target; lz4, bundles, process-max 2`,
  };
}

async function archivedSegments(lab: Bench["lab"], source: Source, receipt: Receipt): Promise<string[]> {
  const { stdout } = await lab.mustRun("bash", [
    "-c",
    'find "$1" -type f -printf "%f\\n"',
    "find",
    `${source.repository}/archive/${source.stanza}`,
  ]);
  const info = await lab.mustRun("pgbackrest", [
    `--config=${source.pgbackrestConfig}`,
    `--stanza=${source.stanza}`,
    "info",
    "--output=json",
  ]);
  const first = JSON.parse(info.stdout)[0].backup[0].archive.start as string;
  const names = stdout.split("\n").flatMap((name) => /^([0-9A-F]{24})-[0-9a-f]{40}/.exec(name)?.[1] ?? []);
  return [...new Set(names)].filter((name) => name >= first && name <= receipt.fence_wal).sort();
}
