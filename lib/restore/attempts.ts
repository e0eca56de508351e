/** Attempts at a restore on one volume: how many there were, and what they left. */

import { dirname } from "node:path";
import { RestoreError } from "../errors.ts";
import { emptyTree, exists, removeIfEmpty, removeTree } from "../io/files.ts";
import { endWorkOn } from "../io/pgbackrest-job.ts";
import { livePostmaster, terminate } from "../io/processes.ts";
import type { Log } from "../log.ts";
import { describeTarget, type Target } from "../postgres/target.ts";
import type { Paths } from "./state.ts";
import { isBootstrapAlive, readUnproven } from "./unproven.ts";

/** What makes two attempts the same attempt. */
export const describeRequest = (
  settings: { stanza?: string | undefined; set?: string | undefined },
  target: Target,
): string => `stanza ${settings.stanza}, set ${settings.set ?? "automatic"}, ${describeTarget(target)}`;

/**
 * The number of this attempt, from 1. Throws PREFLIGHT_FAILED when another bootstrap is at work, or when too many attempts
 * at the same request have failed: Patroni, systemd and Kubernetes would download the same backup again and again.
 */
export async function countAttempt(paths: Paths, request: string, maxAttempts: number, log: Log): Promise<number> {
  const found = await readUnproven(paths.datadir);
  if (found === undefined) return 1;
  if (found.state === null) {
    log.warn("preflight", `${found.reason}; attempts are counted anew`);
    return 1;
  }
  const { state } = found;
  if (await isBootstrapAlive(state)) {
    throw new RestoreError(
      "PREFLIGHT_FAILED",
      `another bootstrap (process ${state.pid}) is at work on ${paths.datadir}`,
      {
        hint: "wait for it, or end it",
      },
    );
  }
  if (state.request !== request) return 1;
  if (state.attempts >= maxAttempts) {
    throw new RestoreError(
      "PREFLIGHT_FAILED",
      `${state.attempts} attempts at this restore have failed, and nothing is downloaded again; the verdict stays in ${state.report}`,
      { hint: `mend the cause, then remove ${paths.unproven} (or raise --max-attempts)` },
    );
  }
  return state.attempts + 1;
}

/** Removes what an attempt that was killed has left: only what its own file says is its own. */
export async function removeLeftovers(paths: Paths, linked: readonly string[], log: Log): Promise<void> {
  const found = await readUnproven(paths.datadir);
  if (found === undefined && (await exists(paths.restoring))) {
    throw new RestoreError("PREFLIGHT_FAILED", `${paths.restoring} exists and no restore is known to have left it`, {
      hint: "look at it and remove it",
    });
  }
  const live = await livePostmaster(paths.restoring);
  if (live) await terminate(live.pid, "SIGQUIT", 10_000);
  const earlier = (found?.state?.linked ?? []).filter((path) => linked.includes(path));
  if (await exists(paths.restoring))
    log.info("restore", `removing what an interrupted attempt left in ${paths.restoring}`);
  await removeRestore(paths, earlier);
}

/** The unfinished restore and its tablespaces and links, which were empty or absent before it. */
export async function removeRestore(paths: Paths, linked: readonly string[]): Promise<void> {
  await endWorkOn(paths.restoring);
  await removeTree(paths.restoring);
  await removeTree(paths.walAhead);
  for (const path of linked) {
    // It may be a mount point, which stays.
    await emptyTree(path);
    await removeIfEmpty(path);
    if (dirname(path) === paths.tablespaces) await removeIfEmpty(paths.tablespaces);
  }
}
