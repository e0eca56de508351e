/** What `mark` does to a production primary: the same load with and without it, side by side. */

import { readdir, readFile, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, query, type Source } from "../lab/source.ts";
import {
  type Bench,
  type BenchCase,
  type BenchResult,
  connection,
  median,
  percentile,
  range,
  startService,
} from "./case.ts";

const RATE = 2000;
const CLIENTS = 4;
const LEAD_S = 5;
/** Long enough for mark and some time after it. */
const RUN_S = 25;

export const markCase: BenchCase = {
  name: "mark",
  title: `mark under ${RATE} transactions a second`,
  runs: 5,
  run,
};

interface Figures {
  tps: number;
  average: number;
  p95: number;
  p99: number;
  max: number;
}

interface Transaction {
  endedAtMs: number;
  latencyMs: number;
}

interface Watched {
  /** Modes of mark's locks on relations that are not its own. */
  modes: string[];
  mostConnections: number;
  /** Mark waiting for a lock of somebody, and somebody for a lock of mark's. */
  longestWaitMs: number;
  longestBlockMs: number;
  samples: number;
}

async function run(bench: Bench): Promise<BenchResult> {
  const { runs, say } = bench;
  const source = await startService(bench);
  const read = await readAlone(bench, source);
  say(
    `alone: mark ${(read.durationMs / 1000).toFixed(1)} s; load for 60 s so that the pages' first changes are behind it`,
  );
  await load(bench, source, 60);

  const pairs: { without: Figures; with: Figures; markMs: number }[] = [];
  for (let n = 1; n <= runs; n++) {
    // Which comes first changes, for what gets better or worse with time.
    const order = n % 2 === 1 ? (["without", "with"] as const) : (["with", "without"] as const);
    const got: { without?: Transaction[]; with?: Transaction[] } = {};
    let window = { from: 0, to: 0 };
    let began = { without: 0, with: 0 };
    for (const which of order) {
      began = { ...began, [which]: Date.now() };
      const loading = load(bench, source, RUN_S);
      if (which === "with") {
        await sleep(LEAD_S * 1000, undefined, { signal: bench.signal });
        const from = Date.now();
        await mark(bench, source);
        window = { from: from - began.with, to: Date.now() - began.with };
      }
      got[which] = await loading;
    }
    if (got.without === undefined || got.with === undefined) throw new Error("unreachable");
    if (window.to > RUN_S * 1000) throw new Error(`mark took longer than the load of ${RUN_S} s`);
    const pair = {
      without: figures(got.without, began.without, window),
      with: figures(got.with, began.with, window),
      markMs: window.to - window.from,
    };
    pairs.push(pair);
    say(
      `run ${n}: mark ${pair.markMs} ms; tps ${pair.without.tps.toFixed(0)} and ${pair.with.tps.toFixed(0)}, ` +
        `average ${pair.without.average.toFixed(2)} and ${pair.with.average.toFixed(2)} ms`,
    );
  }

  // By itself: looking at locks fifty times a second is a load of its own.
  const loading = load(bench, source, RUN_S);
  await sleep(LEAD_S * 1000, undefined, { signal: bench.signal });
  const watched = await watch(source, () => mark(bench, source));
  await loading;

  const of = (which: "without" | "with", key: keyof Figures) => median(pairs.map((pair) => pair[which][key]));
  const ratio = (key: keyof Figures) => median(pairs.map((pair) => pair.with[key] / pair.without[key]));
  const row = (what: string, key: keyof Figures, digits: number) => [
    what,
    of("without", key).toFixed(digits),
    of("with", key).toFixed(digits),
    ratio(key).toFixed(2),
  ];
  const modes = watched.modes.sort();
  const strong = modes.filter((mode) => mode !== "AccessShareLock");
  const markSeconds = pairs.map((pair) => pair.markMs / 1000);
  return {
    ratios: [
      { what: "throughput with mark / without", value: ratio("tps") },
      { what: "average latency with mark / without", value: ratio("average") },
      { what: "99th percentile of latency with mark / without", value: ratio("p99") },
    ],
    tables: [
      {
        head: ["while mark runs", "without", "with", "with / without"],
        rows: [
          row("transactions a second", "tps", 0),
          row("latency, average, ms", "average", 2),
          row("latency, 95 %, ms", "p95", 2),
          row("latency, 99 %, ms", "p99", 2),
          row("latency, longest, ms", "max", 1),
        ],
      },
    ],
    notes: [
      `pgbench --rate=${RATE} --client=${CLIENTS} on ${bench.scale * 100_000} rows, ${runs} pairs of runs, medians; the same seconds of both runs are compared; latency counts from when a transaction was due; fsync off`,
      `mark took ${median(markSeconds).toFixed(1)} s (${range(markSeconds)}) under load and ${(read.durationMs / 1000).toFixed(1)} s alone, most of it waiting for the archive`,
      `alone it looked at ${megabytes(read.touched)} of pages, ${megabytes(read.fromOutside)} of them not in shared_buffers; the receipt has ${read.receiptBytes} bytes`,
      `its locks on tables that are not its own: ${modes.join(", ") || "none seen"}${strong.length > 0 ? " (STRONGER than AccessShareLock)" : ""}`,
      `it waited for a lock for ${watched.longestWaitMs} ms at most, others for one of its locks ${watched.longestBlockMs} ms; ${watched.mostConnections} connections at most (${watched.samples} samples of one more run)`,
    ],
    raw: { read, pairs, watched },
  };
}

const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MB`;

async function mark({ lab, signal }: Bench, source: Source) {
  const receipt = lab.path("receipt.json");
  await rm(receipt, { force: true });
  const run = await lab.runScript("mark", ["--source", source.conninfo, "--receipt", receipt], { signal });
  if (run.exitCode !== 0) throw new Error(`mark: exit code ${run.exitCode}\n${run.stderr}`);
  return { durationMs: run.durationMs, receiptBytes: (await readFile(receipt)).length };
}

/** With nobody else at work the server's own counters say what mark reads. */
async function readAlone(bench: Bench, source: Source) {
  // The first one makes the schema.
  await mark(bench, source);
  const counters = async () => {
    await sleep(1500);
    const [row] = await query(
      source,
      "SELECT sum(blks_hit + blks_read) * 8192 AS touched, sum(blks_read) * 8192 AS outside FROM pg_stat_database",
    );
    return { touched: Number(row?.touched), outside: Number(row?.outside) };
  };
  await query(source, "ALTER SYSTEM SET autovacuum = off");
  await query(source, "SELECT pg_reload_conf()");
  await sleep(1000);
  const [a, idle] = [await counters(), await counters()];
  const run = await mark(bench, source);
  const b = await counters();
  await query(source, "ALTER SYSTEM RESET autovacuum");
  await query(source, "SELECT pg_reload_conf()");
  const own = { touched: idle.touched - a.touched, outside: idle.outside - a.outside };
  return {
    ...run,
    touched: b.touched - idle.touched - own.touched,
    fromOutside: b.outside - idle.outside - own.outside,
  };
}

async function load({ lab, signal }: Bench, source: Source, seconds: number): Promise<Transaction[]> {
  const directory = await lab.makeDirectory("transactions");
  for (const file of await readdir(directory)) await rm(`${directory}/${file}`);
  await lab.mustRun(
    "pgbench",
    [
      "--no-vacuum",
      `--client=${CLIENTS}`,
      "--jobs=1",
      `--rate=${RATE}`,
      `--time=${seconds}`,
      "--log",
      `--log-prefix=${directory}/t`,
      ...connection(source),
    ],
    { signal },
  );
  const logs = await Promise.all((await readdir(directory)).map((file) => readFile(`${directory}/${file}`, "utf8")));
  // client, transaction, latency in µs (from when it was due), script, seconds, µs, lag
  return logs
    .flatMap((log) => log.trimEnd().split("\n"))
    .map((line) => line.split(" "))
    .map(([, , latency, , s, us]) => ({
      endedAtMs: Number(s) * 1000 + Number(us) / 1000,
      latencyMs: Number(latency) / 1000,
    }));
}

function figures(all: readonly Transaction[], beganMs: number, window: { from: number; to: number }): Figures {
  const [from, to] = [beganMs + window.from, beganMs + window.to];
  const latencies = all.filter((t) => t.endedAtMs >= from && t.endedAtMs < to).map((t) => t.latencyMs);
  return {
    tps: latencies.length / ((to - from) / 1000),
    average: latencies.reduce((sum, ms) => sum + ms, 0) / latencies.length,
    p95: percentile(latencies, 0.95),
    p99: percentile(latencies, 0.99),
    max: latencies.reduce((most, ms) => Math.max(most, ms), 0),
  };
}

/** pg_locks names a relation by number, which means something only in its own database: pgbench's, where the load is. */
const SAMPLE = `
WITH mark AS (SELECT pid, wait_event_type, query_start FROM pg_stat_activity
               WHERE application_name = 'patroni-restore' AND backend_type = 'client backend')
SELECT (SELECT count(*) FROM mark) AS connections,
       coalesce((SELECT string_agg(DISTINCT mode, ' ') FROM pg_locks
                  WHERE pid IN (SELECT pid FROM mark) AND locktype = 'relation'
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())), '') AS modes,
       coalesce((SELECT max(extract(epoch FROM clock_timestamp() - l.waitstart)) * 1000 FROM pg_locks AS l
                  WHERE l.pid IN (SELECT pid FROM mark) AND NOT l.granted), 0) AS waiting,
       coalesce((SELECT max(extract(epoch FROM clock_timestamp() - l.waitstart)) * 1000 FROM pg_locks AS l
                  WHERE NOT l.granted
                    AND pg_blocking_pids(l.pid) && ARRAY(SELECT pid FROM mark)), 0) AS blocking`;

async function watch(source: Source, work: () => Promise<unknown>): Promise<Watched> {
  const watched: Watched = { modes: [], mostConnections: 0, longestWaitMs: 0, longestBlockMs: 0, samples: 0 };
  let done = false;
  const sampling = connect(source, "bench", async (database) => {
    while (!done) {
      const row = await database.row(SAMPLE);
      watched.samples++;
      watched.modes = [...new Set([...watched.modes, ...(row.modes ?? "").split(" ").filter(Boolean)])];
      watched.mostConnections = Math.max(watched.mostConnections, Number(row.connections));
      watched.longestWaitMs = Math.max(watched.longestWaitMs, Math.ceil(Number(row.waiting)));
      watched.longestBlockMs = Math.max(watched.longestBlockMs, Math.ceil(Number(row.blocking)));
      await sleep(20);
    }
  });
  try {
    await work();
  } finally {
    done = true;
    await sampling;
  }
  return watched;
}
