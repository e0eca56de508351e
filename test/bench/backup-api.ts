/** What clients of the backup API wait beside a running backup, side by side with a bare HTTP server of Node. */

import { createServer } from "node:http";
import { type ApiAnswer, clientOf, flood, memoryOf, mixedRequests, startBackupApi } from "../lab/backup-api.ts";
import { type Bench, type BenchCase, type BenchResult, median, percentile, startService } from "./case.ts";

const REQUESTS = 10_000;

export const backupApiCase: BenchCase = {
  name: "backup-api",
  title: `backup-api under ${REQUESTS} mixed requests beside a backup`,
  runs: 3,
  run,
};

interface Figures {
  perSecond: number;
  p50: number;
  p99: number;
  max: number;
}

async function run(bench: Bench): Promise<BenchResult> {
  const { lab, runs, say } = bench;
  const source = await startService(bench);
  const api = await startBackupApi(lab, {
    args: [`--stanza=${source.stanza}`, `--pgbackrest-config=${source.pgbackrestConfig}`, "--rate-limit=1000000"],
    // One slow worker, so that the backup outlasts the requests.
    env: { PGBACKREST_COMPRESS_TYPE: "gz", PGBACKREST_COMPRESS_LEVEL: "9", PGBACKREST_PROCESS_MAX: "1" },
  });
  const floor = await startFloor();
  const measured: { api: Figures; floor: Figures; memory: number }[] = [];
  for (let n = 1; n <= runs; n++) {
    const first = await api.post("/backups", { type: "full" });
    if (first.status !== 202) throw new Error(`the backup ended before it was measured: ${first.text}`);
    const path = first.location as string;
    const ours = await measure(() => flood(mixedRequests(api, path), REQUESTS));
    const memory = await memoryOf(api);
    const theirs = await measure(() => flood(asAnswered(floor.url), REQUESTS));
    await api.delete(path);
    measured.push({ api: ours, floor: theirs, memory });
    say(`run ${n}: p99 ${ours.p99.toFixed(1)} ms, ${(memory / 1024 ** 2).toFixed(0)} MB`);
  }
  await floor.close();
  await api.service.stop("SIGTERM", 60_000);
  const of = (which: "api" | "floor", figure: keyof Figures) => median(measured.map((one) => one[which][figure]));
  const row = (name: string, which: "api" | "floor") => [
    name,
    of(which, "perSecond").toFixed(0),
    ...(["p50", "p99", "max"] as const).map((figure) => `${of(which, figure).toFixed(1)} ms`),
  ];
  const memories = measured.map(({ memory }) => (memory / 1024 ** 2).toFixed(0));
  return {
    ratios: [{ what: "p99 of backup-api : p99 of a bare HTTP server", value: of("api", "p99") / of("floor", "p99") }],
    tables: [
      {
        head: ["server", "requests in a second", "p50", "p99", "longest"],
        rows: [row("backup-api", "api"), row("node:http that answers {}", "floor")],
      },
    ],
    notes: [
      "20 clients at a time on the same cores; pgBackRest makes a full backup meanwhile; a third of the requests is wrong or malformed",
      `resident memory after each run: ${memories.join(", ")} MB`,
    ],
    raw: measured,
  };
}

/** The same requests, with nothing to be answered. */
function asAnswered(url: string) {
  const client = clientOf(url);
  return mixedRequests(client, "/").map(({ ask }) => ({ status: 200, ask: ask as () => Promise<ApiAnswer> }));
}

async function measure(work: () => Promise<{ latenciesMs: number[]; wrong: string[] }>): Promise<Figures> {
  const startedAt = performance.now();
  const { latenciesMs, wrong } = await work();
  if (wrong.length > 0) throw new Error(`wrong answers: ${wrong.slice(0, 3).join(", ")}`);
  return {
    perSecond: latenciesMs.length / ((performance.now() - startedAt) / 1000),
    p50: percentile(latenciesMs, 0.5),
    p99: percentile(latenciesMs, 0.99),
    max: Math.max(...latenciesMs),
  };
}

async function startFloor(): Promise<{ url: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    request.resume().on("end", () => response.end("{}"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("unreachable");
  return {
    url: `http://127.0.0.1:${address.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
