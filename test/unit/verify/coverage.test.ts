import { expect, test } from "vitest";
import { objectKey, type Relation, rankRelations } from "../../../lib/checks/relations.ts";
import { coverageOf, ledgerOf } from "../../../lib/verify/coverage.ts";

const relation = (name: string, change: Partial<Relation> = {}): Relation => ({
  database: "app",
  oid: name,
  name,
  schema: "public",
  kind: "r",
  method: "heap",
  persistence: "p",
  shared: false,
  system: false,
  bytes: 1000,
  otherBytes: 0,
  of: null,
  indexes: [],
  valid: true,
  populated: true,
  fixedKeys: false,
  ofPeople: false,
  held: false,
  changedAt: 0,
  rank: 0,
  proven: null,
  ...change,
});
const index = (name: string, of: Relation, proven: boolean | null = null) =>
  relation(name, { kind: "i", method: "btree", of, bytes: 100, proven });
const key = (object: string) => objectKey({ database: "app", object });
const NOW = new Date("2026-11-23T10:00:00Z");

const orders = relation("orders", { proven: true });
const items = relation("items", { proven: true });
const relations = [
  orders,
  index("orders_pkey", orders, true),
  items,
  index("items_pkey", items, false),
  relation("log"),
];

test("a table is proven with its indexes, and the rest keeps the day on which it was proven before", () => {
  const coverage = coverageOf({
    outcomes: [],
    level: "standard",
    relations,
    ledger: { [key("log")]: "2026-11-20T10:00:00.000Z", [key("gone")]: "2026-11-20T10:00:00.000Z" },
    now: NOW,
  });
  expect(coverage).toMatchObject({
    total: { relations: 1, bytes: 1100, of_relations: 3, of_bytes: 3200 },
    proven_at: { app: { orders: "2026-11-23T10:00:00.000Z", log: "2026-11-20T10:00:00.000Z" } },
  });
  expect(ledgerOf({ coverage })).toEqual({
    [key("orders")]: "2026-11-23T10:00:00.000Z",
    [key("log")]: "2026-11-20T10:00:00.000Z",
  });
});

test("what an earlier report says is used as far as it can be read", () => {
  expect(ledgerOf(null)).toEqual({});
  expect(ledgerOf({ coverage: {} })).toEqual({});
  expect(ledgerOf({ coverage: { proven_at: { app: null, other: { t: 5 } } } })).toEqual({});
});

test("never proven goes before proven long ago before proven lately, and of those the newest changed first", () => {
  const busy = relation("busy", { changedAt: 20 });
  const ranked = rankRelations(
    [relation("lately"), relation("long-ago"), relation("quiet", { changedAt: 10 }), busy, index("busy_pkey", busy)],
    { [key("lately")]: "2026-11-22", [key("long-ago")]: "2026-11-01" },
  );
  const order = [...ranked].sort((a, b) => a.rank - b.rank).map((r) => r.name);
  expect(order).toEqual(["busy", "busy_pkey", "quiet", "long-ago", "lately"]);
});
