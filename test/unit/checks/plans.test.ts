import { expect, test } from "vitest";
import type { Check } from "../../../lib/checks/check.ts";
import { Plans } from "../../../lib/checks/plans.ts";
import type { Relation } from "../../../lib/checks/relations.ts";
import type { Database } from "../../../lib/io/database.ts";

const database = {} as Database;
const check = (id: string, plan?: Check["plan"]) => ({ id, ...(plan === undefined ? {} : { plan }) }) as Check;

test("each check is planned from the relations of the database, in its session", async () => {
  const seen: unknown[] = [];
  const heap = check("heap", async (session, relations) => {
    seen.push(session);
    return relations.map(({ name }) => name);
  });
  const plans = new Plans([heap, check("btree")]);
  await plans.make("a", database, [{ name: "t" } as Relation]);
  await plans.make("b", database, []);
  expect([plans.of(heap)("a"), plans.of(heap)("b")]).toEqual([["t"], []]);
  expect(seen).toEqual([database, database]);
});

test("what keeps a check from planning is thrown where it asks for that database, and is nobody else's", async () => {
  const one = check("one", async () => Promise.reject(new Error("damaged")));
  const other = check("other", async () => "planned");
  const plans = new Plans([one, other]);
  await plans.make("a", database, []);
  expect(() => plans.of(one)("a")).toThrow("damaged");
  expect(plans.of(other)("a")).toBe("planned");
});

test("a database that was not planned is a bug, and says so", () => {
  const heap = check("heap", async () => null);
  expect(() => new Plans([heap]).of(heap)("a")).toThrow("nothing was planned for a");
});
