/** How much memory there is for what runs here. */

import { freemem } from "node:os";

/**
 * Bytes: MemAvailable of the machine, or less where a cgroup (a pod's limit) grants less. Without a limit Node answers 0 or
 * 2^64. What the cgroup already uses is not taken off, because the page cache counts as used.
 */
export const grantedMemory = (): number => Math.min(freemem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
