import { describe, expect, test } from "vitest";
import { findBackup, listBackups } from "../../../lib/backup-api/backups.ts";
import { answer, job, set } from "./samples.ts";

const FULL = "20261123-010001F";
const DIFF = "20261123-010001F_20261123-020000D";
const OLD = "20261116-010000F";

/** Asked for here: one that was made, one that failed. Made by others: OLD and DIFF. */
const jobs = [
  job({
    label: "20261123010000",
    status: "FINISHED",
    startedAt: "2026-11-23T01:00:00.250Z",
    finishedAt: "2026-11-23T01:00:08.000Z",
    set: FULL,
  }),
  job({
    label: "20261123013000",
    status: "ERROR",
    startedAt: "2026-11-23T01:30:00.000Z",
    finishedAt: "2026-11-23T01:30:01.000Z",
    error: "pgbackrest backup ended with code 50",
  }),
];
const answers = [answer("main", [set(OLD), set(FULL), set(DIFF)])];
const list = listBackups(jobs, answers);

describe("one list", () => {
  test("of what was asked for here and what the repository holds, in the order of their starts", () => {
    expect(list.map(({ label, status, set }) => [label, status, set?.label])).toEqual([
      ["20261116010000", "FINISHED", OLD],
      ["20261123010000", "FINISHED", FULL],
      ["20261123013000", "ERROR", undefined],
      ["20261123020000", "FINISHED", DIFF],
    ]);
  });

  test("a job and its set are one entry, although their labels are a second apart", () => {
    expect(list.filter((one) => one.set?.label === FULL || one.job?.set === FULL)).toHaveLength(1);
    expect(findBackup(list, FULL)).toBe(findBackup(list, "20261123010000"));
  });

  test("times of a set are pgBackRest's", () => {
    expect(findBackup(list, OLD)).toMatchObject({
      job: null,
      type: "full",
      startedAt: "2026-11-16T01:00:00.000Z",
      finishedAt: "2026-11-16T01:00:06.000Z",
    });
  });

  test("is empty when there is nothing, and has the jobs while pgBackRest cannot be asked", () => {
    expect(listBackups([], [])).toEqual([]);
    expect(listBackups(jobs, []).map(({ label }) => label)).toEqual(["20261123010000", "20261123013000"]);
  });

  test("a set that has expired leaves the job, found by both labels", () => {
    const expired = listBackups(jobs, [answer("main", [set(DIFF)])]);
    expect(findBackup(expired, FULL)).toMatchObject({ label: "20261123010000", status: "FINISHED", set: null });
    expect(findBackup(expired, OLD)).toBeUndefined();
  });
});

describe("a label is answered by that backup or by none", () => {
  test.each([
    "20261123010001",
    "20261123-010000F",
    "20261123-010001",
    "2026112301000",
    "",
    "Latest",
    "backup",
    "undefined",
    "null",
    "constructor",
    `${FULL}_`,
  ])("%j is none", (label) => {
    expect(findBackup(list, label)).toBeUndefined();
  });

  test.each(list.flatMap(({ label, set }) => [label, ...(set === null ? [] : [set.label])]))("%s", (label) => {
    const found = findBackup(list, label);
    expect([found?.label, found?.set?.label]).toContain(label);
  });

  test("a full backup is not its differential one", () => {
    expect(findBackup(list, FULL)?.set?.type).toBe("full");
    expect(findBackup(list, DIFF)?.set?.type).toBe("diff");
  });
});

describe("latest", () => {
  test("is the one that was begun last, also while it runs or when it failed", () => {
    expect(findBackup(list, "latest")?.set?.label).toBe(DIFF);
    const running = job({ label: "20261123030000", status: "RUNNING", startedAt: "2026-11-23T03:00:00.100Z" });
    expect(findBackup(listBackups([...jobs, running], answers), "latest")?.label).toBe("20261123030000");
  });

  test("is none when there is none", () => {
    expect(findBackup([], "latest")).toBeUndefined();
  });
});

describe("labels that clash", () => {
  test("a set of another stanza that began in a job's second keeps pgBackRest's own label", () => {
    const both = listBackups(jobs, [...answers, answer("other", [set("20261123-010000F")])]);
    expect(both.map(({ label }) => label).filter((label) => label === "20261123010000")).toHaveLength(1);
    expect(findBackup(both, "20261123010000")).toMatchObject({ stanza: "main" });
    expect(findBackup(both, "20261123-010000F")).toMatchObject({ stanza: "other", label: "20261123-010000F" });
  });

  test("every entry has a label of its own", () => {
    const labels = [OLD, FULL, DIFF];
    const stanzas = ["a", "b", "c"].map((stanza) =>
      answer(
        stanza,
        labels.slice(0, 2).map((label) => set(label)),
      ),
    );
    const all = listBackups(jobs, stanzas).map(({ label, stanza }) => `${stanza} ${label}`);
    expect(new Set(all).size).toBe(all.length);
  });
});

test("sets of the same label in two stanzas are two, and a job has that of its own stanza", () => {
  const two = [answer("main", [set(FULL)]), answer("other", [set(FULL, { error: true })])];
  const all = listBackups([jobs[0] as (typeof jobs)[0]], two);
  expect(all.map(({ stanza, job, set }) => [stanza, job?.label, set?.error])).toEqual([
    ["main", "20261123010000", false],
    ["other", undefined, true],
  ]);
  const others = listBackups([job({ stanza: "other", set: FULL })], two);
  expect(others.map(({ stanza, job, set }) => [stanza, job?.label, set?.error])).toEqual([
    ["other", "20261123010000", true],
    ["main", undefined, false],
  ]);
});
