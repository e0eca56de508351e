/** Cron expressions, as crontab(5) writes them, with time zones. Pure: `scheduler.ts` waits. */

import { Cron } from "croner";

/** Why it is not one, or undefined. */
export function cronProblem(pattern: string): string | undefined {
  try {
    const cron = new Cron(pattern, { paused: true });
    return cron.nextRun() === null ? `"${pattern}" never comes` : undefined;
  } catch (error) {
    return `"${pattern}" is not a cron expression such as "0 1 * * 0": ${(error as Error).message.replace(/^\w+: /, "")}`;
  }
}

export function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** Null when it never comes again. */
export function nextRun(pattern: string, timeZone: string, after: Date): Date | null {
  return new Cron(pattern, { timezone: timeZone, paused: true }).nextRun(after);
}
