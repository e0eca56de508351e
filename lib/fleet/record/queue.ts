/**
 * Status changes on their way into the record: written in order, one after another, again and again while the database is
 * away. Bounded by the tests in progress: none begins while nothing can be written.
 */

import { setTimeout as delay } from "node:timers/promises";

export interface WriteQueue<T> {
  /** Resolves when it is written; rejects when it never will be. The same key that waits already is the same. */
  add(key: string, item: T): Promise<void>;
  size(): number;
  /** Waits until all is written, or so long. What is left then is rejected. */
  close(limitMs: number): Promise<void>;
}

export interface QueueOptions<T> {
  /** Throws when it has to be tried again. */
  write(item: T): Promise<"written" | Error>;
  /** Of an attempt that failed; the first of a row of equal ones only. */
  onFailure(error: unknown, waiting: number): void;
  retryMs?: { first: number; longest: number };
}

interface Entry<T> {
  key: string;
  item: T;
  done: Promise<void>;
  resolve(): void;
  reject(error: Error): void;
}

export function writeQueue<T>({ write, onFailure, retryMs = { first: 100, longest: 5_000 } }: QueueOptions<T>) {
  const entries = new Map<string, Entry<T>>();
  const closing = new AbortController();
  let working: Promise<void> | null = null;

  async function work(): Promise<void> {
    let wait = retryMs.first;
    let failure = "";
    for (;;) {
      const [entry] = entries.values();
      if (entry === undefined || closing.signal.aborted) return;
      try {
        const result = await write(entry.item);
        entries.delete(entry.key);
        if (result === "written") entry.resolve();
        else entry.reject(result);
        [wait, failure] = [retryMs.first, ""];
      } catch (error) {
        if (String(error) !== failure) onFailure(error, entries.size);
        failure = String(error);
        await delay(wait, undefined, { signal: closing.signal }).catch(() => {});
        wait = Math.min(wait * 2, retryMs.longest);
      }
    }
  }

  function start(): void {
    working ??= work().finally(() => {
      working = null;
      // One may have been added after the last look.
      if (entries.size > 0 && !closing.signal.aborted) start();
    });
  }

  const queue: WriteQueue<T> = {
    add(key, item) {
      const known = entries.get(key);
      if (known !== undefined) return known.done;
      if (closing.signal.aborted) return Promise.reject(new Error("the record is closed"));
      let resolve = () => {};
      let reject: (error: Error) => void = () => {};
      const done = new Promise<void>((yes, no) => {
        resolve = yes;
        reject = no;
      });
      entries.set(key, { key, item, done, resolve, reject });
      start();
      return done;
    },
    size: () => entries.size,
    async close(limitMs) {
      if (working !== null) await Promise.race([working, delay(limitMs, undefined, { ref: false })]);
      closing.abort();
      await working;
      for (const { key, reject } of entries.values())
        reject(new Error(`the record was closed before ${key} was written`));
      entries.clear();
    },
  };
  return queue;
}
