/** A data directory as a whole: what it is, whose it is, stopping what runs on it, and removing it. */

import { copyFile, lstat, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { RestoreError } from "../errors.ts";
import { formatDuration } from "../units.ts";
import { describeFileError, exists, readTextIfExists } from "./files.ts";
import { isEmptyForPatroni } from "./patroni.ts";
import { isAlive, livePostmaster, postgresProcesses, terminate, waitUntilEnded } from "./processes.ts";

/** `empty` and `present` as Patroni sees it: it bootstraps in the one and adopts the other. */
export type DatadirState = "absent" | "empty" | "present" | "link";

export async function datadirState(path: string): Promise<DatadirState> {
  const status = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw cannot("look at", path, error);
  });
  if (status === undefined) return "absent";
  if (status.isSymbolicLink()) return "link";
  const names = await readdir(path).catch((error) => {
    throw cannot("look into", path, error);
  });
  return isEmptyForPatroni(names) ? "empty" : "present";
}

/**
 * The database system identifier as `pg_controldata` prints it, without PostgreSQL's programs: it is the first member of
 * `global/pg_control` in every version (src/include/catalog/pg_control.h). Null when there is no such file.
 */
export async function systemIdentifierOf(datadir: string): Promise<string | null> {
  const file = await open(join(datadir, "global/pg_control"), "r").catch(() => undefined);
  if (file === undefined) return null;
  try {
    const buffer = Buffer.alloc(8);
    const { bytesRead } = await file.read(buffer, 0, 8, 0);
    // PostgreSQL runs on big-endian machines too; Node.js does on s390x.
    const isLittleEndian = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
    if (bytesRead < 8) return null;
    return String(isLittleEndian ? buffer.readBigUInt64LE() : buffer.readBigUInt64BE());
  } finally {
    await file.close();
  }
}

/** `15`, from `PG_VERSION`. Throws UNVERIFIED when the directory is none of PostgreSQL's. */
export async function majorVersionOf(datadir: string): Promise<string> {
  const version = (await readTextIfExists(join(datadir, "PG_VERSION")))?.trim();
  if (version) return version;
  throw new RestoreError("UNVERIFIED", `${datadir} holds no PG_VERSION: it is not a complete data directory`);
}

/** The children of a postmaster that was killed notice its death by themselves, within this. */
const CHILDREN_LIMIT_MS = 10_000;

/**
 * Stops whatever PostgreSQL runs on the directory: `fast` leaves it clean and throws TIMED_OUT after the limit,
 * `immediate` is for a directory that is thrown away and goes on to SIGKILL.
 */
export async function stopPostgres(datadir: string, mode: "fast" | "immediate", limitMs: number): Promise<void> {
  const postmaster = await livePostmaster(datadir);
  if (postmaster !== null) {
    const { pid, started } = postmaster;
    // https://www.postgresql.org/docs/15/server-shutdown.html
    const ended = await terminate(pid, mode === "fast" ? "SIGINT" : "SIGQUIT", limitMs);
    if (!ended && mode === "fast") {
      throw new RestoreError(
        "TIMED_OUT",
        `the server of ${datadir} (process ${pid}) did not stop within ${formatDuration(limitMs)}`,
        {
          hint: "raise --stop-timeout",
        },
      );
    }
    if (await isAlive(pid, started)) await terminate(pid, "SIGKILL", CHILDREN_LIMIT_MS);
  }
  const rest = await postgresProcesses(datadir);
  for (const { pid, started } of rest) {
    if (!(await waitUntilEnded(pid, started, CHILDREN_LIMIT_MS))) await terminate(pid, "SIGKILL", CHILDREN_LIMIT_MS);
  }
  const left = await postgresProcesses(datadir);
  if (left.length > 0) {
    throw new RestoreError(
      "TIMED_OUT",
      `PostgreSQL processes of ${datadir} do not end: ${left.map((p) => p.pid).join(", ")}`,
    );
  }
}

/** One rename, so that the directory is gone at once, whole, or not at all. False for a mount point, which cannot be moved. */
export async function moveAside(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY") return false;
    throw cannot("rename", from, error);
  }
}

/** Of a mount point only the content is removed. Links are removed, not followed. */
export async function removeDirectory(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true, maxRetries: 3 });
  } catch (error) {
    const isEmptyMountPoint = (error as NodeJS.ErrnoException).code === "EBUSY" && (await readdir(path)).length === 0;
    if (!isEmptyMountPoint) throw cannot("remove", path, error);
  }
}

/**
 * While the bootstrap lasts, Patroni's `pg_hba.conf` trusts every local connection of the superuser and the restored one
 * waits beside it; a Patroni that adopts the directory would leave it so (3.0.2 postgresql/config.py, replace_pg_hba).
 */
export async function restoreHba(datadir: string): Promise<boolean> {
  const backup = join(datadir, "pg_hba.conf.backup");
  if (!(await exists(backup))) return false;
  await copyFile(backup, join(datadir, "pg_hba.conf"));
  return true;
}

function cannot(what: string, path: string, error: unknown): RestoreError {
  return new RestoreError("PREFLIGHT_FAILED", `cannot ${what} ${path}: ${describeFileError(error)}`, {
    hint: "run guard as the owner of the data directory",
    cause: error,
  });
}
