/** The JSON of the fleet: of the API, of `fleet status --json` and of the page. Keys are snake_case, times ISO 8601 in UTC. */

import type { ReportedError } from "../../errors.ts";
import type { Report } from "../../report/report.ts";
import type { Outcome } from "../outcome.ts";
import type { History, PastTest } from "../store.ts";
import type { Figures, Status } from "../test.ts";
import type { FleetView, ServiceView } from "../view.ts";

/** Of the last test; `never` before the first one ended. */
export type ServiceVerdict = Outcome | "never";

/** What people look for first. */
export type Group = "healthy" | "failing" | "error" | "never";

export interface FleetJson {
  now: string;
  /** This scheduler leads; a standby shows the same. */
  leads: boolean;
  paused: boolean;
  problems: readonly string[];
  /** Status changes that wait for the database. */
  pending: number;
  /** Of the whole fleet, whatever the filter. */
  counts: Record<Group | "total" | "due" | "in_progress" | "paused" | "problem", number>;
  services: ServiceJson[];
}

export interface ServiceJson {
  id: string;
  namespace: string;
  scope: string;
  stanza: string;
  verdict: ServiceVerdict;
  group: Group;
  /** Since the last healthy test; since it was first seen when there was none. */
  age_seconds: number;
  /** So often it is to be tested. */
  interval_seconds: number;
  last_healthy_at: string | null;
  last_test: {
    id: string;
    ended_at: string;
    /** Tests in a row that ended like this. */
    attempts: number;
    error: ReportedError | null;
    rto_ms: number | null;
    rpo_ms: number | null;
  } | null;
  running: { test: string; status: Status; since: string } | null;
  /** `at`: since when it is due, or when it may become so; null when only an event can change it. */
  next: { due: boolean; reason: string; at: string | null };
  paused: boolean;
  problem: string | null;
}

/** One service, with what the list leaves out. */
export interface ServiceDetailsJson extends ServiceJson {
  now: string;
  first_seen_at: string;
  wanted_at: string | null;
  backups_since_test: number;
  /** Without connection settings, which may hold a password. */
  policy: { jitter_seconds: number; after_backups: number | null; weight: number };
  groups: Readonly<Record<string, string>>;
  /** The source is asked, so that the restore is compared with it. */
  compares_with_source: boolean;
  figures: Figures | null;
  /** Sentences on what is decided, the first one is the reason. */
  explanation: readonly string[];
  /** The newest first; null while the record is away. */
  tests: TestJson[] | null;
  /** Why there are none. */
  tests_problem: string | null;
}

export interface TestJson {
  id: string;
  service: string;
  stanza: string;
  reason: string;
  requested_at: string;
  scheduler: string;
  status: Status;
  status_at: string;
  end: { outcome: Outcome; ended_at: string; error: ReportedError | null; figures: Figures | null } | null;
  /** From the request to the end; null while it goes on. */
  duration_ms: number | null;
}

export interface TestDetailsJson extends TestJson {
  statuses: { status: Status; at: string }[];
  report: Report | null;
}

const GROUP_OF: Readonly<Record<ServiceVerdict, Group>> = {
  healthy: "healthy",
  unhealthy: "failing",
  restore: "failing",
  source: "error",
  infra: "error",
  cancelled: "error",
  never: "never",
};

export const verdictOf = ({ standing }: ServiceView): ServiceVerdict => standing.last?.outcome ?? "never";

export const groupOf = (view: ServiceView): Group => GROUP_OF[verdictOf(view)];

/** A clock that was set back gives 0. */
export function ageSeconds({ standing }: ServiceView, now: Date): number {
  const since = standing.lastHealthyAt ?? standing.firstSeenAt;
  return Math.max(0, Math.round((now.getTime() - since.getTime()) / 1000));
}

const iso = (date: Date | null) => date?.toISOString() ?? null;

export function describeService(view: ServiceView, now: Date): ServiceJson {
  const { service, standing, decision, running } = view;
  const { last } = standing;
  return {
    id: service.id,
    namespace: service.namespace,
    scope: service.scope,
    stanza: service.stanza,
    verdict: verdictOf(view),
    group: groupOf(view),
    age_seconds: ageSeconds(view, now),
    interval_seconds: service.policy.intervalMs / 1000,
    last_healthy_at: iso(standing.lastHealthyAt),
    last_test:
      last === null
        ? null
        : {
            id: last.id,
            ended_at: last.endedAt.toISOString(),
            attempts: last.attempts,
            error: last.error,
            rto_ms: last.figures?.rto_ms ?? null,
            rpo_ms: last.figures?.rpo_ms ?? null,
          },
    running: running === null ? null : { ...running, since: running.since.toISOString() },
    next: { due: decision.due, reason: decision.reason, at: iso(decision.due ? decision.since : decision.at) },
    paused: service.policy.isPaused,
    problem: service.problem,
  };
}

export interface Filter {
  namespace?: string;
  verdict?: readonly ServiceVerdict[];
}

export function describeFleet(view: FleetView, now: Date, filter: Filter = {}): FleetJson {
  const total = view.services.length;
  const counts = { total, healthy: 0, failing: 0, error: 0, never: 0, due: 0, in_progress: 0, paused: 0, problem: 0 };
  const services: ServiceJson[] = [];
  for (const one of view.services) {
    counts[groupOf(one)]++;
    // A test in progress has been decided already.
    if (one.running !== null) counts.in_progress++;
    else if (one.decision.due) counts.due++;
    if (one.service.policy.isPaused) counts.paused++;
    if (one.service.problem !== null) counts.problem++;
    if (matches(one, filter)) services.push(describeService(one, now));
  }
  return {
    now: now.toISOString(),
    leads: view.leads,
    paused: view.isPaused,
    problems: view.problems,
    pending: view.pending,
    counts,
    services,
  };
}

const matches = (view: ServiceView, { namespace, verdict }: Filter) =>
  (namespace === undefined || view.service.namespace === namespace) &&
  (verdict === undefined || verdict.includes(verdictOf(view)));

/** `tests`: what the record has, or why it is away. */
export function describeDetails(
  view: ServiceView,
  now: Date,
  { tests, explanation }: { tests: readonly PastTest[] | string; explanation: readonly string[] },
): ServiceDetailsJson {
  const { service, standing } = view;
  const { policy } = service;
  const isAway = typeof tests === "string";
  return {
    now: now.toISOString(),
    ...describeService(view, now),
    first_seen_at: standing.firstSeenAt.toISOString(),
    wanted_at: iso(standing.wantedAt),
    backups_since_test: standing.backupsSinceTest,
    policy: {
      jitter_seconds: policy.jitterMs / 1000,
      after_backups: policy.afterBackups,
      weight: policy.weight,
    },
    groups: service.groups,
    compares_with_source: service.source !== null,
    figures: standing.last?.figures ?? null,
    explanation,
    tests: isAway ? null : tests.map(describeTest),
    tests_problem: isAway ? tests : null,
  };
}

export function describeTest(test: PastTest): TestJson {
  const { id, service, stanza, reason, requestedAt, scheduler, status, statusAt, end } = test;
  return {
    id,
    service,
    stanza,
    reason,
    requested_at: requestedAt.toISOString(),
    scheduler,
    status,
    status_at: statusAt.toISOString(),
    end:
      end === null
        ? null
        : { outcome: end.outcome, ended_at: end.endedAt.toISOString(), error: end.error, figures: end.figures },
    duration_ms: end === null ? null : Math.max(0, end.endedAt.getTime() - requestedAt.getTime()),
  };
}

export function describeTestDetails(test: NonNullable<Awaited<ReturnType<History["test"]>>>): TestDetailsJson {
  const statuses = test.statuses.map(({ status, at }) => ({ status, at: at.toISOString() }));
  return { ...describeTest(test), statuses, report: test.report };
}
