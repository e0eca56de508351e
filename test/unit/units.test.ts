import { describe, expect, test } from "vitest";
import { formatDuration, formatSize, parseDuration, parseSize } from "../../lib/units.ts";

describe("parseDuration", () => {
  test.each([
    { text: "500ms", ms: 500 },
    { text: "30s", ms: 30_000 },
    { text: "30", ms: 30_000 },
    { text: "10min", ms: 600_000 },
    { text: "1.5min", ms: 90_000 },
    { text: "2h", ms: 7_200_000 },
    { text: "1d", ms: 86_400_000 },
    { text: " 12 h ", ms: 43_200_000 },
    { text: "0", ms: 0 },
  ])("$text is $ms ms", ({ text, ms }) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each(["", "min", "10 minutes", "10m", "10MIN", "-1s", "1e3", "1,5h", "5toString", "9".repeat(300)])(
    "refuses %j and shows what a duration looks like",
    (text) => {
      expect(() => parseDuration(text)).toThrow(`"${text}" is not a duration such as 500ms, 30s, 10min, 2h or 1d`);
    },
  );
});

describe("parseSize", () => {
  test.each([
    { text: "0", bytes: 0 },
    { text: "512", bytes: 512 },
    { text: "512B", bytes: 512 },
    { text: "512kB", bytes: 524_288 },
    { text: "64MB", bytes: 67_108_864 },
    { text: "1.5GB", bytes: 1_610_612_736 },
    { text: "2TB", bytes: 2_199_023_255_552 },
  ])("$text is $bytes bytes", ({ text, bytes }) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each(["64M", "64mb", "64KB", "64 MiB", "lots", "1constructor"])(
    "refuses %j, which PostgreSQL would too",
    (text) => {
      expect(() => parseSize(text)).toThrow(`"${text}" is not a size such as 512kB, 64MB or 2GB`);
    },
  );
});

describe("formatDuration", () => {
  test.each([
    { ms: 0, text: "0ms" },
    { ms: 999.4, text: "999ms" },
    { ms: 999.6, text: "1.0s" },
    { ms: 2_400, text: "2.4s" },
    { ms: 59_949, text: "59.9s" },
    { ms: 59_950, text: "1min" },
    { ms: 60_000, text: "1min" },
    { ms: 83_400, text: "1min 23s" },
    { ms: 3_599_900, text: "1h" },
    { ms: 3_600_000, text: "1h" },
    { ms: 5_400_000, text: "1h 30min" },
    { ms: 3_605_000, text: "1h" },
    { ms: 90_000_000, text: "1d 1h" },
    { ms: 86_400_000, text: "1d" },
  ])("$ms ms reads $text", ({ ms, text }) => {
    expect(formatDuration(ms)).toBe(text);
  });

  test("is understood by parseDuration where it has one unit", () => {
    for (const text of ["5ms", "2.4s", "10min", "2h", "30d"]) expect(formatDuration(parseDuration(text))).toBe(text);
  });
});

describe("formatSize", () => {
  test.each([
    { bytes: 0, text: "0 B" },
    { bytes: 1023, text: "1023 B" },
    { bytes: 1023.4, text: "1023 B" },
    { bytes: 1024, text: "1.0 kB" },
    { bytes: 1_048_524, text: "1023.9 kB" },
    { bytes: 1_048_575, text: "1.0 MB" },
    { bytes: 67_108_864, text: "64.0 MB" },
    { bytes: 2 ** 60, text: "1024.0 PB" },
  ])("$bytes bytes read $text", ({ bytes, text }) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
