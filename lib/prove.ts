/** Proves an interrupted restore before Patroni adopts it: what `post-bootstrap` would have done, on a private server. */

import type { Conninfo } from "./conninfo.ts";
import { RestoreError } from "./errors.ts";
import { majorVersionOf, restoreHba } from "./io/data-directory.ts";
import { findBinDir, startPrivatePostmaster } from "./io/postgres.ts";
import type { Log } from "./log.ts";
import { pathsOf } from "./state.ts";

export interface ProveOptions {
  datadir: string;
  binDir: string | undefined;
  superuser: string;
  stopTimeoutMs: number;
  signal: AbortSignal;
  log: Log;
  /** Runs the checks and finishes the report; throws unless the verdict is healthy. */
  judge(conninfo: Conninfo): Promise<void>;
}

/** Returns when the instance is proven and cleanly stopped. Otherwise throws, and everything stays as it is. */
export async function prove({ datadir, stopTimeoutMs, signal, log, ...options }: ProveOptions): Promise<void> {
  if (process.getuid?.() === 0) {
    throw new RestoreError("PREFLIGHT_FAILED", "PostgreSQL refuses to run as root", {
      hint: "run guard as the owner of the data directory, for example with setpriv or gosu",
    });
  }
  const binDir = await findBinDir(await majorVersionOf(datadir), options.binDir);
  const postmaster = await startPrivatePostmaster({
    binDir,
    datadir,
    logFile: pathsOf(datadir).recoveryLog,
    superuser: options.superuser,
    signal,
    log,
  });
  try {
    await options.judge(postmaster.conninfo);
  } catch (error) {
    // The reason counts, not that the server also took its time to stop.
    await postmaster.stop("fast", stopTimeoutMs).catch((reason) => log.warn("guard", reason.message));
    throw error;
  }
  await postmaster.stop("fast", stopTimeoutMs);
  if (await restoreHba(datadir))
    log.info("guard", "pg_hba.conf is the restored one again, not the one Patroni opened for the bootstrap");
  log.warn("guard", "Patroni does not set its users' passwords when it adopts a data directory: they are the backup's");
}
