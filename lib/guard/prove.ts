/** Proves an interrupted restore before Patroni adopts it: what `post-bootstrap` would have done, on a private server. */

import { join } from "node:path";
import type { Asked } from "../checks/check.ts";
import { archiving } from "../checks/safety/archiving.ts";
import { RestoreError } from "../errors.ts";
import { majorVersionOf, restoreHba } from "../io/data-directory.ts";
import { exists } from "../io/files.ts";
import { checkPageChecksums } from "../io/page-checksums.ts";
import { configuredSetting, findBinDir, readControlData, startPrivatePostmaster } from "../io/postgres.ts";
import type { Log } from "../log.ts";
import type { Settings } from "../options.ts";
import { pathsOf, type Unproven } from "../restore/state.ts";
import type { PROVE_OPTIONS } from "../verify/options.ts";
import { postBootstrap } from "../verify/post-bootstrap.ts";

export interface ProveInput {
  datadir: string;
  state: Unproven;
  superuser: string;
  settings: Settings<(typeof PROVE_OPTIONS)[number]>;
  flags: Readonly<Record<string, unknown>>;
  signal: AbortSignal;
  log: Log;
}

/**
 * Returns when the instance is proven, the "not yet proven" file removed, and the server cleanly stopped. Otherwise throws
 * UNHEALTHY or UNVERIFIED, and all stays as it is but for the report.
 */
export async function prove({ datadir, state, superuser, settings, flags, signal, log }: ProveInput): Promise<void> {
  if (process.getuid?.() === 0) {
    throw new RestoreError("PREFLIGHT_FAILED", "PostgreSQL refuses to run as root", {
      hint: "run guard as the owner of the data directory, for example with setpriv or gosu",
    });
  }
  const binDir = await findBinDir(await majorVersionOf(datadir), settings.binDir);
  await requireHarmlessFiles(
    binDir,
    datadir,
    flags.detach === undefined ? state.detach : settings.detach,
    state.stanza,
  );
  for (const name of ["standby.signal", "recovery.signal"]) {
    if (await exists(join(datadir, name))) {
      throw new RestoreError(
        "UNHEALTHY",
        `${datadir} has a file ${name}: it was never promoted, and would follow another`,
        {
          hint: "bootstrap promotes what it restores: restore again",
        },
      );
    }
  }
  // Before the checks: they remove the "not yet proven" file, and nothing may be left to do then.
  if (await restoreHba(datadir)) {
    log.info("guard", "pg_hba.conf is the restored one again, not the one that Patroni opened for the bootstrap");
  }
  const pages = await checkPageChecksums({ binDir, datadir, timeoutMs: settings.checkTimeout, signal, log });
  // After a crash they cannot be checked: what bootstrap saw then stands.
  const pageChecksums = pages.status === "not-checked" ? undefined : pages;
  // A server with room for fewer prepared transactions than are in doubt does not start.
  const { required } = await readControlData(binDir, datadir);
  const postmaster = await startPrivatePostmaster({
    binDir,
    datadir,
    logFile: pathsOf(datadir).recoveryLog,
    superuser,
    settings: Object.fromEntries(Object.entries(required).map(([name, value]) => [name, String(value)])),
    signal,
    log,
  });
  try {
    await postBootstrap({ conninfo: postmaster.conninfo, settings, flags, pageChecksums, log, signal });
  } catch (error) {
    // The reason counts, not that the server also took its time to stop.
    await postmaster.stop("fast", settings.stopTimeout).catch((reason) => log.warn("guard", reason.message));
    throw error;
  }
  await postmaster.stop("fast", settings.stopTimeout);
  log.warn("guard", "Patroni sets no passwords when it adopts a data directory: those of its users are the backup's");
}

/** The private server runs with settings of its own, so what Patroni will start it with is read from the files. */
async function requireHarmlessFiles(
  binDir: string,
  datadir: string,
  detach: Asked["detach"],
  stanza: string,
): Promise<void> {
  const configured = async (name: string) => {
    const value = await configuredSetting(binDir, datadir, name);
    if (value !== undefined) return value;
    throw new RestoreError("UNVERIFIED", `${name} cannot be read from the configuration files of ${datadir}`, {
      hint: `see what "postgres -D ${datadir} -C ${name}" says`,
    });
  };
  const facts = {
    archive_mode: await configured("archive_mode"),
    archive_command: await configured("archive_command"),
    archive_library: await configured("archive_library").catch(() => ""),
    archived_count: 0,
    failed_count: 0,
    last_archived_wal: null,
  };
  const evidence = { target: null, recovered: null, stanza, backup: null, pageChecksums: null };
  const asked = { detach, evidence } as Asked;
  const { status, summary, hint } = archiving.judge(facts, asked);
  if (status === "fail" || status === "unverified") {
    throw new RestoreError(status === "fail" ? "UNHEALTHY" : "UNVERIFIED", summary, { hint });
  }
}
