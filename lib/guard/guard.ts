/**
 * Keeps Patroni from adopting a restore that was interrupted before it was proven. Patroni bootstraps only when its data
 * directory is empty; whatever lies there otherwise it starts, promotes and reports healthy, and post_bootstrap never
 * runs again (3.0.2 ha.py, _run_cycle). So this runs before Patroni does, and `<datadir>.unproven` decides.
 */

import { isAbsolute, normalize, relative } from "node:path";
import { RestoreError } from "../errors.ts";
import {
  type DatadirState,
  datadirState,
  moveAside,
  removeDirectory,
  stopPostgres,
  systemIdentifierOf,
} from "../io/data-directory.ts";
import { exists, readTextIfExists } from "../io/files.ts";
import { findPatroni, patroniOf } from "../io/patroni.ts";
import { livePostmaster, waitUntilEnded } from "../io/processes.ts";
import type { Log } from "../log.ts";
import { type Paths, pathsOf, type Unproven } from "../restore/state.ts";
import { type FoundUnproven, isBootstrapAlive, readUnproven, writeUnproven } from "../restore/unproven.ts";

export type OnUnproven = "refuse" | "wipe" | "prove";

export interface GuardFacts {
  paths: Paths;
  /** Undefined when there is no such file; `state` is null when it cannot be read. */
  unproven: FoundUnproven | undefined;
  bootstrapAlive: boolean;
  /** A Patroni that runs with this data directory, by its process number. */
  patroni: number | null;
  datadir: DatadirState;
  restoringExists: boolean;
  walAheadExists: boolean;
  /** Live postmasters, by process number. */
  postmaster: number | null;
  restoringPostmaster: number | null;
  /** Of the data directory as it is, and as the report says that it was restored; null when not known. */
  systemIdentifier: { found: string | null; restored: string | null };
}

export interface GuardDecision {
  /**
   * `proceed`: Patroni may start. `clean-up`: too, once remains are gone of which it could adopt nothing. `wipe` and
   * `prove`: once that is done. `refuse`: Patroni must not start.
   */
  action: "proceed" | "clean-up" | "wipe" | "prove" | "refuse";
  reason: string;
  hint: string | null;
  /** Of a refusal. PREFLIGHT_FAILED: somebody is still at work here. */
  code: "UNVERIFIED" | "PREFLIGHT_FAILED" | null;
  /** Data directories whose server is stopped first. */
  stop: string[];
  /** Directories that are removed, in this order. */
  remove: string[];
  /** What is left to do for a person. */
  notes: string[];
}

/** Phases in which the data directory can be this restore's: the one rename is part of `handover`. */
const PHASES_WITH_DATADIR = ["handover", "verify"];
/** After a wipe; a data directory that appears then is none of the restore's. */
export const WIPED = "wiped";

/** Pure. Every doubt is a refusal. */
export function decide(facts: GuardFacts, mode: OnUnproven): GuardDecision {
  const { paths, unproven, datadir } = facts;
  if (unproven === undefined) return decision("proceed", `no unproven restore beside ${paths.datadir}`);
  const { state } = unproven;
  if (facts.bootstrapAlive && state !== null) {
    return refusal(
      "PREFLIGHT_FAILED",
      `bootstrap (process ${state.pid}) is still restoring ${paths.datadir}`,
      "wait until it has ended",
    );
  }
  if (facts.patroni !== null) {
    return refusal(
      "PREFLIGHT_FAILED",
      `Patroni (process ${facts.patroni}) is running with ${paths.datadir}`,
      "stop it first",
    );
  }
  if (state === null && facts.restoringPostmaster !== null) {
    return refusal(
      "PREFLIGHT_FAILED",
      `a server (process ${facts.restoringPostmaster}) runs on ${paths.restoring}, and whose it is cannot be told: ${unproven.reason}`,
      "stop it, or wait until it has ended",
    );
  }
  if (datadir === "absent" || datadir === "empty") return cleanUp(facts, state);
  if (datadir === "link") {
    return refusal(
      "UNVERIFIED",
      `${paths.datadir} is a symbolic link beside an unproven restore`,
      `look what it leads to, and remove ${paths.unproven} only if it is proven`,
    );
  }
  const foreign = state === null ? unproven.reason : whyForeign(facts, state);
  const stateOfServer = facts.postmaster === null ? "" : `; its server still runs (process ${facts.postmaster})`;
  if (state === null || foreign !== null) {
    return refusal(
      "UNVERIFIED",
      `${paths.datadir} was never proven, and whether it is the restore cannot be told: ${foreign}${stateOfServer}`,
      `nothing is removed or proven on a guess: look what it is; if it is right, remove ${paths.unproven}, otherwise remove the data directory`,
    );
  }
  const stop = facts.postmaster === null ? [] : [paths.datadir];
  const interrupted = `${paths.datadir} holds a restore that was interrupted before it was proven (phase ${state.phase}, started ${state.started_at}, attempt ${state.attempts})`;
  if (mode === "refuse") {
    return refusal(
      "UNVERIFIED",
      `${interrupted}; Patroni would promote it without running post_bootstrap${stateOfServer}`,
      `prove it with --on-unproven prove, throw it away with --on-unproven wipe, or remove ${paths.unproven} if you know that it is good`,
    );
  }
  if (mode === "prove") return { ...decision("prove", interrupted), stop };
  const linked = removable(state.linked, paths.datadir);
  return {
    ...decision("wipe", interrupted),
    stop: [...stop, ...(facts.restoringPostmaster === null ? [] : [paths.restoring])],
    remove: [...unfinished(facts), paths.datadir, ...linked.safe],
    notes: [...linked.notes, leftovers(state.scope)],
  };
}

/** Nothing is there that Patroni could adopt; what a restore has begun is only in its way. */
function cleanUp(facts: GuardFacts, state: Unproven | null): GuardDecision {
  const { paths } = facts;
  const linked =
    facts.restoringExists && state !== null ? removable(state.linked, paths.datadir) : { safe: [], notes: [] };
  return {
    ...decision(
      "clean-up",
      `an unproven restore was interrupted, and ${paths.datadir} is ${facts.datadir}: there is nothing to adopt`,
    ),
    stop: facts.restoringPostmaster === null ? [] : [paths.restoring],
    remove: [...unfinished(facts), ...linked.safe],
    notes: [...linked.notes, leftovers(state?.scope ?? null)],
  };
}

const unfinished = ({ paths, restoringExists, walAheadExists }: GuardFacts): string[] => [
  ...(restoringExists ? [paths.restoring] : []),
  ...(walAheadExists ? [paths.walAhead] : []),
];

/** A directory that came from elsewhere, such as Patroni's initdb in between, must not be taken for the restore. */
function whyForeign({ systemIdentifier: { found, restored } }: GuardFacts, state: Unproven): string | null {
  if (found !== null && restored !== null && found !== restored) {
    return `its system identifier is ${found} and the restore's is ${restored}`;
  }
  if (!PHASES_WITH_DATADIR.includes(state.phase)) {
    return state.phase === WIPED
      ? "the restore was wiped, and something else has made the data directory since"
      : `the restore got no further than ${state.phase}, when nothing was in place yet`;
  }
  return null;
}

function removable(linked: readonly string[], datadir: string): { safe: string[]; notes: string[] } {
  const isSafe = (path: string) => {
    const isAncestor = !relative(path, datadir).startsWith("..");
    return isAbsolute(path) && normalize(path) === path && path.split("/").filter(Boolean).length >= 2 && !isAncestor;
  };
  return {
    safe: linked.filter(isSafe),
    notes: linked
      .filter((path) => !isSafe(path))
      .map((path) => `${path} belongs to the restore too, and is left for you to remove`),
  };
}

/** An interrupted bootstrap leaves `initialize` as an empty string without a lease: Patroni waits for a leader for ever. */
function leftovers(scope: string | null): string {
  const name = scope ?? "SCOPE";
  return (
    `the DCS may still hold the interrupted bootstrap's keys, and Patroni then waits for a leader for ever; unless another ` +
    `member of ${scope === null ? "the scope" : `scope ${scope}`} runs, remove them: patronictl remove ${name} ` +
    `(etcd: all below /service/${name}/, initialize and config above all; Kubernetes: the Endpoints or ConfigMaps ` +
    `${name}, ${name}-config, ${name}-sync, ${name}-failover)`
  );
}

function decision(action: GuardDecision["action"], reason: string): GuardDecision {
  return { action, reason, hint: null, code: null, stop: [], remove: [], notes: [] };
}

function refusal(code: "UNVERIFIED" | "PREFLIGHT_FAILED", reason: string, hint: string): GuardDecision {
  return { ...decision("refuse", reason), code, hint };
}

/** A bootstrap that has lost its Patroni ends by itself, children and all, within 8 s of noticing it. */
const ORPHAN_LIMIT_MS = 20_000;
/** A server that is thrown away. */
const IMMEDIATE_LIMIT_MS = 10_000;

export interface GuardContext {
  datadir: string;
  onUnproven: OnUnproven;
  dryRun: boolean;
  stopTimeoutMs: number;
  log: Log;
  /** Called with every decision before it is carried out. */
  show(decision: GuardDecision, unproven: Unproven | null): void;
  /** Starts the instance privately and runs the checks; throws UNHEALTHY or UNVERIFIED unless it is healthy. */
  prove(state: Unproven): Promise<void>;
}

/** Returns when Patroni may start; throws when it must not. */
export async function guard(context: GuardContext): Promise<void> {
  const { datadir, log } = context;
  const unproven = await readUnproven(datadir);
  const facts = unproven === undefined ? nothingUnproven(datadir) : await readFacts(datadir, unproven, log);
  const decided = decide(facts, context.onUnproven);
  const state = unproven?.state ?? null;
  context.show(decided, state);
  if (decided.action === "refuse") {
    throw new RestoreError(decided.code ?? "UNVERIFIED", decided.reason, { hint: decided.hint ?? undefined });
  }
  if (decided.action === "proceed") return;
  log.warn("guard", decided.reason);
  if (context.dryRun) {
    for (const directory of decided.stop) log.info("guard", `would stop the server of ${directory}`);
    for (const directory of decided.remove) log.info("guard", `would remove ${directory}`);
    if (decided.action === "clean-up") return;
    // An entrypoint with --dry-run left in it must not let Patroni adopt what was not proven.
    throw new RestoreError("UNVERIFIED", `nothing was changed, so ${facts.paths.datadir} is still unproven`, {
      hint: `without --dry-run it would ${decided.action} it`,
    });
  }
  await carryOut(decided, facts.paths, state, context);
  for (const note of decided.notes) log.warn("guard", note);
}

async function carryOut(
  decided: GuardDecision,
  paths: Paths,
  state: Unproven | null,
  context: GuardContext,
): Promise<void> {
  const { log } = context;
  const mode = decided.action === "prove" ? "fast" : "immediate";
  for (const directory of decided.stop) {
    log.info("guard", `stopping the server that was left running on ${directory}`);
    await stopPostgres(directory, mode, mode === "fast" ? context.stopTimeoutMs : IMMEDIATE_LIMIT_MS);
  }
  if (decided.action === "prove" && state !== null) return context.prove(state);
  for (const directory of decided.remove) {
    log.info("guard", `removing ${directory}`);
    // Renamed first: an interruption leaves no half data directory that Patroni could take for a whole one.
    const moved = directory === paths.datadir && (await moveAside(directory, paths.restoring));
    await removeDirectory(moved ? paths.restoring : directory);
  }
  // The attempts stay counted; only what is gone is forgotten.
  if (decided.action === "wipe" && state !== null) {
    await writeUnproven(paths.datadir, { ...state, phase: WIPED, linked: [] });
  }
}

function nothingUnproven(datadir: string): GuardFacts {
  return {
    paths: pathsOf(datadir),
    unproven: undefined,
    bootstrapAlive: false,
    patroni: null,
    datadir: "absent",
    restoringExists: false,
    walAheadExists: false,
    postmaster: null,
    restoringPostmaster: null,
    systemIdentifier: { found: null, restored: null },
  };
}

async function readFacts(datadir: string, unproven: FoundUnproven, log: Log): Promise<GuardFacts> {
  const paths = pathsOf(datadir);
  const { state } = unproven;
  if (state !== null && (await isBootstrapAlive(state)) && (await findPatroni(state.pid)) === null) {
    log.info("guard", `waiting for bootstrap (process ${state.pid}), which has lost its Patroni, to end`);
    await waitUntilEnded(state.pid, state.pid_started, ORPHAN_LIMIT_MS);
  }
  return {
    paths,
    unproven,
    bootstrapAlive: state !== null && (await isBootstrapAlive(state)),
    patroni: await patroniOf(paths.datadir),
    datadir: await datadirState(paths.datadir),
    restoringExists: await exists(paths.restoring),
    walAheadExists: await exists(paths.walAhead),
    postmaster: (await livePostmaster(paths.datadir))?.pid ?? null,
    restoringPostmaster: (await livePostmaster(paths.restoring))?.pid ?? null,
    systemIdentifier: {
      found: await systemIdentifierOf(paths.datadir),
      restored: state === null ? null : await restoredIdentifier(state.report),
    },
  };
}

/** From the report, which a person may have moved away; it only ever adds a doubt. */
async function restoredIdentifier(report: string): Promise<string | null> {
  try {
    return JSON.parse((await readTextIfExists(report)) ?? "{}")?.recovered?.system_identifier ?? null;
  } catch {
    return null;
  }
}
