import { describe, expect, test } from "vitest";
import { formatEntry, newestJobs, readJournal } from "../../../lib/backup-api/journal.ts";
import { job } from "./samples.ts";

const first = job({ label: "20261123010000" });
const second = job({ label: "20261123020000", command: "verify", type: null, output: ["status: ok"] });
const text = formatEntry(first) + formatEntry(second);

test("what was written is read again", () => {
  const whole = job({
    status: "ERROR",
    pid: 4711,
    pidStarted: "123456",
    exitCode: 50,
    set: "20261123-010001F",
    error: 'two\nlines and "quotes" é 日本',
    hint: "h",
    warnings: ["w"],
    output: ["o"],
    finishedAt: "2026-11-23T01:05:00.000Z",
  });
  expect(readJournal(formatEntry(whole))).toEqual({ jobs: [whole], unreadable: 0 });
  expect(formatEntry(whole).split("\n")).toHaveLength(2);
});

test("the last line of a label counts, the order is that of the starts", () => {
  const ended = { ...first, status: "FINISHED" as const, exitCode: 0 };
  expect(readJournal(formatEntry(second) + formatEntry(first) + formatEntry(ended))).toEqual({
    jobs: [ended, second],
    unreadable: 0,
  });
});

test("nothing is nothing", () => {
  expect(readJournal("")).toEqual({ jobs: [], unreadable: 0 });
  expect(readJournal("\n \n")).toEqual({ jobs: [], unreadable: 0 });
});

describe("a line that cannot be read is counted and costs no other", () => {
  test("half a line at the end, wherever it was cut", () => {
    for (let length = 1; length < formatEntry(second).length - 1; length += 7) {
      const cut = formatEntry(first) + formatEntry(second).slice(0, length);
      expect(readJournal(cut), `after ${length}`).toEqual({ jobs: [first], unreadable: 1 });
    }
  });

  test.each([
    "null",
    "[]",
    "{}",
    "17",
    '"text"',
    "\0\0\0\0",
    JSON.stringify({ ...first, label: "../../etc" }),
    JSON.stringify({ ...first, status: "DONE" }),
    JSON.stringify({ ...first, command: "rm" }),
    JSON.stringify({ ...first, pid: "1" }),
    JSON.stringify({ ...first, startedAt: undefined }),
  ])("%s", (line) => {
    expect(readJournal(`${formatEntry(first)}${line}\n${formatEntry(second)}`)).toEqual({
      jobs: [first, second],
      unreadable: 1,
    });
  });
});

test("fields of a later version are ignored, those that an earlier one did not have are empty", () => {
  const { warnings: _w, output: _o, ...older } = first;
  expect(readJournal(`${JSON.stringify({ ...first, mood: "good" })}\n`)).toEqual({ jobs: [first], unreadable: 0 });
  expect(readJournal(`${JSON.stringify(older)}\n`)).toEqual({ jobs: [first], unreadable: 0 });
});

describe("those that are worth keeping", () => {
  const many = Array.from({ length: 20 }, (_, i) => job({ label: `202611230100${10 + i}`, status: "FINISHED" }));

  test("are the newest, and what has not ended however old", () => {
    const running = { ...(many[0] as (typeof many)[0]), status: "RUNNING" as const };
    const kept = newestJobs([running, ...many.slice(1)], 5);
    expect(kept.map(({ label }) => label)).toEqual([many[0], ...many.slice(15)].map((one) => one?.label));
  });

  test("are all when there are fewer", () => {
    expect(newestJobs(many, 20)).toEqual(many);
    expect(newestJobs([], 5)).toEqual([]);
  });
});

test("a journal of a thousand long lines is no burden", () => {
  const lines = Array.from({ length: 5000 }, (_, i) =>
    job({ label: String(20261123010000 + i), error: "x".repeat(500) }),
  );
  expect(readJournal(lines.map(formatEntry).join("")).jobs).toHaveLength(5000);
  expect(readJournal(text).jobs).toHaveLength(2);
});
