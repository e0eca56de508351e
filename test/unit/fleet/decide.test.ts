import { describe, expect, test } from "vitest";
import {
  type Candidate,
  choose,
  compareUrgency,
  decide,
  type Limits,
  loadOf,
  obstacle,
  tally,
} from "../../../lib/fleet/decide.ts";
import { newStanding, type Policy, type Service, type Standing } from "../../../lib/fleet/service.ts";
import type { LastTest } from "../../../lib/fleet/test.ts";
import { parseWindow } from "../../../lib/fleet/window.ts";

const NOW = new Date("2026-11-23T12:00:00Z");
const HOUR = 3_600_000;
const ago = (ms: number) => new Date(NOW.getTime() - ms);

interface Change extends Partial<Omit<Service, "policy">>, Partial<Omit<Standing, "last">> {
  policy?: Partial<Policy>;
  last?: Partial<LastTest> | null;
}

const service = (change: Change = {}): Candidate => {
  const { policy, firstSeenAt, last, lastHealthyAt, backupsSinceTest, wantedAt, ...own } = change;
  const test = { id: "t", outcome: "healthy", endedAt: NOW, attempts: 1, error: null, figures: null } as const;
  return {
    service: {
      ...{ id: "prod/a", namespace: "prod", scope: "a", stanza: "a", source: null, groups: {}, settings: {} },
      ...{ wanted: null, problem: null },
      ...own,
      policy: {
        ...{ intervalMs: 24 * HOUR, jitterMs: 0, windows: [], afterBackups: null, isPaused: false, weight: 1 },
        ...policy,
      },
    },
    standing: {
      ...newStanding(firstSeenAt ?? ago(48 * HOUR)),
      last: last ? { ...test, ...last } : null,
      lastHealthyAt: lastHealthyAt ?? null,
      backupsSinceTest: backupsSinceTest ?? 0,
      wantedAt: wantedAt ?? null,
    },
  };
};
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
    ["impossible", service({ problem: "interval is 'x'", wantedAt: NOW }), "it can't be tested: interval is 'x'", null],
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
  const named = (id: string, change: Change = {}) => service({ id, ...change });
  const started = (due: Candidate[], running: Candidate[], wanted: Partial<Limits> = {}) =>
    choose(
      due.sort(compareUrgency),
      running.map((one) => loadOf(one.service)),
      { ...limits, ...wanted },
    );
  const ids = (candidates: readonly Candidate[]) => candidates.map(({ service: { id } }) => id);
  const reason = (one: Candidate, running: Candidate[], wanted: Partial<Limits> = {}) =>
    obstacle(loadOf(one.service), tally(running.map((other) => loadOf(other.service))), { ...limits, ...wanted });

  test("asked for, never tested, longest not tested", () => {
    const due = [
      named("new", tested("healthy", HOUR)),
      named("old", tested("healthy", 9 * HOUR)),
      named("never"),
      named("wanted", { ...tested("healthy", HOUR), wantedAt: NOW }),
    ];
    expect(ids(started(due, [], { tests: 3 }).start)).toEqual(["wanted", "never", "old"]);
  });

  test("tests that keep failing do not keep the others from their turn", () => {
    const failing = named("failing", tested("source", HOUR));
    const proven = named("proven", { ...tested("healthy", 30 * HOUR), lastHealthyAt: ago(30 * HOUR) });
    expect(ids(started([failing, proven], [], { tests: 1 }).start)).toEqual(["proven"]);
  });

  test("no more than the limit, those in progress included", () => {
    expect(ids(started([named("a"), named("b"), named("c")], [named("x")]).start)).toEqual(["a"]);
    expect(reason(named("b"), [named("x"), named("a")])).toBe("2 tests are in progress, and no more than 2 may be");
  });

  test("namespace and groups have limits of their own", () => {
    const [a, b, c] = [
      named("a", { groups: { node: "n1" } }),
      named("b", { groups: { node: "n1" } }),
      named("c", { namespace: "other", groups: { node: "n2" } }),
    ] as const;
    const perNode = { tests: 9, perGroup: { node: 1 } };
    expect(ids(started([a, b, c], [], perNode).start)).toEqual(["a", "c"]);
    expect(reason(b, [a], perNode)).toBe("1 are in progress with node n1");
    expect(ids(started([a, b, c], [], { tests: 9, perNamespace: 1 }).start)).toEqual(["a", "c"]);
    expect(reason(b, [a], { perNamespace: 1 })).toBe("1 are in progress in namespace prod");
  });

  test("a heavy one waits for room, and light ones do not overtake it for ever", () => {
    const heavy = named("heavy", { policy: { weight: 8 } });
    const light = named("light", tested("healthy", HOUR));
    const busy = named("x", { policy: { weight: 4 } });
    const blocked = started([light, heavy], [busy], { tests: 9 });
    expect(blocked.start).toEqual([]);
    expect(blocked.heavy).toBe(heavy);
    expect(reason(heavy, [busy])).toBe("tests in progress weigh 4, this one 8, and the limit is 10");
    expect(ids(started([light, heavy], [], { tests: 9 }).start)).toEqual(["heavy", "light"]);
    expect(ids(started([named("giant", { policy: { weight: 99 } })], []).start)).toEqual(["giant"]);
  });

  test("none while the fleet is paused", () => {
    expect(started([named("a")], [], { isPaused: true }).start).toEqual([]);
    expect(reason(named("a"), [], { isPaused: true })).toBe("the fleet is paused");
  });
});
