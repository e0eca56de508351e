import { expect, test } from "vitest";
import { oneAtATime } from "../../lib/parallel.ts";

test("work is done one after another, in order, also after one that failed", async () => {
  const inTurn = oneAtATime();
  const seen: string[] = [];
  const work =
    (name: string, fails = false) =>
    async () => {
      seen.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    };
  const all = await Promise.allSettled([inTurn(work("a")), inTurn(work("b", true)), inTurn(work("c"))]);
  expect(all).toMatchObject([{ value: "a" }, { reason: { message: "b" } }, { value: "c" }]);
  expect(seen).toEqual(["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
});
