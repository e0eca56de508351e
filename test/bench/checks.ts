/** Each check against the tool that is used for it otherwise, side by side on the same server. */

import { catalogReferences } from "../../lib/checks/catalogs/catalog-references.ts";
import { schemaDump } from "../../lib/checks/catalogs/schema-dump.ts";
import { btree } from "../../lib/checks/data/btree.ts";
import { heap } from "../../lib/checks/data/heap.ts";
import { tableData } from "../../lib/checks/source/table-data.ts";
import { checkPageChecksums } from "../../lib/io/page-checksums.ts";
import type { RunResult } from "../lab/process.ts";
import { markAndWait, query, startPostgres } from "../lab/source.ts";
import {
  type Bench,
  type BenchCase,
  type BenchResult,
  connection,
  DATABASE,
  median,
  range,
  startService,
} from "./case.ts";
import { SILENT, secondsOf } from "./verify-by.ts";

const DATABASES = 200;

export const checksCase: BenchCase = {
  name: "checks",
  title: "Each check against its usual tool",
  runs: 3,
  run,
};

interface Pair {
  what: string;
  tool: string;
  limit?: number;
  ours(): Promise<number>;
  /** Null: the tool is not here. */
  theirs: (() => Promise<number>) | null;
}

interface Measured {
  pair: Pair;
  ours: number[];
  theirs: number[];
}

async function run(bench: Bench): Promise<BenchResult> {
  const { lab, say, signal } = bench;
  const source = await startService(bench);
  await query(source, "CREATE EXTENSION amcheck", { database: DATABASE });
  const seconds = async (result: Promise<RunResult>) => (await result).durationMs / 1000;
  const tool = (program: string, ...args: string[]) => seconds(lab.mustRun(program, args, { signal }));
  say("reading every row for the receipt");
  const { receipt } = await markAndWait(lab, source, "receipt", {
    env: { RESTORE_MANIFEST_BUDGET: "full", RESTORE_MANIFEST_TIMEOUT: "10min" },
  });

  const hasCatcheck = await lab.run("pg_catcheck", ["--version"]).then(
    ({ exitCode }) => exitCode === 0,
    () => false,
  );
  const server = connection(source).slice(0, -1);
  const amcheck = ["--jobs=2", ...connection(source)];
  const running: Pair[] = [
    {
      what: "every row read and digested",
      tool: "`pg_dump` to /dev/null",
      limit: 0.75,
      ours: () => secondsOf(source, [tableData], { signal, receipt }),
      theirs: () => tool("pg_dump", "--file=/dev/null", ...connection(source)),
    },
    {
      what: "heap and B-trees",
      tool: "`pg_amcheck --jobs=2`",
      ours: () => secondsOf(source, [heap, btree], { signal }),
      theirs: () => tool("pg_amcheck", ...amcheck),
    },
    {
      what: "heap and B-trees",
      tool: "`pg_amcheck` that looks as deep",
      ours: () => secondsOf(source, [heap, btree], { signal }),
      theirs: () => tool("pg_amcheck", "--heapallindexed", "--parent-check", "--rootdescend", ...amcheck),
    },
    {
      what: "catalog references",
      tool: hasCatcheck ? "`pg_catcheck`" : "(pg_catcheck is not installed)",
      ours: () => secondsOf(source, [catalogReferences], { signal }),
      theirs: hasCatcheck ? () => tool("pg_catcheck", ...connection(source)) : null,
    },
  ];
  const measured = await measure(bench, running);

  await lab.mustRun("pg_ctl", ["stop", "--mode=fast", "--wait", "-D", source.dataDir]);
  const checksums: Pair = {
    what: "page checksums (stopped)",
    tool: "`pg_checksums --check`",
    ours: async () => {
      const clock = performance.now();
      const found = await checkPageChecksums({
        ...{ binDir: lab.binDir, datadir: source.dataDir, timeoutMs: 600_000, signal, log: SILENT },
      });
      if (found.status !== "checked" || found.bad > 0) throw new Error(`page checksums: ${JSON.stringify(found)}`);
      return (performance.now() - clock) / 1000;
    },
    theirs: () => tool("pg_checksums", "--check", "-D", source.dataDir),
  };
  measured.push(...(await measure(bench, [checksums])));

  await startPostgres(lab, source);
  say(`making ${DATABASES} databases`);
  for (let n = 1; n <= DATABASES; n++) await query(source, `CREATE DATABASE d${n}`);
  const names = ["postgres", DATABASE, "template1", ...Array.from({ length: DATABASES }, (_, i) => `d${i + 1}`)];
  const schemas: Pair = {
    what: `schema of ${DATABASES} databases`,
    tool: "`pg_dump --schema-only`, one after another",
    limit: 0.6,
    // The list of all relations, which the higher levels need for their coverage, is no part of it.
    ours: () => secondsOf(source, [schemaDump], { signal, level: "quick" }),
    async theirs() {
      let sum = await tool("pg_dumpall", "--globals-only", ...server);
      for (const name of names) sum += await tool("pg_dump", "--schema-only", "--file=/dev/null", ...server, name);
      return sum;
    },
  };
  measured.push(...(await measure(bench, [schemas])));
  return {
    ratios: measured.flatMap(({ pair: { what, tool, limit }, ours, theirs }) =>
      theirs.length === 0
        ? []
        : [
            {
              what: `${what} : ${tool}`,
              value: median(ours.map((seconds, i) => seconds / (theirs[i] as number))),
              ...(limit === undefined ? {} : { limit }),
            },
          ],
    ),
    tables: [
      {
        head: ["", "ours, s", "range", "usual tool", "s", "range"],
        rows: measured.map(({ pair: { what, tool }, ours, theirs }) => [
          what,
          ...figures(ours),
          tool,
          ...(theirs.length === 0 ? ["", ""] : figures(theirs)),
        ]),
      },
    ],
    notes: [
      `${(bench.scale * 100_000).toLocaleString("en")} rows in pgbench_accounts, all of them known to the receipt; checksums on, ` +
        `shared_buffers 1GB, warm cache, ${bench.runs} interleaved runs; the ratios are medians of the runs' own`,
      "ours is the check alone, without the start of a script; at level full the B-tree check also holds each index against " +
        "its parents and, where a row could be missing from it, against its table",
    ],
    raw: measured.map(({ pair: { what, tool }, ours, theirs }) => ({ what, tool, ours, theirs })),
  };
}

const figures = (seconds: readonly number[]) => [median(seconds).toFixed(2), range(seconds, 2)];

/** Once before, so that all find the same cache. */
async function measure({ runs, say }: Bench, pairs: readonly Pair[]): Promise<Measured[]> {
  const measured: Measured[] = [];
  for (const pair of pairs) {
    const [ours, theirs]: [number[], number[]] = [[], []];
    await pair.ours();
    for (let n = 1; n <= runs; n++) {
      ours.push(await pair.ours());
      if (pair.theirs !== null) theirs.push(await pair.theirs());
    }
    say(`${pair.what}: ${median(ours).toFixed(2)} s, ${pair.tool} ${median(theirs).toFixed(2)} s`);
    measured.push({ pair, ours, theirs });
  }
  return measured;
}
