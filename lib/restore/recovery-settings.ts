/** How PostgreSQL recovers fast: settings of the private postmaster, chosen from facts. All of them end with its process. */

import type { Plan } from "./plan.ts";

const MB = 2 ** 20;

/**
 * On the command line, so that nothing of them is left at hand-over; what `pg_controldata` demands comes on top.
 * `memoryBytes` is what is free on this machine, or what the cgroup grants. https://www.postgresql.org/docs/15/runtime-config-wal.html
 */
export function recoverySettings(
  { backup, links, pgVersion }: Pick<Plan, "backup" | "links" | "pgVersion">,
  { memoryBytes, sync }: { memoryBytes: number; sync: boolean },
): Record<string, string> {
  const unsynced = !sync || isSyncedByInitdb(links);
  return {
    shared_buffers: `${sharedBuffers(memoryBytes)}MB`,
    ...WRITTEN_BESIDE,
    ...(unsynced ? UNSYNCED : {}),
    wal_recycle: "off", // kept for new WAL, the replayed would be up to 1 GB of old bytes to be flushed and handed over
    // The copy is as large as the backup and was written a moment ago: from the page cache a block comes faster than its
    // announcement. Only what does not fit into memory is worth asking for ahead.
    ...(Number.parseInt(pgVersion, 10) >= 15
      ? { recovery_prefetch: backup.size_bytes < memoryBytes / 2 ? "off" : "try" }
      : {}), // unknown to older ones, which refuse to start with it
  };
}

/**
 * Until the end this directory is nothing that anybody could start: a machine that goes down in the middle leaves a restore
 * that is thrown away. So nothing is flushed while WAL is replayed, and everything once at the end (`--sync`).
 */
const UNSYNCED = {
  fsync: "off",
  full_page_writes: "off", // they repair pages torn by a crash, and after one nothing here is used
  // Nor is the kernel told to begin with the writing.
  checkpoint_flush_after: "0",
  bgwriter_flush_after: "0",
  backend_flush_after: "0",
};

/**
 * Replay is one process. What it leaves in its buffers is written by another one, on another processor, before replay needs
 * the room and before the checkpoint at the end, for which everybody waits: all that there is, a hundred times a second.
 */
const WRITTEN_BESIDE = {
  bgwriter_delay: "10ms",
  bgwriter_lru_maxpages: "1073741823",
  bgwriter_lru_multiplier: "10",
};

/**
 * Few, however much memory there is: the background writer only writes what is about to be replaced, the kernel's cache
 * holds the copy anyway, and large buffers are new memory that replay must touch page by page. On 777 MB with 58 WAL
 * segments recovery and its last checkpoint took 6.1 s with 64 MB, 6.3 s with 128 MB, 7.1 s with 256 MB and 9.0 s with
 * 971 MB, which held all of it. The smallest pod bears a quarter of its memory.
 */
const sharedBuffers = (memoryBytes: number) => Math.max(16, Math.floor(Math.min(memoryBytes / 4, MOST_BUFFERS) / MB));

const MOST_BUFFERS = 64 * MB;

/**
 * `initdb --sync-only` follows the links that PostgreSQL makes itself, pg_wal and the tablespaces, and no others
 * (PostgreSQL 15, common/file_utils.c, fsync_pgdata).
 */
const isSyncedByInitdb = (links: Plan["links"]) => links.every(([name]) => name === "pg_wal");
