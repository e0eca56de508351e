import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Receipt } from "../../../lib/mark/receipt.ts";
import { type Backup, parseInfo } from "../../../lib/restore/backup-info.ts";
import {
  beyondArchive,
  chooseTarget,
  describePlan,
  missingSegments,
  type Plan,
  replayFraction,
  reportBackup,
  restoreArguments,
  walBytes,
  walRange,
  walSpace,
} from "../../../lib/restore/plan.ts";

const json = readFileSync(new URL("../../fixtures/pgbackrest-info-2.45.json", import.meta.url), "utf8");
const backup = parseInfo(json, "main")?.backup[1] as Backup;
const receipt = {
  target: { time: "2026-11-23 00:00:00.123456+00", lsn: "0/9000000", name: "rp" },
  timeline: 3,
  fence_wal: "000000030000000000000009",
} as Receipt;
const nothing = { targetExclusive: false };
const SEGMENT = 16 * 1024 ** 2;

describe("the target", () => {
  test("is the receipt's own time on the receipt's timeline when nothing is asked for", () => {
    expect(chooseTarget(nothing, receipt)).toEqual({
      type: "time",
      value: "2026-11-23 00:00:00.123456+00",
      timeline: "3",
      exclusive: false,
    });
  });

  test("is the end of the archive without a receipt", () => {
    expect(chooseTarget(nothing, undefined)).toMatchObject({ type: "latest", value: null, timeline: null });
  });

  test("keeps the microseconds that were asked for", () => {
    const settings = { ...nothing, restoreTargetTime: "2026-11-22T21:34:23.044941Z" };
    expect(chooseTarget(settings, undefined).value).toBe("2026-11-22 21:34:23.044941+00");
  });

  test.each([
    [{ restoreTargetTime: "2026-11-22 10:00:00+00", targetType: "lsn" as const }, "choose one target"],
    [{ target: "0/1" }, "needs --target-type"],
    [{ targetType: "lsn" as const }, 'target type "lsn" needs --target'],
    [{ targetType: "latest" as const, target: "x" }, 'target type "latest" takes no --target'],
    [{ targetType: "immediate" as const, targetExclusive: true }, "--target-exclusive has no meaning"],
    [{ targetTimeline: "0" }, 'target timeline "0"'],
  ])("%j is refused", (settings, says) => {
    expect(() => chooseTarget({ ...nothing, ...settings }, undefined)).toThrow(says);
  });
});

test("pgBackRest gets the target as it is, promotes, and never archives or reuses files", () => {
  const target = chooseTarget(nothing, receipt);
  const plan = {
    stanza: "main",
    backup: reportBackup(backup, "the newest"),
    target,
    tablespaces: [["fast disk", "/pg/data.tablespaces/fast disk"]] as [string, string][],
    links: [["pg_wal", "/wal/data"]] as [string, string][],
    processMax: 4,
  };
  expect(restoreArguments(plan, ["--config=/etc/pgbackrest.conf"], "/pg/data.restoring")).toEqual([
    "restore",
    "--config=/etc/pgbackrest.conf",
    "--stanza=main",
    "--pg1-path=/pg/data.restoring",
    "--set=20261122-235101F_20261122-235106I",
    "--type=time",
    "--target=2026-11-23 00:00:00.123456+00",
    "--target-timeline=3",
    "--target-action=promote",
    "--archive-mode=off",
    "--no-delta",
    "--buffer-size=64KiB",
    "--process-max=4",
    "--tablespace-map=fast disk=/pg/data.tablespaces/fast disk",
    "--link-map=pg_wal=/wal/data",
  ]);
});

describe("the WAL that recovery needs", () => {
  const target = chooseTarget(nothing, receipt);

  test("goes from the backup's first segment to the receipt's fence", () => {
    expect(walRange(backup, target, receipt, "0000000300000000000000FF")).toEqual({
      first: "000000010000000000000007",
      last: "000000030000000000000009",
    });
  });

  test("has no known end for a time without a receipt, and the archive's end for latest", () => {
    const max = "00000001000000000000000D";
    expect(walRange(backup, target, undefined, max).last).toBeNull();
    expect(walRange(backup, { ...target, type: "latest", value: null }, undefined, max).last).toBe(max);
  });

  test.each([
    { present: ["08", "09", "0A"], missing: [] },
    { present: ["08", "0A"], missing: ["09"] },
    { present: [], missing: ["08", "09", "0A"] },
  ])("$missing are missing when $present are there", ({ present, missing }) => {
    const name = (end: string) => `0000000100000000000000${end}`;
    expect(missingSegments(name("08"), name("0A"), new Set(present.map(name)), SEGMENT)).toEqual(missing.map(name));
  });

  test("a gap over a log file boundary is found", () => {
    const present = new Set(["0000000100000000000000FF", "000000010000000100000001"]);
    expect(missingSegments("0000000100000000000000FF", "000000010000000100000001", present, SEGMENT)).toEqual([
      "000000010000000100000000",
    ]);
  });

  test("what the archive does not have yet is a sentence", () => {
    expect(beyondArchive("00000001000000000000000A", "00000001000000000000000A")).toBeUndefined();
    expect(beyondArchive("00000001000000000000000B", "00000001000000000000000A")).toBe(
      "newest archived WAL 00000001000000000000000A ends before the target, which needs 00000001000000000000000B",
    );
    expect(beyondArchive("00000001000000000000000B", null)).toContain("(none)");
  });

  test("takes bounded space", () => {
    expect(walSpace("000000010000000000000007", "000000010000000000000009", SEGMENT)).toBe(6 * SEGMENT);
    expect(walSpace("000000010000000000000007", null, SEGMENT)).toBe(1024 ** 3 + 4 * SEGMENT);
  });
});

test("a plan is readable and its progress is a share of the way", () => {
  const plan: Plan = {
    scope: "rt",
    stanza: "main",
    datadir: "/pg/data",
    target: chooseTarget(nothing, receipt),
    backup: reportBackup(backup, "the newest"),
    archiveId: "15-1",
    wal: { first: "000000010000000000000007", last: "000000010000000000000009", archiveMax: null, missing: [] },
    walAheadBytes: 64 * SEGMENT,
    space: { neededBytes: 1024 ** 3, freeBytes: 2 * 1024 ** 3 },
    binDir: "/usr/lib/postgresql/15/bin",
    tablespaces: [],
    links: [],
    systemIdentifier: "7711147517477380914",
    pgVersion: "15",
    pgbackrestVersion: "2.45",
    processMax: 2,
    restoreCommand: ["restore", "--target=2026-11-23 00:00:00.123456+00"],
    warnings: [],
  };
  const text = describePlan(plan);
  expect(text).toContain("target          time 2026-11-23 00:00:00.123456+00 on timeline 3");
  expect(text).toContain("1.0 GB needed, 2.0 GB free");
  expect(text).toContain("at most 1.0 GB is fetched while the backup is copied, in /pg/data.wal-ahead");
  expect(text).toContain('pgbackrest restore "--target=2026-11-23 00:00:00.123456+00"');
  expect(replayFraction(plan, "0/70000D8", SEGMENT)).toBe(0);
  expect(replayFraction(plan, "0/A000000", SEGMENT)).toBe(1);
  expect(replayFraction(plan, "0/8800000", SEGMENT)).toBeCloseTo(0.5, 2);
});

test.each([
  ["000000010000000000000007", "000000010000000000000007", 1],
  ["000000010000000000000007", "00000003000000010000000A", 260],
  ["000000010000000000000007", null, null],
])("from %s to %s there are %s segments of WAL", (first, last, segments) => {
  const wal = { first, last, archiveMax: null, missing: [] };
  expect(walBytes({ wal }, SEGMENT)).toBe(segments === null ? null : segments * SEGMENT);
});
