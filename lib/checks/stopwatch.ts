/** How long somebody was at work, without what he waited for others; and a limit for that. */
export class Stopwatch {
  private readonly counts = { waits: 0, works: 0 };
  private ended = false;
  /** Since when it runs; null while it stands. */
  private since: number | null = null;
  private spent = 0;
  private timer: NodeJS.Timeout | undefined;
  private readonly limitMs: number | null;
  private readonly onLimit: () => void;

  /** Runs at once. `limitMs`: null is none. */
  constructor(limitMs: number | null, onLimit: () => void) {
    this.limitMs = limitMs;
    this.onLimit = onLimit;
    this.update();
  }

  /** In milliseconds. */
  get elapsedMs(): number {
    return this.spent + (this.since === null ? 0 : performance.now() - this.since);
  }

  /** Stands meanwhile, but for what is done `during` it. */
  except<T>(wait: () => Promise<T>): Promise<T> {
    return this.counting("waits", wait);
  }

  during<T>(work: () => Promise<T>): Promise<T> {
    return this.counting("works", work);
  }

  /** Stands for good. */
  end(): void {
    this.ended = true;
    this.update();
  }

  private async counting<T>(what: keyof Stopwatch["counts"], doing: () => Promise<T>): Promise<T> {
    this.counts[what]++;
    this.update();
    try {
      return await doing();
    } finally {
      this.counts[what]--;
      this.update();
    }
  }

  private update(): void {
    const runs = !this.ended && (this.counts.works > 0 || this.counts.waits === 0);
    if (runs === (this.since !== null)) return;
    if (runs) {
      this.since = performance.now();
      if (this.limitMs === null) return;
      this.timer = setTimeout(this.onLimit, Math.min(Math.max(this.limitMs - this.spent, 0), LONGEST_TIMER_MS));
    } else {
      this.spent = this.elapsedMs;
      this.since = null;
      clearTimeout(this.timer);
    }
  }
}

/** The longest that setTimeout takes. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
