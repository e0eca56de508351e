/** Waiting, always with a limit or a signal. */

/** Throws the signal's reason when it is aborted meanwhile. `giveEnd` is given what ends it early. */
export async function pause(ms: number, signal: AbortSignal, giveEnd?: (end: () => void) => void): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", onAbort, { once: true });
    giveEnd?.(end);
  });
}

/** Ends a wait at once when something has happened, also between two waits. */
export function makeBell() {
  let hasRung = false;
  let wake: (() => void) | undefined;
  return {
    ring(): void {
      hasRung = true;
      wake?.();
    },
    /** Until it rings, `atMostMs` at most. Throws the signal's reason when it is aborted meanwhile. */
    async wait(atMostMs: number, signal: AbortSignal): Promise<void> {
      if (!hasRung) {
        await pause(atMostMs, signal, (end) => {
          wake = end;
        });
      }
      wake = undefined;
      hasRung = false;
      signal.throwIfAborted();
    },
  };
}

/** setTimeout's own limit, 24.8 days; beyond it, it fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Calls back with a signal that is aborted by `outer`, or with `reason()` when `limitMs` is over. */
export async function withLimit<T>(
  outer: AbortSignal,
  limitMs: number,
  reason: () => Error,
  use: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(reason()), Math.min(limitMs, LONGEST_TIMER_MS));
  try {
    return await use(AbortSignal.any([outer, limit.signal]));
  } finally {
    clearTimeout(timer);
  }
}

/** A budget that shrinks to `hurriedMs` once `hurry` is aborted: clean-up must be over before somebody kills it. */
export function patience(limitMs: number, hurriedMs: number, hurry: AbortSignal): () => number {
  let hurriedSince: number | undefined;
  const startedAt = performance.now();
  return () => {
    const now = performance.now();
    if (hurry.aborted) hurriedSince ??= now;
    // Differences first: a sum with the clock's fractions may come out above the limit.
    const left = limitMs - (now - startedAt);
    return hurriedSince === undefined ? left : Math.min(left, hurriedMs - (now - hurriedSince));
  };
}
