/** Backups are what was asked for here and what the repository holds: one list of both. Pure. */

import type { SetDescription, StanzaAnswer } from "./info.ts";
import { type Job, type JobStatus, labelOf } from "./job.ts";

export interface Backup {
  /** Ours. */
  label: string;
  stanza: string;
  type: string | null;
  status: JobStatus;
  /** ISO 8601, UTC. */
  startedAt: string;
  finishedAt: string | null;
  /** Null for one that was made without this API, or before it remembers. */
  job: Job | null;
  /** Null when there is none in the repository: it runs, it failed, or it has expired. */
  set: SetDescription | null;
}

/** In the order of their starts. */
export function listBackups(jobs: readonly Job[], answers: readonly StanzaAnswer[]): Backup[] {
  const sets = answers.flatMap(({ stanza, sets }) => sets.map((set) => ({ stanza, set })));
  const ours = jobs.map((job): Backup => {
    const set = sets.find((one) => one.stanza === job.stanza && one.set.label === job.set)?.set ?? null;
    const { label, stanza, type, status, startedAt, finishedAt } = job;
    return { label, stanza, type, status, startedAt, finishedAt, job, set };
  });
  const taken = new Set(ours.map(({ label }) => label));
  const isOurs = new Set(ours.map(({ stanza, set }) => `${stanza}\n${set?.label}`));
  const others = sets
    .filter(({ stanza, set }) => !isOurs.has(`${stanza}\n${set.label}`))
    .map(({ stanza, set }): Backup => {
      const { start, stop } = set.timestamp;
      // A second in which another backup began has a label already.
      const label = taken.has(labelOf(start)) ? set.label : labelOf(start);
      taken.add(label);
      const [startedAt, finishedAt] = [start, stop].map((second) => new Date(second * 1000).toISOString());
      return {
        label,
        stanza,
        type: set.type,
        status: "FINISHED",
        startedAt: startedAt as string,
        finishedAt: finishedAt as string,
        job: null,
        set,
      };
    });
  return [...ours, ...others].sort((a, b) => (a.startedAt < b.startedAt ? -1 : a.startedAt > b.startedAt ? 1 : 0));
}

/** By our label, pgBackRest's, or `latest`. */
export function findBackup(backups: readonly Backup[], label: string): Backup | undefined {
  if (label === "latest") return backups.at(-1);
  return backups.find((one) => one.label === label || one.set?.label === label || one.job?.set === label);
}
