import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  aheadSpace,
  restoreCommandAhead,
  segmentSizeFrom,
  timelinesTo,
  WalQueue,
} from "../../../lib/restore/wal-ahead.ts";

const MB = 1024 ** 2;
const SEGMENT = 16 * MB;

const name = (segment: number, timeline = 1) =>
  `${timeline.toString(16).padStart(8, "0")}00000000${segment.toString(16).padStart(8, "0")}`.toUpperCase();
const names = (from: number, to: number, timeline = 1) =>
  Array.from({ length: to - from + 1 }, (_, index) => name(from + index, timeline));

const queue = (options: { first?: number; last?: number | null; segments?: number } = {}) =>
  new WalQueue({
    first: name(options.first ?? 5),
    last: options.last === undefined || options.last === null ? null : name(options.last),
    timelines: [{ timeline: 1, segment: 0n }],
    segmentSize: SEGMENT,
    bytes: (options.segments ?? 4) * SEGMENT,
  });

describe("the order", () => {
  test("goes from the backup's first segment to the target's, each once", () => {
    const one = queue({ first: 5, last: 7, segments: 100 });
    expect(one.next()).toEqual(names(5, 7));
    expect(one.ended).toBe(true);
    expect(one.next()).toEqual([]);
  });

  test("takes the new timeline from the segment of the switch on", () => {
    const history = "1\t0/6A00028\tno recovery target specified\n\n2\t0/8000000\tbefore 2026-11-23\n";
    const timelines = timelinesTo(3, history, SEGMENT);
    expect(timelines).toEqual([
      { timeline: 1, segment: 0n },
      { timeline: 2, segment: 6n },
      { timeline: 3, segment: 8n },
    ]);
    const one = new WalQueue({
      first: name(5),
      last: name(9, 3),
      timelines,
      segmentSize: SEGMENT,
      bytes: 99 * SEGMENT,
    });
    expect(one.next()).toEqual([name(5, 1), name(6, 2), name(7, 2), name(8, 3), name(9, 3)]);
  });

  test("goes on over the end of a log, for segments of any size", () => {
    const first = "0000000100000000000000FF";
    const open = { last: null, timelines: [{ timeline: 1, segment: 0n }] };
    expect(new WalQueue({ ...open, first, segmentSize: SEGMENT, bytes: 3 * SEGMENT }).next()).toEqual([
      first,
      "000000010000000100000000",
      "000000010000000100000001",
    ]);
    const wide = new WalQueue({ ...open, first: name(3), segmentSize: 1024 * MB, bytes: 2048 * MB });
    expect(wide.next()).toEqual([name(3), "000000010000000100000000"]);
  });

  test("ends where the archive ends", () => {
    const one = queue();
    expect(one.next()).toEqual(names(5, 8));
    one.end();
    one.passed(name(8));
    expect(one.next()).toEqual([]);
  });
});

describe("the bound", () => {
  test("is never passed, whatever recovery takes", () => {
    const one = queue({ segments: 4 });
    const ready = new Set<string>();
    for (let taken = 5; taken < 60; taken++) {
      for (const next of one.next()) ready.add(next);
      expect(ready.size).toBeLessThanOrEqual(4);
      expect(ready).toContain(name(taken));
      ready.delete(name(taken));
      one.passed(name(taken));
    }
  });

  test("what recovery has fetched by itself is skipped, and what lies ready of it is in vain", () => {
    const one = queue({ segments: 4 });
    expect(one.next()).toEqual(names(5, 8));
    one.passed(name(9));
    expect(names(5, 8).some((each) => one.isNeeded(each) || one.holds(each))).toBe(false);
    expect(one.next()).toEqual(names(10, 13));
    expect(one.holds(name(10))).toBe(true);
    expect(one.holds(name(14))).toBe(false);
  });

  test("what did not come is asked for again, except what recovery has meanwhile", () => {
    const one = queue({ segments: 4 });
    const asked = one.next();
    one.passed(name(5));
    one.again(asked);
    expect(one.next()).toEqual(names(6, 9));
  });

  test("an earlier segment, or no segment at all, changes nothing", () => {
    const one = queue({ segments: 4 });
    one.next();
    one.passed(name(6));
    one.passed(name(5));
    one.passed("00000002.history");
    expect(one.isNeeded(name(6))).toBe(false);
    expect(one.isNeeded(name(7))).toBe(true);
  });

  test("recovery that begins anew gets everything again", () => {
    const one = queue({ last: 6 });
    one.next();
    one.passed(name(6));
    one.rewind();
    expect(one.holds(name(5))).toBe(false);
    expect(one.next()).toEqual(names(5, 6));
  });
});

test.each([
  { free: 10 * 1024 * MB, limit: 1024 * MB, expected: 1024 * MB, why: "the limit where there is room" },
  { free: 1500 * MB, limit: 1024 * MB, expected: 500 * MB, why: "what is left beside all that is needed" },
  { free: 1031 * MB, limit: 1024 * MB, expected: 0, why: "nothing where two segments have no room" },
  { free: 900 * MB, limit: 1024 * MB, expected: 0, why: "nothing where even the restore has none" },
  { free: 10 * 1024 * MB, limit: 0, expected: 0, why: "nothing where it is switched off" },
])("the space is $why", ({ free, limit, expected }) => {
  expect(aheadSpace(limit, { neededBytes: 1000 * MB, freeBytes: free }, SEGMENT)).toBe(expected);
});

test.each([
  { first: name(0x21), lsn: "0/21000028", size: SEGMENT },
  { first: name(2), lsn: "0/8000028", size: 64 * MB },
  { first: name(0x42), lsn: "0/4200028", size: MB },
  { first: name(1), lsn: "", size: SEGMENT },
])("segments of $size bytes show in $first at $lsn", ({ first, lsn, size }) => {
  expect(segmentSizeFrom(first, lsn, SEGMENT)).toBe(size);
});

describe("restore_command", () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "pr-unit-"));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  /** As PostgreSQL replaces and runs it. */
  function run(file: string): number {
    const place = join(directory, "it's 100% ready");
    const command = restoreCommandAhead(place, join(directory, "taken"), "echo asked >&2; exit 7")
      .replaceAll("%f", file)
      .replaceAll("%p", join(directory, "RECOVERYXLOG"))
      .replaceAll("%%", "%");
    try {
      execFileSync("sh", ["-c", command], { stdio: "pipe" });
      return 0;
    } catch (error) {
      return (error as { status: number }).status;
    }
  }
  const ready = (file: string) => join(directory, "it's 100% ready", file);
  const lay = (file: string) => {
    mkdirSync(join(directory, "it's 100% ready"), { recursive: true });
    writeFileSync(ready(file), file);
  };

  test("moves a segment that lies ready, and notes it", () => {
    lay(name(5));
    expect(run(name(5))).toBe(0);
    expect(readFileSync(join(directory, "RECOVERYXLOG"), "utf8")).toBe(name(5));
    expect(existsSync(ready(name(5)))).toBe(false);
    expect(readFileSync(join(directory, "taken"), "utf8")).toBe(`${name(5)}\n`);
  });

  test("leaves a history file, which is asked for again", () => {
    lay("00000002.history");
    expect([run("00000002.history"), run("00000002.history")]).toEqual([0, 0]);
  });

  test("ends as the other command does where nothing lies ready", () => {
    expect(run(name(5))).toBe(7);
    expect(existsSync(join(directory, "taken"))).toBe(false);
  });

  test("does not fail because it cannot note what it took", () => {
    lay(name(5));
    mkdirSync(join(directory, "taken"));
    expect(run(name(5))).toBe(0);
  });
});
