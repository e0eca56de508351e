/** Waits until the source's own archiver says that a WAL segment is in the repository. */

import { setTimeout as sleep } from "node:timers/promises";
import { RestoreError } from "../errors.ts";
import type { Database } from "../io/database.ts";
import type { Log } from "../log.ts";
import { parseWalName } from "../postgres/lsn.ts";
import { type ArchiverFacts, readArchiver } from "./source.ts";

/**
 * Whether `archived` (pg_stat_archiver.last_archived_wal) means that `wanted` is archived. The archiver takes the oldest
 * segment first, so any later one of the same timeline will do. A `.history` file is sent before older segments and a
 * `.partial` one is half a segment: they say nothing. A `.backup` file is sent right after the segment in its name.
 */
export function coversSegment(archived: string | null, wanted: string, segmentSize: number): boolean {
  if (archived === null || !/^[0-9A-F]{24}(\.[0-9A-F]{8}\.backup)?$/.test(archived)) return false;
  const [last, goal] = [parseWalName(archived, segmentSize), parseWalName(wanted, segmentSize)];
  return last !== null && goal !== null && last.timeline === goal.timeline && last.segment >= goal.segment;
}

/**
 * The file of a backup that ends at this moment can be sent after the segment although its name is older, and would then
 * stand in pg_stat_archiver until the next segment, on an idle source for hours. The archiver's own status files know.
 */
const MAY_SEE_STATUS_FILES_SQL = "SELECT has_function_privilege('pg_ls_archive_statusdir()', 'EXECUTE') AS may";
const IS_DONE_SQL = "SELECT EXISTS (SELECT FROM pg_ls_archive_statusdir() WHERE name = $1) AS done";

const POLL_MS = 250;

export interface ArchiveWait {
  wal: string;
  walSegmentSize: number;
  timeoutMs: number;
}

/** Throws SOURCE_UNREACHABLE when the limit passes. */
export async function waitUntilArchived(
  database: Database,
  wait: ArchiveWait,
  { log, signal }: { log: Log; signal: AbortSignal },
): Promise<void> {
  const progress = log.progress("archive");
  const startedAt = performance.now();
  const hasStatusFiles = (await database.row(MAY_SEE_STATUS_FILES_SQL)).may === "t";
  try {
    for (;;) {
      const archiver = await readArchiver(database);
      if (coversSegment(archiver.lastArchivedWal, wait.wal, wait.walSegmentSize)) return;
      if (hasStatusFiles && (await database.row(IS_DONE_SQL, [`${wait.wal}.done`])).done === "t") return;
      const elapsed = performance.now() - startedAt;
      if (elapsed >= wait.timeoutMs) throw notArchived(wait, archiver);
      progress.update({ note: describeWait(wait.wal, archiver) });
      await sleep(Math.min(POLL_MS, wait.timeoutMs - elapsed), undefined, { signal }).catch(() => {
        throw signal.reason;
      });
    }
  } finally {
    progress.end();
  }
}

function describeWait(wal: string, archiver: ArchiverFacts): string {
  const last = archiver.lastArchivedWal === null ? "" : `; last archived ${archiver.lastArchivedWal}`;
  const failure = archiver.failing ? `; last failure ${archiver.lastFailedWal} at ${archiver.lastFailedAt}` : "";
  return `waiting for WAL ${wal} to be archived${last}${failure}`;
}

export function notArchived(wait: Pick<ArchiveWait, "wal" | "timeoutMs">, archiver: ArchiverFacts): RestoreError {
  const limit = `WAL ${wait.wal} was not archived within ${wait.timeoutMs / 1000} s`;
  const last =
    archiver.lastArchivedWal === null
      ? "nothing was ever archived"
      : `last archived ${archiver.lastArchivedWal} at ${archiver.lastArchivedAt}`;
  if (!archiver.failing) {
    return new RestoreError("SOURCE_UNREACHABLE", `${limit} (${last}; no failure is recorded)`, {
      hint: "the archiver is slow, hangs or is not running: look for the archiver process and its command on the source",
    });
  }
  return new RestoreError(
    "SOURCE_UNREACHABLE",
    `${limit} (last failure ${archiver.lastFailedWal} at ${archiver.lastFailedAt}; ${last})`,
    {
      hint: "the source's PostgreSQL log has the message of its archive_command; pgbackrest check --stanza=<stanza> repeats it",
    },
  );
}
