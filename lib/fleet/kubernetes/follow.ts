/**
 * Follows all objects that a selector chooses: a list in pages, then a watch from its version, for ever. Whatever breaks,
 * nothing is missed: a watch that broke goes on from the last version; one that cannot (410 Gone) is followed by a new
 * list, and what went away meanwhile is told from the difference.
 */

import { messageOf } from "../../errors.ts";
import { type Kubernetes, type KubernetesObject, type Place, statusOf, type WatchEvent } from "../../io/kubernetes.ts";

export interface Follow<T> {
  api: Pick<Kubernetes, "list" | "watch">;
  place: Place;
  selector: string;
  /** What is kept of an object; null when it is of no interest. */
  pick(object: KubernetesObject): T | null;
  /** The object is there, or was changed. */
  update(key: string, value: T): void;
  remove(key: string, value: T): void;
  /** How it stands: null while all is well. */
  problem(text: string | null): void;
  limits?: Partial<FollowLimits>;
}

export interface FollowLimits {
  /** Objects on a page of a list. */
  pageSize: number;
  /** A complete list again so often, should ever an event be lost. */
  resyncMs: number;
  /** The server ends a watch by itself after so long; spread, so that a fleet's watches do not end at once. */
  watchSeconds: number;
  /** Bookmarks come every minute. */
  idleMs: number;
  retryMs: number;
  retryMaximumMs: number;
}

const LIMITS: FollowLimits = {
  pageSize: 500,
  resyncMs: 60 * 60_000,
  watchSeconds: 300,
  idleMs: 90_000,
  retryMs: 500,
  retryMaximumMs: 30_000,
};

/** Of the same object in all namespaces. */
export const keyOf = ({ metadata }: Pick<KubernetesObject, "metadata">) =>
  `${metadata.namespace ?? ""}/${metadata.name}`;

/** Returns after the first complete list; goes on until the signal. */
export function follow<T>(input: Follow<T>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    void run(input, signal, resolve).finally(resolve);
  });
}

async function run<T>(input: Follow<T>, signal: AbortSignal, onComplete: () => void): Promise<void> {
  const limits = { ...LIMITS, ...input.limits };
  const known = new Map<string, { version: string; value: T }>();
  let version: string | null = null;
  let listedAt = 0;
  let failures = 0;

  const keep = (object: KubernetesObject): string => {
    const key = keyOf(object);
    const objectVersion = object.metadata.resourceVersion ?? "";
    const before = known.get(key);
    if (before?.version === objectVersion) return key;
    const value = input.pick(object);
    if (value === null) drop(key);
    else {
      known.set(key, { version: objectVersion, value });
      input.update(key, value);
    }
    return key;
  };
  const drop = (key: string) => {
    const before = known.get(key);
    if (before === undefined) return;
    known.delete(key);
    input.remove(key, before.value);
  };

  async function list(): Promise<string> {
    const seen = new Set<string>();
    let next: string | null = null;
    let listVersion = "";
    do {
      const page = await input.api.list(input.place, { selector: input.selector, limit: limits.pageSize, next });
      signal.throwIfAborted();
      for (const object of page.items) seen.add(keep(object));
      listVersion = page.resourceVersion;
      next = page.next;
    } while (next !== null);
    for (const key of [...known.keys()]) if (!seen.has(key)) drop(key);
    return listVersion;
  }

  async function watch(from: string): Promise<void> {
    const untilResync = listedAt + limits.resyncMs - performance.now();
    const seconds = Math.ceil(Math.min(limits.watchSeconds * (0.8 + 0.4 * Math.random()), untilResync / 1000));
    await input.api.watch(
      input.place,
      {
        selector: input.selector,
        resourceVersion: from,
        timeoutSeconds: Math.max(1, seconds),
        idleMs: limits.idleMs,
        onOpen: () => input.problem(null),
        onEvent(event: WatchEvent) {
          if (signal.aborted) return;
          failures = 0;
          if (event.type === "DELETED") drop(keyOf(event.object));
          else if (event.type !== "BOOKMARK") keep(event.object);
          // Last: what could not be taken in must come again.
          version = event.object.metadata.resourceVersion ?? version;
        },
      },
      signal,
    );
  }

  while (!signal.aborted) {
    const startedAt = performance.now();
    try {
      if (version === null || startedAt - listedAt > limits.resyncMs) {
        version = await list();
        listedAt = performance.now();
        failures = 0;
        input.problem(null);
        onComplete();
      }
      await watch(version);
      // A server that ends every watch at once must not be asked in a circle.
      if (performance.now() - startedAt < 1000) await pause(limits.retryMs * jitter(), signal);
    } catch (error) {
      if (signal.aborted) return;
      const status = statusOf(error);
      // Where the server answered it can also be listed again; while it is away the last version stays good.
      if (status !== null && status !== 429) version = null;
      const isExpected = status === 410 && failures === 0;
      failures++;
      if (isExpected) continue;
      input.problem(`${input.place.kind} objects cannot be watched: ${messageOf(error)}`);
      await pause(Math.min(limits.retryMs * 2 ** (failures - 1), limits.retryMaximumMs) * jitter(), signal);
    }
  }
}

const jitter = () => 0.5 + Math.random();

function pause(limitMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, limitMs);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
