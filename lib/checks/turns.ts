/**
 * Many checks ask the same databases. What they ask of one of them comes in a row, so that they share a session: a new one
 * costs the server more than most of their questions.
 */

import { inParallel } from "../parallel.ts";

type Work = () => Promise<void>;

export class Turns {
  /** By database; the one that has waited longest first. */
  private readonly waiting = new Map<string, Work[]>();
  /** Databases that are being asked. */
  private readonly asked = new Set<string>();
  private workers = 0;
  private done = 0;
  private total = 0;
  private readonly most: number;
  private readonly onProgress: (done: number, total: number) => void;

  /** `most`: questions at the same time. */
  constructor(most: number, onProgress: (done: number, total: number) => void = () => {}) {
    this.most = Math.max(1, most);
    this.onProgress = onProgress;
  }

  /** As `inParallel`: results in order, and the first exception stops the start of more. */
  each<R>(databases: readonly string[], work: (database: string) => Promise<R>): Promise<R[]> {
    let failure: { error: unknown } | undefined;
    const unlessFailed = async (database: string) => {
      if (failure !== undefined) throw failure.error;
      try {
        return await work(database);
      } catch (error) {
        failure ??= { error };
        throw error;
      }
    };
    return inParallel(databases, databases.length, (database) => this.take(database, () => unlessFailed(database)));
  }

  private take<R>(database: string, work: () => Promise<R>): Promise<R> {
    return new Promise((resolve, reject) => {
      const queue = this.waiting.get(database) ?? [];
      queue.push(() => work().then(resolve, reject));
      this.waiting.set(database, queue);
      this.total++;
      if (this.workers < this.most) void this.serve();
    });
  }

  private async serve(): Promise<void> {
    this.workers++;
    // A turn of the event loop, so that every check has said what it will ask.
    await new Promise((resolve) => setImmediate(resolve));
    for (let database = this.next(); database !== undefined; database = this.next()) {
      this.asked.add(database);
      for (let work = this.shift(database); work !== undefined; work = this.shift(database)) {
        await work();
        this.onProgress(++this.done, this.total);
      }
      this.asked.delete(database);
    }
    this.workers--;
  }

  /** One that nobody asks now, if there is one: two at the same would need two sessions. */
  private next(): string | undefined {
    const names = [...this.waiting.keys()];
    return names.find((name) => !this.asked.has(name)) ?? names[0];
  }

  private shift(database: string): Work | undefined {
    const queue = this.waiting.get(database);
    const work = queue?.shift();
    if (queue?.length === 0) this.waiting.delete(database);
    return work;
  }
}
