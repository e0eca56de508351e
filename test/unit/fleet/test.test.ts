import { expect, test } from "vitest";
import type { ReportedError } from "../../../lib/errors.ts";
import { endOf, inOrder, type Status } from "../../../lib/fleet/test.ts";
import { newReport, type Report } from "../../../lib/report/report.ts";

const at = (second: number) => new Date(Date.UTC(2026, 10, 23, 12, 0, second));
const change = (status: Status, second: number) => ({ status, at: at(second) });

test("statuses are told once, in their order, and never before the one before", () => {
  const seen = [change("restoring", 5), change("verifying", 9)];
  const reported = [change("restoring", 4), change("recovering", 4), change("verifying", 8)];
  expect(inOrder([...seen, ...reported])).toEqual([
    change("restoring", 5),
    change("recovering", 5),
    change("verifying", 9),
  ]);
});

const report = (change: Partial<Report>): Report => ({
  ...newReport({ id: "r", scope: null, stanza: "s", startedAt: at(0) }),
  ...change,
});
const error = (code: number, name: ReportedError["name"]): ReportedError => ({ code, name, message: "m", hint: null });
const ofHost = (code: number, name: ReportedError["name"]) => ({ ...error(code, name), about: "host" as const });
const KILLED = error(1, "INTERNAL");

test.each([
  ["healthy", report({ verdict: "healthy" }), { outcome: "healthy", error: null }],
  ["unhealthy", report({ verdict: "unhealthy", error: error(20, "UNHEALTHY") }), { outcome: "unhealthy" }],
  ["restore", report({ error: error(11, "RESTORE_FAILED") }), { outcome: "restore" }],
  ["a backup that cannot be restored", report({ error: error(10, "PREFLIGHT_FAILED") }), { outcome: "restore" }],
  ["no means to restore here", report({ error: ofHost(10, "PREFLIGHT_FAILED") }), { outcome: "infra" }],
  ["a disk that ran full", report({ error: ofHost(12, "RECOVERY_FAILED") }), { outcome: "infra" }],
  // Whatever else is said of the host, this is a verdict on the data.
  ["damaged data", report({ error: ofHost(20, "UNHEALTHY") }), { outcome: "unhealthy" }],
  ["source", report({ error: error(30, "SOURCE_UNREACHABLE") }), { outcome: "source" }],
  ["a verdict that was never reached", report({}), { outcome: "infra", error: KILLED }],
  ["no report", null, { outcome: "infra", error: KILLED }],
])("the end that a report tells of: %s", (_, given, expected) => {
  expect(endOf(given, KILLED)).toMatchObject({ ...expected, report: given });
});
