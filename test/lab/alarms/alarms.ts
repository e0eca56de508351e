/**
 * `npm run alarms`: restores of a service that is changed in every way while it is marked. Each one is sound, so each one
 * must be called healthy; anything else is a false alarm, and its evidence is kept.
 */

import { setMaxListeners } from "node:events";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { assertNothingRuns, type Lab, openLab } from "../lab.ts";
import { useFastestPlace } from "../place.ts";
import { type Service, waitFor } from "../process.ts";
import {
  APP_DATABASE,
  backup,
  createStanza,
  launchPostgres,
  loadSchema,
  psql,
  query,
  type Source,
  startSource,
  value,
} from "../source.ts";
import { SESSIONS } from "./deeds.ts";
import { type Load, startLoad } from "./load.ts";
import { randomFrom } from "./random.ts";
import { mark, type Round, restoreAndProve } from "./round.ts";

const USAGE = `npm run alarms -- [--restores N] [--seed S] [--jobs N] [--no-failover]
  --restores N   how many restores (50)
  --seed S       repeats the choices of an earlier run (a new one each time)
  --jobs N       restores at the same time (2)`;

const { values } = parseArgs({
  options: {
    restores: { type: "string", default: "50" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    jobs: { type: "string", default: "2" },
    "no-failover": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}

const RESTORES = Number(values.restores);
const JOBS = Number(values.jobs);
const SEED = Number(values.seed);
const EVIDENCE = fileURLToPath(new URL("../../evidence/alarms", import.meta.url));

/** Rounds from one to the next. Recovery from an old backup would take longer than the restore of it. */
const BACKUP_EVERY = 5;
const FAILOVER_EVERY = 10;

// Recovery syncs at every DROP.
await useFastestPlace();

const stop = new AbortController();
// Every session and every script listens.
setMaxListeners(0, stop.signal);
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => stop.abort(name));

async function main(): Promise<number> {
  const started = Date.now();
  await rm(EVIDENCE, { recursive: true, force: true });
  await mkdir(EVIDENCE, { recursive: true });
  console.log(`seed ${SEED}, ${RESTORES} restores, ${JOBS} at a time`);
  const lab = await openLab("alarms");
  try {
    const { rounds, load } = await laboratory(lab);
    await lab.close();
    assertNothingRuns(lab);
    const seconds = Math.round((Date.now() - started) / 1000);
    const summary = summarise(rounds, load, seconds);
    await writeFile(join(EVIDENCE, "summary.json"), `${JSON.stringify({ seed: SEED, seconds, rounds }, null, 2)}\n`);
    console.log(summary);
    return rounds.length === RESTORES && rounds.every((round) => round.healthy) ? 0 : 1;
  } catch (error) {
    console.error(error instanceof Error ? error.stack : error);
    await lab.keepEvidence("alarms-lab").then(
      (path) => console.error(`logs are kept in ${path}`),
      () => {},
    );
    return 1;
  } finally {
    await lab.close();
  }
}

interface Busy {
  source: Source;
  service: Service;
}

async function laboratory(lab: Lab): Promise<{ rounds: Round[]; load: Load }> {
  const random = randomFrom(SEED);
  const { service, ...source } = await startSource(lab, {
    stanza: "busy",
    pgbackrest: { "repo1-bundle": "y" },
    parameters: {
      max_prepared_transactions: 20,
      wal_compression: "lz4",
      track_commit_timestamp: "on",
      autovacuum_naptime: "1s",
      wal_level: "logical",
      log_min_messages: "warning",
      deadlock_timeout: "200ms",
    },
  });
  const busy: Busy = { source, service };
  setPriority(service.pid, 5);
  await loadSchema(lab, source, { tablespace: true });
  await psql(lab, source, APP_DATABASE, await readFile(new URL("stage.sql", import.meta.url), "utf8"));
  await createStanza(lab, source);
  await backup(lab, source, "full");
  await lab.makeDirectory("receipts");
  const load = startLoad(source, SESSIONS, random.fork("load"));
  let pgbench = startPgbench(lab, source);
  const rounds: Round[] = [];
  let next = 1;
  let turn: Promise<unknown> = Promise.resolve();

  /** What happens on the source between restores, one thing after the other. */
  function onSource<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => {});
    return mine;
  }

  async function prepare(number: number): Promise<void> {
    if (number % FAILOVER_EVERY === FAILOVER_EVERY / 2 && !values["no-failover"]) {
      await pgbench.stop("SIGINT");
      await failover(lab, busy, random.chance(0.5));
      pgbench = startPgbench(lab, source);
    } else if (number % BACKUP_EVERY === 1 && number > 1) {
      // A promotion reaches pg_control with the next checkpoint only, and pgBackRest (error 58) wants its timeline there.
      await query(source, "CHECKPOINT");
      await backup(lab, source, random.pick(["full", "diff", "incr"]));
    }
    if (!pgbench.isRunning()) pgbench = startPgbench(lab, source);
    await sleep(random.int(0, 1500));
  }

  async function worker(): Promise<void> {
    while (next <= RESTORES && !stop.signal.aborted) {
      const number = next++;
      const marked = await onSource(async () => {
        await prepare(number);
        return mark(lab, source, number, random, stop.signal);
      });
      const round = await restoreAndProve(lab, source, marked, EVIDENCE, stop.signal);
      if (stop.signal.aborted) return;
      rounds.push(round);
      console.log(describe(round));
    }
  }

  try {
    await Promise.all(Array.from({ length: JOBS }, worker));
  } finally {
    await load.stop();
    await pgbench.stop("SIGINT");
  }
  return { rounds, load };
}

function startPgbench(lab: Lab, source: Source): Service {
  return lab.startService("pgbench", "pgbench", [
    "--no-vacuum",
    "--client=2",
    "--time=86400",
    "--progress=10",
    `--host=127.0.0.1`,
    `--port=${source.port}`,
    "--username=postgres",
    APP_DATABASE,
  ]);
}

/** As a standby would take over: the history goes on where the WAL ends, on a new timeline. */
async function failover(lab: Lab, busy: Busy, crash: boolean): Promise<void> {
  await busy.service.stop(crash ? "SIGQUIT" : "SIGINT", 60_000);
  await lab.writeFile(`${busy.source.stanza}/data/standby.signal`, "", 0o600);
  const service = launchPostgres(lab, busy.source);
  busy.service = service;
  setPriority(service.pid, 5);
  // From outside: too many subtransactions, and a standby to which nobody sends any more takes no connection at all.
  const isPromoted = async () => {
    if (!service.isRunning()) throw new Error(`PostgreSQL ended:\n${await service.log()}`);
    await lab.run("pg_ctl", ["promote", "--no-wait", "-D", busy.source.dataDir]);
    return value(busy.source, "SELECT pg_is_in_recovery()::text").then(
      (standby) => standby === "false",
      () => false,
    );
  };
  await waitFor("the standby's promotion", isPromoted, 120_000, () => service.log());
  // The load may have been about to bring it back.
  await query(busy.source, "ALTER SYSTEM RESET synchronous_standby_names");
  await query(busy.source, "SELECT pg_reload_conf()");
}

function describe(round: Round): string {
  const { mark, restore, prove } = round.seconds;
  const times = `mark ${mark.toFixed(1)} s, restore ${restore.toFixed(1)} s, prove ${prove.toFixed(1)} s`;
  const line = `${String(round.number).padStart(3)}  timeline ${round.timeline ?? "?"}  ${times}  ${coverageOf([round])} ${round.settings.join(" ")}`;
  if (round.healthy) return `${line}  healthy`;
  const findings = round.findings.map((finding) => `       ${finding}`).join("\n");
  return `${line}  FALSE ALARM (${round.failedIn}, exit code ${round.exitCode})\n${findings}\n       ${round.evidence}`;
}

/** Of the report's coverage, what was compared with the source and what was in motion there. */
const COVERAGE: readonly [key: string, words: string][] = [
  ["manifest.objects", "objects equal"],
  ["manifest.moved", "in motion"],
  ["sequence-values.sequences", "sequences"],
  ["sequence-values.moved", "in motion"],
  ["table-data.compared_ranges", "block ranges equal"],
  ["table-data.compared_rows", "rows in them"],
  ["table-data.moved_ranges", "ranges in motion"],
  ["table-data.rows", "rows read"],
];

function coverageOf(rounds: readonly Round[]): string {
  const sum = (key: string) => rounds.reduce((total, { coverage }) => total + (coverage[key] ?? 0), 0);
  return COVERAGE.map(([key, words]) => `${sum(key)} ${words}`).join(", ");
}

function summarise(rounds: readonly Round[], load: Load, seconds: number): string {
  const alarms = rounds.filter((round) => !round.healthy);
  const lines = ["", "What the load did (failed attempts are part of it: locks, deadlocks, things that were gone):"];
  for (const [name, { done, failed, errors }] of [...load.tally].sort()) {
    const states = [...errors].map(([state, message]) => `${state} ${message.slice(0, 70)}`).join("; ");
    lines.push(`  ${name.padEnd(45)} ${String(done).padStart(6)} ${String(failed).padStart(5)}  ${states}`);
  }
  const warnings = new Map<string, number>();
  for (const warning of rounds.flatMap((round) => round.warnings.map((w) => w.split(":")[0] ?? w))) {
    warnings.set(warning, (warnings.get(warning) ?? 0) + 1);
  }
  lines.push("", `warnings: ${[...warnings].map(([id, n]) => `${id} in ${n}`).join(", ") || "none"}`);
  lines.push(`coverage of all: ${coverageOf(rounds)}`);
  const timelines = new Set(rounds.map((round) => round.timeline)).size;
  lines.push(
    `${rounds.length - alarms.length} of ${rounds.length} restores healthy, ${alarms.length} false alarms, ` +
      `${timelines} timelines, ${seconds} s, seed ${SEED}`,
  );
  return lines.join("\n");
}

process.exit(await main());
