/** Where the directories of laboratories lie. */

import { statfs } from "node:fs/promises";

export const DISK = "/var/tmp";
const MEMORY = "/dev/shm";
/** Of the largest laboratory, with what its servers take beside it. */
const NEEDED_BYTES = 4 * 2 ** 30;

/**
 * In memory where there is room, for all labs of this process and its children that have no LAB_ROOT yet: how fast a disk
 * syncs and makes files is not what they test. Benchmarks and demos stay on the disk.
 */
export async function useFastestPlace(): Promise<void> {
  const { bavail, bsize } = await statfs(MEMORY).catch(() => ({ bavail: 0, bsize: 0 }));
  process.env.LAB_ROOT ??= bavail * bsize > NEEDED_BYTES ? MEMORY : DISK;
}
