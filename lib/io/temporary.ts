/** Private directories that are short-lived, and short: the path of a Unix socket may have 107 bytes at most. */

import { existsSync, readlinkSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { list, removeTree } from "./files.ts";

/** A process number means something only in its own namespace, and a temporary directory may be shared. */
const namespace = (): string => /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";

/** Named after this process, so that the next one can tell what a killed one has left, and removes it. */
export async function makeTemporaryDirectory(): Promise<string> {
  const ours = `pr-${namespace()}-`;
  for (const name of await list(tmpdir())) {
    const pid = name.startsWith(ours) ? /^(\d+)-/.exec(name.slice(ours.length))?.[1] : undefined;
    if (pid === undefined || existsSync(`/proc/${pid}`)) continue;
    // Another user's cannot be removed, and need not be.
    await removeTree(join(tmpdir(), name)).catch(() => {});
  }
  return mkdtemp(join(tmpdir(), `${ours}${process.pid}-`));
}
