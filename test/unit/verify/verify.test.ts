import { describe, expect, test } from "vitest";
import { type CheckResult, newReport, type Report } from "../../../lib/report/report.ts";
import { looksLikeReport, parseOperand } from "../../../lib/verify/post-bootstrap.ts";
import { conclude, type VerifyResult, verdictError } from "../../../lib/verify/verify.ts";
import { isLocal } from "../../../lib/verify/verify-by-hand.ts";

const check = (
  id: string,
  status: CheckResult["status"],
  claim: CheckResult["claim"] = "safety",
  hint: string | null = null,
): CheckResult => ({ id, claim, status, summary: `about ${id}`, facts: {}, duration_ms: 1, hint });

const proven = [
  check("marker-present", "pass", "recentness"),
  check("schema-dump", "pass", "consistency"),
  check("archiving", "pass"),
];

const begun = (): Report =>
  newReport({ id: "1", scope: "s", stanza: "demo", startedAt: new Date("2026-11-22T10:00:00Z") });

const result = (checks: CheckResult[]): VerifyResult => ({
  checks,
  coverage: { databases: 2 },
  rpoMs: 1500,
  serverVersion: "15.18",
  run: { postmasterStartedAt: "x", checkpointer: "y", dataDirectory: null, killedForMemory: null },
  startedAt: new Date("2026-11-22T10:00:08Z"),
  durationMs: 1000,
});

const concluded = (checks: CheckResult[]) => conclude(begun(), result(checks), new Date("2026-11-22T10:00:10Z"));

describe("the conclusion", () => {
  test("of a proven restore is healthy, with RTO, RPO and coverage", () => {
    expect(concluded(proven)).toMatchObject({
      verdict: "healthy",
      finished_at: "2026-11-22T10:00:10.000Z",
      rto_ms: 10_000,
      rpo_ms: 1500,
      coverage: { databases: 2 },
      error: null,
      versions: { postgresql: "15.18" },
    });
  });

  test("replaces what the bootstrap said about itself", () => {
    const report = { ...begun(), error: { code: 21, name: "UNVERIFIED" as const, message: "not yet", hint: null } };
    expect(conclude(report, result(proven), new Date()).error).toBeNull();
  });

  test("names the failed check and carries its hint", () => {
    const report = concluded([...proven, check("fence-absent", "fail", "recentness", "look there")]);
    expect(report.verdict).toBe("unhealthy");
    expect(report.error).toEqual({
      code: 20,
      name: "UNHEALTHY",
      message: "1 of 4 checks failed: fence-absent: about fence-absent",
      hint: "look there",
    });
  });

  test("names every failed check, one per line, and those that could not run beside them", () => {
    const error = verdictError(
      concluded([...proven, check("a", "fail"), check("b", "fail"), check("c", "unverified")]),
    );
    expect(error?.message).toBe("2 of 6 checks failed\n  - a: about a\n  - b: about b; could not run: c");
    expect(error?.exitCode).toBe(20);
  });

  test("is unverified when a check could not run", () => {
    const error = verdictError(concluded([...proven, check("slots", "unverified"), check("jobs", "skipped")]));
    expect(error).toMatchObject({ exitCode: 21, message: "1 of 4 checks could not run: slots: about slots" });
  });

  test.each([
    { checks: [], message: "no check proved recentness or consistency or safety" },
    { checks: proven.slice(1), message: "no check proved recentness" },
  ])("is unverified when $message", ({ checks, message }) => {
    expect(verdictError(concluded(checks))).toMatchObject({ exitCode: 21, message });
  });
});

describe("the operand of post-bootstrap", () => {
  test("is Patroni's keyword/value string with odd names", () => {
    const text = String.raw`dbname=postgres user=o\'Brien\ the\ 2nd host=/run/my\ sockets port=15503 sslmode=prefer`;
    expect(parseOperand([text])).toEqual({
      dbname: "postgres",
      user: "o'Brien the 2nd",
      host: "/run/my sockets",
      port: "15503",
      sslmode: "prefer",
    });
  });

  test("is needed exactly once", () => {
    expect(() => parseOperand([])).toThrow("expected one connection string, got 0");
    expect(() => parseOperand(["dbname=a", "dbname=b"])).toThrow("got 2");
  });

  test("holds no password, and no error repeats a value", () => {
    expect(() => parseOperand(["dbname=a password=s3cret"])).toThrow(/visible in ps/);
    expect(() => parseOperand(["postgresql://u:s3cret@h/d"])).toThrow(/visible in ps/);
    expect(() => parseOperand(["s3cret"])).toThrow(/^(?!.*s3cret)/);
  });
});

test("only a report of this version is finished", () => {
  expect(looksLikeReport(begun())).toBe(true);
  expect(looksLikeReport({ ...begun(), schema_version: 2 })).toBe(false);
  expect(looksLikeReport({ ...begun(), started_at: "yesterday" })).toBe(false);
  expect(looksLikeReport([])).toBe(false);
  expect(looksLikeReport(null)).toBe(false);
});

test("a report beside a data directory is evidence only for an instance of this machine", () => {
  expect(isLocal({ host: "/run/postgresql" })).toBe(true);
  expect(isLocal({ host: "localhost" })).toBe(true);
  expect(isLocal({ host: "127.0.0.1" })).toBe(true);
  expect(isLocal({ host: "db.example.org" })).toBe(false);
  expect(isLocal({ host: "localhost", hostaddr: "10.0.0.1" })).toBe(false);
});
