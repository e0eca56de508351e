import { describe, expect, test } from "vitest";
import {
  describeTarget,
  normaliseTargetTime,
  parseTargetValue,
  parseTimeline,
  type Target,
  targetOptions,
  timeToMicros,
} from "../../../lib/postgres/target.ts";

describe("a target time", () => {
  test.each([
    { given: "2026-11-22 10:00:00.123456+00", used: "2026-11-22 10:00:00.123456+00", why: "PostgreSQL's own text" },
    {
      given: "2026-11-22 10:00:00.000001+00",
      used: "2026-11-22 10:00:00.000001+00",
      why: "the last microsecond stays",
    },
    { given: "2026-11-22 10:00:00+00", used: "2026-11-22 10:00:00+00", why: "no fraction is invented" },
    { given: "2026-11-22T21:36:11Z", used: "2026-11-22 21:36:11+00", why: "ISO 8601" },
    { given: "2026-11-22t21:36:11.5z", used: "2026-11-22 21:36:11.5+00", why: "ISO 8601 in lower case" },
    { given: "2026-11-22 10:00:00 UTC", used: "2026-11-22 10:00:00+00", why: "a zone that cannot be mistaken" },
    { given: "2026-11-22 10:00+00", used: "2026-11-22 10:00:00+00", why: "seconds left out" },
    { given: "2026-11-22 10:00:00,5+01", used: "2026-11-22 10:00:00.5+01", why: "a decimal comma" },
    { given: "2026-11-22 10:00:00+0530", used: "2026-11-22 10:00:00+05:30", why: "offset without colon" },
    { given: "2026-11-22 10:00:00+05:30", used: "2026-11-22 10:00:00+05:30", why: "offset with colon" },
    { given: "2026-11-22 10:00:00-03:00", used: "2026-11-22 10:00:00-03", why: "whole hours" },
    { given: "2026-11-22 10:00:00-00:30", used: "2026-11-22 10:00:00-00:30", why: "the sign of a zero hour" },
    { given: "2026-11-22 10:00:00+15:59", used: "2026-11-22 10:00:00+15:59", why: "the largest offset" },
    { given: "2028-02-29 00:00:00+00", used: "2028-02-29 00:00:00+00", why: "a leap day" },
    { given: "  2026-11-22 10:00:00+00\n", used: "2026-11-22 10:00:00+00", why: "spaces around it" },
  ])("$given is used as $used: $why", ({ given, used }) => {
    expect(normaliseTargetTime(given)).toBe(used);
    expect(normaliseTargetTime(used)).toBe(used);
  });

  test.each([
    {
      given: "2026-11-22 10:00",
      text:
        'target time "2026-11-22 10:00:00" has no UTC offset. pgBackRest would use the system zone to choose the backup ' +
        'and PostgreSQL its own zone to stop. Write "2026-11-22 10:00:00+00"',
    },
    { given: "2026-11-22 10:00:00.123456", text: 'Write "2026-11-22 10:00:00.123456+00"' },
    { given: "2026-02-30 10:00:00+00", text: 'target time "2026-02-30 10:00:00+00" is not a valid date' },
    { given: "2027-02-29 10:00:00+00", text: "is not a valid date" },
    { given: "2026-13-01 10:00:00+00", text: "is not a valid date" },
    { given: "2026-00-10 10:00:00+00", text: "is not a valid date" },
    { given: "2026-11-22 24:00:00+00", text: "is not a valid date" },
    { given: "2026-11-22 10:60:00+00", text: "is not a valid date" },
    { given: "2026-11-22 10:00:61+00", text: "is not a valid date" },
    { given: "2026-11-22 10:00:00+16", text: "is not a valid date" },
    { given: "2026-11-22 10:00:00+01:60", text: "is not a valid date" },
    { given: "2026-11-22 10:00:00.1234567+00", text: "is finer than PostgreSQL's microseconds" },
    { given: "yesterday", text: 'target time "yesterday" is not a time; write it as "2026-11-22 10:00:00.123456+00"' },
    { given: "now", text: "is not a time" },
    { given: "2026-11-22", text: "is not a time" },
    { given: "2026-11-22 10:00:00 Europe/Berlin", text: "is not a time" },
    { given: "1795341600", text: "is not a time" },
    { given: "", text: "is not a time" },
  ])("refuses $given", ({ given, text }) => {
    expect(() => normaliseTargetTime(given)).toThrow(text);
  });
});

describe("timeToMicros", () => {
  test.each([
    { time: "1970-01-01 00:00:00+00", micros: 0n },
    { time: "1970-01-01 00:00:00.000001+00", micros: 1n },
    { time: "1970-01-01 00:00:00.1+00", micros: 100_000n },
    { time: "1970-01-01 01:00:00+01", micros: 0n },
    { time: "1970-01-01 00:00:00+05:30", micros: -19_800_000_000n },
    { time: "1969-12-31 23:30:00-00:30", micros: 0n },
    { time: "2026-11-22 10:00:00.123456+00", micros: 1_795_341_600_123_456n },
  ])("$time", ({ time, micros }) => {
    expect(timeToMicros(time)).toBe(micros);
  });

  test("tells two times of the same millisecond apart", () => {
    const marker = timeToMicros("2026-11-22 10:00:00.123456+00");
    const fence = timeToMicros("2026-11-22 10:00:00.123457+00");
    expect(fence - marker).toBe(1n);
  });

  test("is the same moment in every zone", () => {
    const moments = [
      "2026-11-22 10:00:00+00",
      "2026-11-22 15:30:00+05:30",
      "2026-11-22 02:00:00-08",
      "2026-11-22T10:00Z",
    ];
    expect(new Set(moments.map(timeToMicros)).size).toBe(1);
  });
});

describe("a target's value for its type", () => {
  test.each([
    { type: "time", value: "2026-11-22T10:00:00Z", used: "2026-11-22 10:00:00+00" },
    { type: "lsn", value: "0/3000028", used: "0/3000028" },
    { type: "xid", value: "4294967295", used: "4294967295" },
    // PostgreSQL would read 0123 as octal 83.
    { type: "xid", value: "0123", used: "123" },
    { type: "name", value: "before release 1.2", used: "before release 1.2" },
    { type: "name", value: "n".repeat(63), used: "n".repeat(63) },
    { type: "immediate", value: undefined, used: null },
    { type: "latest", value: undefined, used: null },
  ] as const)("$type $value is $used", ({ type, value, used }) => {
    expect(parseTargetValue(type, value)).toBe(used);
  });

  test.each([
    { type: "time", value: undefined, text: 'target type "time" needs --target' },
    { type: "lsn", value: "", text: 'target type "lsn" needs --target' },
    { type: "immediate", value: "x", text: 'target type "immediate" takes no --target; got "x"' },
    { type: "latest", value: "", text: 'target type "latest" takes no --target; got ""' },
    { type: "lsn", value: "3000028", text: 'target LSN "3000028" is not of the form X/Y, such as 0/3000028' },
    { type: "lsn", value: "0/123456789", text: "is not of the form X/Y" },
    { type: "xid", value: "12a", text: 'target xid "12a" is not a transaction ID' },
    { type: "xid", value: "-1", text: "is not a transaction ID" },
    {
      type: "xid",
      value: "4294967300",
      text: "xid 4294967300 includes an epoch; recovery_target_xid needs the 32-bit value 4",
    },
    { type: "name", value: "n".repeat(64), text: "restore point name is 64 bytes long; PostgreSQL allows 63" },
    { type: "name", value: "ü".repeat(32), text: "restore point name is 64 bytes long" },
    { type: "name", value: "o'clock", text: "holds a quote, backslash or control character" },
    { type: "name", value: "a\\b", text: "holds a quote, backslash or control character" },
    { type: "name", value: "a\nb", text: "holds a quote, backslash or control character" },
  ] as const)("refuses $type $value", ({ type, value, text }) => {
    expect(() => parseTargetValue(type, value)).toThrow(text);
  });
});

describe("a target timeline", () => {
  test.each([
    { given: "latest", used: "latest" },
    { given: "current", used: "current" },
    { given: "3", used: "3" },
    { given: "0x1A", used: "26" },
    { given: "4294967295", used: "4294967295" },
  ])("$given is $used", ({ given, used }) => {
    expect(parseTimeline(given)).toBe(used);
  });

  // 00000010 is 10, 8 or 16, depending on who reads it.
  test.each(["0", "-1", "1.5", "", "newest", "0x", "0x0", "00000010", "4294967296"])("refuses %j", (given) => {
    expect(() => parseTimeline(given)).toThrow(
      `target timeline "${given}" is neither latest, current nor a number from 1`,
    );
  });
});

describe("what pgBackRest and people are told", () => {
  const target = (changes: Partial<Target>): Target => ({
    type: "time",
    value: "2026-11-22 10:00:00.123456+00",
    timeline: null,
    exclusive: false,
    ...changes,
  });

  test.each([
    {
      given: target({}),
      options: ["--type=time", "--target=2026-11-22 10:00:00.123456+00", "--target-action=promote"],
      words: "time 2026-11-22 10:00:00.123456+00",
    },
    {
      given: target({ type: "xid", value: "123", exclusive: true, timeline: "3" }),
      options: ["--type=xid", "--target=123", "--target-exclusive", "--target-timeline=3", "--target-action=promote"],
      words: "xid 123 (exclusive) on timeline 3",
    },
    {
      // pgBackRest refuses --target-timeline here.
      given: target({ type: "immediate", value: null, timeline: "2" }),
      options: ["--type=immediate", "--target-action=promote"],
      words: "immediate on timeline 2",
    },
    {
      // pgBackRest refuses --target-action without a target.
      given: target({ type: "latest", value: null, timeline: "latest" }),
      options: ["--type=default", "--target-timeline=latest"],
      words: "end of the WAL archive on timeline latest",
    },
  ])("$words", ({ given, options, words }) => {
    expect(targetOptions(given)).toEqual(options);
    expect(describeTarget(given)).toBe(words);
  });
});
