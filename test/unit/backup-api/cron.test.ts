import { describe, expect, test } from "vitest";
import { cronProblem, isTimeZone, nextRun } from "../../../lib/backup-api/cron.ts";

const next = (pattern: string, zone: string, after: string) => nextRun(pattern, zone, new Date(after))?.toISOString();
/** Every run of a pattern between two moments. */
function runs(pattern: string, zone: string, from: string, to: string): string[] {
  const found: string[] = [];
  for (
    let at = nextRun(pattern, zone, new Date(from));
    at !== null && at <= new Date(to);
    at = nextRun(pattern, zone, at)
  ) {
    found.push(at.toISOString());
  }
  return found;
}

describe("when a schedule comes", () => {
  test.each([
    { pattern: "0 1 * * 0", zone: "UTC", after: "2026-11-23T00:00:00Z", at: "2026-11-29T01:00:00.000Z" },
    { pattern: "0 1 * * 7", zone: "UTC", after: "2026-11-23T00:00:00Z", at: "2026-11-29T01:00:00.000Z" },
    { pattern: "0 1 * * SUN", zone: "UTC", after: "2026-11-23T00:00:00Z", at: "2026-11-29T01:00:00.000Z" },
    { pattern: "0 1 * * 1-6", zone: "UTC", after: "2026-11-28T01:00:00Z", at: "2026-11-30T01:00:00.000Z" },
    { pattern: "0 1 * * 1-6", zone: "Europe/Berlin", after: "2026-11-23T00:00:00Z", at: "2026-11-24T00:00:00.000Z" },
    { pattern: "*/15 * * * *", zone: "Asia/Kathmandu", after: "2026-11-23T00:00:00Z", at: "2026-11-23T00:15:00.000Z" },
    { pattern: "0 0 29 2 *", zone: "UTC", after: "2026-11-23T00:00:00Z", at: "2028-02-29T00:00:00.000Z" },
    { pattern: "30 0 1 * *", zone: "Pacific/Auckland", after: "2026-11-23T00:00:00Z", at: "2026-11-30T11:30:00.000Z" },
    { pattern: "10 0 1 * * *", zone: "UTC", after: "2026-11-23T00:00:00Z", at: "2026-11-23T01:00:10.000Z" },
    // As crontab(5): either of the two days.
    { pattern: "0 1 1 * 0", zone: "UTC", after: "2026-11-23T00:00:00Z", at: "2026-11-29T01:00:00.000Z" },
    { pattern: "0 1 1 * 0", zone: "UTC", after: "2026-11-30T00:00:00Z", at: "2026-12-01T01:00:00.000Z" },
  ])("$pattern in $zone after $after", ({ pattern, zone, after, at }) => {
    expect(next(pattern, zone, after)).toBe(at);
  });

  test("is after the moment that is asked for, never the moment itself", () => {
    expect(next("0 1 * * *", "UTC", "2026-11-23T01:00:00Z")).toBe("2026-11-24T01:00:00.000Z");
  });
});

describe("the days on which clocks change in Berlin", () => {
  test.each(["30 2 * * *", "0 2 * * *", "59 2 * * *"])("%s, which does not exist in spring, comes once", (pattern) => {
    expect(runs(pattern, "Europe/Berlin", "2026-03-28T22:59:00Z", "2026-03-29T21:59:00Z")).toHaveLength(1);
  });

  test("30 2 * * *, which exists twice in autumn, comes once", () => {
    expect(runs("30 2 * * *", "Europe/Berlin", "2026-10-24T21:59:00Z", "2026-10-25T22:59:00Z")).toEqual([
      "2026-10-25T00:30:00.000Z",
    ]);
  });

  test("0 1 * * * is one in the morning before and after", () => {
    expect(runs("0 1 * * *", "Europe/Berlin", "2026-03-27T23:30:00Z", "2026-03-30T22:00:00Z")).toEqual([
      "2026-03-28T00:00:00.000Z",
      "2026-03-29T00:00:00.000Z",
      "2026-03-29T23:00:00.000Z",
    ]);
  });

  test.each([
    { day: "spring", from: "2026-03-28T22:30:00Z", to: "2026-03-29T21:30:00Z", hours: 23 },
    { day: "autumn", from: "2026-10-24T21:30:00Z", to: "2026-10-25T22:30:00Z", hours: 25 },
  ])("every hour is every hour that passes in $day", ({ from, to, hours }) => {
    expect(runs("0 * * * *", "Europe/Berlin", from, to)).toHaveLength(hours);
  });
});

describe("what is no schedule", () => {
  test.each(["0 1 * * 0", "*/5 * * * *", "0 1 * * MON-SAT", "0 0 29 2 *", "@daily", "0 0 1 1,7 *"])(
    "%s is one",
    (pattern) => {
      expect(cronProblem(pattern)).toBeUndefined();
    },
  );

  test.each([
    "",
    "   ",
    "daily",
    "* * *",
    "60 1 * * *",
    "0 24 * * *",
    "0 1 32 * *",
    "0 1 * 13 *",
    "0 1 * * 8",
    "*/0 1 * * *",
    "0 1 * * 0 0 0 0",
  ])("%j is not", (pattern) => {
    expect(cronProblem(pattern)).toContain(`"${pattern}" is not a cron expression such as "0 1 * * 0": `);
  });

  test.each(["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 1 1 * 2020"])(
    "%s never comes, which is told at once",
    (pattern) => {
      expect(cronProblem(pattern)).toBe(`"${pattern}" never comes`);
      expect(nextRun(pattern, "UTC", new Date())).toBeNull();
    },
  );
});

test.each(["UTC", "Europe/Berlin", "America/New_York", "Etc/GMT+5"])("%s is a time zone", (name) => {
  expect(isTimeZone(name)).toBe(true);
});
test.each(["", "Berlin", "Europe/Berln", "CEST/x", "Europe / Berlin"])("%j is no time zone", (name) => {
  expect(isTimeZone(name)).toBe(false);
});
