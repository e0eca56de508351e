import { expect, test } from "vitest";
import { type QueryAnswer, stoodStill } from "../../../lib/manifest/queries.ts";

const answer = (tables: string | null): QueryAnswer => ({ name: "q", database: "app", count: 1, digest: "a", tables });

test("only a query whose tables lost no row and got none since the horizon stood still", () => {
  expect(stoodStill(answer("100/0 7/0"), answer("100/0 7/0"))).toBe(true);
  expect(stoodStill(answer("100/0"), answer("99/0"))).toBe(false);
  expect(stoodStill(answer("100/3"), answer("100/3"))).toBe(false);
  expect(stoodStill(answer(null), answer(null))).toBe(false);
});
