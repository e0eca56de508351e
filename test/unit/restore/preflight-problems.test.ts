import { describe, expect, test } from "vitest";
import type { Receipt } from "../../../lib/mark/receipt.ts";
import type { Target } from "../../../lib/postgres/target.ts";
import {
  mapTablespaces,
  noSpace,
  precisionWarnings,
  receiptProblems,
  targetProblems,
  versionProblems,
  walProblems,
} from "../../../lib/restore/preflight-problems.ts";

const receipt = { target: { time: "2026-11-22 10:00:00.123456+00" }, system_identifier: "7" } as Receipt;
const at = (value: string): Target => ({ type: "time", value, timeline: null, exclusive: false });
const now = new Date("2026-11-22T10:00:00Z");

describe("pgBackRest's version", () => {
  test.each([
    { version: [2, 28], says: "cannot switch archiving off in the restored instance (needs 2.29)" },
    { version: [2, 36], says: "would silently take another backup for a target before the first one (needs 2.37)" },
    { version: [1, 99], says: "needs 2.29" },
  ] as const)("$version is too old", ({ version: [major, minor], says }) => {
    expect(versionProblems([major, minor])[0]?.message).toContain(says);
  });

  test.each([
    [2, 37],
    [2, 45],
    [2, 59],
    [3, 0],
  ] as const)("%i.%i will do", (major, minor) => {
    expect(versionProblems([major, minor])).toEqual([]);
  });
});

describe("a target in the future", () => {
  test("is a problem that says by how much", () => {
    expect(targetProblems(at("2026-11-22 10:12:31+00"), undefined, now)).toMatchObject([
      { message: "target 2026-11-22 10:12:31+00 is 12min 31s ahead of the clock; WAL for it cannot exist yet" },
    ]);
  });

  test("counts its offset", () => {
    expect(targetProblems(at("2026-11-22 11:30:00+02"), undefined, now)).toEqual([]);
  });

  test("is none when the source's own clock said it and ran ahead of ours", () => {
    expect(targetProblems(at(receipt.target.time), receipt, new Date("2026-11-22T09:00:00Z"))).toEqual([]);
  });
});

test("an exclusive target excludes the marker", () => {
  expect(targetProblems({ ...at(receipt.target.time), exclusive: true }, receipt, now)).toHaveLength(1);
});

test.each([
  { target: "2026-11-22 10:00:00.123456+00", given: undefined, warnings: 0 },
  { target: "2026-11-22 10:00:00.123+00", given: "2026-11-22T10:00:00.123Z", warnings: 2 },
  { target: "2026-11-22 11:00:00+00", given: "2026-11-22 11:00:00+00", warnings: 1 },
])("$warnings warnings for $given beside a receipt", ({ target, given, warnings }) => {
  const settings = { targetExclusive: false, ...(given ? { restoreTargetTime: given } : {}) };
  expect(precisionWarnings(settings, at(target), receipt)).toHaveLength(warnings);
});

test("a receipt of another system is refused, and of this one not", () => {
  expect(receiptProblems(receipt, "8", "main")[0]?.message).toBe(
    'the receipt is of system 7, but stanza "main" backs up system 8',
  );
  expect(receiptProblems(receipt, "7", "main")).toEqual([]);
});

describe("missing WAL", () => {
  const range = { first: "000000010000000000000007", last: "000000010000000000000009" };

  test("that the archive does not have yet is said before any gap", () => {
    expect(walProblems(range, [], "000000010000000000000008")[0]?.message).toBe(
      "newest archived WAL 000000010000000000000008 ends before the target, which needs 000000010000000000000009",
    );
  });

  test("in the middle is named and counted", () => {
    const missing = ["000000010000000000000007", "000000010000000000000008"];
    expect(walProblems(range, missing, "000000010000000000000009")[0]?.message).toBe(
      "WAL segment 000000010000000000000007 is missing in the archive, which goes on to 000000010000000000000009 (2 segments are missing)",
    );
  });

  test("is no problem yet when nobody knows where the target lies, unless it is the backup's own", () => {
    const open = { ...range, last: null };
    expect(walProblems(open, ["000000010000000000000008"], "000000010000000000000009")).toEqual([]);
    expect(walProblems(open, ["000000010000000000000007"], "000000010000000000000009")).toHaveLength(1);
  });
});

test("tablespaces go beside the data directory unless they are mapped", () => {
  expect(mapTablespaces([{ name: "a" }, { name: "b" }], [["b", "/disk/b"]], "/pg/data")).toEqual([
    ["a", "/pg/data.tablespaces/a"],
    ["b", "/disk/b"],
  ]);
});

test("a volume that is too small says how much is needed and what fills it", () => {
  const space = { neededBytes: 3 * 1024 ** 3, freeBytes: 1024 ** 3 };
  expect(noSpace(space, "/pg/data", { path: "/pg/data.failed", bytes: 2 * 1024 ** 3 })).toEqual({
    message: "need 3.0 GB (database, WAL and reserve); 1.0 GB free on /pg",
    hint: "/pg/data.failed (2.0 GB) from an earlier attempt fills the volume; remove it",
  });
});
