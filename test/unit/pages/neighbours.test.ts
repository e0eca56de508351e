import { expect, test } from "vitest";
import { Neighbours } from "../../../lib/pages/neighbours.ts";

type Leaf = { block: number; left: number; right: number; keys: number[] };

function distinct(leaves: readonly Leaf[], blocks = 10): boolean {
  const neighbours = new Neighbours(blocks);
  for (const { block, left, right, keys } of leaves) {
    neighbours.leaf(block, left, right);
    for (const key of keys) neighbours.entry(block, key);
  }
  return neighbours.areDistinct();
}

/** In the order of the keys: 3, 1, 5. */
const one: Leaf = { block: 1, left: 3, right: 5, keys: [30, 40] };
const three: Leaf = { block: 3, left: 0, right: 1, keys: [10, -20] };
const five: Leaf = { block: 5, left: 1, right: 0, keys: [50, 60] };
const empty: Leaf = { ...one, keys: [] };

test.each([
  ["no leaf at all", [], true],
  ["one leaf", [{ block: 1, left: 0, right: 0, keys: [7, 8] }], true],
  ["leaves in whatever order they are read", [one, three, five], true],
  ["one without live entries", [empty, three, five], true],
  ["a key twice in a leaf", [one, { ...three, keys: [10, 10] }, five], false],
  ["at the end of one and the beginning of the next", [one, { ...three, keys: [10, 30] }, five], false],
  ["with an empty leaf between", [empty, { ...three, keys: [10, 50] }, five], false],
  ["a key that cannot be read", [one, { ...three, keys: [10, 0] }, five], false],
  ["a leaf that was not read", [one, three], false],
  ["a leaf that nobody leads to", [one, three, five, { block: 7, left: 5, right: 0, keys: [] }], false],
  ["two beginnings", [one, three, { ...five, left: 0 }], false],
  ["a circle", [one, three, { ...five, right: 1 }], false],
  ["no beginning", [one, { ...three, left: 5 }, five], false],
  ["a leaf that is read twice", [one, three, five, five], false],
  ["one that leads out of the index", [one, three, { ...five, right: 99 }], false],
])("%s", (_, leaves: Leaf[], expected) => expect(distinct(leaves)).toBe(expected));
