import { describe, expect, test } from "vitest";
import { missingSegments, neededOf, type Positions } from "../../../lib/checks/files/slru.ts";
import { judgeTransactionFiles } from "../../../lib/checks/files/transaction-files.ts";

const fresh: Positions = {
  blockSize: 8192,
  serverVersion: 150_018,
  checkpointNextXid: 734,
  nextXid: 735,
  oldestXid: 716,
  nextMulti: 1,
  oldestMulti: 1,
  nextOffset: 0,
  oldestOffset: null,
};
const names = (change: Partial<Positions>, directory: string) =>
  neededOf({ ...fresh, ...change })
    .find((need) => need.directory === directory)
    ?.segments.map((s) => `${s.files[0]}:${s.firstPage}-${s.lastPage}`);

const SEGMENT = 2 ** 20;

describe("segments that must be there", () => {
  test.each<[string, Partial<Positions>, string[]]>([
    ["a new instance", {}, ["0000:0-0"]],
    ["the next one begins a page", { checkpointNextXid: 32_768 }, ["0000:0-0"]],
    ["one on the next page", { checkpointNextXid: 32_769 }, ["0000:0-1"]],
    ["the next one begins a segment", { checkpointNextXid: SEGMENT, nextXid: SEGMENT }, ["0000:0-31"]],
    [
      "the oldest begins a segment",
      { oldestXid: SEGMENT, checkpointNextXid: SEGMENT + 1, nextXid: SEGMENT + 1 },
      ["0001:0-0"],
    ],
    ["frozen since the checkpoint", { oldestXid: 5000, nextXid: 5001 }, []],
    [
      "across the wraparound",
      { oldestXid: 2 ** 32 - 5, checkpointNextXid: 2 ** 32 + 10, nextXid: 2 ** 32 + 10 },
      ["0FFF:31-31", "0000:0-0"],
    ],
    [
      "right after the wraparound no page is begun",
      { oldestXid: 2 ** 32 - 5, checkpointNextXid: 2 ** 32 + 3, nextXid: 2 ** 32 + 3 },
      ["0FFF:31-31"],
    ],
  ])("pg_xact: %s", (_, change, expected) => {
    expect(names(change, "pg_xact")).toEqual(expected);
  });

  test.each<[string, Partial<Positions>, string[], string[]]>([
    ["none yet", {}, [], []],
    ["some", { nextMulti: 5000, nextOffset: 60_000, oldestOffset: 1 }, ["0000:0-2"], ["0000:0-31", "0001:0-4"]],
    ["the oldest unknown", { nextMulti: 10, nextOffset: 99 }, ["0000:0-0"], []],
    [
      "members wrapped",
      { nextMulti: 9, nextOffset: 9, oldestOffset: 2 ** 32 - 9 },
      ["0000:0-0"],
      ["14078:5-5", "0000:0-0"],
    ],
    ["multixacts wrapped", { oldestMulti: 2 ** 32 - 3, nextMulti: 1 }, ["FFFF:31-31"], []],
    ["removed since the checkpoint", { oldestMulti: 50, nextMulti: 10 }, [], []],
    ["offsets of 64 bits", { serverVersion: 190_000, nextMulti: 9, nextOffset: 9, oldestOffset: 1 }, ["0000:0-0"], []],
  ])("pg_multixact: %s", (_, change, offsets, members) => {
    expect(names(change, "pg_multixact/offsets")).toEqual(offsets);
    expect(names(change, "pg_multixact/members")).toEqual(members);
  });
});

test("a segment must be there, long enough and not too long; the last may be short", () => {
  const [need] = neededOf({ ...fresh, checkpointNextXid: SEGMENT + 40_000, nextXid: SEGMENT + 40_000 });
  const what = (sizes: Record<string, number>) => missingSegments(need as never, sizes, 8192).map((m) => m.file);
  expect(what({ "0000": 262_144, "0001": 16_384 })).toEqual([]);
  expect(what({ "0000": 262_144, "000000000000001": 16_384 })).toEqual([]);
  expect(what({ "0001": 16_384 })).toEqual(["0000"]);
  expect(what({ "0000": 253_952, "0001": 8192 })).toEqual(["0000", "0001"]);
  expect(what({ "0000": 270_336, "0001": 16_384 })).toEqual(["0000"]);
});

test("what is missing fails, a page of zeros warns", () => {
  const facts = { positions: fresh, sizes: { pg_xact: { "0000": 8192 } }, zeroPages: [], used: ["0000"] };
  expect(judgeTransactionFiles(facts).status).toBe("pass");
  expect(judgeTransactionFiles({ ...facts, sizes: {} }).status).toBe("fail");
  expect(judgeTransactionFiles({ ...facts, sizes: {}, used: [] }).status).toBe("warn");
  const zeroPages = [{ directory: "pg_xact", file: "0000", page: 0 }];
  expect(judgeTransactionFiles({ ...facts, zeroPages }).status).toBe("warn");
});
