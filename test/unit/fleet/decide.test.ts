import { describe, expect, test } from "vitest";
import { choose, decide, type Limits, type Service } from "../../../lib/fleet/decide.ts";
import { parseWindow } from "../../../lib/fleet/window.ts";

const NOW = new Date("2026-11-23T12:00:00Z");
const HOUR = 3_600_000;
const ago = (ms: number) => new Date(NOW.getTime() - ms);

const service = (change: Partial<Omit<Service, "policy">> & { policy?: Partial<Service["policy"]> } = {}): Service => ({
  id: "prod/a",
  namespace: "prod",
  groups: {},
  firstSeenAt: ago(48 * HOUR),
  last: null,
  lastHealthyAt: null,
  backupsSinceTest: 0,
  wantedAt: null,
  ...change,
  policy: {
    intervalMs: 24 * HOUR,
    jitterMs: 0,
    windows: [],
    afterBackups: null,
    isPaused: false,
    weight: 1,
    ...change.policy,
  },
});
const tested = (outcome: "healthy" | "unhealthy" | "source", msAgo: number, attempts = 1) => ({
  last: { outcome, endedAt: ago(msAgo), attempts },
});

describe("a test is due", () => {
  test.each([
    ["never tested", service(), "it was never tested"],
    ["the interval is over", service(tested("healthy", 24 * HOUR)), "the last test was healthy; the interval is 1d"],
    [
      "asked for, although it is paused",
      service({ wantedAt: NOW, policy: { isPaused: true } }),
      "a test was asked for",
    ],
    ["after a source that was away, soon", service(tested("source", HOUR / 6)), /tried again after 10min/],
    ["after two of these, less soon", service(tested("source", HOUR / 3, 2)), /tried again after 20min/],
    [
      "after a failed test, an hour later",
      service(tested("unhealthy", HOUR)),
      /the last test was unhealthy; tried again/,
    ],
    [
      "after enough new backups",
      service({ ...tested("healthy", HOUR), backupsSinceTest: 3, policy: { afterBackups: 3 } }),
      "3 new backups since the last test",
    ],
  ])("%s", (_, one, reason) => {
    const decision = decide(one, NOW);
    expect(decision).toMatchObject({ due: true });
    expect(decision.reason).toMatch(reason);
  });

  test.each([
    ["paused", service({ policy: { isPaused: true } }), "it is paused", null],
    ["the interval is not over", service(tested("healthy", 23 * HOUR)), /interval/, new Date(NOW.getTime() + HOUR)],
    [
      "outside of its window",
      service({ policy: { windows: [parseWindow("22:00-06:00")] } }),
      /outside of its windows/,
      null,
    ],
    [
      "new backups after a failed test change nothing",
      service({ ...tested("unhealthy", 60_000), backupsSinceTest: 9, policy: { afterBackups: 1 } }),
      /tried again after 1h/,
      new Date(NOW.getTime() + HOUR - 60_000),
    ],
    [
      "failures never make it rarer than the interval",
      service(tested("source", 23 * HOUR, 30)),
      /interval/,
      new Date(NOW.getTime() + HOUR),
    ],
  ])("not: %s", (_, one, reason, at) => {
    const decision = decide(one, NOW);
    expect(decision).toMatchObject({ due: false, at });
    expect(decision.reason).toMatch(reason);
  });

  test("a fleet that is seen for the first time is spread over the jitter, the same way each time", () => {
    const fleet = Array.from({ length: 1000 }, (_, n) =>
      service({ id: `prod/${n}`, firstSeenAt: NOW, policy: { jitterMs: HOUR } }),
    );
    const times = fleet
      .map((one) => decide(one, ago(1)))
      .map((one) => (one.due ? 0 : (one.at as Date).getTime() - NOW.getTime()));
    expect(Math.max(...times)).toBeLessThan(HOUR);
    for (let quarter = 0; quarter < 4; quarter++) {
      const count = times.filter((time) => Math.floor(time / (HOUR / 4)) === quarter).length;
      expect(count).toBeGreaterThan(200);
    }
    expect(fleet.map((one) => decide(one, ago(1)))).toEqual(fleet.map((one) => decide(one, ago(1))));
  });
});

describe("which of them start", () => {
  const limits: Limits = { tests: 2, weight: 10, perNamespace: 9, perGroup: {}, isPaused: false };
  const named = (id: string, change: Parameters<typeof service>[0] = {}) => service({ id, ...change });
  const ids = (services: readonly Service[]) => services.map(({ id }) => id);

  test("asked for, never proven, longest not proven", () => {
    const due = [
      named("new", { lastHealthyAt: ago(HOUR) }),
      named("old", { lastHealthyAt: ago(9 * HOUR) }),
      named("never"),
      named("wanted", { lastHealthyAt: ago(HOUR), wantedAt: NOW }),
    ];
    expect(ids(choose(due, [], { ...limits, tests: 3 }).start)).toEqual(["wanted", "never", "old"]);
  });

  test("no more than the limit, those in progress included", () => {
    const { start, waiting } = choose([named("a"), named("b"), named("c")], [named("x")], limits);
    expect(ids(start)).toEqual(["a"]);
    expect(waiting[0]?.reason).toBe("2 tests are in progress, and no more than 2 may be");
  });

  test("one of a service at a time", () => {
    const { start, waiting } = choose([named("a", { wantedAt: NOW })], [named("a")], limits);
    expect(start).toEqual([]);
    expect(waiting[0]?.reason).toBe("its test is in progress");
  });

  test("namespace and groups have limits of their own", () => {
    const due = [
      named("a", { groups: { node: "n1" } }),
      named("b", { groups: { node: "n1" } }),
      named("c", { namespace: "other", groups: { node: "n2" } }),
    ];
    const { start, waiting } = choose(due, [], { ...limits, tests: 9, perGroup: { node: 1 } });
    expect(ids(start)).toEqual(["a", "c"]);
    expect(waiting[0]?.reason).toBe("1 are in progress with node n1");
    const narrow = choose(due, [], { ...limits, tests: 9, perNamespace: 1 });
    expect(ids(narrow.start)).toEqual(["a", "c"]);
    expect(narrow.waiting[0]?.reason).toBe("1 are in progress in namespace prod");
  });

  test("a heavy one waits for room, and light ones do not overtake it for ever", () => {
    const heavy = named("heavy", { policy: { weight: 8 } });
    const light = named("light", { lastHealthyAt: ago(HOUR) });
    const { start, waiting } = choose([light, heavy], [named("x", { policy: { weight: 4 } })], { ...limits, tests: 9 });
    expect(start).toEqual([]);
    expect(waiting.map(({ reason }) => reason)).toEqual([
      "tests in progress weigh 4, this one 8, and the limit is 10",
      "heavy comes first, and waits for others to end",
    ]);
    expect(ids(choose([light, heavy], [], { ...limits, tests: 9 }).start)).toEqual(["heavy", "light"]);
    expect(ids(choose([named("giant", { policy: { weight: 99 } })], [], limits).start)).toEqual(["giant"]);
  });

  test("none while the fleet is paused", () => {
    expect(choose([named("a")], [], { ...limits, isPaused: true }).waiting[0]?.reason).toBe("the fleet is paused");
  });
});
