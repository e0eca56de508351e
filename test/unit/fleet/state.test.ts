import { describe, expect, test } from "vitest";
import type { Limits } from "../../../lib/fleet/decide.ts";
import { newStanding, type Policy, type Service, type Standing } from "../../../lib/fleet/service.ts";
import { createFleet, type Fleet } from "../../../lib/fleet/state.ts";
import type { RunningTest } from "../../../lib/fleet/store.ts";

const HOUR = 3_600_000;
const START = new Date("2026-11-23T12:00:00Z");
const later = (ms: number) => new Date(START.getTime() + ms);
const LIMITS: Limits = { tests: 2, weight: Infinity, perNamespace: Infinity, perGroup: {}, isPaused: false };
const POLICY: Policy = {
  intervalMs: 24 * HOUR,
  jitterMs: 0,
  windows: [],
  afterBackups: null,
  isPaused: false,
  weight: 1,
};

const service = (id: string, change: Partial<Service> = {}): Service => ({
  ...{
    id,
    namespace: "prod",
    scope: id,
    stanza: id,
    source: null,
    groups: {},
    settings: {},
    wanted: null,
    problem: null,
  },
  policy: POLICY,
  ...change,
});
const healthy = (at: Date): Standing => ({
  ...newStanding(START),
  last: { id: "t", outcome: "healthy", endedAt: at, attempts: 1, error: null, figures: null },
  lastHealthyAt: at,
});
const running = (id: string, change: Partial<RunningTest> = {}): RunningTest => ({
  ...{ id: `t-${id}`, service: id, namespace: "prod", scope: id, stanza: id, groups: {}, weight: 1, reason: "" },
  ...{ requestedAt: START, deadlineAt: later(HOUR), scheduler: "s", statuses: ["requested"], statusAt: START },
  ...change,
});
/** Each is seen by the watch and known to the record. */
function fleetOf(services: readonly Service[], limits: () => Limits = () => LIMITS): Fleet {
  const fleet = createFleet(limits);
  for (const one of services) {
    fleet.update(one, START);
    fleet.setStanding(one.id, newStanding(START), START);
  }
  return fleet;
}
const chosen = (fleet: Fleet, at: Date) => fleet.choose(at).map(({ service: { id } }) => id);

describe("a service becomes due", () => {
  test("only when the record knows it, so that nobody is tested whose tests cannot be found again", () => {
    const fleet = createFleet(() => LIMITS);
    fleet.update(service("a"), START);
    expect(chosen(fleet, START)).toEqual([]);
    expect(fleet.unknown().map(({ id }) => id)).toEqual(["a"]);
    expect(fleet.get("a")?.decision.reason).toBe("the record does not know it yet");
    fleet.setStanding("a", newStanding(START), START);
    expect(fleet.unknown()).toEqual([]);
    expect(chosen(fleet, START)).toEqual(["a"]);
  });

  test("by an update when its time has come, and by a sweep when nobody updates it", () => {
    const fleet = fleetOf([service("a"), service("b")]);
    for (const id of ["a", "b"]) fleet.setStanding(id, healthy(START), START);
    const [a] = [service("a")];
    fleet.update(a, later(HOUR));
    expect(chosen(fleet, later(HOUR))).toEqual([]);
    fleet.update(a, later(25 * HOUR));
    expect(chosen(fleet, later(25 * HOUR))).toEqual(["a"]);
    for (let round = 0; round < 3; round++) fleet.sweep(later(25 * HOUR), 2);
    expect(fleet.dueCount()).toBe(2);
  });

  test("at once when a test is wanted, and no more when its record says that one began", () => {
    const fleet = fleetOf([service("a")]);
    fleet.setStanding("a", healthy(START), START);
    fleet.setStanding("a", { ...healthy(START), wantedAt: START }, START);
    expect(chosen(fleet, START)).toEqual(["a"]);
    fleet.setStanding("a", healthy(START), START);
    expect(chosen(fleet, START)).toEqual([]);
  });

  test("an annotation's new value is to be taken up once", () => {
    const fleet = fleetOf([service("a")]);
    fleet.update(service("a", { wanted: "2" }), START);
    expect(fleet.wanted().map(({ id }) => id)).toEqual(["a"]);
    fleet.setStanding("a", { ...healthy(START), wantedToken: "2" }, START);
    expect(fleet.wanted()).toEqual([]);
  });
});

describe("which start", () => {
  test("as many as there is room for, in the order of their urgency, and each once", () => {
    const fleet = fleetOf([service("new"), service("old"), service("never")]);
    fleet.setStanding("new", healthy(later(-30 * HOUR)), START);
    fleet.setStanding("old", healthy(later(-50 * HOUR)), START);
    expect(chosen(fleet, START)).toEqual(["never", "old"]);
    fleet.note(running("never"));
    fleet.note(running("old"));
    expect(chosen(fleet, START)).toEqual([]);
    expect(fleet.get("new")?.decision).toMatchObject({
      due: true,
      reason: expect.stringMatching(/waits: 2 tests are/),
    });
    expect(fleet.get("never")).toMatchObject({ running: { test: "t-never" }, decision: { due: false } });
    fleet.setRunning([running("old")], START);
    expect(chosen(fleet, START)).toEqual(["never"]);
  });

  test("what was refused is offered again", () => {
    const fleet = fleetOf([service("a")]);
    expect([chosen(fleet, START), chosen(fleet, START)]).toEqual([["a"], ["a"]]);
  });

  test("none whose window closed while it waited", () => {
    const limits = { current: { ...LIMITS, tests: 1 } };
    const window = { days: ["mon"], from: 0, to: 13 * 60, timeZone: "UTC" } as const;
    const fleet = fleetOf([service("a", { policy: { ...POLICY, windows: [window] } })], () => limits.current);
    fleet.setRunning([running("x")], START);
    expect(chosen(fleet, START)).toEqual([]);
    fleet.setRunning([], START);
    expect(chosen(fleet, later(2 * HOUR))).toEqual([]);
    expect(fleet.dueCount()).toBe(0);
  });

  test("none while the fleet is paused, and all again afterwards", () => {
    const limits = { current: { ...LIMITS, isPaused: true } };
    const fleet = fleetOf([service("a")], () => limits.current);
    expect(chosen(fleet, START)).toEqual([]);
    expect(fleet.get("a")?.decision.reason).toMatch(/waits: the fleet is paused/);
    limits.current = LIMITS;
    expect(chosen(fleet, START)).toEqual(["a"]);
  });

  test("none that was removed", () => {
    const fleet = fleetOf([service("a")]);
    fleet.remove("a");
    expect(chosen(fleet, START)).toEqual([]);
    expect(fleet.size()).toBe(0);
  });

  test("a heavy one keeps light ones behind it, and says so", () => {
    const light = service("z-light");
    const heavy = service("heavy", { policy: { ...POLICY, weight: 8 } });
    const fleet = fleetOf([light, heavy], () => ({ ...LIMITS, tests: 9, weight: 10 }));
    fleet.setRunning([running("x", { weight: 4 })], START);
    expect(chosen(fleet, START)).toEqual([]);
    expect(fleet.get("z-light")?.decision.reason).toMatch(/heavy comes first/);
    fleet.setRunning([], START);
    expect(chosen(fleet, START)).toEqual(["heavy", "z-light"]);
  });
});

test("against a list that is sorted and filtered anew each time, over many random events", () => {
  let seed = 1;
  const random = (below: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  const ids = Array.from({ length: 40 }, (_, n) => `s${n}`);
  const fleet = fleetOf(
    ids.map((id) => service(id)),
    () => ({ ...LIMITS, tests: 3 }),
  );
  const standings = new Map(ids.map((id) => [id, newStanding(START)]));
  let tests: RunningTest[] = [];
  for (let step = 0; step < 5000; step++) {
    const now = later(step * 600_000);
    const id = ids[random(ids.length)] as string;
    const event = random(3);
    if (event === 0) fleet.update(service(id), now);
    if (event === 1) fleet.sweep(now, 1);
    const ended = tests[0];
    if (event === 2 && ended !== undefined) {
      tests = tests.slice(1);
      fleet.setRunning(tests, now);
      standings.set(ended.service, healthy(now));
      fleet.setStanding(ended.service, healthy(now), now);
    }
    fleet.sweep(now, 1);
    const expected = ids
      .filter((one) => !tests.some((running) => running.service === one))
      .map((one) => ({ one, at: standings.get(one)?.last?.endedAt.getTime() ?? 0 }))
      .filter(({ at }) => at + 24 * HOUR <= now.getTime())
      .sort((a, b) => a.at - b.at || (a.one < b.one ? -1 : 1))
      .slice(0, 3 - tests.length)
      .map(({ one }) => one);
    expect(chosen(fleet, now), `step ${step}`).toEqual(expected);
    for (const one of expected.slice(0, random(3))) {
      tests = [...tests, running(one)];
      fleet.note(running(one));
    }
  }
});
