/** The JSON of the API, as timescaledb-docker-ha's pgbackrest-rest.py writes it: keys sorted, indented by four. */

import { lostGaps } from "./archive.ts";
import type { Backup } from "./backups.ts";
import { answerProblems, type StanzaAnswer } from "./info.ts";
import type { Job, JobProgress } from "./job.ts";
import type { StanzaArchive } from "./repository.ts";

export function formatJson(value: unknown): string {
  return JSON.stringify(sorted(value), null, 4);
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, member]) => [key, sorted(member)]));
}

/** `2026-11-23T01:00:00+00:00`: whole seconds, and Python's spelling of UTC. */
const second = (iso: string | null) => iso?.replace(/(\.\d+)?Z$/, "+00:00") ?? null;

/** One of a list. */
export function summaryOf(backup: Backup): object {
  const { label, status, stanza, type, startedAt, finishedAt, job, set } = backup;
  return {
    label,
    status,
    stanza,
    type,
    started: second(startedAt),
    finished: second(finishedAt),
    pgbackrest: { label: set?.label ?? job?.set ?? null },
  };
}

export function detailsOf(backup: Backup, progress: JobProgress | null, now: Date): object {
  const { job, set } = backup;
  return {
    ...summaryOf(backup),
    ...timesOf(backup, now),
    ...processOf(job),
    pgbackrest: set ?? (job?.set ? { label: job.set } : {}),
    progress: progressOf(progress, backup.startedAt, now),
  };
}

/** An expire, a verify or a restore test. */
export function describeJob(job: Job, now: Date): object {
  const { label, command, status, stanza, startedAt, finishedAt, output } = job;
  return {
    label,
    command,
    status,
    stanza,
    started: second(startedAt),
    finished: second(finishedAt),
    ...timesOf(job, now),
    ...processOf(job),
    output,
  };
}

function timesOf({ startedAt, finishedAt }: Pick<Backup, "startedAt" | "finishedAt">, now: Date) {
  const [start, end] = [Date.parse(startedAt), finishedAt === null ? now.getTime() : Date.parse(finishedAt)];
  return { duration: seconds(end - start), age: seconds(now.getTime() - start) };
}

const seconds = (ms: number) => Math.max(0, Math.round(ms) / 1000);

function processOf(job: Job | null) {
  return {
    pid: job?.pid ?? null,
    returncode: job?.exitCode ?? null,
    by: job?.by ?? null,
    error: job?.error ?? null,
    hint: job?.hint ?? null,
    warnings: job?.warnings ?? [],
  };
}

/** Null when nothing runs, or pgBackRest has said nothing yet. Bytes are what pgBackRest rounded them to, added up. */
export function progressOf(progress: JobProgress | null, startedAt: string, now: Date): object | null {
  if (progress === null) return null;
  const { fraction, bytes } = progress;
  const elapsed = Math.max(1, now.getTime() - Date.parse(startedAt)) / 1000;
  return {
    percent: Math.round(fraction * 10_000) / 100,
    bytes,
    bytes_per_second: Math.round(bytes / elapsed),
    seconds_left: fraction > 0 ? Math.round((elapsed / fraction) * (1 - fraction)) : null,
  };
}

export function describeArchive({ stanza, repo, archiveId, state, lastCommitAt }: StanzaArchive, now: Date): object {
  const { segmentSize, segments, newest, gaps, restorable, unusable } = state;
  const file = (one: typeof newest) =>
    one === null
      ? null
      : {
          segment: one.segment,
          stored: second(new Date(one.storedAt * 1000).toISOString()),
          age: seconds(now.getTime() - one.storedAt * 1000),
        };
  return {
    stanza,
    repo,
    archive_id: archiveId,
    segment_size: segmentSize,
    segments,
    newest: file(newest),
    restorable: restorable === null ? null : { until: file(restorable), last_commit: lastCommitAt },
    gaps: gaps.map((gap) => ({
      timeline: gap.timeline,
      first: gap.first,
      last: gap.last,
      segments: gap.segments,
      retention: gap.isRetention,
      settled: gap.isRetention || lostGaps({ gaps: [gap] }, now).length > 0,
    })),
    unusable_backups: unusable,
  };
}

/** Of an archive that cannot be looked at nothing is known, which is no good news. */
export function unseenArchives(answers: readonly StanzaAnswer[], archives: readonly StanzaArchive[]): string[] {
  return answers.flatMap((answer) => {
    const { stanza, info } = answer;
    const seen = new Set(archives.filter((one) => one.stanza === stanza).map(({ repo }) => repo));
    if (seen.size > 0 && info?.repo.every(({ key }) => seen.has(key))) return [];
    const problems = answerProblems(answer).map(({ message }) => message);
    return problems.length > 0 ? problems : [`stanza "${stanza}" has no WAL archive`];
  });
}

/** Sentences for what must not be. */
export function archiveProblems({ stanza, repo, state }: StanzaArchive, now: Date): string[] {
  const name = `stanza "${stanza}" in repo${repo}`;
  return [
    ...lostGaps(state, now).map(({ first, last, segments }) =>
      segments === 1
        ? `${name}: WAL segment ${first} is missing`
        : `${name}: ${segments} WAL segments are missing, ${first} to ${last}`,
    ),
    // A gap or a set that is not complete has said it already.
    ...(state.restorable === null && state.unusable.length === 0
      ? [`${name}: nothing can be restored: no backup set has its WAL there`]
      : []),
    ...state.unusable.map((label) => `${name}: backup ${label} cannot be restored: its own WAL is not complete`),
  ];
}
