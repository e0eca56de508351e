/** What became of a job whose process was not followed to its end: the API itself was killed or lost it. */

import type { SetDescription } from "./info.ts";
import type { Job } from "./job.ts";

type Change = Pick<Job, "status" | "error" | "hint" | "set" | "finishedAt">;

/** pgBackRest writes whole seconds, and starts a moment after its process. */
const CLOCK_TOLERANCE_S = 2;

/**
 * The set that a backup made: the one whose label pgBackRest said, else the only one of its kind that was begun between its
 * start and `until` (ISO 8601).
 */
export function setOf(job: Job, sets: readonly SetDescription[], until: string): SetDescription | undefined {
  if (job.set !== null) return sets.find(({ label }) => label === job.set);
  const [from, to] = [Date.parse(job.startedAt) / 1000 - CLOCK_TOLERANCE_S, Date.parse(until) / 1000];
  // The first backup of a stanza is a full one, whatever was asked for.
  const candidates = sets.filter(
    ({ timestamp, type }) => timestamp.start >= from && timestamp.start <= to && (type === job.type || type === "full"),
  );
  return candidates.length === 1 ? candidates[0] : undefined;
}

/** `sets` are null while pgBackRest cannot be asked; the job is judged again when it can. */
export function afterLoss(job: Job, sets: readonly SetDescription[] | null, now: string): Change {
  const finishedAt = job.finishedAt ?? now;
  const lost = (error: string, hint: string | null): Change => ({
    status: "ERROR",
    error,
    hint,
    set: job.set,
    finishedAt,
  });
  if (job.pid === null) return lost("backup-api was ended before it had started pgBackRest", null);
  if (job.command !== "backup") return lost(`backup-api was ended while ${job.command} ran`, "start it again");
  if (sets === null) {
    return lost(`${ENDED}, and ${UNKNOWN}`, "GET /info says when pgBackRest can be asked again");
  }
  const set = setOf(job, sets, now);
  if (set === undefined) {
    return lost(`${ENDED}; no backup set came of it`, "the next backup goes on with what was copied");
  }
  return {
    status: "FINISHED",
    error: null,
    hint: null,
    set: set.label,
    finishedAt: new Date(set.timestamp.stop * 1000).toISOString(),
  };
}

const ENDED = "backup-api was ended while this backup ran";
const UNKNOWN = "whether it was completed is not yet known";

/** True for a job that `afterLoss` has judged without knowing the sets. */
export const isUndecided = (job: Job): boolean => job.status === "ERROR" && (job.error?.endsWith(UNKNOWN) ?? false);
