import { describe, expect, test } from "vitest";
import { firstFree } from "../../../../lib/fleet/record/begin.ts";
import { isRefused, pack, stepOf, withoutReport } from "../../../../lib/fleet/record/record-change.ts";
import type { Status } from "../../../../lib/fleet/test.ts";
import { newReport } from "../../../../lib/report/report.ts";

describe("a status", () => {
  const known = (...statuses: Status[]) => ({ statuses, status: statuses.at(-1) as Status });

  test.each([
    ["marking", known("requested"), "new"],
    ["verifying", known("requested", "marking"), "new"],
    ["restoring", known("requested", "verifying"), "late"],
    ["marking", known("requested", "marking"), "known"],
    ["error", known("requested", "verifying"), "new"],
    ["error", known("requested", "error"), "known"],
    ["reaped", known("requested", "healthy"), "second end"],
    ["healthy", known("requested", "reaped"), "second end"],
    ["verifying", known("requested", "healthy"), "late"],
  ] as const)("%s after %o is %s", (next, before, step) => {
    expect(stepOf(before, next)).toBe(step);
  });
});

describe("what waits to be recorded", () => {
  const change = { test: "t1", service: "ns/one", at: new Date(0) };

  test("is a report as text with its figures, at its end only", () => {
    const report = { ...newReport({ id: "r", scope: null, stanza: null, startedAt: new Date(0) }), rto_ms: 5 };
    const end = { outcome: "healthy", error: null, report } as const;
    const packed = pack({ ...change, status: "healthy", end });
    expect(packed.end).toMatchObject({ outcome: "healthy", figures: { rto_ms: 5 } });
    expect(JSON.parse(packed.end?.report ?? "")).toEqual(report);
    expect(withoutReport(packed).end).toMatchObject({ outcome: "healthy", figures: { rto_ms: 5 }, report: null });
    expect(pack({ ...change, status: "verifying", end }).end).toBeNull();
  });

  test.each([
    ["healthy", "healthy"],
    ["unhealthy", "unhealthy"],
    ["cancelled", "cancelled"],
    ["error", "infra"],
    ["reaped", "infra"],
  ] as const)("frees its slot even when nobody explains the end %s: %s", (status, outcome) => {
    expect(pack({ ...change, status }).end).toEqual({ outcome, error: null, figures: null, report: null });
  });
});

test.each([
  ["22P05", true],
  ["23505", true],
  ["54000", true],
  ["53100", false],
  ["25006", false],
  ["55P03", false],
  ["42501", false],
  [undefined, false],
])("SQLSTATE %s is refused for good: %s", (code, expected) => {
  expect(isRefused(Object.assign(new Error("no"), { code }))).toBe(expected);
});

test.each([
  [[], 0],
  [[0, 1, 2], 3],
  [[2, 0], 1],
  [[1], 0],
])("beside slots %o the next is %i", (used, slot) => {
  expect(firstFree(used)).toBe(slot);
});
