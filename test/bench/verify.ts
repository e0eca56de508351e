/** A full verification against what it replaces: reading every row with pg_dump, every page and index with pg_amcheck. */

import type { Report } from "../../lib/report/report.ts";
import type { RunResult } from "../lab/process.ts";
import { query } from "../lab/source.ts";
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

interface Run {
  verify: number;
  dump: number;
  amcheck: number;
}

export const verifyCase: BenchCase = {
  name: "verify",
  title: "Full verify against pg_dump plus pg_amcheck",
  runs: 3,
  run,
};

async function run(bench: Bench): Promise<BenchResult> {
  const { lab, runs, say, signal } = bench;
  const source = await startService(bench, { archive_mode: "off" });
  await query(source, "CREATE EXTENSION amcheck", { database: DATABASE });
  const seconds = ({ durationMs }: RunResult) => durationMs / 1000;
  const dump = () => lab.mustRun("pg_dump", ["--file=/dev/null", ...connection(source)], { signal });
  const amcheck = () => lab.mustRun("pg_amcheck", ["--jobs=2", "--heapallindexed", ...connection(source)], { signal });
  const verify = async () => {
    const run = await lab.runScript("verify", ["--conninfo", source.conninfo, "--level=full", "--json"], { signal });
    return { run, report: JSON.parse(run.stdout) as Report };
  };

  say("reading everything once, so that all runs find the same cache");
  await dump();
  const { report } = await verify();
  // Nothing was restored here: what is said about recentness and safety is no matter.
  const bad = report.checks.filter(
    (c) => c.claim === "consistency" && (c.status === "fail" || c.status === "unverified"),
  );
  if (bad.length > 0) throw new Error(`verify found: ${bad.map((c) => `${c.id}: ${c.summary}`).join("; ")}`);

  const measured: Run[] = [];
  for (let n = 1; n <= runs; n++) {
    const one = {
      verify: seconds((await verify()).run),
      dump: seconds(await dump()),
      amcheck: seconds(await amcheck()),
    };
    say(`run ${n}: verify ${one.verify} s, pg_dump ${one.dump} s, pg_amcheck ${one.amcheck} s`);
    measured.push(one);
  }
  const row = (what: string, values: number[]) => [what, median(values).toFixed(1), range(values)];
  const slowest = report.checks
    .filter((c) => c.duration_ms >= 500)
    .sort((a, b) => b.duration_ms - a.duration_ms)
    .slice(0, 6)
    .map((c) => `${c.id} ${(c.duration_ms / 1000).toFixed(1)} s`);
  return {
    ratios: [
      {
        what: "verify / (pg_dump + pg_amcheck), the median of the runs' own ratios",
        value: median(measured.map((r) => r.verify / (r.dump + r.amcheck))),
        limit: 1,
      },
    ],
    tables: [
      {
        head: ["", "median, s", "range, s"],
        rows: [
          row(
            "`verify --level full`",
            measured.map((r) => r.verify),
          ),
          row(
            "`pg_dump --file=/dev/null`",
            measured.map((r) => r.dump),
          ),
          row(
            "`pg_amcheck --jobs=2 --heapallindexed`",
            measured.map((r) => r.amcheck),
          ),
          row(
            "pg_dump + pg_amcheck",
            measured.map((r) => r.dump + r.amcheck),
          ),
        ],
      },
    ],
    notes: [
      `${(bench.scale * 100_000).toLocaleString("en")} rows in pgbench_accounts, checksums on, shared_buffers 1GB, warm cache, ${runs} interleaved runs`,
      `${report.checks.filter((c) => c.status === "pass").length} checks passed in verify; the longest: ${slowest.join(", ") || "none took 0.5 s"}`,
    ],
    raw: {
      measured,
      checks: report.checks.map(({ id, status, duration_ms }) => ({ id, status, duration_ms })),
      coverage: report.coverage,
    },
  };
}
