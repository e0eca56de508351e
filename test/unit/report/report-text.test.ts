import { describe, expect, test } from "vitest";
import { breakable } from "../../../lib/report/plain-table.ts";
import { type CheckResult, newReport, type Report } from "../../../lib/report/report.ts";
import { describeReport } from "../../../lib/report/report-text.ts";
import { asked, evidence, TARGET_TIME } from "../checks/asked.ts";

const check = (
  id: string,
  status: CheckResult["status"],
  summary: string,
  hint: string | null = null,
): CheckResult => ({
  id,
  claim: "recentness",
  status,
  summary,
  facts: id === "marker-present" ? { marked_at: "2026-11-22 10:00:00.12+00" } : {},
  duration_ms: 54,
  hint,
});

const report: Report = {
  ...newReport({ id: "20261122T100000Z-77", scope: "demo-rt", stanza: "demo", startedAt: asked.startedAt }),
  verdict: "unhealthy",
  target: evidence.target,
  recovered: evidence.recovered,
  receipt_id: "20261122T100000Z-1a2b3c4d",
  phases: [
    { name: "restore", started_at: "2026-11-22T10:00:05Z", duration_ms: 2900, bytes: 65_000_000 },
    { name: "verify", started_at: "2026-11-22T10:00:08Z", duration_ms: 810 },
  ],
  checks: [
    check("marker-present", "pass", "marker is there"),
    check("fence-absent", "fail", `fence is there ${"and goes on ".repeat(20)}`, "recovery went past the target"),
    check("schema-dump", "skipped", "not asked for", "a hint nobody needs"),
    check("manifest", "unverified", "x".repeat(300)),
  ],
  coverage: { databases: 2, not_covered: ["table rows", "in motion on the source: app: tables"] },
  rto_ms: 6700,
  rpo_ms: 1400,
  error: {
    code: 20,
    name: "UNHEALTHY",
    message: `1 of 3 checks failed: fence-absent: ${"long ".repeat(40)}`,
    hint: "recovery went past the target",
  },
  versions: { postgresql: "15.18" },
};

describe("a report for people", () => {
  const text = describeReport(report, { color: false });

  test("fits into 110 columns whatever is in it", () => {
    expect(Math.max(...text.split("\n").map((line) => line.length))).toBeLessThanOrEqual(110);
  });

  test("loses nothing when it wraps", () => {
    expect(text.replace(/\s+/g, " ").match(/and goes on/g)).toHaveLength(20);
    expect(text.match(/x/g)?.length).toBeGreaterThanOrEqual(300);
  });

  test("has no colour codes and no trailing spaces unless it is asked for colours", () => {
    expect(text).not.toContain("\u001b");
    expect(text).not.toMatch(/ $/m);
    expect(describeReport(report, { color: true })).toContain("\u001b[31munhealthy\u001b[0m");
  });

  test("is as wide with colours as without", () => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes are what is removed
    expect(describeReport(report, { color: true }).replace(/\u001b\[\d+m/g, "")).toBe(text);
  });

  test("says verdict, target, how recent, RTO by phase, checks, coverage, error and hint", () => {
    for (const part of [
      "verdict  unhealthy: restored, and at least one check failed",
      `time ${TARGET_TIME} on timeline 1`,
      "2026-11-22 10:00:00.121000+00",
      "2026-11-22 10:00:00.12+00",
      "1.4s of work lost at most",
      "6.7s from start to verdict",
      "62.0 MB",
      "not covered",
      "ERROR: [020]: UNHEALTHY: 1 of 3 checks failed",
      "HINT: recovery went past the target.",
    ]) {
      expect(text).toContain(part);
    }
  });

  test("gives hints only where something is to be done", () => {
    expect(text).not.toContain("a hint nobody needs");
  });

  test("of a bootstrap that failed early is short and whole", () => {
    const early = {
      ...newReport({ id: "1", scope: null, stanza: null, startedAt: new Date(0) }),
      error: { code: 10, name: "PREFLIGHT_FAILED" as const, message: "no such stanza", hint: null },
    };
    expect(describeReport(early, { color: false })).toBe(
      "verdict  error: could not be judged\n\nid  1\n\nERROR: [010]: PREFLIGHT_FAILED: no such stanza\n",
    );
  });
});

test("wrapping keeps indentation and breaks words that are longer than a line", () => {
  expect(breakable("  - one two three", 9)).toBe("  - one\n  two\n  three");
  expect(breakable("abcdefgh", 3)).toBe("abc\ndef\ngh");
  expect(breakable("", 3)).toBe("");
});

test("a list of thousands stands line by line; when each table was proven is counted only", () => {
  const names = Array.from({ length: 3000 }, (_, i) => `not covered: table ${i}`);
  const proven_at = { app: { orders: "2026-11-23T10:00:00.000Z", log: "2026-11-20T10:00:00.000Z" }, other: { t: "x" } };
  const text = describeReport({ ...report, coverage: { not_covered: names, proven_at } }, { color: false });
  expect(text).toMatch(/^not covered +not covered: table 0\n +not covered: table 1\n/m);
  expect(text).toMatch(/^ +not covered: table 2999$/m);
  expect(text).toMatch(/^proven at +of 3 tables, see the report$/m);
});
