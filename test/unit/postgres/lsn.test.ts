import { describe, expect, test } from "vitest";
import { compareLsn, isLsn, lsnToBigInt, parseWalName, walName, walNameOf } from "../../../lib/postgres/lsn.ts";

const MB = 1024 ** 2;

describe("isLsn", () => {
  test.each(["0/0", "0/3000028", "A/FF", "FFFFFFFF/FFFFFFFF", "16/b374d848"])("accepts %s", (text) => {
    expect(isLsn(text)).toBe(true);
  });
  test.each(["", "0", "0/", "/0", "0/0/0", "0/123456789", "0x1/0", "0/G", " 0/0"])("refuses %j", (text) => {
    expect(isLsn(text)).toBe(false);
  });
});

describe("compareLsn", () => {
  test.each([
    { a: "0/1", b: "0/1", sign: 0 },
    { a: "0/FF", b: "0/ff", sign: 0 },
    { a: "0/9", b: "0/A", sign: -1 },
    // As text the first would be greater.
    { a: "9/0", b: "10/0", sign: -1 },
    { a: "0/FFFFFFFF", b: "1/0", sign: -1 },
    { a: "FFFFFFFF/FFFFFFFF", b: "FFFFFFFF/FFFFFFFE", sign: 1 },
  ])("$a against $b gives $sign", ({ a, b, sign }) => {
    expect(Math.sign(compareLsn(a, b))).toBe(sign);
  });

  test("counts bytes in 64 bits", () => {
    expect(lsnToBigInt("FFFFFFFF/FFFFFFFF")).toBe(2n ** 64n - 1n);
    expect(lsnToBigInt("1/0")).toBe(2n ** 32n);
  });
});

/** As pg_walfile_name() of PostgreSQL 15 answers for a position inside the segment. */
const SEGMENTS = [
  { size: 16 * MB, timeline: 1, lsn: "0/0", name: "000000010000000000000000" },
  { size: 16 * MB, timeline: 1, lsn: "0/FFFFFF", name: "000000010000000000000000" },
  { size: 16 * MB, timeline: 1, lsn: "0/1000000", name: "000000010000000000000001" },
  { size: 16 * MB, timeline: 2, lsn: "0/FFFFFFFF", name: "0000000200000000000000FF" },
  { size: 16 * MB, timeline: 2, lsn: "1/0", name: "000000020000000100000000" },
  { size: 16 * MB, timeline: 255, lsn: "A/F3000028", name: "000000FF0000000A000000F3" },
  { size: 64 * MB, timeline: 1, lsn: "0/3FFFFFF", name: "000000010000000000000000" },
  { size: 64 * MB, timeline: 1, lsn: "0/4000000", name: "000000010000000000000001" },
  { size: 64 * MB, timeline: 1, lsn: "0/FFFFFFFF", name: "00000001000000000000003F" },
  { size: 64 * MB, timeline: 1, lsn: "1/0", name: "000000010000000100000000" },
  { size: 1 * MB, timeline: 1, lsn: "0/FFFFFFFF", name: "000000010000000000000FFF" },
  { size: 1024 * MB, timeline: 1, lsn: "7/C0000000", name: "000000010000000700000003" },
];

describe("names of WAL segments", () => {
  test.each(SEGMENTS)("$lsn on timeline $timeline with $size bytes per segment is in $name", (segment) => {
    expect(walNameOf(segment.timeline, segment.lsn, segment.size)).toBe(segment.name);
  });

  test.each(SEGMENTS)("$name is parsed to what it was made of", ({ size, name, timeline, lsn }) => {
    const parsed = parseWalName(name, size);
    expect(parsed).toEqual({ timeline, segment: lsnToBigInt(lsn) / BigInt(size) });
    expect(walName(timeline, parsed?.segment ?? -1n, size)).toBe(name);
  });

  test("the segment after the last of a log file is the first of the next", () => {
    const last = parseWalName("0000000100000000000000FF");
    expect(walName(1, (last?.segment ?? 0n) + 1n)).toBe("000000010000000100000000");
  });

  test("the name's end may say more, as in the archive", () => {
    expect(parseWalName("000000010000000000000002.partial")?.segment).toBe(2n);
    expect(parseWalName("000000010000000000000002-9baedc24b61aa15305732ac678c4e2c102435a09.lz4")?.segment).toBe(2n);
  });

  test.each(["", "00000002.history", "00000001000000000000000", "00000001000000000000000g", "archive_status"])(
    "%j is no segment's name",
    (name) => {
      expect(parseWalName(name)).toBeNull();
    },
  );
});
