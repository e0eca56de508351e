import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { RestoreError } from "../../../lib/errors.ts";
import type { Limits } from "../../../lib/fleet/decide.ts";
import type { Observation, Runner } from "../../../lib/fleet/runner.ts";
import { createScheduler, type Scheduler } from "../../../lib/fleet/scheduler.ts";
import { newStanding, type Service, type Standing } from "../../../lib/fleet/service.ts";
import { createFleet, type Fleet } from "../../../lib/fleet/state.ts";
import type { RunningTest, Store } from "../../../lib/fleet/store.ts";
import { isEnd, type StatusChange, type TestEnd } from "../../../lib/fleet/test.ts";
import type { Log } from "../../../lib/log.ts";

const START = new Date("2026-11-23T12:00:00Z");
const LIMITS: Limits = { tests: 2, weight: Infinity, perNamespace: Infinity, perGroup: {}, isPaused: false };
const HEALTHY: TestEnd = { outcome: "healthy", error: null, report: null };
const DAMAGED: TestEnd = { outcome: "unhealthy", error: null, report: null };

const said: string[] = [];
const logged = (_phase: string, message: string) => void said.push(message);
const silent = (): Log => ({
  ...{ info: logged, warn: logged, error: logged },
  progress: () => ({ update: () => {}, end: () => {} }),
});

const service = (id: string, change: Partial<Service> = {}): Service => ({
  ...{ id, namespace: "", scope: id, stanza: id, source: "host=db", groups: {}, settings: {} },
  ...{ wanted: null, problem: null },
  policy: {
    ...{ intervalMs: 86_400_000, jitterMs: 0, windows: [], afterBackups: null, isPaused: false, weight: 1 },
  },
  ...change,
});

/** The record's rules in memory; that the real one keeps them is another test's matter. */
function memory() {
  const standings = new Map<string, Standing>();
  const slots = new Map<string, RunningTest>();
  const changes: StatusChange[] = [];
  const state = { leads: true, problem: null as string | null, refuses: false };
  const unknown = new Set<string>();
  const store: Store = {
    leads: () => state.leads,
    problem: () => state.problem,
    async changes() {
      if (state.problem !== null) throw new Error(state.problem);
      return { standings: new Map(standings), running: [...slots.values()] };
    },
    async seen(services) {
      for (const { id } of services) if (!standings.has(id)) standings.set(id, newStanding(START));
    },
    async gone(ids) {
      for (const id of ids) standings.delete(id);
    },
    async want(id, _by, token) {
      const before = standings.get(id) ?? newStanding(START);
      standings.set(id, { ...before, wantedAt: new Date(), wantedToken: token ?? before.wantedToken });
    },
    countBackup: async () => {},
    async begin(one) {
      if (slots.size >= LIMITS.tests) return "full";
      slots.set(one.id, { ...one, statuses: ["requested"], statusAt: one.requestedAt });
      changes.push({ test: one.id, service: one.service, status: "requested", at: one.requestedAt });
      standings.set(one.service, { ...(standings.get(one.service) as Standing), wantedAt: null });
      return null;
    },
    holds: async (id) => state.leads && slots.has(id),
    async record(change) {
      if (state.refuses) throw new Error("the record was closed");
      changes.push(change);
      const slot = slots.get(change.test);
      if (slot === undefined) return;
      slots.set(change.test, { ...slot, statuses: [...slot.statuses, change.status] });
      if (!isEnd(change.status) || change.end === undefined) return;
      slots.delete(change.test);
      const last = { id: change.test, endedAt: change.at, attempts: 1, error: null, figures: null };
      standings.set(change.service, {
        ...newStanding(START),
        last: { ...last, outcome: change.end.outcome },
        wantedToken: standings.get(change.service)?.wantedToken ?? null,
      });
    },
    pending: () => 0,
    close: async () => {},
  };
  return { store, state, slots, changes, unknown };
}

const pastTest = (id: string) => ({
  ...{ id, service: "a", stanza: "a", reason: "", requestedAt: START, scheduler: "two", statusAt: START, end: null },
  ...{ status: "requested" as const, statuses: [], report: null },
});

function machine() {
  const present = new Set<string>();
  const calls: string[] = [];
  const inputs: unknown[] = [];
  const state = { removeFails: false, removeHangs: false, startFails: false };
  const runner: Runner = {
    watch: async () => {},
    async start(one, _service, input) {
      if (state.startFails) throw new RestoreError("PREFLIGHT_FAILED", "no space left on the device");
      calls.push(`start ${one.service}`);
      inputs.push(input);
      present.add(one.id);
    },
    async cancel(id) {
      calls.push(`cancel ${id}`);
    },
    async remove(id, { keepInstance }) {
      calls.push(keepInstance ? `keep ${id}` : `remove ${id}`);
      if (state.removeFails) throw new Error("busy");
      if (state.removeHangs) await new Promise(() => {});
      present.delete(id);
    },
    present: () => present,
    problem: () => null,
  };
  return { runner, state, present, calls, inputs };
}

let fleet: Fleet;
let record: ReturnType<typeof memory>;
let place: ReturnType<typeof machine>;
let scheduler: Scheduler;
let mark: (signal: AbortSignal) => Promise<string>;

beforeEach(() => {
  vi.useFakeTimers({ now: START });
  said.length = 0;
  fleet = createFleet(() => LIMITS);
  record = memory();
  place = machine();
  mark = async () => "receipt";
  scheduler = createScheduler({
    ...{ fleet, runner: place.runner, limits: () => LIMITS, deadlineMs: 3_600_000, keepFailed: true },
    store: { ...record.store, test: async (id) => (record.unknown.has(id) ? null : pastTest(id)) },
    mark: (_test, _service, signal) => mark(signal),
    ...{ name: "one", log: silent() },
  });
});
afterEach(() => void vi.useRealTimers());

/** A round, and what it set going. */
async function round(times = 1) {
  for (let n = 0; n < times; n++) {
    await scheduler.round();
    await vi.advanceTimersByTimeAsync(1000);
  }
}
const statuses = () => record.changes.map(({ status }) => status);
const onlyTest = () => {
  const [id] = [...record.slots.keys()];
  if (id === undefined) throw new Error("no test has a slot");
  return id;
};
const observe = (test: string, change: Partial<Observation> = {}) =>
  scheduler.observe({ ...{ test, service: "a", changes: [], end: null }, ...change });
/** Seen, known and started. */
async function startOne(one = service("a")) {
  fleet.update(one, new Date());
  await round(3);
  return onlyTest();
}

test("from the request to the end: marked, started, followed, recorded, removed", async () => {
  const id = await startOne();
  const at = new Date(START.getTime() + 5000);
  observe(id, { changes: [{ status: "restoring", at }] });
  await round();
  observe(id, {
    changes: [
      { status: "restoring", at },
      { status: "verifying", at },
    ],
  });
  await round();
  observe(id, { changes: [{ status: "restoring", at }], end: HEALTHY });
  await round(3);
  expect(statuses()).toEqual(["requested", "marking", "restoring", "verifying", "healthy"]);
  expect(place.calls).toEqual(["start a", `remove ${id}`]);
  expect(place.inputs).toEqual([{ receipt: "receipt", previousReport: null }]);
  expect(record.slots.size).toBe(0);
});

test("without source nothing is marked, and the test has no receipt", async () => {
  await startOne(service("a", { source: null }));
  expect(statuses()).toEqual(["requested"]);
  expect(place.inputs).toEqual([{ receipt: null, previousReport: null }]);
});

describe("what ends a test before it runs is recorded by its class, and nothing of it stays", () => {
  test("a source that can't be asked", async () => {
    mark = async () => {
      throw new RestoreError("SOURCE_UNREACHABLE", "no route to db");
    };
    fleet.update(service("a"), new Date());
    await round(3);
    expect(record.changes.at(-1)).toMatchObject({
      status: "error",
      end: { outcome: "source", error: { name: "SOURCE_UNREACHABLE", message: "no route to db" } },
    });
    expect(place.calls).toEqual([expect.stringMatching(/^remove /)]);
  });

  test("a runner that can't start it", async () => {
    place.state.startFails = true;
    fleet.update(service("a"), new Date());
    await round(3);
    // Which says nothing about a backup that nobody has touched.
    expect(record.changes.at(-1)).toMatchObject({
      status: "error",
      end: { outcome: "infra", error: { name: "PREFLIGHT_FAILED", message: "no space left on the device" } },
    });
  });

  test("a bug of ours", async () => {
    mark = async () => {
      throw new TypeError("x is undefined");
    };
    fleet.update(service("a"), new Date());
    await round(3);
    expect(record.changes.at(-1)).toMatchObject({ status: "error", end: { outcome: "infra" } });
  });

  test("a slot that another scheduler has given away meanwhile", async () => {
    mark = async () => {
      record.slots.clear();
      return "receipt";
    };
    fleet.update(service("a"), new Date());
    await round(2);
    expect(place.calls).toEqual([]);
  });

  test.each([
    [
      "another scheduler leads",
      () => {
        record.state.leads = false;
      },
    ],
    ["this one is being stopped", () => void scheduler.stop(1000)],
  ])("%s", async (_, happens) => {
    mark = (signal) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("cut short"))));
    fleet.update(service("a"), new Date());
    await round(2);
    expect(statuses()).toEqual(["requested", "marking"]);
    happens();
    await round(2);
    expect(record.changes.at(-1)).toMatchObject({ status: "cancelled", end: { outcome: "cancelled" } });
    expect(place.calls).toEqual([expect.stringMatching(/^remove /)]);
  });
});

describe("tests of an earlier scheduler", () => {
  const earlier = (statusesThen: RunningTest["statuses"] = ["requested", "marking"]): RunningTest => ({
    ...{ id: "0badcafe", service: "a", namespace: "", scope: "a", stanza: "a", groups: {}, weight: 1, reason: "" },
    ...{ requestedAt: START, deadlineAt: new Date(START.getTime() + 3_600_000), scheduler: "two" },
    statuses: statusesThen,
    statusAt: START,
  });

  test("one that runs is followed to its end, and what it reached meanwhile is recorded", async () => {
    record.slots.set("0badcafe", earlier());
    place.present.add("0badcafe");
    observe("0badcafe", {
      changes: [
        { status: "restoring", at: START },
        { status: "recovering", at: START },
      ],
      end: DAMAGED,
    });
    await round(2);
    expect(statuses()).toEqual(["restoring", "recovering", "unhealthy"]);
    expect(place.calls).toEqual(["keep 0badcafe"]);
  });

  test("one of which nothing is left is reaped, but not at the first look", async () => {
    record.slots.set("0badcafe", earlier());
    await round(2);
    expect(record.slots.size).toBe(1);
    await round(2);
    expect(record.changes).toMatchObject([{ status: "reaped", end: { outcome: "infra" } }]);
    expect(record.changes[0]?.end?.error?.message).toMatch(/last seen marking; its scheduler two ended/);
  });

  test("what has no slot is ended and removed", async () => {
    place.present.add("0badcafe");
    observe("0badcafe");
    await round();
    expect(place.calls).toEqual(["cancel 0badcafe", "remove 0badcafe"]);
    expect(record.changes).toEqual([]);
  });

  test("what the record does not know is another fleet's, and is left alone", async () => {
    place.present.add("0badcafe");
    record.unknown.add("0badcafe");
    observe("0badcafe");
    await round(100);
    expect(place.calls).toEqual([]);
    expect(said.filter((line) => /does not know/.test(line))).toHaveLength(1);
  });

  test("what others removed while this one did not lead is forgotten", async () => {
    record.state.leads = false;
    place.present.add("0badcafe");
    observe("0badcafe", { end: HEALTHY });
    await round();
    place.present.clear();
    await round();
    record.state.leads = true;
    await round(3);
    expect(place.calls).toEqual([]);
  });

  test("no round waits until something is removed", async () => {
    place.present.add("0badcafe");
    place.state.removeHangs = true;
    observe("0badcafe", { end: HEALTHY });
    await round();
    await startOne();
    expect(place.calls).toEqual(["remove 0badcafe", "start a"]);
  });

  test("one that leads no more leaves all of it to the other", async () => {
    record.state.leads = false;
    record.slots.set("0badcafe", earlier());
    observe("0badcafe", { end: HEALTHY });
    observe("0badf00d");
    await round(5);
    expect(record.changes).toEqual([]);
    expect(place.calls).toEqual([]);
  });
});

describe("past the deadline", () => {
  const HOUR = 3_600_000;

  test("it is ended; when its end shows, it was reaped, by its deadline and with its report", async () => {
    const id = await startOne();
    observe(id);
    await vi.advanceTimersByTimeAsync(HOUR);
    await round();
    expect(place.calls).toEqual(["start a"]);
    await vi.advanceTimersByTimeAsync(20_000);
    await round();
    expect(place.calls).toEqual(["start a", `cancel ${id}`]);
    observe(id, { end: { outcome: "cancelled", error: null, report: null } });
    await round(2);
    expect(record.changes.at(-1)).toMatchObject({
      status: "reaped",
      end: { outcome: "restore", error: { name: "TIMED_OUT", message: expect.stringMatching(/not done within 1h/) } },
    });
  });

  test("when it does not end, it is removed all the same", async () => {
    const id = await startOne();
    await vi.advanceTimersByTimeAsync(HOUR + 20_000);
    await round();
    await vi.advanceTimersByTimeAsync(61_000);
    await round(2);
    expect(record.changes.at(-1)).toMatchObject({ status: "reaped", end: { outcome: "restore" } });
    expect(place.calls).toEqual(["start a", `cancel ${id}`, `keep ${id}`]);
  });

  test("marking is ended by it too", async () => {
    mark = (signal) =>
      new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("cut short"))));
    fleet.update(service("a"), new Date());
    await round(2);
    await vi.advanceTimersByTimeAsync(HOUR + 20_000);
    await round(2);
    expect(record.changes.at(-1)).toMatchObject({
      status: "error",
      end: { outcome: "source", error: { name: "TIMED_OUT" } },
    });
  });

  test("a verdict that comes with the end is believed", async () => {
    const id = await startOne();
    await vi.advanceTimersByTimeAsync(HOUR + 20_000);
    await round();
    observe(id, { end: HEALTHY });
    await round(2);
    expect(record.changes.at(-1)).toMatchObject({ status: "healthy", end: { outcome: "healthy" } });
  });
});

test("while the record is away nothing starts, and afterwards it does", async () => {
  record.state.problem = "connection refused";
  fleet.update(service("a"), new Date());
  await round(3);
  expect(record.changes).toEqual([]);
  record.state.problem = null;
  await round(2);
  expect(place.calls).toEqual(["start a"]);
});

test("a wanted test begins once for each value of the annotation", async () => {
  const id = await startOne();
  observe(id, { end: HEALTHY });
  await round(2);
  fleet.update(service("a", { wanted: "now" }), new Date());
  await round(3);
  observe(onlyTest(), { end: HEALTHY });
  await round(5);
  expect(place.calls.filter((call) => call === "start a")).toHaveLength(2);
});

test("what can't be removed is tried again, and not each second", async () => {
  const id = await startOne();
  place.state.removeFails = true;
  observe(id, { end: HEALTHY });
  await round(3);
  place.state.removeFails = false;
  await round(10);
  expect(place.calls).toEqual(["start a", `remove ${id}`]);
  await round(30);
  expect(place.calls).toEqual(["start a", `remove ${id}`, `remove ${id}`]);
});

test("what the record never takes ends nothing, and what is left of the test stays for the next scheduler", async () => {
  const id = await startOne();
  record.state.refuses = true;
  observe(id, { changes: [{ status: "restoring", at: START }], end: HEALTHY });
  await round(5);
  expect(place.calls).toEqual(["start a"]);
  expect(said.filter((line) => line === "the record was closed")).toHaveLength(2);
});
