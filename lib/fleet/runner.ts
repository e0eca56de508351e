/** What runs restore tests: processes of this machine (local/), or StatefulSets (kubernetes/). */

import type { Service } from "./service.ts";
import type { Status, Test, TestEnd } from "./test.ts";

/** All that is to be seen of one test, started by whatever scheduler. */
export interface Observation {
  test: string;
  service: string;
  /** Statuses between `marking` and the end that it has reached; the time is the test's own where it is known. */
  changes: readonly { status: Status; at: Date }[];
  /** Null while it goes on. */
  end: TestEnd | null;
}

/** What a restore test is told beside its settings: contents of files. */
export interface TestInput {
  /** mark's; null when there is no source to ask. */
  receipt: string | null;
  /** Of the service's last test, its `coverage` alone: what it proved waits until the rest is proven. */
  previousReport: string | null;
}

export interface Runner {
  /**
   * Tells what there is, at once and on every change, until the signal: tests of earlier schedulers too. Returns when all
   * that is there was told once. Telling the same twice is allowed.
   */
  watch(tell: (observation: Observation) => void, signal: AbortSignal): Promise<void>;
  /** Returns when it is there to be observed, even by a scheduler after a crash. */
  start(test: Test, service: Service, input: TestInput): Promise<void>;
  /** Ends it early; an observation of its end follows. Nothing happens when there is no such test. */
  cancel(test: string): Promise<void>;
  /** Takes everything of it away, and of kept instances of this service before it. Nothing happens when there is none. */
  remove(test: string, options: { keepInstance: boolean }): Promise<void>;
  /** The tests of which there is anything. */
  present(): ReadonlySet<string>;
  /** Why what it tells may be out of date; null when it is not. */
  problem(): string | null;
}

/** A source of services: a file (local/), or Kubernetes' leader objects. */
export interface Watch {
  /** Calls back with each service that there is or that changed, until the signal; returns after the first complete look. */
  start(on: { update(service: Service): void; remove(id: string): void }, signal: AbortSignal): Promise<void>;
  /** Why it may be out of date; null when it is not. */
  problem(): string | null;
}
