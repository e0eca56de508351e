/** How PostgreSQL recovers fast: settings of the private postmaster, chosen from facts. All of them end with its process. */

import type { Plan } from "./plan.ts";

const MB = 2 ** 20;

/**
 * On the command line, so that nothing of them is left at hand-over; what `pg_controldata` demands comes on top.
 * `memoryBytes` is the machine's, or what the cgroup grants. https://www.postgresql.org/docs/15/runtime-config-wal.html
 */
export function recoverySettings(
  { backup, links }: Pick<Plan, "backup" | "links">,
  { memoryBytes, sync }: { memoryBytes: number; sync: boolean },
): Record<string, string> {
  const unsynced = !sync || isSyncedByInitdb(links);
  return {
    shared_buffers: `${sharedBuffers(memoryBytes)}MB`,
    ...(unsynced ? UNSYNCED : {}),
    // The copy is as large as the backup and was written a moment ago: from the page cache a block comes faster than its
    // announcement. Only what does not fit into memory is worth asking for ahead.
    recovery_prefetch: backup.size_bytes < memoryBytes / 2 ? "off" : "try",
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
 * A quarter, as PostgreSQL's documentation has it, so that replay finds its pages there and writes each of them once: up to
 * 512 MB, beyond which the gain was lost in touching the memory; at least what the smallest pod can bear.
 */
const sharedBuffers = (memoryBytes: number) => Math.max(16, Math.min(512, Math.floor(memoryBytes / 4 / MB)));

/**
 * `initdb --sync-only` follows the links that PostgreSQL makes itself, pg_wal and the tablespaces, and no others
 * (PostgreSQL 15, common/file_utils.c, fsync_pgdata).
 */
const isSyncedByInitdb = (links: Plan["links"]) => links.every(([name]) => name === "pg_wal");
