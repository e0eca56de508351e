/**
 * Starts tests, follows them to their end, and takes away what is left of them. One round is asked for every second and
 * whenever something happened; only the scheduler that leads does anything, the others keep themselves informed.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { messageOf, RestoreError, reportError } from "../errors.ts";
import type { Log } from "../log.ts";
import { formatDuration } from "../units.ts";
import type { Candidate, Limits } from "./decide.ts";
import { type Outcome, outcomeOf } from "./outcome.ts";
import type { Observation, Runner } from "./runner.ts";
import type { Service } from "./service.ts";
import type { Fleet } from "./state.ts";
import type { History, RunningTest, Store } from "./store.ts";
import { changesOf, inOrder, isEnd, newTestId, type Status, type Test, type TestEnd } from "./test.ts";

export interface SchedulerOptions {
  fleet: Fleet;
  store: Store & Pick<History, "test">;
  runner: Runner;
  /** Places the marker on the source and gives the receipt's text. */
  mark(test: Test, service: Service, signal: AbortSignal): Promise<string>;
  limits(): Limits;
  /** For each test, from its beginning. */
  deadlineMs: number;
  /** The last failed instance of a service stays for a person. */
  keepFailed: boolean;
  /** Of this scheduler, as the record names it. */
  name: string;
  log: Log;
  /** For counting. */
  onEnd?(outcome: Outcome): void;
}

export interface Scheduler {
  round(): Promise<void>;
  /** What the runner tells; looked at in the next round. */
  observe(observation: Observation): void;
  /** Says what becomes of the tests. */
  announceStop(): void;
  /** Ends what only this process can go on with, and waits until it is recorded, at most so long; tests that run go on. */
  stop(limitMs: number): Promise<void>;
}

/** All services are looked at within so many rounds, whoever updates them. */
const SWEEP_ROUNDS = 30;
/** The test itself keeps its deadline where it can, and says then what took so long. */
const LATE_AFTER_MS = 15_000;
/** Between the end that was asked for and the one that is recorded without being seen. */
const REAP_AFTER_MS = 60_000;
/** Before what could not be removed is tried again. */
const REMOVE_AGAIN_AFTER_MS = 30_000;
/** Of a test of which nothing is to be seen: one that has just begun or ended may be on its way. */
const LOST_AFTER_ROUNDS = 3;

export function createScheduler(options: SchedulerOptions): Scheduler {
  const { fleet, store, runner, log } = options;
  const observations = new Map<string, Observation>();
  const driven = new Map<string, AbortController>();
  /** Until all is removed and the record has shown them without slot; true when all is removed. */
  const finishing = new Map<string, boolean>();
  const recorded = new Map<string, Set<Status>>();
  const lostRounds = new Map<string, number>();
  const cancelledAt = new Map<string, number>();
  /** What could not be removed, and what is not ours: not touched before then. */
  const leftAlone = new Map<string, number>();
  let isStopping = false;

  /** Never throws; false when it never will be recorded: the record was closed, or refuses it. */
  const recordOnce = async (test: Pick<Test, "id" | "service">, status: Status, at: Date, end?: TestEnd) => {
    const known = recorded.get(test.id) ?? new Set();
    recorded.set(test.id, known);
    if (known.has(status)) return true;
    known.add(status);
    log.info("test", `${test.service}: ${status}`, {
      test: test.id,
      outcome: end?.outcome,
      error: end?.error?.message,
    });
    try {
      await store.record({ test: test.id, service: test.service, status, at, ...(end === undefined ? {} : { end }) });
      return true;
    } catch (error) {
      // The end of this process says how many there were.
      if (!isStopping) log.error("test", messageOf(error), { test: test.id });
      return false;
    }
  };

  const finish = async (test: Pick<Test, "id" | "service">, status: Status, at: Date, end: TestEnd) => {
    if (finishing.has(test.id)) return;
    finishing.set(test.id, false);
    const keepInstance = options.keepFailed && (end.outcome === "unhealthy" || end.outcome === "restore");
    // What is left of it tells the next scheduler how it ended, so it stays until that is recorded.
    options.onEnd?.(end.outcome);
    if (!(await recordOnce(test, status, at, end))) return;
    await remove(test.id, keepInstance);
    finishing.set(test.id, true);
  };

  const remove = async (test: string, keepInstance: boolean) => {
    try {
      await runner.remove(test, { keepInstance });
      observations.delete(test);
      leftAlone.delete(test);
    } catch (error) {
      // A later round finds it without slot, and tries again.
      leftAlone.set(test, Date.now() + REMOVE_AGAIN_AFTER_MS);
      log.warn("test", `what is left of a test cannot be removed: ${messageOf(error)}`, { test });
    }
  };

  async function begin({ service, standing }: Candidate, reason: string): Promise<void> {
    const now = new Date();
    const test: Test = {
      id: newTestId(),
      service: service.id,
      namespace: service.namespace,
      scope: service.scope,
      stanza: service.stanza,
      groups: service.groups,
      weight: service.policy.weight,
      reason,
      requestedAt: now,
      deadlineAt: new Date(now.getTime() + options.deadlineMs),
      scheduler: options.name,
    };
    const refusal = await store.begin(test, options.limits());
    if (refusal !== null) return log.info("decide", `${service.id} does not start: ${refusal}`);
    recorded.set(test.id, new Set(["requested"]));
    fleet.note({ ...test, statuses: ["requested"], statusAt: now });
    log.info("test", `${service.id}: requested, because ${reason}`, { test: test.id });
    const controller = new AbortController();
    driven.set(test.id, controller);
    void drive(test, service, standing.last?.id ?? null, controller.signal).finally(() => driven.delete(test.id));
  }

  /** From the slot to the runner. Never throws. */
  async function drive(test: Test, service: Service, previous: string | null, signal: AbortSignal): Promise<void> {
    let isMarking = false;
    try {
      let receipt: string | null = null;
      if (service.source !== null) {
        // Waited for: a scheduler that is killed takes what was not recorded with it, and the source would be marked for nobody.
        await orAborted(recordOnce(test, "marking", new Date()), signal);
        isMarking = true;
        receipt = await options.mark(test, service, signal);
        isMarking = false;
      }
      const report = previous === null ? null : ((await store.test(previous))?.report ?? null);
      signal.throwIfAborted();
      // Another one may lead by now, and have given the slot away.
      if (!(await store.holds(test.id)))
        return log.warn("test", `${test.service}: its slot is lost`, { test: test.id });
      await runner.start(test, service, {
        receipt,
        previousReport: report === null ? null : JSON.stringify({ coverage: report.coverage }),
      });
    } catch (thrown) {
      const error = signal.aborted && signal.reason instanceof RestoreError ? signal.reason : thrown;
      if (!(error instanceof RestoreError)) log.error("test", messageOf(error), { stack: (error as Error)?.stack });
      const end: TestEnd = {
        outcome: outcomeBeforeStart(error, isMarking),
        error: reportError(error),
        report: null,
      };
      await finish(test, end.outcome === "cancelled" ? "cancelled" : "error", new Date(), end);
    }
  }

  async function follow(now: Date): Promise<void> {
    const running = new Map(fleet.running().map((test) => [test.id, test]));
    for (const [id, isRemoved] of finishing) if (isRemoved && !running.has(id)) finishing.delete(id);
    for (const map of [recorded, lostRounds, cancelledAt]) {
      for (const id of map.keys()) if (!running.has(id) && !driven.has(id)) map.delete(id);
    }
    for (const observation of [...observations.values()]) {
      const test = running.get(observation.test);
      if (test !== undefined) followOne(test, observation);
      else if (mayRemove(observation.test, now)) void removeRest(observation);
    }
    for (const test of running.values()) await reap(test, now);
  }

  function followOne(test: RunningTest, { changes, end }: Observation): void {
    recorded.set(test.id, new Set([...test.statuses, ...(recorded.get(test.id) ?? [])]));
    // What went too fast to be seen is in the report.
    const all = inOrder(end?.report ? [...changes, ...changesOf(end.report)] : changes);
    for (const { status, at } of all) void recordOnce(test, status, at);
    if (end === null) return;
    // One that came to its verdict all the same has it.
    const isProven = end.outcome === "healthy" || end.outcome === "unhealthy";
    if (cancelledAt.delete(test.id) && !isProven) {
      const error = reportError(late(test));
      return void finish(test, "reaped", new Date(), { outcome: "restore", error, report: end.report });
    }
    const endedAt = end.report?.finished_at ? new Date(end.report.finished_at) : new Date();
    const last = all.at(-1)?.at ?? endedAt;
    void finish(test, statusOf(end), new Date(Math.max(last.getTime(), endedAt.getTime())), end);
  }

  const mayRemove = (id: string, now: Date) =>
    !driven.has(id) && !finishing.has(id) && now.getTime() >= (leftAlone.get(id) ?? 0);

  /** Its end is recorded: nothing of it may stay. No round waits for that, large files take their time. Never throws. */
  async function removeRest({ test, service, end }: Observation): Promise<void> {
    finishing.set(test, false);
    try {
      // All that this fleet ever began is in its record before anything else is there.
      if ((await store.test(test)) === null) {
        leftAlone.set(test, Number.POSITIVE_INFINITY);
        log.warn("test", `${service}: a test is there that this record does not know, and is left alone`, {
          test,
          hint: "another fleet's, or of a record that is gone: fleets with records of their own need places of their own",
        });
      } else {
        log.info("test", `${service}: removes what is left of a test that has no slot`, { test });
        if (end === null) await runner.cancel(test).catch((error) => log.warn("test", messageOf(error), { test }));
        await remove(test, false);
      }
    } catch {
      // The record is away, and says so itself.
    }
    finishing.set(test, true);
  }

  /** A standby removes nothing, so what others removed must not be kept in memory. */
  function forgetGone(): void {
    const [present, running] = [runner.present(), new Set(fleet.running().map(({ id }) => id))];
    for (const id of observations.keys()) {
      if (present.has(id) || running.has(id) || driven.has(id)) continue;
      observations.delete(id);
      leftAlone.delete(id);
    }
  }

  async function reap(test: RunningTest, now: Date): Promise<void> {
    if (finishing.has(test.id)) return;
    const isLate = now.getTime() > test.deadlineAt.getTime() + LATE_AFTER_MS;
    const controller = driven.get(test.id);
    if (controller !== undefined) {
      if (isLate && !controller.signal.aborted) controller.abort(late(test));
      return;
    }
    if (!runner.present().has(test.id)) {
      const rounds = (lostRounds.get(test.id) ?? 0) + 1;
      lostRounds.set(test.id, rounds);
      if (rounds < LOST_AFTER_ROUNDS) return;
      lostRounds.delete(test.id);
      const whose = test.scheduler === options.name ? "" : `; its scheduler ${test.scheduler} ended or lost its slot`;
      const message = `nothing is left of the test, last seen ${test.statuses.at(-1) ?? "requested"}${whose}`;
      return void finish(test, "reaped", now, {
        outcome: "infra",
        error: reportError(new Error(message)),
        report: null,
      });
    }
    lostRounds.delete(test.id);
    if (!isLate) return;
    const since = cancelledAt.get(test.id);
    if (since === undefined) {
      cancelledAt.set(test.id, now.getTime());
      log.warn("test", `${test.service}: past its deadline, and ended`, { test: test.id });
      await runner.cancel(test.id).catch((error) => log.warn("test", messageOf(error), { test: test.id }));
    } else if (now.getTime() - since > REAP_AFTER_MS) {
      cancelledAt.delete(test.id);
      void finish(test, "reaped", now, { outcome: "restore", error: reportError(late(test)), report: null });
    }
  }

  return {
    async round() {
      const now = new Date();
      try {
        const { standings, running } = await store.changes();
        for (const [id, standing] of standings) fleet.setStanding(id, standing, now);
        fleet.setRunning(running, now);
        forgetGone();
        fleet.sweep(now, SWEEP_ROUNDS);
        const unknown = fleet.unknown();
        if (unknown.length > 0) await store.seen(unknown);
        if (isStopping) return;
        if (!store.leads()) {
          for (const controller of driven.values()) controller.abort(notLeading());
          return;
        }
        const missing = fleet.missing();
        if (missing.length > 0) {
          await store.gone(missing);
          fleet.forget(missing);
          log.info("watch", `${missing.length} services are there no more`, { first: missing[0] });
        }
        for (const { id, wanted } of fleet.wanted()) {
          if (wanted !== null) await store.want(id, "annotation", wanted);
        }
        await follow(now);
        for (const candidate of fleet.choose(now)) {
          const { decision } = fleet.get(candidate.service.id) ?? {};
          await begin(candidate, decision?.reason ?? "it is due");
        }
      } catch (error) {
        // The store says itself why it is away; what else there is must not end the rounds.
        if (store.problem() === null) log.error("scheduler", messageOf(error), { stack: (error as Error)?.stack });
      }
    },
    observe(observation) {
      observations.set(observation.test, observation);
    },
    announceStop() {
      const goOn = fleet.running().filter(({ id }) => !driven.has(id)).length;
      const parts = [
        goOn > 0
          ? `${count(goOn, "test")} in progress ${goOn === 1 ? "goes" : "go"} on, for the next scheduler to follow`
          : null,
        driven.size > 0
          ? `${count(driven.size, "test")} that had not begun to restore ${driven.size === 1 ? "is" : "are"} cancelled`
          : null,
      ].filter((part) => part !== null);
      log.info("stop", `this scheduler ends; ${parts.join("; ") || "no test is in progress"}`);
    },
    async stop(limitMs) {
      isStopping = true;
      for (const controller of driven.values()) {
        controller.abort(new RestoreError("TERMINATED", "the scheduler is being stopped"));
      }
      const until = performance.now() + limitMs;
      while ((driven.size > 0 || store.pending() > 0) && performance.now() < until) await sleep(50);
      if (store.pending() > 0)
        log.warn(
          "stop",
          `${store.pending()} status changes are not recorded; what is left of their tests tells the next scheduler`,
        );
    },
  };
}

/** Throws the signal's reason when that comes first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

const count = (n: number, what: string) => `${n} ${what}${n === 1 ? "" : "s"}`;

const late = ({ requestedAt, deadlineAt }: Test) =>
  new RestoreError(
    "TIMED_OUT",
    `the restore test was not done within ${formatDuration(deadlineAt.getTime() - requestedAt.getTime())}`,
    { hint: "raise the deadline, or see in its statuses what took so long" },
  );

/** The backup was not touched yet, so nothing is said of it. */
function outcomeBeforeStart(error: unknown, isMarking: boolean): Outcome {
  const outcome = error instanceof RestoreError ? outcomeOf(error.exitCode) : "infra";
  if (outcome === "source" || outcome === "cancelled") return outcome;
  // A mark that never ends waits for its source.
  return isMarking && error instanceof RestoreError && error.code === "TIMED_OUT" ? "source" : "infra";
}

const notLeading = () => new RestoreError("TERMINATED", "another scheduler leads, or the record is away");

function statusOf({ outcome }: TestEnd): Status {
  const own = outcome as Status;
  return isEnd(own) ? own : "error";
}
