import { expect, test } from "vitest";
import { COMPACT_LIMIT, compactReport } from "../../../lib/report/compact.ts";
import { type CheckResult, newReport, type Report } from "../../../lib/report/report.ts";

const report: Report = newReport({ id: "r", scope: "s", stanza: "s", startedAt: new Date() });

const check = (n: number, status: CheckResult["status"], text: string): CheckResult => ({
  id: `check-${n}`,
  claim: "consistency",
  status,
  summary: text,
  facts: { text },
  duration_ms: 1,
  hint: null,
});

test("a report that fits is whole", () => {
  expect(JSON.parse(compactReport(report))).toEqual(report);
});

test("what is too long is cut down, says so, and keeps verdict, error and what failed", () => {
  const checks = Array.from({ length: 100 }, (_, n) => check(n, n === 7 ? "fail" : "pass", "ä".repeat(5000)));
  const error = { code: 20, name: "UNHEALTHY" as const, message: "x".repeat(200_000), hint: null };
  const text = compactReport({ ...report, verdict: "unhealthy", checks, error });
  expect(Buffer.byteLength(text)).toBeLessThanOrEqual(COMPACT_LIMIT);
  expect(JSON.parse(text)).toMatchObject({
    verdict: "unhealthy",
    error: { name: "UNHEALTHY", code: 20 },
    checks: [{ id: "check-7", status: "fail" }],
    truncated: expect.arrayContaining(["checks", "error"]),
  });
});

test("only as much is left out as must be", () => {
  const pages = Array.from({ length: 5000 }, (_, block) => ({ file: "base/16384/16385.1", block }));
  const checks = [check(1, "pass", "all well")];
  const page_checksums = { status: "checked" as const, why: null, files: 1, blocks: 9, bad: 5000, pages };
  const cut = JSON.parse(compactReport({ ...report, checks, page_checksums }));
  expect([cut.truncated, cut.checks, cut.page_checksums.bad]).toEqual([["page_checksums.pages"], checks, 5000]);
});
