/** How much memory there is for what runs here. */

import { totalmem } from "node:os";

/** Bytes: the machine's, or less where a cgroup (a pod's limit) grants less. Without a limit Node answers 0 or 2^64. */
export const memoryLimit = (): number => Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
