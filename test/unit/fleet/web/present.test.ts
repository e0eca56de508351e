import { describe, expect, test } from "vitest";
import type { ServiceView } from "../../../../lib/fleet/view.ts";
import { describeDetails, describeFleet, describeService, describeTest } from "../../../../lib/fleet/web/present.ts";
import {
  ago,
  DAY,
  fleet,
  HOUR,
  healthy,
  last,
  NOW,
  pastTest,
  SERVICES,
  service,
  standing,
  view,
} from "../../../fixtures/fleet.ts";

const named = (id: string) => SERVICES.find((one) => one.service.id === id) as ServiceView;

describe("a service", () => {
  test("that is proven: snake_case, ISO times, durations with their unit", () => {
    expect(describeService(healthy("databases/shop", 3 * HOUR), NOW)).toEqual({
      id: "databases/shop",
      namespace: "databases",
      scope: "shop",
      stanza: "shop",
      verdict: "healthy",
      group: "healthy",
      age_seconds: 3 * 3600,
      interval_seconds: 86_400,
      last_healthy_at: ago(3 * HOUR).toISOString(),
      last_test: {
        id: "0a1b2c3d",
        ended_at: ago(3 * HOUR).toISOString(),
        attempts: 1,
        error: null,
        rto_ms: 63_500,
        rpo_ms: 1200,
      },
      running: null,
      next: {
        due: false,
        reason: "the last test was healthy; the interval is 1d",
        at: new Date(NOW.getTime() + 21 * HOUR).toISOString(),
      },
      paused: false,
      problem: null,
    });
  });

  test("that was never tested has its age from when it was first seen", () => {
    const shown = describeService(named("archive/new"), NOW);
    expect(shown).toMatchObject({ verdict: "never", group: "never", age_seconds: 7200, last_test: null });
    expect(shown.next).toMatchObject({ due: true, at: ago(2 * HOUR).toISOString() });
  });

  test("whose last test failed has the age of its last proof, not of that test", () => {
    expect(describeService(named("databases/billing"), NOW).age_seconds).toBe((4 * DAY) / 1000);
  });

  test.each([
    ["healthy", "healthy"],
    ["unhealthy", "failing"],
    ["restore", "failing"],
    ["source", "error"],
    ["infra", "error"],
    ["cancelled", "error"],
  ] as const)("%s counts as %s", (outcome, group) => {
    expect(describeService(view(service("a"), standing({ last: last(outcome, HOUR) })), NOW).group).toBe(group);
  });

  test("a clock that was set back makes no age below zero", () => {
    expect(describeService(healthy("a", -HOUR), NOW).age_seconds).toBe(0);
  });

  test("nothing of how to connect, nor of its settings, is shown", () => {
    const explanation = ["a"];
    for (const one of SERVICES) {
      expect(JSON.stringify(describeDetails(one, NOW, { tests: [], explanation }))).not.toMatch(
        /secret|run\/postgresql/,
      );
    }
  });
});

describe("the fleet", () => {
  test("counts all of it, whatever is left out of the list", () => {
    const shown = describeFleet(fleet(), NOW, { namespace: "archive", verdict: ["restore", "never"] });
    expect(shown.services.map(({ id }) => id)).toEqual(["archive/ledger", "archive/new"]);
    expect(shown.counts).toEqual({
      total: 9,
      healthy: 5,
      failing: 2,
      error: 1,
      never: 1,
      due: 2,
      in_progress: 1,
      paused: 1,
      problem: 1,
    });
  });

  test("what is in progress is not due as well", () => {
    const running = { test: "1", status: "marking", since: NOW } as const;
    const shown = describeFleet(fleet([{ ...named("archive/new"), running }]), NOW);
    expect(shown.counts).toMatchObject({ due: 0, in_progress: 1 });
  });
});

describe("a test", () => {
  test("has its end and how long it took", () => {
    expect(describeTest(pastTest(named("databases/shop"), "t1", "unhealthy", HOUR))).toMatchObject({
      id: "t1",
      requested_at: ago(HOUR).toISOString(),
      status: "unhealthy",
      duration_ms: 70_000,
      end: { outcome: "unhealthy", error: { name: "UNHEALTHY" }, figures: { rto_ms: 63_500 } },
    });
  });

  test("in progress has none", () => {
    expect(describeTest(pastTest(named("databases/shop"), "t1", null, HOUR))).toMatchObject({
      end: null,
      duration_ms: null,
    });
  });
});
