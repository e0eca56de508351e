import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { dueSchedules, startScheduler, untilNext } from "../../../lib/backup-api/scheduler.ts";
import type { Schedule } from "../../../lib/options.ts";

const schedule = (cron: string, type: Schedule["type"], time_zone = "UTC"): Schedule => ({ cron, type, time_zone });
const at = (time: string) => new Date(`2026-11-${time}Z`);

const WEEKLY = schedule("0 1 * * 0", "full");
const DAILY = schedule("0 1 * * *", "diff");
const HOURLY = schedule("0 * * * *", "incr");

describe("what is due", () => {
  test("is what came since the last look", () => {
    const all = [DAILY, HOURLY];
    expect(dueSchedules(all, at("23T00:59:50"), at("23T00:59:59.999"))).toEqual([]);
    expect(dueSchedules(all, at("23T00:59:59.999"), at("23T01:00:00"))).toEqual(all);
    expect(dueSchedules(all, at("23T01:00:00"), at("23T01:00:30"))).toEqual([]);
    expect(dueSchedules(all, at("23T01:59:00"), at("23T02:00:01"))).toEqual([HOURLY]);
  });

  test("the full one comes first, then the differential one, however they are written down", () => {
    expect(dueSchedules([HOURLY, DAILY, WEEKLY], at("29T00:59:59"), at("29T01:00:00"))).toEqual([
      WEEKLY,
      DAILY,
      HOURLY,
    ]);
    expect(dueSchedules([WEEKLY, HOURLY, DAILY], at("29T00:59:59"), at("29T01:00:00"))).toEqual([
      WEEKLY,
      DAILY,
      HOURLY,
    ]);
  });

  test("once, however often it came while the machine slept", () => {
    expect(dueSchedules([HOURLY], at("23T00:30:00"), at("23T09:30:00"))).toEqual([HOURLY]);
  });

  test("each in its own time zone", () => {
    const berlin = schedule("0 1 * * *", "full", "Europe/Berlin");
    expect(dueSchedules([DAILY, berlin], at("22T23:59:59"), at("23T00:00:00"))).toEqual([berlin]);
  });

  test("never for a date that does not exist", () => {
    expect(dueSchedules([schedule("0 0 30 2 *", "full")], at("01T00:00:00"), new Date("2040-01-01T00:00:00Z"))).toEqual(
      [],
    );
  });
});

describe("how long to wait", () => {
  test("until the next one, but a clock is looked at every half minute", () => {
    expect(untilNext([DAILY], at("23T00:59:50"))).toBe(10_000);
    expect(untilNext([WEEKLY, DAILY], at("23T00:59:59.500"))).toBe(500);
    expect(untilNext([WEEKLY], at("23T00:00:00"))).toBe(30_000);
    expect(untilNext([schedule("0 0 30 2 *", "full")], at("23T00:00:00"))).toBe(30_000);
  });
});

describe("by the clock", () => {
  let stop: AbortController;
  let ran: string[];
  const run = async ({ type }: Schedule) => void ran.push(`${new Date().toISOString().slice(11, 16)} ${type}`);
  const pass = (minutes: number) => vi.advanceTimersByTimeAsync(minutes * 60_000);
  const start = (schedules: Schedule[]) => startScheduler(schedules, stop.signal, run);

  beforeEach(() => {
    vi.useFakeTimers({ now: at("23T00:50:00") });
    stop = new AbortController();
    ran = [];
  });
  afterEach(() => {
    stop.abort();
    vi.useRealTimers();
  });

  test("runs what is due, each time once", async () => {
    start([DAILY, schedule("30 * * * *", "incr")]);
    await pass(3 * 60);
    expect(ran).toEqual(["01:00 diff", "01:30 incr", "02:30 incr", "03:30 incr"]);
  });

  test("does not make up for what came before it was started", async () => {
    vi.setSystemTime(at("23T01:00:30"));
    start([DAILY]);
    await pass(30);
    expect(ran).toEqual([]);
  });

  test("a clock that is set back runs nothing a second time", async () => {
    start([DAILY]);
    await pass(15);
    expect(ran).toEqual(["01:00 diff"]);
    vi.setSystemTime(at("23T00:40:00"));
    await pass(60);
    expect(ran).toEqual(["01:00 diff"]);
  });

  test("a clock that is set forward, or a machine that slept, is made up for once", async () => {
    start([DAILY, WEEKLY]);
    vi.setSystemTime(at("30T12:00:00"));
    await pass(2);
    expect(ran).toEqual(["12:00 full", "12:00 diff"]);
  });

  test("a clock that was a year ahead for a moment does not end all backups for a year", async () => {
    vi.setSystemTime(new Date("2027-11-23T00:50:00Z"));
    start([DAILY]);
    await pass(1);
    vi.setSystemTime(at("23T00:50:00"));
    await pass(15);
    expect(ran).toEqual(["01:00 diff"]);
  });

  test("goes on when a run fails", async () => {
    const failing = vi.fn(async () => {
      throw new Error("no");
    });
    const problems: unknown[] = [];
    const onProblem = (error: unknown) => problems.push(error);
    process.on("unhandledRejection", onProblem);
    startScheduler([HOURLY], stop.signal, (one) => failing().catch(() => run(one)));
    await pass(75);
    process.off("unhandledRejection", onProblem);
    expect(ran).toEqual(["01:00 incr", "02:00 incr"]);
    expect(problems).toEqual([]);
  });

  test("leaves nothing behind at each look", async () => {
    const warnings: string[] = [];
    const onWarning = (warning: Error) => warnings.push(warning.name);
    process.on("warning", onWarning);
    start([WEEKLY]);
    await pass(30);
    vi.useRealTimers();
    await new Promise((resolve) => setTimeout(resolve, 10));
    process.off("warning", onWarning);
    expect(warnings).toEqual([]);
  });

  test("nothing more comes after the end", async () => {
    start([HOURLY]);
    stop.abort();
    await pass(120);
    expect(ran).toEqual([]);
    expect(vi.getTimerCount()).toBe(0);
  });

  test("without schedules nothing waits", () => {
    start([]);
    expect(vi.getTimerCount()).toBe(0);
  });
});
