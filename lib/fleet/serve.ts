/** `fleet run`: everything of the scheduler put together, from the first line of its log to the clean end. */

import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { combineProblems, messageOf, RestoreError } from "../errors.ts";
import { openTokens, tlsFiles } from "../http/credentials.ts";
import { formatListen, listenProblems } from "../http/listen.ts";
import { exists } from "../io/files.ts";
import { startHttpServer } from "../io/http-server.ts";
import type { Log } from "../log.ts";
import type { Settings } from "../options.ts";
import { type Conninfo, parseConninfo } from "../postgres/conninfo.ts";
import type { Limits } from "./decide.ts";
import { markService } from "./mark.ts";
import { openStore } from "./record/open.ts";
import type { Runner, Watch } from "./runner.ts";
import { createScheduler } from "./scheduler.ts";
import type { Policy } from "./service.ts";
import { createFleet } from "./state.ts";
import type { FleetView } from "./view.ts";
import { createFleetMetrics } from "./web/metrics.ts";
import { createFleetApp } from "./web/routes.ts";

export const FLEET_RUN_OPTIONS = [
  "services",
  "namespaces",
  "selector",
  "scopeLabel",
  "watch",
  "sourceTemplate",
  "stanzaTemplate",
  "testTemplate",
  "testNamespace",
  "record",
  "keepHistory",
  "keepReports",
  "interval",
  "jitter",
  "windows",
  "afterBackups",
  "maxTests",
  "maxTestsPerNamespace",
  "maxTestsPer",
  "maxWeight",
  "pauseFile",
  "deadline",
  "keepFailed",
  "workDir",
  "listen",
  "tokenFile",
  "tlsCertFile",
  "tlsKeyFile",
  "insecure",
  "rateLimit",
] as const;
export type FleetRunSettings = Settings<(typeof FLEET_RUN_OPTIONS)[number]>;

/** What tests the services: this machine's processes, or a cluster's. */
export interface Place {
  watch: Watch;
  runner: Runner;
}

export interface ServeFleetOptions {
  settings: FleetRunSettings;
  place(policy: Policy): Promise<Place>;
  /** `mark.mjs`, beside this script. */
  markScript: string;
  /** Without the fleet's own settings. */
  environment: NodeJS.ProcessEnv;
  version: string;
  log: Log;
  /** Aborted by SIGTERM or SIGINT. */
  signal: AbortSignal;
}

const ROUND_MS = 1000;
const NOT_WATCHING = "the services and their tests have not been looked at yet";

/** For tests that are being marked, status changes that are recorded, and those who wait for an answer. */
const STOP_LIMIT_MS = 5000;
export const FLEET_END_LIMIT_MS = 2 * STOP_LIMIT_MS;

/** Returns when the signal was aborted and everything of this process has ended; tests that run go on. Throws SETTINGS_INVALID. */
export async function serveFleet(options: ServeFleetOptions): Promise<void> {
  const { settings, log, signal } = options;
  const { listen, insecure } = settings;
  const tokens = openTokens(settings.tokenFile, "fleet", log);
  const tls = tlsFiles(settings);
  const problems = listenProblems(listen, { hasToken: tokens !== null, hasTls: tls !== null, isInsecure: insecure });
  if (problems.length > 0) throw combineProblems("SETTINGS_INVALID", problems);
  const conninfo = recordOf(settings);
  const { watch, runner } = await options.place(policyOf(settings));

  // Ends what waits; a status change that is being recorded has a time of its own.
  const ending = new AbortController();
  const name = process.env.POD_NAME ?? `${hostname()}:${process.pid}`;
  let isPaused = await pauseWanted(settings);
  const limits = () => limitsOf(settings, isPaused);
  const fleet = createFleet(limits);
  const store = await openStore({
    conninfo,
    scheduler: name,
    retention: { reportsMs: settings.keepReports, historyMs: settings.keepHistory },
    log,
  });
  let telling: NodeJS.Timeout | undefined;
  try {
    let isWatching = false;
    const view = (): FleetView => ({
      services: fleet.views(new Date()),
      isPaused,
      leads: store.leads(),
      problems: [isWatching ? null : NOT_WATCHING, store.problem(), watch.problem(), runner.problem()].filter(
        (problem) => problem !== null,
      ),
      pending: store.pending(),
    });
    const metrics = createFleetMetrics({ view, version: options.version });
    let counted = fleet.counters();
    const showMetrics = () => {
      const now = fleet.counters();
      metrics.decided("due", now.due - counted.due);
      metrics.decided("not due", now.notDue - counted.notDue);
      counted = now;
      return metrics.text();
    };
    const scheduler = createScheduler({
      ...{ fleet, store, runner, limits, name, log },
      onEnd: (outcome) => metrics.ended(outcome),
      deadlineMs: settings.deadline,
      keepFailed: settings.keepFailed,
      mark: (_test, service, testSignal) =>
        markService(service, { script: options.markScript, environment: options.environment, signal: testSignal }),
    });
    const app = createFleetApp({
      api: {
        view,
        history: {
          tests: (service, limit) => answered(store.tests(service, limit)),
          test: (id) => answered(store.test(id)),
        },
        want: (service, by) => answered(store.want(service, by)),
        countBackup: (service, label) => answered(store.countBackup(service, label)),
        explain: (service) => explain(fleet.get(service)?.decision.reason),
        metrics: showMetrics,
      },
      tokens,
      rateLimit: settings.rateLimit,
      version: options.version,
      log,
    });
    const onTlsProblem = (message: string) => log.error("http", message);
    const server = await startHttpServer({ listen, tls, handle: app, onTlsProblem });
    const address = formatListen({ ...listen, port: server.port });
    log.info("http", `listens on ${tls === null ? "http" : "https"}://${address}`, { scheduler: name });

    const tellWatch = problemTeller(log, "watch", watch.problem);
    const tellRunner = problemTeller(log, "runner", runner.problem);
    telling = setInterval(() => {
      tellWatch();
      tellRunner();
    }, ROUND_MS);

    let wake = () => {};
    const look = async () => {
      await runner.watch((observation) => {
        scheduler.observe(observation);
        wake();
      }, ending.signal);
      await watch.start(
        { update: (service) => fleet.update(service, new Date()), remove: (id) => fleet.remove(id) },
        ending.signal,
      );
      if (signal.aborted) return;
      isWatching = true;
      log.info("watch", `${fleet.size()} services`);
    };
    // At once, whatever a round or the first look waits for.
    const onSignal = new Promise<void>((resolve) => {
      const tell = () => {
        scheduler.announceStop();
        resolve();
      };
      if (signal.aborted) tell();
      else signal.addEventListener("abort", tell, { once: true });
    });
    await Promise.race([look(), onSignal]);
    while (!signal.aborted) {
      isPaused = await pauseWanted(settings, isPaused, log);
      await scheduler.round();
      await Promise.race([
        sleep(ROUND_MS, undefined, { signal }).catch(() => {}),
        new Promise<void>((resolve) => {
          wake = resolve;
        }),
      ]);
    }
    await scheduler.stop(STOP_LIMIT_MS);
    ending.abort(signal.reason);
    await server.close(STOP_LIMIT_MS);
  } finally {
    clearInterval(telling);
    ending.abort(signal.reason);
    await store.close();
  }
}

function recordOf({ record = "" }: FleetRunSettings): Conninfo {
  try {
    return parseConninfo(record);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `--record: ${messageOf(error)}`, {
      hint: "it is a connection string of libpq, such as dbname=fleet",
    });
  }
}

function policyOf(settings: FleetRunSettings): Policy {
  return {
    intervalMs: settings.interval,
    jitterMs: settings.jitter,
    windows: settings.windows ?? [],
    afterBackups: settings.afterBackups ?? null,
    isPaused: false,
    weight: 1,
  };
}

const limitsOf = (settings: FleetRunSettings, isPaused: boolean): Limits => ({
  tests: settings.maxTests,
  weight: settings.maxWeight ?? Number.POSITIVE_INFINITY,
  perNamespace: settings.maxTestsPerNamespace ?? Number.POSITIVE_INFINITY,
  perGroup: settings.maxTestsPer ?? {},
  isPaused,
});

async function pauseWanted({ pauseFile }: FleetRunSettings, before = false, log?: Log): Promise<boolean> {
  if (pauseFile === undefined) return false;
  const now = await exists(pauseFile).catch((error) => {
    log?.warn("pause", `${pauseFile} cannot be looked at: ${messageOf(error)}`);
    return before;
  });
  if (now !== before) log?.info("pause", now ? `no test starts while ${pauseFile} exists` : "tests start again");
  return now;
}

/** Says each time it changes why what is known may be out of date. */
function problemTeller(log: Log, phase: string, problem: () => string | null): () => void {
  let said: string | null = null;
  return () => {
    const now = problem();
    if (now === said) return;
    if (now === null) log.info(phase, "all is up to date again");
    else log.warn(phase, now);
    said = now;
  };
}

/** A record that is away is no bug of ours: who asked is told. */
async function answered<T>(asked: Promise<T>): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof RestoreError) throw error;
    throw new RestoreError("PREFLIGHT_FAILED", `the record cannot be asked: ${messageOf(error)}`, { cause: error });
  }
}

/** The reason first; what it waits for stands behind it. */
const explain = (reason: string | undefined) => (reason === undefined ? [] : reason.split("; waits: "));
