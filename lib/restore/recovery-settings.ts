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
    shared_buffers: `${sharedBuffers(memoryBytes, backup.size_bytes)}MB`,
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
 * A quarter of the memory, as PostgreSQL's documentation has it, up to what the whole copy and what replay adds to it take: a
 * page that replay finds there is neither read nor written again and again. At least what the smallest pod can bear.
 */
function sharedBuffers(memoryBytes: number, copyBytes: number): number {
  const wanted = Math.max(128 * MB, copyBytes * 1.25);
  return Math.max(16, Math.floor(Math.min(memoryBytes / 4, wanted, LARGEST_BUFFERS) / MB));
}

const LARGEST_BUFFERS = 4096 * MB;

/**
 * `initdb --sync-only` follows the links that PostgreSQL makes itself, pg_wal and the tablespaces, and no others
 * (PostgreSQL 15, common/file_utils.c, fsync_pgdata).
 */
const isSyncedByInitdb = (links: Plan["links"]) => links.every(([name]) => name === "pg_wal");
