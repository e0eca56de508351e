import { expect, test } from "vitest";
import { Packed, PackedList } from "../../lib/packed.ts";

test("a value comes out as it went in, as often as it is asked for", () => {
  const value = { 'a "b" ü': ["1", null, true] };
  const packed = Packed.of(value);
  expect(packed.read()).toEqual(value);
  expect(packed.read()).toEqual(value);
});

test.each([0, 1, 2, 5000])("a list of %i items, some longer than a block", (count) => {
  const items = Array.from({ length: count }, (_, n) => "ü".repeat(n === 1 ? 300_000 : n % 200));
  const list = new PackedList<string>();
  for (const item of items) list.add(Buffer.from(JSON.stringify(item)));
  expect(list.length).toBe(count);
  expect(list.pack().read()).toEqual(items);
});
