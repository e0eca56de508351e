/** How much memory there is for what runs here. */

import { freemem } from "node:os";
import { readTextIfExists } from "./files.ts";

/**
 * Bytes: MemAvailable of the machine, or less where a cgroup (a pod's limit) grants less, or where the kernel promises no
 * more than it has (vm.overcommit_memory=2, as PostgreSQL's documentation advises). Without a limit Node answers 0 or 2^64.
 * What the cgroup already uses is not taken off, because the page cache counts as used.
 * https://www.kernel.org/doc/Documentation/vm/overcommit-accounting
 */
export async function grantedMemory(): Promise<number> {
  const isStrict = (await readTextIfExists("/proc/sys/vm/overcommit_memory"))?.trim() === "2";
  const promised = isStrict ? stillPromised((await readTextIfExists("/proc/meminfo")) ?? "") : Number.POSITIVE_INFINITY;
  return Math.min(freemem(), process.constrainedMemory() || Number.POSITIVE_INFINITY, promised);
}

/**
 * How many processes the kernel has killed for want of memory since it started, in whichever container; null where it does
 * not count them. https://www.kernel.org/doc/Documentation/admin-guide/mm/concepts.rst (OOM killer)
 */
export async function killedForMemory(): Promise<number | null> {
  const count = /^oom_kill (\d+)$/m.exec((await readTextIfExists("/proc/vmstat").catch(() => undefined)) ?? "")?.[1];
  return count === undefined ? null : Number(count);
}

/** What may still be asked for, by /proc/meminfo. Exported for its test. */
export function stillPromised(meminfo: string): number {
  const bytes = (name: string) => Number(new RegExp(`^${name}: *(\\d+) kB$`, "m").exec(meminfo)?.[1] ?? 0) * 1024;
  return Math.max(0, bytes("CommitLimit") - bytes("Committed_AS"));
}
