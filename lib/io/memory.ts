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
 * For the environment of C programs. glibc returns to the kernel what a statement or a file frees, and the next one faults it
 * in anew, page by page. What lives for minutes keeps up to 64 MB for each process instead: recovery took 6 % less time so, the
 * checks 4 %, and fetching WAL, with smaller buffers too, half as much of the processors.
 * https://man7.org/linux/man-pages/man3/mallopt.3.html; other C libraries do not look at these.
 */
export const KEPT_MEMORY = {
  MALLOC_TOP_PAD_: String(16 * 1024 ** 2),
  MALLOC_TRIM_THRESHOLD_: String(64 * 1024 ** 2),
  // Given, or the two above would make it 128 KB for good.
  MALLOC_MMAP_THRESHOLD_: String(32 * 1024 ** 2),
};

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
