import { expect, test } from "vitest";
import { type CheckResult, judge, newReport } from "../../../lib/report/report.ts";

const check = (claim: CheckResult["claim"], status: CheckResult["status"]): CheckResult => ({
  id: `${claim}-${status}`,
  claim,
  status,
  summary: "",
  facts: {},
  duration_ms: 0,
  hint: null,
});
const proven = [check("recentness", "pass"), check("consistency", "pass"), check("safety", "pass")];

test("a new report says error: the verdict is only ever earned", () => {
  const report = newReport({ id: "1", scope: null, stanza: "demo", startedAt: new Date(0) });
  expect(report).toMatchObject({ verdict: "error", finished_at: null, started_at: "1970-01-01T00:00:00.000Z" });
});

test.each([
  { checks: proven, verdict: "healthy", why: "something of each claim is proven" },
  { checks: [], verdict: "error", why: "nothing was checked" },
  { checks: proven.slice(1), verdict: "error", why: "no recentness is proven" },
  { checks: [...proven, check("safety", "fail")], verdict: "unhealthy", why: "one check failed" },
  { checks: [...proven, check("safety", "unverified")], verdict: "error", why: "one check could not run" },
  { checks: [...proven, check("safety", "warn")], verdict: "healthy", why: "a warning changes nothing" },
  { checks: [...proven, check("safety", "skipped")], verdict: "healthy", why: "one was not asked for" },
  {
    checks: [check("recentness", "skipped"), check("consistency", "pass"), check("safety", "pass")],
    verdict: "error",
    why: "a skipped check proves nothing",
  },
  {
    checks: [...proven, check("consistency", "fail"), check("safety", "unverified")],
    verdict: "unhealthy",
    why: "damage that was seen outweighs what could not run",
  },
])("$verdict: $why", ({ checks, verdict }) => {
  expect(judge(checks)).toBe(verdict);
});
