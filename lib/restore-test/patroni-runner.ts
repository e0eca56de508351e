/** The restore test as a service would have it: a real Patroni calls both hooks, with an etcd of its own if none is given. */

import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { RestoreError } from "../errors.ts";
import { readKeys, throwawayEtcdArguments, waitForEtcd } from "../io/etcd.ts";
import { exists } from "../io/files.ts";
import { KEPT_MEMORY } from "../io/memory.ts";
import { readStatus } from "../io/patroni-api.ts";
import { freePorts } from "../io/ports.ts";
import { addFile, processesBelow, standInFor, startServer, watchFile } from "../io/throwaway.ts";
import { formatDuration } from "../units.ts";
import { type Ending, judgeEnding } from "./judge.ts";
import { dcsPrefix } from "./layout.ts";
import { renderPatroniConfig } from "./patroni-config.ts";
import isReadyScript from "./pg_isready.sh?raw";
import type { Preparation } from "./prepare.ts";
import { followLog, type LogFollower } from "./progress.ts";
import { type Run, readReport } from "./run.ts";
import { makeBell } from "./wait.ts";

/**
 * Patroni says in its log what happens, and is asked then. What follows soon after that, without a word, is seen by asking
 * every second; later on, while it waits for a hook, each answer would take its time from the hook.
 */
const ASK_SOON_MS = 1000;
const SOON_MS = 3000;
const ASK_LATER_MS = 10_000;
/** Where nothing tells that the log has grown. */
const LOOK_EVERY_MS = 100;
const ETCD_START_LIMIT_MS = 30_000;
/** Patroni waits for ever for some things, such as a superuser that the backup does not have. */
const IDLE_LIMIT_MS = 15 * 60_000;

/** PostgreSQL's own only: what is in Patroni's environment is in that of the hooks too. */
const keepingMemory = `#!/bin/sh
export ${Object.entries(KEPT_MEMORY)
  .map((entry) => entry.join("="))
  .join(" ")}
exec "\${0%/*}/original/\${0##*/}" "$@"
`;

/** The address of the DCS: the etcd that is given, or one that is started. */
export async function startDcs(
  { layout, user, etcd }: Preparation,
  given: string | undefined,
  options: Pick<Run, "running" | "environment" | "keep" | "signal">,
): Promise<string> {
  if (given !== undefined) return given;
  const { running, environment, keep, signal } = options;
  const [clientPort = 0, peerPort = 0] = await freePorts(2);
  const endpoint = `127.0.0.1:${clientPort}`;
  signal.throwIfAborted();
  running.etcd = await startServer(etcd ?? "etcd", throwawayEtcdArguments(layout.directory, clientPort, peerPort), {
    user,
    cwd: layout.directory,
    env: environment,
    logFile: layout.etcdLog,
    survives: keep,
  });
  await waitForEtcd(endpoint, ETCD_START_LIMIT_MS, signal);
  return endpoint;
}

/** Returns when the restore is proven and Patroni leads with it; every other ending is thrown. */
export async function runWithPatroni(run: Run, dcs: Promise<string>): Promise<void> {
  const { layout, user, binDir } = run.preparation;
  const [restapiPort = 0, postgresqlPort = 0] = await freePorts(2);
  await standInFor(binDir, layout.programs, user, { pg_isready: isReadyScript, postgres: keepingMemory });
  const etcd = await dcs;
  const restapiAddress = `127.0.0.1:${restapiPort}`;
  const config = renderPatroniConfig({
    ...run.config,
    binDir: layout.programs,
    etcd,
    restapiAddress,
    restapiPassword: randomBytes(16).toString("hex"),
    postgresqlAddress: `127.0.0.1:${postgresqlPort}`,
  });
  await addFile(layout.patroniConfig, user, config);
  if (run.etcd !== undefined) run.running.givenEtcd = run.etcd;
  run.log.info("patroni", "starting a throwaway Patroni", { scope: layout.scope, restapi: restapiAddress });
  run.signal.throwIfAborted();
  const bell = makeBell();
  const watch = watchFile(layout.log, bell.ring);
  try {
    run.running.main = await startServer(run.preparation.patroni ?? "patroni", [layout.patroniConfig], {
      user,
      cwd: layout.directory,
      // Patroni finds Python's modules and PostgreSQL by PATH; its hooks get it too.
      env: { ...run.environment, PATH: `${run.environment.PATH}:${dirname(run.config.node)}` },
      logFile: layout.log,
      onExit: bell.ring,
      survives: run.keep,
    });
    run.running.instance = { server: run.running.main, port: postgresqlPort, superuser: run.config.superuser };
    const follower = followLog(layout.log, run.log, run.logFormat);
    const nap = () => bell.wait(watch.isWatched ? ASK_SOON_MS : LOOK_EVERY_MS, run.signal);
    const error = judgeEnding(await follow(run, restapiAddress, etcd, follower, nap));
    if (error !== null) throw error;
  } finally {
    watch.stop();
  }
}

async function follow(
  run: Run,
  restapi: string,
  etcd: string,
  follower: LogFollower,
  nap: () => Promise<void>,
): Promise<Ending> {
  const { layout } = run.preparation;
  const { main: patroni, etcd: ownEtcd } = run.running;
  let state = "";
  let busyAt = performance.now();
  let askedAt = Number.NEGATIVE_INFINITY;
  // Of a Patroni that logs elsewhere, by the operator's own template, nothing is ever heard.
  let spokenAt = Number.POSITIVE_INFINITY;
  for (;;) {
    const exit = patroni?.exit ?? null;
    const hasSpoken = await follower.update();
    if (exit !== null) return ending(run, "exited", exit, null, follower);
    if (ownEtcd !== null && ownEtcd.exit !== null) {
      throw new RestoreError("UNVERIFIED", "the throwaway etcd ended, and Patroni cannot go on without", {
        hint: "give a running etcd with --etcd",
      });
    }
    const now = performance.now();
    if (hasSpoken) spokenAt = now;
    const isDue = hasSpoken || now - askedAt >= (now - spokenAt < SOON_MS ? ASK_SOON_MS : ASK_LATER_MS);
    if (!isDue) {
      await nap();
      continue;
    }
    askedAt = now;
    const status = await readStatus(restapi, run.signal);
    const newState = status === null ? state : `${status.state}, role ${status.role}`;
    if (newState !== state) run.log.info("patroni", newState);
    if (status?.isLeader === true) {
      await follower.update();
      const initialize = (await readKeys(etcd, dcsPrefix(run.preparation.layout), run.signal)).get(
        `${dcsPrefix(layout)}initialize`,
      );
      return ending(run, "leader", null, initialize ?? null, follower);
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
    await nap();
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
