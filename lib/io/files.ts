/** Reading and writing files. Whatever is written here is either complete or absent. */

import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  access,
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { messageOf, RestoreError } from "../errors.ts";

export async function readTextIfExists(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/** Throws SETTINGS_INVALID that names what the file is for. */
export async function readTextOrExplain(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `cannot read the ${what} ${path}: ${describeFileError(error)}`, {
      cause: error,
    });
  }
}

/** Mode 0600; a temporary file beside it, synced and renamed, so that a reader never sees half of it. */
export async function writeAtomically(path: string, text: string, mode = 0o600): Promise<void> {
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  try {
    const file = await open(temporary, "wx", mode);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    const isFull = ["ENOSPC", "EDQUOT"].includes((error as NodeJS.ErrnoException).code ?? "");
    throw new RestoreError("PREFLIGHT_FAILED", `cannot write ${path}: ${describeFileError(error)}`, {
      about: "host",
      hint: isFull ? "give the volume more space, or remove old .failed copies" : undefined,
      cause: error,
    });
  }
}

/** Makes a rename or a new file in it survive a crash of the machine. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

export async function exists(path: string): Promise<boolean> {
  return (await lstatIfExists(path)) !== undefined;
}

export async function lstatIfExists(path: string) {
  try {
    return await lstat(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

export async function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  );
}

/** Names in a directory, or none when it does not exist. */
export async function list(path: string): Promise<string[]> {
  try {
    return (await readdir(path)).sort();
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Bytes that an ordinary user can still write there; the directory itself need not exist yet. */
export async function freeSpace(path: string): Promise<number> {
  for (let directory = path; ; directory = dirname(directory)) {
    if (await exists(directory)) {
      const { bavail, bsize } = await statfs(directory);
      return bavail * bsize;
    }
    if (directory === dirname(directory)) return 0;
  }
}

/** Apparent size of a directory's files; links are not followed. Files that vanish meanwhile count nothing. */
export async function directorySize(path: string): Promise<number> {
  let total = 0;
  // One by one: a directory that vanishes would end readdir's own recursion for all of them.
  for (const entry of await readdir(path, { withFileTypes: true }).catch(() => [])) {
    const place = join(path, entry.name);
    if (entry.isDirectory()) total += await directorySize(place);
    else if (entry.isFile()) {
      total += await stat(place).then(
        (s) => s.size,
        () => 0,
      );
    }
  }
  return total;
}

export async function removeTree(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3 });
}

/** Removes what is in a directory; one that does not exist is empty already. */
export async function emptyTree(path: string): Promise<void> {
  for (const name of await list(path)) await removeTree(join(path, name));
}

/** Leaves a mount point or a directory with something in it alone. */
export async function removeIfEmpty(path: string): Promise<void> {
  await rmdir(path).catch(() => {});
}

/** Mode 0700, also when it was there before. Fails when it belongs to another user. */
export async function makePrivateDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  await chmod(path, 0o700);
}

/** Mount points of this mount namespace; a bind mount has its parent's device number and shows only here. */
export async function mountPoints(): Promise<Set<string>> {
  const text = (await readTextIfExists("/proc/self/mountinfo")) ?? "";
  return new Set(
    text
      .split("\n")
      .map((line) => line.split(" ")[4] ?? "")
      .map((path) => path.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)))),
  );
}

function isMissing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ENOTDIR";
}

const FILE_ERRORS: Record<string, string> = {
  ENOENT: "it does not exist",
  EACCES: "permission denied",
  EPERM: "operation not permitted",
  ENOSPC: "no space left on the device",
  EROFS: "the file system is read-only",
  EISDIR: "it is a directory",
  ENOTDIR: "a part of the path is not a directory",
  EDQUOT: "the disk quota is exceeded",
};

export function describeFileError(error: unknown): string {
  return FILE_ERRORS[(error as NodeJS.ErrnoException).code ?? ""] ?? messageOf(error);
}
