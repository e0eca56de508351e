import { expect, test } from "vitest";
import { requireOrder, segmentBefore } from "../../../lib/mark/mark.ts";

const SIZE = 16 * 1024 ** 2;

test.each([
  ["0/3000028", "000000010000000000000003"],
  ["0/3000001", "000000010000000000000003"],
  ["0/3000000", "000000010000000000000002"],
  ["1/0", "0000000100000000000000FF"],
  ["A/F3000100", "000000010000000A000000F3"],
])("the record that ends at %s lies in WAL %s", (lsn, wal) => {
  expect(segmentBefore(1, lsn, SIZE)).toBe(wal);
});

test("a segment's name follows the timeline and the segment size", () => {
  expect(segmentBefore(18, "0/40000000", 1024 ** 3)).toBe("000000120000000000000000");
  expect(segmentBefore(18, "0/40000001", 1024 ** 3)).toBe("000000120000000000000001");
});

test("marker, target and fence in order of time are fine, microseconds apart", () => {
  requireOrder("2026-11-22 10:00:00.000001+00", "2026-11-22 10:00:00.000002+00", "2026-11-22 10:00:00.000003+00");
});

test.each([
  ["10:00:00.000002", "10:00:00.000002", "10:00:00.000003"],
  ["10:00:00.000001", "10:00:00.000003", "10:00:00.000003"],
  ["10:00:00.000009", "10:00:00.000003", "10:00:00.000005"],
])("a clock that gives %s, %s, %s went backwards", (...times) => {
  const [marked = "", target = "", fenced = ""] = times.map((time) => `2026-11-22 ${time}+00`);
  expect(() => requireOrder(marked, target, fenced)).toThrow(/the source's clock went backwards: marker .*, fence /);
});
