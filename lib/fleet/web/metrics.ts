/** Metrics for Prometheus: of the fleet and of each of its services. Names begin with `patroni_restore_fleet_`. */

import { openMetrics } from "../../http/prometheus.ts";
import { OUTCOMES, type Outcome } from "../outcome.ts";
import type { Service } from "../service.ts";
import { isEnd, STATUSES } from "../test.ts";
import type { FleetView, ServiceView } from "../view.ts";
import { ageSeconds, type ServiceVerdict, verdictOf } from "./present.ts";

export interface FleetMetrics {
  text(): Promise<string>;
  /** One more decision, or so many, was this, such as `due` or `not due`. */
  decided(decision: string, count?: number): void;
  ended(outcome: Outcome): void;
}

const PREFIX = "patroni_restore_fleet_";
const VERDICTS: readonly ServiceVerdict[] = [...OUTCOMES, "never"];

export function createFleetMetrics({ view, version }: { view(): FleetView; version: string }): FleetMetrics {
  const metrics = openMetrics();
  const gauge: typeof metrics.gauge = (name, ...rest) => metrics.gauge(`${PREFIX}${name}`, ...rest);
  // One view for all that is in one answer.
  let seen: FleetView = { services: [], isPaused: false, leads: false, problems: [], pending: 0 };
  gauge("build_info", "1, with the version", ["version"], (g) => g.set({ version }, 1));
  gauge("leader", "1 when this scheduler leads, 0 of a standby", [], (g) => g.set(seen.leads ? 1 : 0));
  gauge("all_paused", "1 when no test of any service starts", [], (g) => g.set(seen.isPaused ? 1 : 0));
  gauge("problems", "what keeps the fleet from working; /readyz has the sentences", [], (g) =>
    g.set(seen.problems.length),
  );
  gauge("pending_records", "changes of status that wait for the database", [], (g) => g.set(seen.pending));
  gauge("services", "services that the watch knows", [], (g) => g.set(seen.services.length));
  gauge("tests_due", "services that are due and wait for their test", [], (g) =>
    g.set(seen.services.filter(({ decision, running }) => decision.due && running === null).length),
  );
  gauge("tests_in_progress", "tests in progress, by their status", ["status"], (g) => {
    for (const status of STATUSES.filter((one) => !isEnd(one))) {
      g.set({ status }, seen.services.filter(({ running }) => running?.status === status).length);
    }
  });
  const decisions = metrics.counter(`${PREFIX}decisions_total`, "decisions on services, one on each update", [
    "decision",
  ]);
  const ended = metrics.counter(`${PREFIX}tests_ended_total`, "tests that this scheduler saw end", ["outcome"]);
  for (const outcome of OUTCOMES) ended.inc({ outcome }, 0);
  const services = serviceMetrics();
  return {
    async text() {
      seen = view();
      return `${await metrics.text()}\n${services(seen.services, new Date())}`;
    },
    decided: (decision, count = 1) => decisions.inc({ decision }, count),
    ended: (outcome) => ended.inc({ outcome }),
  };
}

/** Calls back with what a service has of it; further labels as text that follows the service's own. */
type Collect = (view: ServiceView, now: Date, put: (value: number, labels?: string) => void) => void;

const seconds = (date: Date | null) => (date === null ? 0 : date.getTime() / 1000);
const ratio = (ms: number) => ms / 1000;

const SERVICE_METRICS: readonly { name: string; help: string; collect: Collect }[] = [
  {
    name: "last_healthy_timestamp_seconds",
    help: "end of the last healthy test; 0 when there was none",
    collect: ({ standing }, _, put) => put(seconds(standing.lastHealthyAt)),
  },
  {
    name: "age_seconds",
    help: "since the last healthy test, or since the service was first seen when there was none",
    collect: (view, now, put) => put(ageSeconds(view, now)),
  },
  {
    name: "interval_seconds",
    help: "how often it is to be tested",
    collect: ({ service }, _, put) => put(service.policy.intervalMs / 1000),
  },
  {
    name: "last_test_timestamp_seconds",
    help: "end of the last test, whatever its outcome; 0 when there was none",
    collect: ({ standing }, _, put) => put(seconds(standing.last?.endedAt ?? null)),
  },
  {
    name: "verdict",
    help: "1 for the outcome of the last test, 0 for the others",
    collect(view, _, put) {
      const verdict = verdictOf(view);
      for (const outcome of VERDICTS) put(outcome === verdict ? 1 : 0, `,outcome="${outcome}"`);
    },
  },
  {
    name: "attempts",
    help: "tests in a row with the outcome of the last one",
    collect: ({ standing }, _, put) => put(standing.last?.attempts ?? 0),
  },
  {
    name: "rto_seconds",
    help: "of the last test: start of the restore to the verdict",
    collect({ standing }, _, put) {
      const ms = standing.last?.figures?.rto_ms ?? null;
      if (ms !== null) put(ratio(ms));
    },
  },
  {
    name: "rto_phase_seconds",
    help: "of the last test, phase by phase",
    collect({ standing }, _, put) {
      for (const [phase, ms] of Object.entries(standing.last?.figures?.phases ?? {})) {
        if (ms !== undefined) put(ratio(ms), `,phase="${phase}"`);
      }
    },
  },
  {
    name: "rpo_seconds",
    help: "of the last test: work that would have been lost at most",
    collect({ standing }, _, put) {
      const ms = standing.last?.figures?.rpo_ms ?? null;
      if (ms !== null) put(ratio(ms));
    },
  },
  {
    name: "coverage_ratio",
    help: "of the last test: share of the tables' blocks that were compared with the source",
    collect({ standing }, _, put) {
      const coverage = standing.last?.figures?.coverage ?? null;
      if (coverage !== null) put(coverage);
    },
  },
  {
    name: "status_seconds",
    help: "for how long the test in progress has been in its status; absent when there is none",
    collect({ running }, now, put) {
      if (running !== null) put(Math.max(0, (now.getTime() - running.since.getTime()) / 1000));
    },
  },
  {
    name: "paused",
    help: "1 when its tests are paused",
    collect: ({ service }, _, put) => put(service.policy.isPaused ? 1 : 0),
  },
  {
    name: "problem",
    help: "1 when it can't be tested, such as for a wrong annotation",
    collect: ({ service }, _, put) => put(service.problem === null ? 0 : 1),
  },
];

/**
 * Prometheus' text of every service. prom-client keeps an object for each of the 30 series that a service has, and hashes its
 * labels each time; written straight to text, 10,000 services take a tenth of the time, and nothing is kept but their labels.
 */
function serviceMetrics(): (services: readonly ServiceView[], now: Date) => string {
  // By the object: the watch replaces it by another one when anything of it changes.
  const labels = new WeakMap<Service, string>();
  const labelsOf = (service: Service) => {
    const known = labels.get(service) ?? `service=${quoted(service.id)},${placeOf(service)}`;
    labels.set(service, known);
    return known;
  };
  return (services, now) =>
    SERVICE_METRICS.map(({ name, help, collect }) => {
      const full = `${PREFIX}${name}`;
      let text = `# HELP ${full} ${help}\n# TYPE ${full} gauge\n`;
      for (const view of services) {
        const own = labelsOf(view.service);
        collect(view, now, (value, more = "") => {
          text += `${full}{${own}${more}} ${value}\n`;
        });
      }
      return text;
    }).join("\n");
}

const placeOf = ({ namespace, stanza }: Service) => `namespace=${quoted(namespace)},stanza=${quoted(stanza)}`;

/** As the text format wants it. */
const quoted = (text: string) => `"${text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"')}"`;
