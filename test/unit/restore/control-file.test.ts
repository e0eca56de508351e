import { describe, expect, test } from "vitest";
import { crc32c, withSystemIdentifier } from "../../../lib/restore/control-file.ts";

/** As PostgreSQL lays it out: identifier first, checksum last, then nothing but zeros. */
function controlFile(identifier: bigint, length: number, isLittleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(8192);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, identifier, isLittleEndian);
  for (let at = 8; at < length; at++) bytes[at] = (at * 7) % 251;
  view.setUint32(length, crc32c(bytes.subarray(0, length)), isLittleEndian);
  return bytes;
}

test("the checksum is PostgreSQL's", () => {
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
});

describe("a control file gets another system's identifier", () => {
  test.each([
    { length: 240, isLittleEndian: true },
    { length: 288, isLittleEndian: true },
    { length: 288, isLittleEndian: false },
  ])("checksum at $length, little endian: $isLittleEndian", ({ length, isLittleEndian }) => {
    const made = controlFile(1n, length, isLittleEndian);
    const wanted = controlFile(7711147517477380914n, length, isLittleEndian);
    expect(withSystemIdentifier(made, "7711147517477380914", isLittleEndian)).toEqual(wanted);
  });

  test("never one whose checksum is wrong", () => {
    const damaged = controlFile(1n, 288, true);
    damaged[100] = 255;
    expect(() => withSystemIdentifier(damaged, "2", true)).toThrow("no valid checksum");
    expect(() => withSystemIdentifier(new Uint8Array(0), "2", true)).toThrow("no valid checksum");
  });
});
