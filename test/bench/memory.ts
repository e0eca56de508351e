/** The most that each script holds, with an ordinary service, with very many tables, and with very many databases. */

import { flood, mixedRequests, startBackupApi } from "../lab/backup-api.ts";
import { recordOf, servicesFile, startFleet } from "../lab/fleet/fleet.ts";
import { waitFor } from "../lab/process.ts";
import { backup, createStanza, query, type Source, startSource } from "../lab/source.ts";
import { type Bench, type BenchCase, type BenchResult, connection, DATABASE } from "./case.ts";
import { type Peaks, watchPeaks } from "./peaks.ts";

const LIMIT_MB = 150;
/** For each unit of --scale. */
const TABLES_EACH = 400;
const DATABASES_EACH = 4;
const SERVICES_EACH = 100;
const ROWS_EACH = 200_000;
const REQUESTS = 2000;

export const memoryCase: BenchCase = {
  name: "memory",
  title: "Most resident memory of each script",
  runs: 1,
  run,
};

const SCRIPTS = [
  ...["mark", "preflight", "bootstrap", "restore-test", "verify", "guard", "backup-api", "fleet"],
] as const;

async function run(bench: Bench): Promise<BenchResult> {
  const { scale, say } = bench;
  const peaks = await watchPeaks(bench.lab);
  const columns = new Map<string, Map<string, number>>();
  const note = async (what: string) => {
    columns.set(what, await peaks.read());
    say(`${what}: ${[...(columns.get(what) ?? [])].map(([script, mb]) => `${script} ${mb.toFixed(0)}`).join(", ")} MB`);
  };
  const tables = scale * TABLES_EACH;
  const databases = scale * DATABASES_EACH;
  const services = scale * SERVICES_EACH;

  const ordinary = await start(bench, "ordinary");
  await bench.lab.mustRun("pgbench", ["--initialize", "--quiet", `--scale=${scale}`, ...connection(ordinary.source)]);
  await allOf(bench, ordinary.source, peaks);
  await sidecar(bench, ordinary.source, peaks);
  await fleet(bench, ordinary.source, peaks, 5);
  await note(`${scale * 100_000} rows, 5 services`);
  await fleet(bench, ordinary.source, peaks, services);
  await note(`${services} services`);
  await ordinary.end();

  const long = await start(bench, "rows");
  const rows = scale * ROWS_EACH;
  for (const name of ["one", "two"]) {
    const sql = `CREATE TABLE ${name} AS SELECT g FROM generate_series(1, ${rows}) AS g; ALTER TABLE ${name} ADD PRIMARY KEY (g)`;
    await query(long.source, sql, { database: DATABASE });
  }
  await verify(bench, long.source, peaks, []);
  await note(`2 tables of ${rows} rows`);
  await long.end();

  const wide = await start(bench, "tables");
  await makeTables(bench, wide.source, tables);
  await allOf(bench, wide.source, peaks);
  await note(`${tables} tables`);
  await wide.end();

  const many = await start(bench, "databases");
  await makeTables(bench, many.source, 10);
  for (let n = 1; n < databases; n++) await query(many.source, `CREATE DATABASE d${n} TEMPLATE ${DATABASE}`);
  await allOf(bench, many.source, peaks);
  await note(`${databases} databases`);
  await many.end();

  const most = Math.max(...[...columns.values()].flatMap((column) => [...column.values()]));
  return {
    ratios: [{ what: `most memory of a script : ${LIMIT_MB} MB`, value: most / LIMIT_MB, limit: 1 }],
    tables: [
      {
        head: ["most resident memory, MB", ...columns.keys()],
        rows: SCRIPTS.map((script) => [
          script,
          ...[...columns.values()].map((column) => column.get(script)?.toFixed(0) ?? ""),
        ]),
      },
    ],
    notes: [
      "VmHWM of the Node process itself at its end; guard proves with what is post-bootstrap's whole work; receipts of every block, checks at level full; tables have TOAST and a primary key; " +
        `backup-api answers ${REQUESTS} requests beside a backup, fleet has all its services in a file and paused`,
    ],
    raw: Object.fromEntries([...columns].map(([what, column]) => [what, Object.fromEntries(column)])),
  };
}

async function start({ lab }: Bench, stanza: string): Promise<{ source: Source; end(): Promise<void> }> {
  const { service, ...source } = await startSource(lab, {
    stanza,
    parameters: {
      ...{ shared_buffers: "512MB", max_wal_size: "8GB", checkpoint_timeout: "30min", synchronous_commit: "off" },
      max_locks_per_transaction: 1024,
    },
    pgbackrest: { "repo1-bundle": "y" },
  });
  await createStanza(lab, source);
  await query(source, `CREATE DATABASE ${DATABASE}`);
  return {
    source,
    async end() {
      await service.stop("SIGINT");
      await lab.mustRun("rm", ["-rf", source.dataDir]);
    },
  };
}

/** What they are called is long, so that lists of them are. */
async function makeTables({ signal }: Bench, source: Source, count: number): Promise<void> {
  for (let from = 0; from < count; from += 500) {
    signal.throwIfAborted();
    await query(
      source,
      `DO $$ BEGIN FOR i IN ${from}..${Math.min(from + 500, count) - 1} LOOP
         EXECUTE format('CREATE TABLE a_table_with_a_long_name_%s (id int PRIMARY KEY, name text NOT NULL DEFAULT %L, at timestamptz)', i, 'nobody');
         EXECUTE format('INSERT INTO a_table_with_a_long_name_%s SELECT g FROM generate_series(1, 100) AS g', i);
       END LOOP; END $$`,
      { database: DATABASE },
    );
  }
}

/** Everything that is called for one service. */
async function allOf({ lab, say, signal }: Bench, source: Source, peaks: Peaks): Promise<void> {
  await backup(lab, source, "full");
  const env = {
    NODE_OPTIONS: peaks.nodeOptions,
    RESTORE_MANIFEST_BUDGET: "full",
    RESTORE_MANIFEST_TIMEOUT: "30min",
  };
  const must = async (script: string, args: string[]) => {
    say(`${source.stanza}: ${script}`);
    const result = await lab.runScript(script, args, { env, signal });
    if (result.exitCode !== 0)
      throw new Error(`${script}: exit code ${result.exitCode}\n${result.stderr.slice(-2000)}`);
  };
  const receipt = lab.path(`${source.stanza}-receipt.json`);
  const restore = [
    ...["--receipt", receipt, `--stanza=${source.stanza}`, `--pgbackrest-config=${source.pgbackrestConfig}`],
  ];
  const work = await lab.makeDirectory("work", 0o700);
  await must("mark", ["--source", source.conninfo, "--receipt", receipt]);
  await must("preflight", [...restore, "--scope=nowhere", `--datadir=${work}/nowhere`]);
  await must("restore-test", [...restore, "--runner=direct", "--level=full", `--work-dir=${work}`]);
  await must("bootstrap", [...restore, "--scope=guarded", `--datadir=${work}/data`]);
  await must("guard", [`--datadir=${work}/data`, "--on-unproven=prove", "--level=full"]);
  await verify({ lab, say, signal }, source, peaks, ["--receipt", receipt]);
  await lab.mustRun("rm", ["-rf", work]);
}

/** The source is no restore, so some of what it says is bad; all of it is looked at. */
async function verify(
  { lab, say, signal }: Pick<Bench, "lab" | "say" | "signal">,
  source: Source,
  peaks: Peaks,
  args: readonly string[],
): Promise<void> {
  say(`${source.stanza}: verify`);
  const env = { NODE_OPTIONS: peaks.nodeOptions };
  const all = ["--conninfo", source.conninfo, ...args, "--level=full", "--json"];
  const { exitCode, stdout, stderr } = await lab.runScript("verify", all, { env, signal });
  const looked = JSON.parse(stdout || "{}").checks?.length > 0;
  if (!looked) throw new Error(`verify: exit code ${exitCode}\n${stderr.slice(-2000)}`);
}

async function sidecar({ lab, say }: Bench, source: Source, peaks: Peaks): Promise<void> {
  say("backup-api");
  const api = await startBackupApi(lab, {
    args: [`--stanza=${source.stanza}`, `--pgbackrest-config=${source.pgbackrestConfig}`, "--rate-limit=1000000"],
    env: { NODE_OPTIONS: `--max-old-space-size=64 ${peaks.nodeOptions}` },
  });
  const backup = await api.post("/backups", { type: "full" });
  if (backup.status !== 202) throw new Error(`backup-api: ${backup.text}`);
  await flood(mixedRequests(api, backup.location as string), REQUESTS);
  await api.service.stop("SIGTERM", 60_000);
}

async function fleet({ lab, say }: Bench, source: Source, peaks: Peaks, count: number): Promise<void> {
  say(`fleet of ${count}`);
  await query(source, "CREATE DATABASE fleet").catch(() => {});
  const services = Object.fromEntries(
    Array.from({ length: count }, (_, n) => [
      `a-service-with-a-long-name-${n}`,
      { stanza: `stanza-${n}`, source: `host=server-${n}.example port=5432 user=postgres`, paused: true },
    ]),
  );
  const name = `fleet-${count}`;
  const scheduler = await startFleet(lab, {
    name,
    record: recordOf(source),
    servicesFile: await servicesFile(lab, `${name}.yml`, { services }),
    workDir: await lab.makeDirectory("f", 0o700),
    env: { NODE_OPTIONS: peaks.nodeOptions },
  });
  const known = async () => (await scheduler.get("/services")).json?.services?.length === count;
  await waitFor(`the fleet to know ${count} services`, known, 60_000, () => scheduler.service.log());
  await scheduler.get("/metrics");
  await scheduler.service.stop("SIGTERM", 60_000);
}
