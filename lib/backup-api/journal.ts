/**
 * What the API remembers of its jobs: one JSON object per line, the whole job each time something of it changes; the last
 * line of a label counts. Pure: `lib/io/journal-file.ts` keeps the file.
 */

import { z } from "zod";
import { BACKUP_TYPES } from "../restore/backup-info.ts";
import { hasEnded, JOB_COMMANDS, JOB_STATUSES, type Job } from "./job.ts";

const jobSchema = z.object({
  label: z.string().regex(/^\d{14}$/),
  command: z.enum(JOB_COMMANDS),
  type: z.enum(BACKUP_TYPES).nullable(),
  stanza: z.string(),
  status: z.enum(JOB_STATUSES),
  by: z.string(),
  startedAt: z.string(),
  finishedAt: z.string().nullable(),
  pid: z.number().nullable(),
  pidStarted: z.string().nullable(),
  exitCode: z.number().nullable(),
  set: z.string().nullable(),
  error: z.string().nullable(),
  hint: z.string().nullable(),
  warnings: z.array(z.string()).default([]),
  output: z.array(z.string()).default([]),
}) satisfies z.ZodType<Job>;

export const formatEntry = (job: Job): string => `${JSON.stringify(job)}\n`;

/** In the order of their starts. A line that cannot be read is counted, not fatal: a full disk leaves half of one. */
export function readJournal(text: string): { jobs: Job[]; unreadable: number } {
  const jobs = new Map<string, Job>();
  let unreadable = 0;
  for (const line of text.split("\n")) {
    if (line.trim() === "") continue;
    const job = parseEntry(line);
    if (job === undefined) unreadable++;
    else jobs.set(job.label, job);
  }
  return { jobs: [...jobs.values()].sort((a, b) => (a.label < b.label ? -1 : 1)), unreadable };
}

function parseEntry(line: string): Job | undefined {
  try {
    return jobSchema.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}

/** Those that are worth keeping: what has not ended, and the newest. */
export function newestJobs(jobs: readonly Job[], limit: number): Job[] {
  const cut = Math.max(0, jobs.length - limit);
  return jobs.filter((job, index) => index >= cut || !hasEnded(job));
}
