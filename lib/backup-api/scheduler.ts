/** Backups by the clock, for hosts without Kubernetes. What is missed while nothing runs here is not made up for, as in cron. */

import type { Schedule } from "../options.ts";
import { BACKUP_TYPES } from "../restore/backup-info.ts";
import { nextRun } from "./cron.ts";

/** Timers count 24 days at most, and a machine that slept or set its clock is noticed within this time. */
const LOOK_EVERY_MS = 30_000;

/** Set back by more, the clock was wrong before. */
const CORRECTION_MS = 3 * 3_600_000;

/** Those whose time has come by `now`, the full ones first: of several at the same moment one backup can run. */
export function dueSchedules(schedules: readonly Schedule[], since: Date, now: Date): Schedule[] {
  return schedules
    .filter(({ cron, time_zone }) => {
      const next = nextRun(cron, time_zone, since);
      return next !== null && next <= now;
    })
    .sort((a, b) => BACKUP_TYPES.indexOf(a.type) - BACKUP_TYPES.indexOf(b.type));
}

/** Until one of them is due, at most `LOOK_EVERY_MS`. */
export function untilNext(schedules: readonly Schedule[], now: Date): number {
  const times = schedules.map(({ cron, time_zone }) => nextRun(cron, time_zone, now)?.getTime() ?? Infinity);
  return Math.min(LOOK_EVERY_MS, ...times.map((time) => Math.max(0, time - now.getTime())));
}

/** Calls `run` for each that is due until the signal is aborted. */
export function startScheduler(
  schedules: readonly Schedule[],
  signal: AbortSignal,
  run: (schedule: Schedule) => Promise<void>,
): void {
  if (schedules.length === 0) return;
  let since = new Date();
  const tick = async () => {
    const now = new Date();
    // A clock that was set back must not run everything a second time; one that was wrong is right from now on, as in cron(8).
    const due = now > since ? dueSchedules(schedules, since, now) : [];
    if (now > since || since.getTime() - now.getTime() > CORRECTION_MS) since = now;
    for (const schedule of due) await run(schedule);
  };
  let timer: NodeJS.Timeout | undefined;
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  const wait = () => {
    timer = setTimeout(
      () =>
        void tick().finally(() => {
          if (!signal.aborted) wait();
        }),
      untilNext(schedules, new Date()) + 10,
    );
  };
  wait();
}
