import { describe, expect, test } from "vitest";
import { isOpen, parseWindow } from "../../../lib/fleet/window.ts";

describe("a window", () => {
  test.each([
    // 2026-11-23 is a Monday.
    ["22:00-06:00", "2026-11-23T23:00:00Z", true],
    ["22:00-06:00", "2026-11-23T06:00:00Z", false],
    ["22:00-06:00", "2026-11-23T05:59:00Z", true],
    ["mon-fri 22:00-06:00 Europe/Berlin", "2026-11-23T20:59:00Z", false],
    ["mon-fri 22:00-06:00 Europe/Berlin", "2026-11-23T21:00:00Z", true],
    // Monday's early morning belongs to Sunday's night.
    ["mon-fri 22:00-06:00 Europe/Berlin", "2026-11-23T03:00:00Z", false],
    // Saturday's to Friday's.
    ["mon-fri 22:00-06:00 Europe/Berlin", "2026-11-28T03:00:00Z", true],
    ["fri-mon 00:00-24:00", "2026-11-22T12:00:00Z", true],
    ["fri-mon 00:00-24:00", "2026-11-25T12:00:00Z", false],
    ["sat,sun 00:00-00:00", "2026-11-22T23:59:00Z", true],
  ])("%s at %s: %s", (text, at, open) => {
    expect(isOpen([parseWindow(text)], new Date(at))).toBe(open);
  });

  test("none is always open, one of several is enough", () => {
    expect(isOpen([], new Date())).toBe(true);
    const windows = ["mon 01:00-02:00", "tue 01:00-02:00"].map(parseWindow);
    expect(isOpen(windows, new Date("2026-11-24T01:30:00Z"))).toBe(true);
  });

  test.each(["", "22:00", "25:00-26:00", "22:00-06:60", "xyz 22:00-06:00", "22:00-24:01"])("%j is refused", (text) => {
    expect(() => parseWindow(text)).toThrow(/is not a window such as "mon-fri 22:00-06:00 Europe\/Berlin"/);
  });

  test("a time zone that there is not is named", () => {
    expect(() => parseWindow("22:00-06:00 Europe/Bonn")).toThrow('"Europe/Bonn" is not a time zone');
  });
});
