import { describe, expect, test } from "vitest";
import { afterLoss, isUndecided, setOf } from "../../../lib/backup-api/recover.ts";
import { job, set } from "./samples.ts";

const NOW = "2026-11-23T01:05:00.000Z";
const OURS = "20261123-010001F";
const lost = job({ status: "RUNNING", pid: 4711, pidStarted: "99" });

describe("what became of a job that was lost", () => {
  test("nothing was started yet", () => {
    expect(afterLoss(job(), [set(OURS)], NOW)).toEqual({
      status: "ERROR",
      error: "backup-api was ended before it had started pgBackRest",
      hint: null,
      set: null,
      finishedAt: NOW,
    });
  });

  test("its set is in the repository: it is finished, at the time that pgBackRest says", () => {
    expect(afterLoss(lost, [set("20261116-010000F"), set(OURS)], NOW)).toEqual({
      status: "FINISHED",
      error: null,
      hint: null,
      set: OURS,
      finishedAt: "2026-11-23T01:00:07.000Z",
    });
  });

  test("the label that pgBackRest said decides, whatever the times", () => {
    const said = { ...lost, set: "20261123-005900F" };
    expect(afterLoss(said, [set("20261123-005900F"), set(OURS)], NOW)).toMatchObject({ set: "20261123-005900F" });
    expect(afterLoss(said, [set(OURS)], NOW)).toMatchObject({ status: "ERROR" });
  });

  test("no set came of it", () => {
    expect(afterLoss(lost, [set("20261116-010000F")], NOW)).toMatchObject({
      status: "ERROR",
      error: "backup-api was ended while this backup ran; no backup set came of it",
      finishedAt: NOW,
    });
  });

  test("pgBackRest cannot be asked: it is judged again when it can", () => {
    const undecided = { ...lost, ...afterLoss(lost, null, NOW) };
    expect(undecided).toMatchObject({ status: "ERROR", finishedAt: NOW });
    expect(undecided.error).toMatch(/not yet known/);
    expect(isUndecided(undecided)).toBe(true);
    const later = { ...undecided, ...afterLoss(undecided, [set(OURS)], NOW) };
    expect(later).toMatchObject({ status: "FINISHED", error: null, hint: null, set: OURS });
    expect(isUndecided(later)).toBe(false);
    expect(isUndecided({ ...undecided, ...afterLoss(undecided, [], NOW) })).toBe(false);
  });

  test.each(["expire", "verify", "restore-test"] as const)("%s leaves no trace, so it failed", (command) => {
    const change = afterLoss({ ...lost, command, type: null }, [set(OURS)], NOW);
    expect(change).toMatchObject({
      status: "ERROR",
      error: `backup-api was ended while ${command} ran`,
      hint: "start it again",
    });
    expect(isUndecided({ ...lost, command, ...change })).toBe(false);
  });

  test("a time of its end that is known already stays", () => {
    expect(afterLoss({ ...lost, finishedAt: "2026-11-23T01:02:00.000Z" }, [], NOW).finishedAt).toBe(
      "2026-11-23T01:02:00.000Z",
    );
  });
});

describe("which set is a job's", () => {
  test("never one that was begun before it or after it was given up", () => {
    expect(setOf(lost, [set("20261123-005950F")], NOW)).toBeUndefined();
    expect(setOf(lost, [set("20261123-010600F")], NOW)).toBeUndefined();
  });

  test("pgBackRest's clock has whole seconds", () => {
    expect(setOf(lost, [set("20261123-010000F")], NOW)?.label).toBe("20261123-010000F");
  });

  test("of two that could be it, neither", () => {
    expect(setOf(lost, [set(OURS), set("20261123-010300F")], NOW)).toBeUndefined();
  });

  test("the first backup of a stanza is a full one, whatever was asked for", () => {
    expect(setOf({ ...lost, type: "incr" }, [set(OURS)], NOW)?.label).toBe(OURS);
    expect(setOf({ ...lost, type: "diff" }, [set(OURS)], NOW)?.label).toBe(OURS);
  });

  test.each([
    { type: "full", other: "20261116-010000F_20261123-010200D" },
    { type: "full", other: "20261116-010000F_20261123-010200I" },
    { type: "diff", other: "20261116-010000F_20261123-010200I" },
    { type: "incr", other: "20261116-010000F_20261123-010200D" },
  ] as const)("one that somebody else made of another kind is not: $type asked for, $other", ({ type, other }) => {
    expect(setOf({ ...lost, type }, [set(other)], NOW)).toBeUndefined();
  });
});
