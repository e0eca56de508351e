import { describe, expect, test } from "vitest";
import { isZeroPage, pageChecksum, storedChecksum, withChecksum } from "../../../lib/pages/checksum.ts";
import { CAPTURED, captured } from "./captured.ts";

describe("page checksum", () => {
  test.each(CAPTURED.map((page) => [page.name, page] as const))("of %s is what the server wrote", (_, page) => {
    expect(pageChecksum(page.bytes, page.block)).toBe(storedChecksum(page.bytes));
  });

  test("does not depend on where the page stands in memory, or on what is stored", () => {
    const { bytes, block } = captured("btree-leaf");
    const moved = Buffer.concat([Buffer.alloc(3), bytes]).subarray(3);
    moved.writeUInt16LE(1, 8);
    expect(pageChecksum(moved, block)).toBe(storedChecksum(bytes));
  });

  test("is of one block: every other place has another one", () => {
    const { bytes, block } = captured("btree-leaf");
    expect(pageChecksum(bytes, block + 1)).not.toBe(storedChecksum(bytes));
  });

  test.each([24, 100, 4096, 8191])("sees a flipped bit in byte %i", (byte) => {
    const { bytes, block } = captured("btree-leaf");
    bytes[byte] = (bytes[byte] as number) ^ 1;
    expect(pageChecksum(bytes, block)).not.toBe(storedChecksum(bytes));
  });

  test("is stored in a copy", () => {
    const { bytes, block } = captured("btree-leaf");
    const before = Buffer.from(bytes);
    bytes[5000] = 7;
    const stored = withChecksum(bytes, block);
    expect(pageChecksum(stored, block)).toBe(storedChecksum(stored));
    expect(storedChecksum(bytes)).toBe(storedChecksum(before));
  });

  test("tells an all-zero page", () => {
    const page = Buffer.alloc(8192);
    expect(isZeroPage(page)).toBe(true);
    page[8191] = 1;
    expect(isZeroPage(page)).toBe(false);
  });
});
