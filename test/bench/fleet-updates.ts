/** One size of `fleet.ts`: prints its figures as JSON. */

import type { Limits } from "../../lib/fleet/decide.ts";
import { newStanding, type Policy, type Service } from "../../lib/fleet/service.ts";
import { createFleet } from "../../lib/fleet/state.ts";
import type { RunningTest } from "../../lib/fleet/store.ts";
import { percentile } from "./case.ts";
import type { FleetFigures } from "./fleet.ts";

const SIZE = Number(process.argv[2]);
const UPDATES = 2_000_000;
const UPDATE_EVERY_MS = 10_000;
const INTERVAL_MS = 6 * 3_600_000;
const TEST_MS = 60_000;
const MAX_TESTS = Math.ceil((1.5 * SIZE * TEST_MS) / INTERVAL_MS);

const policy: Policy = {
  ...{ intervalMs: INTERVAL_MS, jitterMs: 0, windows: [], afterBackups: null, isPaused: false, weight: 1 },
};
const limits: Limits = { tests: MAX_TESTS, weight: 1e9, perNamespace: 1e9, perGroup: {}, isPaused: false };
const START = new Date("2026-11-23T00:00:00Z").getTime();

const heap = () => {
  globalThis.gc?.();
  return process.memoryUsage().heapUsed;
};
const before = heap();
const fleet = createFleet(() => limits);
const services = Array.from(
  { length: SIZE },
  (_, n): Service => ({
    ...{ id: `namespace-${n % 97}/service-${n}`, namespace: `namespace-${n % 97}`, scope: `service-${n}` },
    ...{ stanza: `service-${n}`, source: `host=service-${n}`, groups: {}, settings: {}, wanted: null, problem: null },
    policy,
  }),
);
/** As if it were at work for long: the last tests are spread over the interval. */
function tested(service: Service, endedAt: number, now: Date): void {
  const at = new Date(endedAt);
  const last = { id: "t", outcome: "healthy", endedAt: at, attempts: 1, error: null, figures: null } as const;
  fleet.setStanding(service.id, { ...newStanding(at), last, lastHealthyAt: at }, now);
}
for (const [n, service] of services.entries()) {
  fleet.update(service, new Date(START));
  tested(service, START - (INTERVAL_MS * n) / SIZE, new Date(START));
}
const perService = (heap() - before) / SIZE;

/** Kept small: the clock's own cost is in each. */
const samples: number[] = [];
let updateCpu = 0;
let roundCpu = 0;
let rounds = 0;
let tests = 0;
let longestWaitMs = 0;
const byId = new Map(services.map((service) => [service.id, service]));
let running: { test: RunningTest; endsAt: number }[] = [];
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

const perSecond = (SIZE * 1000) / UPDATE_EVERY_MS;
let done = 0;
for (let second = 0; done < UPDATES; second++) {
  const now = START + second * 1000;
  const date = new Date(now);
  const count = Math.max(1, Math.round(perSecond));
  const began = cpu();
  for (let n = 0; n < count; n++) {
    const service = services[(done + n) % SIZE] as Service;
    if (n % 64 !== 0) fleet.update(service, date);
    else {
      const from = performance.now();
      fleet.update(service, date);
      samples.push((performance.now() - from) * 1000);
    }
  }
  done += count;
  const middle = cpu();
  updateCpu += middle - began;
  const ended = running.filter(({ endsAt }) => endsAt <= now);
  running = running.filter(({ endsAt }) => endsAt > now);
  fleet.setRunning(
    running.map(({ test }) => test),
    date,
  );
  for (const { test, endsAt } of ended) {
    tested(byId.get(test.service) as Service, endsAt, date);
  }
  for (const { service, standing } of fleet.choose(date)) {
    const id = String(tests++);
    const test: RunningTest = {
      ...{ id, service: service.id, namespace: service.namespace, scope: service.scope, stanza: service.stanza },
      ...{ groups: {}, weight: 1, reason: "", requestedAt: date, deadlineAt: date, scheduler: "" },
      ...{ statuses: ["requested"], statusAt: date },
    };
    fleet.note(test);
    running.push({ test, endsAt: now + TEST_MS });
    const dueSince = (standing.last?.endedAt.getTime() ?? START) + INTERVAL_MS;
    longestWaitMs = Math.max(longestWaitMs, now - dueSince);
  }
  if (running.length > MAX_TESTS) throw new Error(`${running.length} tests at once, and ${MAX_TESTS} may be`);
  roundCpu += cpu() - middle;
  rounds++;
}

const figures: FleetFigures = {
  perUpdate: updateCpu / done,
  p50: percentile(samples, 0.5),
  p99: percentile(samples, 0.99),
  max: Math.max(...samples),
  perService,
  perRound: roundCpu / rounds,
  tests,
  longestWaitSeconds: longestWaitMs / 1000,
};
process.stdout.write(JSON.stringify(figures));
