/** An answer that is expensive to get: kept, and asked for again when somebody needs a newer one. */

import { messageOf } from "../errors.ts";

export interface Cached<T> {
  /** The newest answer, null before the first. */
  latest(): { at: Date; value: T } | null;
  /** Why the last attempt failed, null when it did not. */
  failure(): string | null;
  /** Not older than that, and only one question at a time, however many ask. Throws what the question throws. */
  read(maxAgeMs: number): Promise<{ at: Date; value: T }>;
}

export function cached<T>(ask: () => Promise<T>): Cached<T> {
  let latest: { at: Date; value: T } | null = null;
  let failure: string | null = null;
  let asking: { since: number; done: Promise<{ at: Date; value: T }> } | undefined;

  async function askNow(): Promise<{ at: Date; value: T }> {
    const at = new Date();
    try {
      latest = { at, value: await ask() };
      failure = null;
      return latest;
    } catch (error) {
      failure = messageOf(error);
      throw error;
    }
  }

  return {
    latest: () => latest,
    failure: () => failure,
    read(maxAgeMs) {
      const oldest = Date.now() - maxAgeMs;
      if (latest !== null && failure === null && latest.at.getTime() >= oldest) return Promise.resolve(latest);
      if (asking !== undefined && asking.since >= oldest) return asking.done;
      // A question that was put too early for this caller ends first: two at once would only be slower.
      const before: Promise<unknown> = asking?.done.catch(() => {}) ?? Promise.resolve();
      const mine = { since: Date.now(), done: before.then(askNow) };
      asking = mine;
      mine.done
        .catch(() => {})
        .finally(() => {
          if (asking === mine) asking = undefined;
        });
      return mine.done;
    },
  };
}
