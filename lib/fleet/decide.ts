/**
 * Is a test of a service due, and which of those that are may start? Pure, from memory: this is asked on every update of
 * every leader object, which Patroni touches every loop_wait.
 */

import { createHash } from "node:crypto";
import { formatDuration } from "../units.ts";
import type { Outcome } from "./outcome.ts";
import type { Service, Standing } from "./service.ts";
import { isOpen } from "./window.ts";

export interface Limits {
  tests: number;
  weight: number;
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
  cancelled: 10 * 60_000,
  // Says something, and people look at it: once more an hour later, for them to see whether it stays so.
  restore: 60 * 60_000,
  unhealthy: 60 * 60_000,
};

export function decide(service: Service, now: Date): Decision {
  const { policy, wantedAt, last } = service;
  if (wantedAt !== null) return { due: true, reason: "a test was asked for", since: wantedAt };
  if (policy.isPaused) return { due: false, reason: "it is paused", at: null };
  const next = nextTestAt(service);
  const enoughBackups = policy.afterBackups !== null && service.backupsSinceTest >= policy.afterBackups;
  const isTime = next.at <= now;
  if (!isTime && !(enoughBackups && last?.outcome === "healthy"))
    return { due: false, reason: next.reason, at: next.at };
  const reason = isTime ? next.reason : `${service.backupsSinceTest} new backups since the last test`;
  if (!isOpen(policy.windows, now)) return { due: false, reason: `${reason}, but outside of its windows`, at: null };
  return { due: true, reason, since: isTime ? next.at : now };
}

/** When the interval or the back-off is over, and in which words. */
function nextTestAt({ id, policy, last, firstSeenAt }: Service): { at: Date; reason: string } {
  const offset = offsetOf(id, policy.jitterMs);
  if (last === null) return { at: new Date(firstSeenAt.getTime() + offset), reason: "it was never tested" };
  const { outcome, endedAt, attempts } = last;
  const base = RETRY_MS[outcome];
  const retry = base === undefined ? Number.POSITIVE_INFINITY : base * 2 ** Math.max(0, attempts - 1);
  const isRetry = retry < policy.intervalMs;
  const wait = isRetry ? retry : policy.intervalMs + offset;
  const since = `the last test was ${outcome}`;
  const reason = isRetry
    ? `${since}; tried again after ${formatDuration(retry)}`
    : `${since}; the interval is ${formatDuration(policy.intervalMs)}`;
  return { at: new Date(endedAt.getTime() + wait), reason };
}

/** The same for a service each time, from 0 to the jitter. */
function offsetOf(id: string, jitterMs: number): number {
  const hash = createHash("sha256").update(id).digest().readUInt32BE(0);
  return Math.floor((hash / 2 ** 32) * jitterMs);
}

export interface Choice {
  start: Service[];
  /** Due, and waiting for others; with the sentence for `fleet explain`. */
  waiting: { service: Service; reason: string }[];
}

/** Those that start now, in the order in which they do. `running` are services whose test is in progress. */
export function choose(due: readonly Service[], running: readonly Service[], limits: Limits): Choice {
  const start: Service[] = [];
  const waiting: Choice["waiting"] = [];
  const isRunning = new Set(running.map(({ id }) => id));
  let heavy: Service | undefined;
  for (const service of [...due].sort(byUrgency)) {
    const busy = [...running, ...start];
    const reason = isRunning.has(service.id)
      ? "its test is in progress"
      : (obstacle(service, busy, limits) ?? (heavy === undefined ? tooHeavy(service, busy, limits) : behind(heavy)));
    if (reason === null) start.push(service);
    else waiting.push({ service, reason });
    // Light ones that always fit would keep a heavy one waiting for ever.
    if (reason !== null && !isRunning.has(service.id) && obstacle(service, busy, limits) === null) heavy ??= service;
  }
  return { start, waiting };
}

/** Asked for, never proven, then the one that was proven the longest ago. */
function byUrgency(a: Service, b: Service): number {
  const wanted = (service: Service) => service.wantedAt?.getTime() ?? Number.POSITIVE_INFINITY;
  const proven = (service: Service) => service.lastHealthyAt?.getTime() ?? 0;
  if (wanted(a) !== wanted(b)) return wanted(a) - wanted(b);
  if (proven(a) !== proven(b)) return proven(a) - proven(b);
  return a.id < b.id ? -1 : 1;
}

function obstacle(service: Service, busy: readonly Service[], limits: Limits): string | null {
  if (limits.isPaused) return "the fleet is paused";
  if (busy.length >= limits.tests)
    return `${busy.length} tests are in progress, and no more than ${limits.tests} may be`;
  const inNamespace = busy.filter(({ namespace }) => namespace === service.namespace).length;
  if (inNamespace >= limits.perNamespace) return `${inNamespace} are in progress in namespace ${service.namespace}`;
  for (const [group, limit] of Object.entries(limits.perGroup)) {
    const value = service.groups[group];
    if (value === undefined) continue;
    const count = busy.filter(({ groups }) => groups[group] === value).length;
    if (count >= limit) return `${count} are in progress with ${group} ${value}`;
  }
  return null;
}

/** What is heavier than the whole limit may still run alone. */
function tooHeavy(service: Service, busy: readonly Service[], limits: Limits): string | null {
  const weight = busy.reduce((sum, { policy }) => sum + policy.weight, 0);
  if (busy.length === 0 || weight + service.policy.weight <= limits.weight) return null;
  return `tests in progress weigh ${weight}, this one ${service.policy.weight}, and the limit is ${limits.weight}`;
}

const behind = ({ id }: Service) => `${id} comes first, and waits for others to end`;
