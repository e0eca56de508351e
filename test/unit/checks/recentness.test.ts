import { describe, expect, test } from "vitest";
import { lastCommit } from "../../../lib/checks/recentness/last-commit.ts";
import { fenceAbsent, markerPresent, newestMarker, recoveryPointMs } from "../../../lib/checks/recentness/marker.ts";
import { promoted } from "../../../lib/checks/recentness/promoted.ts";
import { systemIdentifier } from "../../../lib/checks/recentness/system-identifier.ts";
import { parseHistory, timeline } from "../../../lib/checks/recentness/timeline.ts";
import { asked, evidence, receipt, SYSTEM_IDENTIFIER, TARGET_TIME } from "./asked.ts";

const withoutReceipt = { ...asked, receipt: null };
const withoutEvidence = { ...asked, evidence: null };

describe("marker-present", () => {
  test.each([
    {
      facts: { table_exists: true, marked_at: receipt.marked_at, newest_at: receipt.marked_at },
      status: "pass",
      why: "the row is there",
    },
    {
      facts: { table_exists: true, marked_at: null, newest_at: "2026-11-21 10:00:00+00" },
      status: "fail",
      why: "only an older marker is there",
    },
    {
      facts: { table_exists: true, marked_at: null, newest_at: null },
      status: "fail",
      why: "the table is empty",
    },
    {
      facts: { table_exists: false, marked_at: null, newest_at: null },
      status: "fail",
      why: "the table is missing",
    },
  ])("$status: $why", ({ facts, status }) => {
    expect(markerPresent.judge(facts, asked)).toMatchObject({ status });
  });

  test("says how old the newest marker is when the right one is missing", () => {
    const facts = { table_exists: true, marked_at: null, newest_at: "2026-11-21 10:00:00+00" };
    expect(markerPresent.judge(facts, asked).summary).toBe(
      `marker ${receipt.id} is missing; the newest marker is of 2026-11-21 10:00:00+00`,
    );
  });

  test("is not asked for without a receipt", () => {
    expect(markerPresent.skip?.(withoutReceipt)).toMatch(/no receipt/);
    expect(markerPresent.skip?.(asked)).toBeNull();
  });
});

describe("fence-absent", () => {
  test.each([
    { facts: { table_exists: true, fenced_at: null }, status: "pass", why: "no such row" },
    { facts: { table_exists: true, fenced_at: "2026-11-22 10:00:01+00" }, status: "fail", why: "the row is there" },
    { facts: { table_exists: false, fenced_at: null }, status: "unverified", why: "a missing table proves nothing" },
  ])("$status: $why", ({ facts, status }) => {
    expect(fenceAbsent.judge(facts, asked)).toMatchObject({ status });
  });
});

describe("newest-marker", () => {
  const judge = (newest_at: string | null, maxRpoMs = 60_000, given = { ...withoutReceipt, evidence: null }) =>
    newestMarker.judge({ table_exists: true, newest_at }, { ...given, maxRpoMs });

  test.each([
    { newest_at: "2026-11-22 09:59:05+00", status: "pass", why: "as old as the limit" },
    { newest_at: "2026-11-22 09:59:04.999+00", status: "fail", why: "a millisecond older than the limit" },
    { newest_at: "2026-11-22 10:00:06+00", status: "pass", why: "the source's clock is ahead" },
    { newest_at: null, status: "fail", why: "no marker at all" },
  ])("$status: $why", ({ newest_at, status }) => {
    expect(judge(newest_at)).toMatchObject({ status });
  });

  test("is unverified where mark never ran", () => {
    expect(newestMarker.judge({ table_exists: false, newest_at: null }, withoutReceipt).status).toBe("unverified");
  });

  test("measures from the target when a time in the past was asked for", () => {
    const target = { type: "time", value: "2026-11-20 10:00:00+00", timeline: null, exclusive: false } as const;
    const past = { ...withoutReceipt, evidence: { ...evidence, target } };
    const facts = { table_exists: true, newest_at: "2026-11-20 09:59:30+00" };
    expect(newestMarker.judge(facts, { ...past, maxRpoMs: 60_000 })).toMatchObject({
      status: "pass",
      summary: expect.stringContaining("30.0s before the target"),
    });
  });

  test("is left to the receipt's own marker when there is a receipt", () => {
    expect(newestMarker.skip?.(asked)).not.toBeNull();
    expect(newestMarker.skip?.(withoutReceipt)).toBeNull();
  });
});

describe("recovery point", () => {
  test("is the newest proven commit's distance from the start, to the microsecond", () => {
    expect(recoveryPointMs(asked, ["2026-11-22 10:00:04.999+00", null, "2026-11-22 09:00:00+00"])).toBe(1);
  });
  test("is null when no commit is proven", () => {
    expect(recoveryPointMs(asked, [null, undefined])).toBeNull();
  });
  test("is never negative", () => {
    expect(recoveryPointMs(asked, ["2026-11-22 11:00:00+00"])).toBe(0);
  });
});

describe("promoted", () => {
  test.each([
    { facts: { in_recovery: false, xid: "914", read_only_by_default: false }, status: "pass", why: "out of recovery" },
    { facts: { in_recovery: true, xid: null, read_only_by_default: false }, status: "fail", why: "still in recovery" },
    {
      facts: { in_recovery: false, xid: "914", read_only_by_default: true },
      status: "warn",
      why: "read-only by default",
    },
  ])("$status: $why", ({ facts, status }) => {
    expect(promoted.judge(facts, asked)).toMatchObject({ status });
  });
});

describe("timeline", () => {
  const facts = (current: number, ...ancestors: number[]) => ({ timeline: current, ancestors, history: "" });

  test.each([
    { facts: facts(2, 1), given: asked, status: "pass", why: "branched off the recovered one" },
    { facts: facts(2, 1), given: withoutReceipt, status: "pass", why: "as the evidence says, without a receipt" },
    { facts: facts(2, 1), given: withoutEvidence, status: "pass", why: "newer than the receipt's, by hand" },
    { facts: facts(3, 1, 2), given: asked, status: "pass", why: "promoted once more since" },
    { facts: facts(1), given: withoutEvidence, status: "fail", why: "the receipt's own: the source itself" },
    { facts: facts(3, 2), given: withoutEvidence, status: "fail", why: "not a descendant of the receipt's" },
    { facts: facts(4, 1), given: asked, status: "fail", why: "not the one that was promoted" },
    { facts: facts(3, 1), given: asked, status: "fail", why: "the promoted one is not in its history" },
  ])("$status: $why", ({ facts, given, status }) => {
    expect(timeline.judge(facts, given)).toMatchObject({ status });
  });

  test("fails when another timeline than the recovered one is the parent", () => {
    const recovered = { ...evidence.recovered, timeline: 4, parent_timeline: 3 };
    const given = { ...asked, evidence: { ...evidence, recovered } };
    expect(timeline.judge(facts(4, 1, 2), given).summary).toBe(
      "timeline 4 branched off 2, but timeline 3 was recovered (1 > 2 > 4)",
    );
    expect(timeline.judge(facts(4, 1, 3), given).status).toBe("pass");
  });

  test("is unverified when the report does not say what was recovered", () => {
    expect(timeline.judge(facts(2, 1), { ...asked, evidence: { ...evidence, recovered: null } }).status).toBe(
      "unverified",
    );
  });

  test("reads a history file as PostgreSQL writes it", () => {
    const text =
      "1\t0/5000028\tno recovery target specified\n\n# a comment\n2\t0/70000A0\tbefore 2026-11-22 10:00:00+00\n";
    expect(parseHistory(text)).toEqual([1, 2]);
    expect(parseHistory("")).toEqual([]);
  });

  test("is not asked for when there is nothing to compare with", () => {
    expect(timeline.skip?.({ ...asked, receipt: null, evidence: null })).not.toBeNull();
    expect(timeline.skip?.(withoutReceipt)).toBeNull();
  });
});

describe("system-identifier", () => {
  const facts = { system_identifier: SYSTEM_IDENTIFIER };
  const other = { system_identifier: "1" };

  test.each([
    { facts, given: asked, status: "pass", why: "both say so" },
    { facts, given: withoutEvidence, status: "pass", why: "the receipt says so" },
    { facts: other, given: asked, status: "fail", why: "a cluster of initdb" },
    { facts: other, given: withoutReceipt, status: "fail", why: "not that of the restored backup" },
  ])("$status: $why", ({ facts, given, status }) => {
    expect(systemIdentifier.judge(facts, given)).toMatchObject({ status });
  });

  test("is unverified when nobody says which one it must be", () => {
    const given = { ...withoutReceipt, evidence: { ...evidence, recovered: null } };
    expect(systemIdentifier.judge(facts, given).status).toBe("unverified");
  });
});

describe("last-commit", () => {
  const judge = (change: Partial<typeof evidence.recovered>, target: object = {}, given = asked) =>
    lastCommit.judge(
      {},
      {
        ...given,
        evidence: {
          ...evidence,
          target: { ...evidence.target, ...target },
          recovered: { ...evidence.recovered, ...change },
        },
      },
    );

  test.each([
    { last: "2026-11-22 10:00:00.123455+00", status: "pass", why: "a microsecond before the target" },
    { last: TARGET_TIME, status: "pass", why: "on the target, which is inclusive" },
    { last: "2026-11-22 10:00:00.123457+00", status: "fail", why: "a microsecond after the target" },
    { last: "2026-11-22 11:00:00.123456+01", status: "pass", why: "on the target in another zone" },
  ])("$status: the last commit is $why", ({ last, status }) => {
    expect(judge({ last_commit_at: last })).toMatchObject({ status });
  });

  test("fails on an exclusive target that was replayed", () => {
    expect(judge({ last_commit_at: TARGET_TIME }, { exclusive: true }).status).toBe("fail");
  });

  test("warns when no transaction was replayed: the marker alone proves the rest", () => {
    expect(judge({ last_commit_at: null } as never).status).toBe("warn");
  });

  test("says exactly when the target is the receipt's, and explains when it is not", () => {
    expect(judge({}).summary).toMatch(/exactly the receipt's/);
    expect(judge({}, { value: "2026-11-22 10:00:00.123457+00" })).toMatchObject({
      status: "warn",
      summary: expect.stringContaining(`not the receipt's ${TARGET_TIME}`),
    });
    expect(judge({}, { type: "name", value: receipt.target.name }).status).toBe("pass");
    expect(judge({}, { type: "latest", value: null }).status).toBe("warn");
  });

  test("is unverified when the report knows nothing, and skipped when there is no report", () => {
    expect(lastCommit.judge({}, { ...asked, evidence: { ...evidence, recovered: null } }).status).toBe("unverified");
    expect(lastCommit.skip?.(withoutEvidence)).not.toBeNull();
  });
});
