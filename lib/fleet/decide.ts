/**
 * Is a test of a service due, and which of those that are may start? Pure, from memory: this is asked on every update of
 * every leader object, which Patroni touches every loop_wait.
 */

import { createHash } from "node:crypto";
import { formatDuration } from "../units.ts";
import type { Outcome } from "./outcome.ts";
import type { Policy, Service, Standing } from "./service.ts";
import { isOpen } from "./window.ts";

export interface Limits {
  tests: number;
  /** Of all tests in progress together; Infinity for none. */
  weight: number;
  /** Infinity for none. */
  perNamespace: number;
  /** For each value of a group, such as 1 for each node. */
  perGroup: Readonly<Record<string, number>>;
  isPaused: boolean;
}

export type Decision =
  | { due: true; reason: string; since: Date }
  /** `at`: when it may change by itself, null when only an event can. */
  | { due: false; reason: string; at: Date | null };

/** After a test that says nothing about the backup it is tried again soon, ever more rarely; up to the interval. */
const RETRY_MS: Readonly<Partial<Record<Outcome, number>>> = {
  source: 10 * 60_000,
  infra: 10 * 60_000,
  cancelled: 60_000,
  // Says something, and people look at it: once more an hour later, for them to see whether it stays so.
  restore: 60 * 60_000,
  unhealthy: 60 * 60_000,
};

const SAID: Readonly<Record<Outcome, string>> = {
  healthy: "the last test was healthy",
  unhealthy: "the last test was unhealthy",
  restore: "the last restore failed",
  source: "the source could not be asked",
  infra: "the last test could not run to its end",
  cancelled: "the last test was cancelled",
};

export interface Candidate {
  service: Service;
  standing: Standing;
}

export function decide({ service, standing }: Candidate, now: Date): Decision {
  const { policy, problem } = service;
  if (problem !== null) return { due: false, reason: `it can't be tested: ${problem}`, at: null };
  if (standing.wantedAt !== null) return { due: true, reason: "a test was asked for", since: standing.wantedAt };
  if (policy.isPaused) return { due: false, reason: "it is paused", at: null };
  const next = nextTestAt(service, standing);
  const isTime = next.at <= now;
  if (!isTime && !hasEnoughBackups(policy, standing)) return { due: false, reason: next.reason, at: next.at };
  const reason = isTime ? next.reason : `${standing.backupsSinceTest} new backups since the last test`;
  if (!isOpen(policy.windows, now)) return { due: false, reason: `${reason}, but outside of its windows`, at: null };
  return { due: true, reason, since: isTime ? next.at : now };
}

const hasEnoughBackups = ({ afterBackups }: Policy, { backupsSinceTest, last }: Standing) =>
  afterBackups !== null && backupsSinceTest >= afterBackups && last?.outcome === "healthy";

/** When the interval or the back-off is over, and in which words. */
function nextTestAt({ id, policy }: Service, { last, firstSeenAt }: Standing): { at: Date; reason: string } {
  const offset = offsetOf(id, policy.jitterMs);
  if (last === null) return { at: new Date(firstSeenAt.getTime() + offset), reason: "it was never tested" };
  const { outcome, endedAt, attempts } = last;
  const base = RETRY_MS[outcome];
  const retry = base === undefined ? Number.POSITIVE_INFINITY : base * 2 ** Math.max(0, attempts - 1);
  const isRetry = retry < policy.intervalMs;
  const wait = isRetry ? retry : policy.intervalMs + offset;
  const since = SAID[outcome];
  const reason = isRetry
    ? `${since}; tried again after ${formatDuration(retry)}`
    : `${since}; the interval is ${formatDuration(policy.intervalMs)}`;
  return { at: new Date(endedAt.getTime() + wait), reason };
}

/** The same for a service each time, from 0 to the jitter. */
function offsetOf(id: string, jitterMs: number): number {
  if (jitterMs === 0) return 0;
  const hash = createHash("sha256").update(id).digest().readUInt32BE(0);
  return Math.floor((hash / 2 ** 32) * jitterMs);
}

/** Which comes first: asked for, never proven, then the one that was proven the longest ago. */
export function compareUrgency(a: Candidate, b: Candidate): number {
  const wanted = ({ standing }: Candidate) => standing.wantedAt?.getTime() ?? Number.POSITIVE_INFINITY;
  const tested = ({ standing }: Candidate) => standing.last?.endedAt.getTime() ?? 0;
  const proven = ({ standing }: Candidate) => standing.lastHealthyAt?.getTime() ?? 0;
  const [first, second] = [wanted(a), wanted(b)];
  if (first !== second) return first - second;
  // Tests that keep failing must not keep those from their turn that were proven once.
  const [olderA, olderB] = [Math.max(tested(a), proven(a)), Math.max(tested(b), proven(b))];
  if (olderA !== olderB) return olderA - olderB;
  return a.service.id < b.service.id ? -1 : a.service.id > b.service.id ? 1 : 0;
}

/** What a test in progress takes of the limits. */
export type Load = Pick<Service, "namespace" | "groups"> & { weight: number };

export interface Tally {
  tests: number;
  weight: number;
  /** How many there are, by what limits them. */
  counts: Map<string, number>;
}

const groupKeys = ({ namespace, groups }: Load) => [
  `namespace ${namespace}`,
  ...Object.entries(groups).map(([group, value]) => `${group} ${value}`),
];

export function tally(loads: Iterable<Load>): Tally {
  const busy: Tally = { tests: 0, weight: 0, counts: new Map() };
  for (const load of loads) add(busy, load);
  return busy;
}

function add(busy: Tally, load: Load): void {
  busy.tests++;
  busy.weight += load.weight;
  for (const key of groupKeys(load)) busy.counts.set(key, (busy.counts.get(key) ?? 0) + 1);
}

export const loadOf = ({ namespace, groups, policy }: Service): Load => ({ namespace, groups, weight: policy.weight });

/** Why no test of this weight, there, may start beside those in progress; null when it may. */
export function obstacle(load: Load, busy: Tally, limits: Limits): string | null {
  return countObstacle(load, busy, limits) ?? weightObstacle(load, busy, limits);
}

function countObstacle(load: Load, { tests, counts }: Tally, limits: Limits): string | null {
  if (limits.isPaused) return "the fleet is paused";
  if (tests >= limits.tests) return `${tests} tests are in progress, and no more than ${limits.tests} may be`;
  const inNamespace = counts.get(`namespace ${load.namespace}`) ?? 0;
  if (inNamespace >= limits.perNamespace) return `${inNamespace} are in progress in namespace ${load.namespace}`;
  for (const [group, limit] of Object.entries(limits.perGroup)) {
    const value = load.groups[group];
    const count = value === undefined ? 0 : (counts.get(`${group} ${value}`) ?? 0);
    if (count >= limit) return `${count} are in progress with ${group} ${value}`;
  }
  return null;
}

/** What is heavier than the whole limit may still run alone. */
function weightObstacle(load: Load, busy: Tally, limits: Limits): string | null {
  if (busy.tests === 0 || busy.weight + load.weight <= limits.weight) return null;
  return `tests in progress weigh ${busy.weight}, this one ${load.weight}, and the limit is ${limits.weight}`;
}

export interface Choice {
  start: Candidate[];
  /** Waits for the weight of others; nobody overtakes it, or light ones would keep it waiting for ever. */
  heavy: Candidate | null;
}

/** Those that start now. `due` are in the order of their urgency and have no test in progress. */
export function choose(due: Iterable<Candidate>, running: Iterable<Load>, limits: Limits): Choice {
  const start: Candidate[] = [];
  const busy = tally(running);
  for (const candidate of due) {
    if (busy.tests >= limits.tests || limits.isPaused) break;
    const load = loadOf(candidate.service);
    if (countObstacle(load, busy, limits) !== null) continue;
    if (weightObstacle(load, busy, limits) !== null) return { start, heavy: candidate };
    start.push(candidate);
    add(busy, load);
  }
  return { start, heavy: null };
}
