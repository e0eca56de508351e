import { describe, expect, test } from "vitest";
import { describeProgress, formatEvent, type LogEvent } from "../../lib/log.ts";

const event = (changes: Partial<LogEvent> = {}): LogEvent => ({
  at: new Date("2026-11-22T10:00:00.123Z"),
  level: "info",
  phase: "restore",
  message: "started",
  fields: {},
  ...changes,
});

describe("text", () => {
  test.each([
    { given: event(), line: "2026-11-22 10:00:00.123+00 INFO  restore: started" },
    { given: event({ level: "error" }), line: "2026-11-22 10:00:00.123+00 ERROR restore: started" },
    {
      given: event({
        fields: { lsn: "0/3", count: 2, note: "two words", nothing: null, missing: undefined, empty: "" },
      }),
      line: '2026-11-22 10:00:00.123+00 INFO  restore: started lsn=0/3 count=2 note="two words" empty=""',
    },
    {
      given: event({ fields: { list: ["a", "b"], big: 2n ** 64n, why: new Error("no space") } }),
      line: '2026-11-22 10:00:00.123+00 INFO  restore: started list=["a","b"] big=18446744073709551616 why="no space"',
    },
    {
      given: event({ message: "first\n  second\r\nthird\n" }),
      line: "2026-11-22 10:00:00.123+00 INFO  restore: first | second | third",
    },
  ])("$line", ({ given, line }) => {
    expect(formatEvent(given, "text")).toBe(line);
  });
});

describe("json", () => {
  const parsed = (given: LogEvent) => {
    const line = formatEvent(given, "json");
    expect(line).not.toContain("\n");
    return JSON.parse(line);
  };

  test("is one object with the fields beside the event's own members", () => {
    expect(parsed(event({ fields: { lsn: "0/3", count: 2 } }))).toEqual({
      at: "2026-11-22T10:00:00.123Z",
      level: "info",
      phase: "restore",
      message: "started",
      lsn: "0/3",
      count: 2,
    });
  });

  test("a field never hides the event's own members", () => {
    expect(parsed(event({ fields: { level: "standard", phase: "x" } }))).toMatchObject({
      level: "info",
      phase: "restore",
      level_: "standard",
      phase_: "x",
    });
  });

  test("what JSON has no word for is written as text", () => {
    expect(parsed(event({ fields: { big: 2n ** 64n, why: new Error("no space") } }))).toMatchObject({
      big: "18446744073709551616",
      why: "no space",
    });
  });

  test("a message of several lines stays one line", () => {
    expect(parsed(event({ message: "a\nb" })).message).toBe("a\nb");
  });
});

describe("progress", () => {
  const MB = 1024 ** 2;

  test.each([
    { progress: {}, elapsed: 3000, text: "3.0s" },
    {
      progress: { bytes: 310 * MB, totalBytes: 620 * MB },
      elapsed: 5000,
      text: "50 %, 310.0 MB of 620.0 MB, 62.0 MB/s, 5.0s left",
    },
    { progress: { bytes: 0, totalBytes: 620 * MB }, elapsed: 1000, text: "0 %, 0 B of 620.0 MB" },
    {
      progress: { bytes: 620 * MB, totalBytes: 620 * MB },
      elapsed: 1000,
      text: "100 %, 620.0 MB of 620.0 MB, 620.0 MB/s",
    },
    {
      progress: { bytes: 700 * MB, totalBytes: 620 * MB },
      elapsed: 1000,
      text: "100 %, 700.0 MB of 620.0 MB, 700.0 MB/s",
    },
    { progress: { bytes: 10 * MB, totalBytes: 0 }, elapsed: 1000, text: "10.0 MB, 10.0 MB/s" },
    { progress: { fraction: 0.999 }, elapsed: 999_000, text: "99 %, 1.0s left" },
    {
      progress: { lsn: "0/5A000028", lastCommit: "2026-11-22 10:00:00.1+00", note: "replaying" },
      elapsed: 1000,
      text: "at 0/5A000028, last commit 2026-11-22 10:00:00.1+00, replaying",
    },
    { progress: { bytes: 5 }, elapsed: 0, text: "5 B" },
  ])("$text", ({ progress, elapsed, text }) => {
    expect(describeProgress(progress, elapsed)).toBe(text);
  });
});
