/** What pgBackRest says of the stanzas: its info, and the state of the WAL archive. */

import { messageOf, RestoreError } from "../errors.ts";
import { askPgbackrest } from "../io/pgbackrest-job.ts";
import { type ArchivePlace, lastCommitIn, listArchive } from "../io/wal-archive.ts";
import { parseWalName, walName } from "../postgres/lsn.ts";
import { type ArchiveState, judgeArchive } from "./archive.ts";
import { type Cached, cached } from "./cached.ts";
import { readAnswer, type StanzaAnswer } from "./info.ts";

export interface StanzaArchive {
  stanza: string;
  /** The repository's number. */
  repo: number;
  /** `15-1`: PostgreSQL's version, and the how manyeth cluster it is that the stanza has seen. */
  archiveId: string;
  state: ArchiveState;
  /** The last commit that is in the segment up to which can be restored, ISO 8601; null when that cannot be said. */
  lastCommitAt: string | null;
}

export interface Repository {
  info: Cached<readonly StanzaAnswer[]>;
  archive: Cached<readonly StanzaArchive[]>;
}

/** pgBackRest tries for four times its io-timeout (60 s by default) with each repository before it says what is wrong. */
const INFO_LIMIT_MS = 600_000;

/** A caller that has just asked does not make pgBackRest ask again. */
export const FRESH_MS = 2000;

export function openRepository(
  config: string | undefined,
  stanzas: readonly string[],
  signal: AbortSignal,
): Repository {
  const info = cached(async () => {
    const answers: StanzaAnswer[] = [];
    for (const stanza of stanzas) answers.push(await readStanza(config, stanza, signal));
    return answers;
  });
  const archive = cached(async () => {
    for (let look = 1; ; look++) {
      const { value } = await info.read(look === 1 ? FRESH_MS : 0);
      const found: StanzaArchive[] = [];
      for (const answer of value) found.push(...(await readArchives(config, answer, signal)));
      const isSound = found.every(({ state }) => state.gaps.length === 0 && state.unusable.length === 0);
      if (isSound || look === LOOKS) return found;
      // An expire in between takes sets and their WAL away.
      const { value: after } = await info.read(0);
      if (labelsIn(after) === labelsIn(value)) return found;
    }
  });
  return { info, archive };
}

const LOOKS = 3;

const labelsIn = (answers: readonly StanzaAnswer[]) =>
  JSON.stringify(answers.map(({ sets }) => sets.map(({ label }) => label)));

async function readStanza(config: string | undefined, stanza: string, signal: AbortSignal): Promise<StanzaAnswer> {
  const text = await askPgbackrest(config, "info", [`--stanza=${stanza}`, "--output=json"], {
    signal,
    timeoutMs: INFO_LIMIT_MS,
  });
  try {
    return readAnswer(stanza, text);
  } catch (error) {
    throw new RestoreError("PREFLIGHT_FAILED", `pgbackrest info gives no JSON that is known: ${messageOf(error)}`);
  }
}

async function readArchives(
  config: string | undefined,
  { stanza, info }: StanzaAnswer,
  signal: AbortSignal,
): Promise<StanzaArchive[]> {
  const found: StanzaArchive[] = [];
  for (const repo of info?.repo ?? []) {
    if (repo.status.code !== 0 && repo.status.code !== 2) continue;
    // Of several the last is the present cluster's.
    const present = info?.archive.filter(({ database }) => database["repo-key"] === repo.key).at(-1);
    if (present === undefined) continue;
    const place = { config, stanza, repo: repo.key, archiveId: present.id };
    const { files, histories } = await listArchive(place, signal);
    const sets = (info?.backup ?? []).filter(
      ({ database }) => database["repo-key"] === repo.key && database.id === present.database.id,
    );
    const state = judgeArchive(sets, files, histories);
    const lastCommitAt = await lastCommit(place, state, signal);
    found.push({ stanza, repo: repo.key, archiveId: present.id, state, lastCommitAt });
  }
  return found;
}

/** Segments without any commit are usual on an idle server: archive_timeout ends them. */
const SEGMENTS_LOOKED_AT = 8;

async function lastCommit(place: ArchivePlace, state: ArchiveState, signal: AbortSignal): Promise<string | null> {
  const end = parseWalName(state.restorable?.segment ?? "", state.segmentSize);
  for (let back = 0n; end !== null && back < SEGMENTS_LOOKED_AT && back <= end.segment; back++) {
    const segment = walName(end.timeline, end.segment - back, state.segmentSize);
    const time = await lastCommitIn(place, segment, signal);
    if (time !== null) return time;
  }
  return null;
}
