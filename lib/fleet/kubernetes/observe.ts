/**
 * How a restore test stands, from its objects. Pure. A failed bootstrap never makes a leader object, a container's exit code
 * is 0 as process 1, and an interrupted bootstrap is adopted at the next start without any check. So healthy is what the
 * report says and Patroni's leader confirms, in the first life of the first pod; and every other end has its evidence.
 */

import { RestoreError, reportError } from "../../errors.ts";
import type { Report } from "../../report/report.ts";
import { formatDuration } from "../../units.ts";
import { type Outcome, outcomeOfError } from "../outcome.ts";
import type { Observation } from "../runner.ts";
import { changesOf, type Status, type TestEnd } from "../test.ts";
import type { ConfigFacts, LeaderFacts, PodFacts, SetFacts } from "./facts.ts";

export interface TestFacts {
  /** Null: it was not made yet, or it is gone. */
  set: SetFacts | null;
  pod: PodFacts | null;
  config: ConfigFacts | null;
  leader: LeaderFacts | null;
  /** Of its first pod, which may be gone. */
  lastReport: Report | null;
}

export interface ObserveLimits {
  /** For the pod to run: images are pulled and volumes made in it. */
  startMs: number;
  /** From the last check to Patroni's leader object. */
  leaderMs: number;
}

export const OBSERVE_LIMITS: ObserveLimits = { startMs: 15 * 60_000, leaderMs: 10 * 60_000 };

export function observe(set: SetFacts, facts: Omit<TestFacts, "set">, now: Date, limits: ObserveLimits): Observation {
  return {
    test: set.test,
    service: set.service,
    changes: changesIn(facts, now),
    end: endOf(set, facts, now, limits),
  };
}

/** The report has the times; Patroni's state speaks for a pod whose hooks cannot reach the API. */
function changesIn({ pod, lastReport }: Omit<TestFacts, "set">, now: Date): { status: Status; at: Date }[] {
  const report = pod?.report ?? lastReport;
  if (report !== null) return changesOf(report);
  return pod?.state === "running custom bootstrap script" ? [{ status: "restoring", at: now }] : [];
}

function endOf(set: SetFacts, facts: Omit<TestFacts, "set">, now: Date, limits: ObserveLimits): TestEnd | null {
  const isFirst = facts.pod?.uid === set.podUid || set.podUid === null;
  const report = (isFirst ? facts.pod?.report : null) ?? facts.lastReport;
  const verdict = report === null ? null : verdictOf(set, report, facts);
  if (verdict !== null) return verdict;
  if (set.cancelledAt !== null) {
    const error = new RestoreError("TERMINATED", `it was cancelled; ${situation(facts)}`);
    return { outcome: "cancelled", error: reportError(error), report };
  }
  const lost = lossOf(set, facts);
  if (lost !== null) return infra(lost, report);
  const isProven = report?.verdict === "healthy" && report.finished_at !== null;
  if (facts.leader?.holder != null && !isProven) {
    return infra(
      "Patroni leads an instance that was never proven: post_bootstrap was not called, or could not say its verdict",
      report,
      "see the pod's log: post-bootstrap must be Patroni's post_bootstrap, with annotate_pod",
    );
  }
  if (hasGivenUp(facts)) {
    return isProven
      ? infra("every check passed, but Patroni then gave the instance up", report, "see the pod's log")
      : infra(`Patroni gave its bootstrap up without a report; ${situation(facts)}`, report, "see the pod's log");
  }
  return lateEnd(set, facts, report, now, limits);
}

/** What the report says for good; null while it does not. */
function verdictOf(set: SetFacts, report: Report, { config, leader }: Omit<TestFacts, "set">): TestEnd | null {
  if (report.finished_at === null) return null;
  if (report.error !== null) {
    const outcome = report.verdict === "unhealthy" ? "unhealthy" : outcomeOfError(report.error);
    // An end by a signal that nobody of the fleet sent: the pod was taken away.
    const isEvicted = outcome === "cancelled" && set.cancelledAt === null;
    return { outcome: isEvicted ? "infra" : outcome, error: report.error, report };
  }
  if (report.verdict !== "healthy") return null;
  const restored = report.recovered?.system_identifier ?? null;
  const expected = set.expected ?? restored;
  if (restored !== expected) {
    return unhealthy(`the restored system identifier is ${restored}, the source's is ${expected}`, report);
  }
  if (leader?.holder == null) return null;
  const initialize = config?.initialize ?? null;
  // The leader is there first, for a moment, or the two are seen in another order.
  if (initialize === null || initialize === "") return null;
  if (initialize !== expected) {
    return unhealthy(
      `Patroni leads a cluster with system identifier ${initialize}, the restored one is ${expected}`,
      report,
    );
  }
  return { outcome: "healthy", error: null, report };
}

/** Why it cannot come to an end any more. */
function lossOf(set: SetFacts, { pod }: Omit<TestFacts, "set">): string | null {
  if (set.isDeleting) return "its StatefulSet was deleted by somebody";
  if (pod === null) return set.podUid === null ? null : "its pod is gone";
  if (set.podUid !== null && pod.uid !== set.podUid)
    return "its pod was replaced by another, after an eviction or a deletion";
  if (pod.isDeleting) return "its pod was deleted, or evicted from its node";
  if (pod.phase === "Failed") return `its pod failed: ${pod.trouble ?? pod.lastExit ?? "nobody says why"}`;
  if (pod.restarts > 0) return `its container ended before a verdict: ${pod.lastExit ?? "nobody says how"}`;
  return null;
}

/** Patroni makes the object with an empty `initialize`, and takes the key away when the bootstrap failed. */
const hasGivenUp = ({ config, pod }: Omit<TestFacts, "set">) =>
  config !== null && config.initialize === null && pod?.state === "stopped";

function lateEnd(
  set: SetFacts,
  facts: Omit<TestFacts, "set">,
  report: Report | null,
  now: Date,
  limits: ObserveLimits,
): TestEnd | null {
  if (facts.pod?.hasStarted !== true && report === null && now.getTime() - set.createdAt.getTime() > limits.startMs) {
    const why = facts.pod?.trouble ?? (facts.pod === null ? "there is no pod" : `it is ${facts.pod.phase}`);
    return infra(`its pod did not run within ${formatDuration(limits.startMs)}: ${why}`, null);
  }
  if (report?.verdict !== "healthy" || report.finished_at === null) return null;
  if (now.getTime() - Date.parse(report.finished_at) <= limits.leaderMs) return null;
  return infra(
    `every check passed, but Patroni did not lead within ${formatDuration(limits.leaderMs)}; ${situation(facts)}`,
    report,
  );
}

/** For people who ask why it hung. */
export function situation({ pod, config }: Omit<TestFacts, "set">): string {
  if (pod === null) return "there was no pod";
  const phase = pod.report?.phases.at(-1)?.name;
  const parts = [
    `the pod was ${pod.phase}${pod.trouble === null ? "" : ` (${pod.trouble})`}`,
    ...(pod.state === null ? [] : [`Patroni was "${pod.state}"`]),
    ...(phase === undefined ? [] : [`the last phase was ${phase}`]),
    ...(pod.lastExit === null ? [] : [`its container ended with ${pod.lastExit}`]),
    ...(config?.initialize === "" ? ["the bootstrap was still going on for Patroni"] : []),
  ];
  return parts.join(", ");
}

function ended(outcome: Outcome, error: RestoreError, report: Report | null): TestEnd {
  return { outcome, error: reportError(error), report };
}

const infra = (message: string, report: Report | null, hint?: string) =>
  ended("infra", new RestoreError("UNVERIFIED", message, { hint }), report);

const unhealthy = (message: string, report: Report) =>
  ended("unhealthy", new RestoreError("UNHEALTHY", message), report);

/** A test of which the StatefulSet is missing: a scheduler died while it made or removed it, or somebody deleted it. */
export const withoutSet = (test: string, service: string, report: Report | null): Observation => ({
  test,
  service,
  changes: report === null ? [] : changesOf(report),
  end: infra("its StatefulSet is not there: a scheduler ended while it made it, or somebody deleted it", report),
});
