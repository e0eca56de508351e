import { describe, expect, test } from "vitest";
import { Packed, PackedRows } from "../../lib/packed.ts";

test("a value comes out as it went in, as often as it is asked for", () => {
  const value = { 'a "b" ü': ["1", null, true] };
  const packed = Packed.of(value);
  expect(packed.read()).toEqual(value);
  expect(packed.read()).toEqual(value);
});

test("a small one keeps no memory but its own: Node's pool would stay with whatever else was in it", () => {
  const { bytes } = Packed.of(["few"]) as unknown as { bytes: Buffer };
  expect(bytes.buffer.byteLength).toBe(bytes.length);
});

describe("rows by name", () => {
  const rows = (count: number) =>
    Array.from({ length: count }, (_, n): [string | null, string] => [
      n === 0 ? null : `täble ${n}`,
      "x".repeat(n % 200),
    ]);
  const byName = (list: Iterable<[string | null, string]>) =>
    [...list].sort(([a], [b]) => ((a ?? "") < (b ?? "") ? -1 : 1));

  test.each([0, 1, 1000, 5000])("all of %i", (count) => {
    const packed = PackedRows.of(rows(count));
    expect(packed.length).toBe(count);
    expect(byName(packed)).toEqual(byName(rows(count)));
  });

  test("a name is in the same part of a short list and of a long one, with whatever is told apart from it by a number", () => {
    const long = PackedRows.of<[string, string]>(Array.from({ length: 5000 }, (_, n) => [`t${n}`, ""]));
    const short = PackedRows.of<[string, string]>([
      ["t7", ""],
      ["t7 (2)", ""],
    ]);
    expect(long.parts).toBeGreaterThan(short.parts);
    const found = Array.from({ length: long.parts }, (_, n) => n).filter((n) => short.part(n, long.parts).length > 0);
    expect(found).toHaveLength(1);
    expect(short.part(found[0] as number, long.parts).map(([name]) => name)).toEqual(["t7", "t7 (2)"]);
    expect(long.part(found[0] as number, long.parts).map(([name]) => name)).toContain("t7");
  });
});
