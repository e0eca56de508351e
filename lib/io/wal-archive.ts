/** The WAL archive of a repository: its list, its timeline histories, and what is in a segment. */

import { join } from "node:path";
import { type ArchivedFile, type History, readHistory, readListing } from "../backup-api/archive.ts";
import { RestoreError } from "../errors.ts";
import { runCommand } from "./command.ts";
import { removeTree } from "./files.ts";
import { askPgbackrest } from "./pgbackrest-job.ts";
import { findBinDir } from "./postgres.ts";
import { makeTemporaryDirectory } from "./temporary.ts";

export interface ArchivePlace {
  config: string | undefined;
  stanza: string;
  repo: number;
  archiveId: string;
}

/** An archive of years has a hundred thousand segments, and an object store lists a thousand at a time. */
const LIST_LIMIT_MS = 600_000;
const SEGMENT_LIMIT_MS = 120_000;

/** Throws PREFLIGHT_FAILED with pgBackRest's own error. */
export async function listArchive(
  { config, stanza, repo, archiveId }: ArchivePlace,
  signal: AbortSignal,
): Promise<{ files: ArchivedFile[]; histories: Map<number, History> }> {
  const path = `archive/${stanza}/${archiveId}`;
  const ask = (command: string, args: readonly string[], timeoutMs: number) =>
    askPgbackrest(config, command, [`--repo=${repo}`, ...args], { signal, timeoutMs });
  const { files, histories } = readListing(await ask("repo-ls", ["--recurse", "--output=json", path], LIST_LIMIT_MS));
  const read = new Map<number, History>();
  for (const name of histories) {
    const text = await ask("repo-get", [`--stanza=${stanza}`, `${path}/${name}`], SEGMENT_LIMIT_MS);
    read.set(Number.parseInt(name, 16), readHistory(text));
  }
  return { files, histories: read };
}

/**
 * Time of the last commit in a segment (ISO 8601), by archive-get and pg_waldump. Null when it has none, or when this cannot
 * be found out here: no pg_waldump of the version, no data directory for archive-get.
 */
export async function lastCommitIn(
  { config, stanza, repo, archiveId }: ArchivePlace,
  segment: string,
  signal: AbortSignal,
): Promise<string | null> {
  const directory = await makeTemporaryDirectory();
  try {
    const binDir = await findBinDir(archiveId.replace(/-\d+$/, ""), undefined);
    const file = join(directory, segment);
    await askPgbackrest(
      config,
      "archive-get",
      [`--stanza=${stanza}`, `--repo=${repo}`, "--no-archive-async", segment, file],
      { signal, timeoutMs: SEGMENT_LIMIT_MS },
    );
    const waldump = await runCommand(join(binDir, "pg_waldump"), ["--rmgr=Transaction", file], {
      signal,
      timeoutMs: SEGMENT_LIMIT_MS,
      // Its times are in the session's time zone.
      env: { ...process.env, TZ: "UTC", LC_ALL: "C" },
      onLine() {},
    });
    // It ends with an error at the first page that was never written; what it printed before holds.
    const commit = waldump.stdout.split("\n").findLast((line) => /desc: COMMIT/.test(line));
    const time = /COMMIT(?:_PREPARED)? (\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d+) UTC/.exec(commit ?? "");
    return time === null ? null : `${time[1]}T${time[2]}Z`;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RestoreError) return null;
    throw error;
  } finally {
    await removeTree(directory);
  }
}
