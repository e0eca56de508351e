/** The restore test as a service would have it: a real Patroni calls both hooks, with an etcd of its own if none is given. */

import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { RestoreError } from "../errors.ts";
import { readKeys, throwawayEtcdArguments, waitForEtcd } from "../io/etcd.ts";
import { exists } from "../io/files.ts";
import { isLeader, readStatus } from "../io/patroni-api.ts";
import { freePorts } from "../io/ports.ts";
import { addFile, processesBelow, startServer } from "../io/throwaway.ts";
import { formatDuration } from "../units.ts";
import { type Ending, judgeEnding } from "./judge.ts";
import { dcsPrefix } from "./layout.ts";
import { renderPatroniConfig } from "./patroni-config.ts";
import { followLog, type LogFollower } from "./progress.ts";
import { type Run, readReport } from "./run.ts";
import { pause } from "./wait.ts";

const POLL_MS = 100;
const ETCD_START_LIMIT_MS = 30_000;
/** Patroni waits for ever for some things, such as a superuser that the backup does not have. */
const IDLE_LIMIT_MS = 15 * 60_000;

/** Returns when the restore is proven and Patroni leads with it; every other ending is thrown. */
export async function runWithPatroni(run: Run): Promise<void> {
  const { layout, user } = run.preparation;
  const [restapiPort = 0, postgresqlPort = 0] = await freePorts(2);
  const etcd = run.etcd ?? (await startEtcd(run));
  const restapiAddress = `127.0.0.1:${restapiPort}`;
  const config = renderPatroniConfig({
    ...run.config,
    etcd,
    restapiAddress,
    restapiPassword: randomBytes(16).toString("hex"),
    postgresqlAddress: `127.0.0.1:${postgresqlPort}`,
  });
  await addFile(layout.patroniConfig, user, config);
  if (run.etcd !== undefined) run.running.givenEtcd = run.etcd;
  run.log.info("patroni", "starting a throwaway Patroni", { scope: layout.scope, restapi: restapiAddress });
  run.signal.throwIfAborted();
  run.running.main = await startServer(run.preparation.patroni ?? "patroni", [layout.patroniConfig], {
    user,
    cwd: layout.directory,
    // Patroni finds Python's modules and PostgreSQL by PATH; its hooks get it too.
    env: { ...run.environment, PATH: `${run.environment.PATH}:${dirname(run.config.node)}` },
    logFile: layout.log,
    survives: run.keep,
  });
  run.running.instance = { server: run.running.main, port: postgresqlPort, superuser: run.config.superuser };
  const follower = followLog(layout.log, run.log, run.logFormat);
  const error = judgeEnding(await follow(run, restapiAddress, etcd, follower));
  if (error !== null) throw error;
}

async function startEtcd(run: Run): Promise<string> {
  const { layout, user, etcd } = run.preparation;
  const [clientPort = 0, peerPort = 0] = await freePorts(2);
  const endpoint = `127.0.0.1:${clientPort}`;
  run.signal.throwIfAborted();
  run.running.etcd = await startServer(etcd ?? "etcd", throwawayEtcdArguments(layout.directory, clientPort, peerPort), {
    user,
    cwd: layout.directory,
    env: run.environment,
    logFile: layout.etcdLog,
    survives: run.keep,
  });
  await waitForEtcd(endpoint, ETCD_START_LIMIT_MS, run.signal);
  return endpoint;
}

async function follow(run: Run, restapi: string, etcd: string, follower: LogFollower): Promise<Ending> {
  const { layout } = run.preparation;
  const { main: patroni, etcd: ownEtcd } = run.running;
  let state = "";
  let busyAt = performance.now();
  for (;;) {
    const exit = patroni?.exit ?? null;
    await follower.update();
    if (exit !== null) return ending(run, "exited", exit, null, follower);
    const status = await readStatus(restapi, run.signal);
    const newState = status === null ? state : `${status.state}, role ${status.role}`;
    if (newState !== state) run.log.info("patroni", newState);
    if (status !== null && (await isLeader(restapi, run.signal))) {
      await follower.update();
      const initialize = (await readKeys(etcd, dcsPrefix(run.preparation.layout), run.signal)).get(
        `${dcsPrefix(layout)}initialize`,
      );
      return ending(run, "leader", null, initialize ?? null, follower);
    }
    if (ownEtcd !== null && ownEtcd.exit !== null) {
      throw new RestoreError("UNVERIFIED", "the throwaway etcd ended, and Patroni cannot go on without", {
        hint: "give a running etcd with --etcd",
      });
    }
    if (newState !== state) busyAt = performance.now();
    state = newState;
    if (performance.now() - busyAt > IDLE_LIMIT_MS) {
      if (await isHookRunning(run)) {
        // It has limits of its own.
        busyAt = performance.now();
        continue;
      }
      throw new RestoreError(
        "TIMED_OUT",
        `Patroni has been in state "${state || "no answer"}" for ${formatDuration(IDLE_LIMIT_MS)} and runs no hook`,
        { hint: "see its log above; a superuser name that the backup does not have makes it wait for ever" },
      );
    }
    await pause(POLL_MS, run.signal);
  }
}

async function isHookRunning({ preparation: { layout } }: Run): Promise<boolean> {
  return (await processesBelow(layout.directory)).some(({ argv }) => argv.includes(layout.script));
}

async function ending(
  run: Run,
  how: Ending["how"],
  exit: Ending["exit"],
  initialize: string | null,
  follower: LogFollower,
): Promise<Ending> {
  const { layout } = run.preparation;
  return {
    how,
    who: "Patroni",
    exit,
    report: await readReport(layout.report),
    isUnproven: await exists(layout.unproven),
    initialize,
    systemIdentifier: run.receipt?.system_identifier ?? null,
    lastLines: follower.lastLines,
  };
}
