/** From a stopped, promoted instance in `<datadir>.restoring` to Patroni's data directory: the last step is one rename. */

import { rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { RestoreError } from "../errors.ts";
import {
  DEFAULT_PG_HBA,
  detachConf,
  EMPTY_POSTGRESQL_CONF,
  FILES_OF_THE_SOURCE,
  splitAutoConf,
} from "../restore/configuration-files.ts";
import type { DetachMode } from "../restore/detach.ts";
import type { Paths } from "../restore/state.ts";
import { describeFileError, exists, readTextIfExists, removeTree, syncDirectory, writeAtomically } from "./files.ts";

/** A backup of a Debian-layout cluster holds neither; PostgreSQL and Patroni need both. */
export async function createMissingFiles(directory: string): Promise<void> {
  const wanted = { "postgresql.conf": EMPTY_POSTGRESQL_CONF, "pg_hba.conf": DEFAULT_PG_HBA, "pg_ident.conf": "" };
  for (const [name, text] of Object.entries(wanted)) {
    if (!(await exists(join(directory, name)))) await writeAtomically(join(directory, name), text);
  }
}

/** What the source would still say or do through its files; `preloadLibraries` decides which jobs there may be. */
export async function detachFiles(directory: string, mode: DetachMode, preloadLibraries: string): Promise<void> {
  for (const name of FILES_OF_THE_SOURCE) await removeTree(join(directory, name));
  const autoConf = join(directory, "postgresql.auto.conf");
  const split = splitAutoConf((await readTextIfExists(autoConf)) ?? "", mode, preloadLibraries);
  if (split.removed) await writeAtomically(`${autoConf}.source`, split.removed);
  await writeAtomically(autoConf, split.kept);
  for (const name of ["postgresql.conf", "postgresql.base.conf"]) {
    const path = join(directory, name);
    const text = await readTextIfExists(path);
    const detached = text === undefined ? null : detachConf(text);
    if (detached !== null) await writeAtomically(path, detached);
  }
}

/** Throws DETACH_FAILED: before the rename there is no data directory, after it a complete one. */
export async function putInPlace(paths: Paths): Promise<void> {
  try {
    // Over an empty directory too; over anything else the kernel refuses.
    await rename(paths.restoring, paths.datadir);
    await syncDirectory(dirname(paths.datadir));
  } catch (error) {
    throw new RestoreError("DETACH_FAILED", `cannot put ${paths.datadir} in place: ${describeFileError(error)}`, {
      cause: error,
    });
  }
}
