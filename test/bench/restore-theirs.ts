/** The ways to restore that there are without us, each as its users run it, and the floor below which nobody gets. */

import { readFile } from "node:fs/promises";
import { stringify } from "yaml";
import { KEPT_MEMORY } from "../../lib/io/memory.ts";
import type { Etcd } from "../lab/etcd.ts";
import { askPatroni, startPatroni } from "../lab/patroni.ts";
import { startCommand, waitFor } from "../lab/process.ts";
import type { Bench } from "./case.ts";
import type { Restorable } from "./restorable.ts";
import { settle } from "./restore-ours.ts";

export interface TheirRun {
  seconds: number;
  /** By step, in milliseconds; together `seconds`. */
  steps: Record<string, number>;
  /** What it would also have slept. */
  sleepSeconds: number;
}

export const PROCESS_MAX = 2;

/** Takes the time between two calls. */
function stopwatch() {
  const steps: Record<string, number> = {};
  const startedAt = performance.now();
  let since = startedAt;
  return {
    steps,
    done(step: string) {
      const now = performance.now();
      steps[step] = (steps[step] ?? 0) + now - since;
      since = now;
      return steps[step];
    },
    seconds: () => (since - startedAt) / 1000,
  };
}

/** A pause before it overwrites the directory, in case that was a mistake. */
const AUTO_FIRST_SLEEP = 30;
/** Between two questions whether recovery is over. */
const AUTO_POLL = 10;

/** It asks at once and then every ten seconds. */
const autoSleeps = (recoverySeconds: number, askedAgain: boolean) =>
  AUTO_FIRST_SLEEP + (askedAgain ? AUTO_POLL * Math.ceil(recoverySeconds / AUTO_POLL) - recoverySeconds : 0);

/**
 * What pgbackrest_auto 1.6 does with `--checkdb`: the same programs with the same arguments, one after the other. Where it
 * sleeps this asks again at once, and counts what it would have slept. It gets the faster of its two ways for each step: with
 * one process it dumps to /dev/null, with more it compresses a dump into files, which takes longer.
 */
export async function autoSteps(bench: Bench, { source, receipt }: Restorable): Promise<TheirRun> {
  const { lab, signal } = bench;
  const parent = await lab.makeDirectory("auto", 0o700);
  const datadir = `${parent}/data`;
  const port = String(await lab.freePort());
  const run = (file: string, ...args: string[]) => lab.mustRun(file, args, { signal });
  const psql = async (sql: string, ...args: string[]) =>
    (await run("psql", "-p", port, "-h", "127.0.0.1", ...args, "-tAXc", sql)).stdout.trim();
  const start = () => run("pg_ctl", "-o", `-p ${port}`, "-l", "/dev/null", "start", "-D", datadir, "-w", "-t", "36000");
  const stop = () => run("pg_ctl", "stop", "-D", datadir, "-m", "fast", "-w", "-t", "1800");
  await settle(lab);
  const watch = stopwatch();

  await run("mkdir", "-p", datadir, `${datadir}_remapped_tablespaces`);
  await run(
    "pgbackrest",
    `--config=${source.pgbackrestConfig}`,
    `--stanza=${source.stanza}`,
    `--pg1-path=${datadir}`,
    "--type=time",
    `--target=${receipt.target.time}`,
    "--delta",
    "restore",
    `--process-max=${PROCESS_MAX}`,
    "--log-level-console=error",
    "--log-level-file=detail",
    "--recovery-option=recovery_target_action=promote",
    `--tablespace-map-all=${datadir}_remapped_tablespaces`,
  );
  watch.done("restore");
  const control = (await run("pg_controldata", datadir)).stdout;
  const needed = {
    max_connections: /max_connections setting:\s+(\d+)/,
    max_worker_processes: /max_worker_processes setting:\s+(\d+)/,
    max_prepared_transactions: /max_prepared_xacts setting:\s+(\d+)/,
    max_locks_per_transaction: /max_locks_per_xact setting:\s+(\d+)/,
  };
  const settings = Object.entries(needed).map(([name, pattern]) => `${name} = ${pattern.exec(control)?.[1]}`);
  await lab.writeFile("auto/data/pg_hba.conf", "host all all 127.0.0.1/32 trust\n", 0o600);
  const lines = ["listen_addresses = '127.0.0.1'", ...settings];
  await lab.writeFile("auto/data/postgresql.conf", `${lines.join("\n")}\n`, 0o600);
  await start();
  let asked = 0;
  const askedFrom = performance.now();
  await waitFor(
    "recovery to end",
    async () => {
      asked++;
      return (await psql("SELECT pg_is_in_recovery()")) === "f";
    },
    600_000,
  );
  const recovering = (performance.now() - askedFrom) / 1000;
  watch.done("recovery");
  await stop();
  await run("pg_checksums", "-c", "-D", datadir);
  watch.done("pg_checksums, with the stop before");
  await start();
  const databases = (await psql("SELECT datname FROM pg_database WHERE NOT datistemplate")).split("\n");
  for (const database of databases)
    await run("pg_dump", "-p", port, "-h", "127.0.0.1", "-d", database, "-f", "/dev/null");
  watch.done("pg_dump, with the start before");
  for (const database of databases) {
    await psql("CREATE EXTENSION IF NOT EXISTS amcheck", "-d", database);
    const depth = ["--parent-check", "--heapallindexed", `--jobs=${PROCESS_MAX}`];
    await run("pg_amcheck", "-p", port, "-h", "127.0.0.1", "-d", database, ...depth);
  }
  watch.done("pg_amcheck");
  const result = { seconds: watch.seconds(), steps: watch.steps, sleepSeconds: autoSleeps(recovering, asked > 1) };
  await stop();
  await run("rm", "-rf", parent);
  return result;
}

/** The script itself, with a `sleep` that returns almost at once. */
export async function autoScript(bench: Bench, { source, receipt }: Restorable, script: string): Promise<TheirRun> {
  const { lab, signal } = bench;
  const parent = await lab.makeDirectory("auto", 0o700);
  const datadir = `${parent}/data`;
  const programs = await lab.makeDirectory("auto/programs");
  await lab.writeFile("auto/programs/sleep", "#!/bin/sh\nexec /bin/sleep 0.05\n", 0o755);
  await lab.writeFile("auto/programs/pgbackrest_auto", await readFile(script, "utf8"), 0o755);
  await settle(lab);
  const steps: [name: string, at: number][] = [];
  let polls = 0;
  let recoveringFrom = 0;
  const startedAt = performance.now();
  const ended = await lab.run(
    `${programs}/pgbackrest_auto`,
    [
      `--from=${source.stanza}`,
      `--to=${datadir}`,
      "--recovery-type=time",
      `--recovery-target=${receipt.target.time}`,
      `--config=${source.pgbackrestConfig}`,
      `--process-max=${PROCESS_MAX}`,
      "--checkdb",
    ],
    {
      signal,
      env: { PATH: `${programs}:${lab.env.PATH}`, PGBACKREST_CONFIG: source.pgbackrestConfig },
      onOutput(text) {
        for (const [, step] of text.matchAll(/\[STEP \d+\]: (.+)/g)) steps.push([step as string, performance.now()]);
        polls += [...text.matchAll(/Checking if restoring from archive is done/g)].length;
        if (polls > 0 && recoveringFrom === 0) recoveringFrom = performance.now();
      },
    },
  );
  const endedAt = performance.now();
  const after = steps.find(([, at]) => at > recoveringFrom)?.[1] ?? endedAt;
  await lab.run("pg_ctl", ["stop", "-D", datadir, "-m", "fast", "-w"]);
  await lab.mustRun("rm", ["-rf", parent]);
  const left = ["log", "status"].map((kind) => `/var/log/pgbackrest/pgbackrest_auto_${source.stanza}.${kind}`);
  const inTmp = [`/tmp/pgbackrest_auto_${source.stanza}.lock`, `/tmp/pgbackrest_auto_pg_start_${source.stanza}.log`];
  await lab.mustRun("rm", ["-f", ...left, ...inTmp]);
  if (ended.exitCode !== 0 || /ERROR|- Failed/.test(ended.stdout)) {
    throw new Error(`${script}: exit code ${ended.exitCode}\n${ended.stdout}${ended.stderr}`);
  }
  return {
    seconds: (endedAt - startedAt) / 1000,
    steps: Object.fromEntries(steps.map(([name, at], n) => [name, (steps[n + 1]?.[1] ?? endedAt) - at])),
    sleepSeconds: autoSleeps((after - recoveringFrom) / 1000, polls > 1),
  };
}

let runs = 0;

/**
 * Patroni with a shell script: `pgbackrest restore`, recovery by the PostgreSQL that Patroni starts, with the
 * `restore_command` (archive-get) that pgBackRest writes, and `pg_dump --schema-only` of every database as post_bootstrap.
 * Patroni's own intervals are those of our template. Ends when Patroni is the leader; with `untilPromoted` at the end of
 * recovery.
 */
export async function shellWithPatroni(
  bench: Bench,
  { source, receipt }: Pick<Restorable, "source" | "receipt">,
  etcd: Etcd,
  untilPromoted = false,
): Promise<TheirRun & { recoverySeconds: number }> {
  const { lab } = bench;
  const number = ++runs;
  const parent = await lab.makeDirectory("shell", 0o700);
  const socketDir = await lab.makeDirectory("shell/s", 0o700);
  const restore = await lab.writeFile("shell/restore.sh", restoreScript(source, receipt.target.time), 0o755);
  const check = await lab.writeFile("shell/check.sh", CHECK_SCRIPT, 0o755);
  const restPort = await lab.freePort();
  const port = await lab.freePort();
  const config = await lab.writeFile(
    "shell/patroni.yml",
    stringify({
      scope: `shell-${number}`,
      name: `shell-${number}`,
      restapi: { listen: `127.0.0.1:${restPort}`, connect_address: `127.0.0.1:${restPort}` },
      etcd3: { hosts: etcd.endpoint },
      bootstrap: {
        dcs: { loop_wait: 2, retry_timeout: 120, ttl: 300, postgresql: { use_pg_rewind: false } },
        method: "pgbackrest",
        pgbackrest: { command: restore, keep_existing_recovery_conf: true },
        post_bootstrap: check,
      },
      postgresql: {
        listen: `127.0.0.1:${port}`,
        connect_address: `127.0.0.1:${port}`,
        data_dir: `${parent}/data`,
        bin_dir: lab.binDir,
        pgpass: `${parent}/pgpass`,
        authentication: { superuser: { username: "postgres" }, replication: { username: "postgres" } },
        parameters: { unix_socket_directories: socketDir, log_line_prefix: "%m [%p] ", log_timezone: "UTC" },
        pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
      },
      watchdog: { mode: "off" },
    }),
  );
  await settle(lab);
  const launchedAt = Date.now();
  const patroni = startPatroni(lab, config, { name: `shell-${number}` });
  const log = () => patroni.log();
  const isDone = async () => {
    if (!patroni.isRunning()) throw new Error(`Patroni ended:\n${(await log()).slice(-3000)}`);
    if (untilPromoted) return recoveryIn(await log()) !== undefined;
    return (await askPatroni(restPort, "/primary"))?.status === 200;
  };
  await waitFor("Patroni to be the leader", isDone, 600_000, log, 20);
  const endedAt = Date.now();
  const { from = Number.NaN, to = Number.NaN } = recoveryIn(await log()) ?? {};
  await patroni.stop("SIGINT");
  await lab.mustRun("rm", ["-rf", parent]);
  return {
    seconds: (endedAt - launchedAt) / 1000,
    steps: {
      "Patroni's start and restore": from - launchedAt,
      "recovery by PostgreSQL": to - from,
      "Patroni's restart, pg_dump -s, leader": endedAt - to,
    },
    sleepSeconds: 0,
    recoverySeconds: (to - from) / 1000,
  };
}

const restoreScript = (source: Restorable["source"], target: string) => `#!/bin/bash
set -e
for argument; do case $argument in --datadir=*) datadir=\${argument#*=} ;; esac; done
exec pgbackrest --config=${source.pgbackrestConfig} --stanza=${source.stanza} --pg1-path="$datadir" \\
  --type=time --target='${target}' --target-action=promote --archive-mode=off --process-max=${PROCESS_MAX} restore
`;

const CHECK_SCRIPT = `#!/bin/bash
set -e
for database in $(psql -AtXc "SELECT datname FROM pg_database WHERE datallowconn" "$1"); do
  pg_dump --schema-only --file=/dev/null --dbname="$1 dbname=$database"
done
pg_dumpall --globals-only --dbname="$1" > /dev/null
`;

/** From the postmaster's first line to the first one that says it is promoted. */
function recoveryIn(log: string): { from: number; to: number } | undefined {
  const at = (pattern: RegExp) => {
    const [, day, time] = new RegExp(`^(\\S+) (\\S+) UTC \\[\\d+\\] LOG:  ${pattern.source}`, "m").exec(log) ?? [];
    return day === undefined ? undefined : Date.parse(`${day}T${time}Z`);
  };
  const from = at(/starting PostgreSQL/);
  const to = at(/database system is ready to accept connections/);
  return from === undefined || to === undefined ? undefined : { from, to };
}

export interface Floor {
  restore: number;
  recovery: number;
  stop: number;
  checksums: number;
  sync: number;
}

/**
 * Every setting that makes recovery of an instance that nobody keeps faster: nothing is flushed to the disk, there is no
 * checkpoint before the end, nobody reads meanwhile, and another process writes what replay leaves in few buffers.
 */
const FLOOR_SETTINGS = {
  fsync: "off",
  full_page_writes: "off",
  recovery_prefetch: "off",
  hot_standby: "off",
  autovacuum: "off",
  checkpoint_timeout: "1d",
  max_wal_size: "1TB",
  wal_recycle: "off",
  shared_buffers: "64MB",
  bgwriter_delay: "10ms",
  bgwriter_lru_maxpages: "1073741823",
  bgwriter_lru_multiplier: "10",
  bgwriter_flush_after: "0",
  checkpoint_flush_after: "0",
  archive_mode: "off",
  listen_addresses: "",
  // Recovery demands one; every segment is in pg_wal.
  restore_command: "exit 1",
};

/**
 * The least that has to be done, by a careful person at a terminal who knows everything beforehand and loses no time between
 * two commands: `pgbackrest restore`; then all WAL is laid into pg_wal (not counted); then recovery, promotion and a fast
 * stop of a PostgreSQL with the best settings for a directory that nobody uses before the end; then, each counted apart,
 * pg_checksums and the flush of what recovery wrote.
 */
export async function floor({ lab, signal }: Bench, { source, receipt, segments }: Restorable): Promise<Floor> {
  const parent = await lab.makeDirectory("floor", 0o700);
  const datadir = `${parent}/data`;
  await lab.makeDirectory("floor/data", 0o700);
  await settle(lab);
  const { durationMs: restore } = await lab.mustRun("pgbackrest", [
    `--config=${source.pgbackrestConfig}`,
    `--stanza=${source.stanza}`,
    `--pg1-path=${datadir}`,
    "--type=time",
    `--target=${receipt.target.time}`,
    "--target-action=promote",
    "--archive-mode=off",
    "--buffer-size=64KiB", // as bootstrap has it, for the recovery
    `--process-max=${PROCESS_MAX}`,
    "restore",
  ]);
  for (const segment of segments) {
    const command = [`--config=${source.pgbackrestConfig}`, `--stanza=${source.stanza}`, `--pg1-path=${datadir}`];
    await lab.mustRun("pgbackrest", [...command, "archive-get", segment, `${datadir}/pg_wal/${segment}`]);
  }
  await settle(lab);

  const settings = Object.entries({ ...FLOOR_SETTINGS, unix_socket_directories: parent });
  const args = ["-D", datadir, ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])];
  const startedAt = performance.now();
  let isPromoted = () => {};
  const promoted = new Promise<void>((resolve) => {
    isPromoted = resolve;
  });
  const server = startCommand("postgres", args, {
    cwd: lab.dir,
    env: { ...lab.env, ...KEPT_MEMORY },
    signal,
    onOutput: (text) => text.includes("database system is ready to accept connections") && isPromoted(),
  });
  await Promise.race([promoted, server.result]);
  const promotedAt = performance.now();
  server.kill("SIGINT");
  const ended = await server.result;
  const stoppedAt = performance.now();
  if (ended.exitCode !== 0) throw new Error(`the floor's PostgreSQL: exit code ${ended.exitCode}\n${ended.stderr}`);
  const { durationMs: checksums } = await lab.mustRun("pg_checksums", ["--check", "-D", datadir]);
  const { durationMs: sync } = await lab.mustRun("initdb", ["--sync-only", "-D", datadir]);
  await lab.mustRun("rm", ["-rf", parent]);
  return { restore, recovery: promotedAt - startedAt, stop: stoppedAt - promotedAt, checksums, sync };
}
