import { describe, expect, test } from "vitest";
import { figuresOf } from "../../../lib/fleet/figures.ts";
import { newReport, type Report } from "../../../lib/report/report.ts";

const report = (more: Partial<Report> = {}): Report => ({
  ...newReport({ id: "r", scope: "demo-rt", stanza: "demo", startedAt: new Date(0) }),
  ...more,
});

const phase = (name: Report["phases"][number]["name"], duration_ms: number) => ({
  name,
  started_at: "2026-11-22T10:00:00.000Z",
  duration_ms,
});

/** As a report at level standard has it. */
const compared = (compared_blocks: number, of_blocks: number): Partial<Report> => ({
  receipt_id: "20261122T100000Z-1a2b3c4d",
  coverage: {
    level: "standard",
    "table-data": { relations: 3, of_relations: 3, rows: 900, compared_ranges: 2, compared_blocks, of_blocks },
    manifest: { objects: 70, of_objects: 70, moved: 0 },
  },
});

describe("figures", () => {
  test("of a report that was just begun are all unknown", () => {
    expect(figuresOf(report())).toEqual({ rto_ms: null, rpo_ms: null, phases: {}, size_bytes: null, coverage: null });
  });

  test("are the report's own, with the size of the database", () => {
    const backup = { label: "20261122-100000F", size_bytes: 777_000_000 } as Report["backup"];
    const phases = [phase("restore", 2900), phase("verify", 810)];
    expect(figuresOf(report({ rto_ms: 6700, rpo_ms: 0, backup, phases }))).toEqual({
      rto_ms: 6700,
      rpo_ms: 0,
      phases: { restore: 2900, verify: 810 },
      size_bytes: 777_000_000,
      coverage: null,
    });
  });

  test("add up a phase that was gone through twice", () => {
    const phases = [phase("restore", 100), phase("recovery", 10), phase("restore", 250)];
    expect(figuresOf(report({ phases })).phases).toEqual({ restore: 350, recovery: 10 });
  });

  test.each([
    ["a quarter of the blocks", compared(128, 512), 0.25],
    ["all of them, and the table grew after it was listed", compared(513, 512), 1],
    ["nothing, of tables that hold nothing", compared(0, 0), 1],
    ["nothing, without a receipt", { ...compared(0, 512), receipt_id: null }, null],
    [
      "unknown, in a report of before that was counted",
      { ...compared(1, 2), coverage: { "table-data": { rows: 1 } } },
      null,
    ],
  ])("coverage: %s", (_, more, expected) => {
    expect(figuresOf(report(more)).coverage).toBe(expected);
  });
});
