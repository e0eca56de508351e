import { expect, test } from "vitest";
import { lookAtAll } from "../../../lib/checks/data/relation-units.ts";
import type { Edge } from "../../../lib/checks/edge.ts";
import type { Unit } from "../../../lib/checks/pool.ts";
import type { Relation } from "../../../lib/checks/relations.ts";
import type { Session } from "../../../lib/checks/session.ts";

const session = {} as Session;
const edge = {
  pool: {
    async work(units: Unit[], use: (s: Session, u: Unit) => Promise<unknown>, each: (u: Unit, o: object) => void) {
      for (const unit of units) each(unit, { kind: "done", value: await use(session, unit) });
    },
  },
} as unknown as Edge;
const relations = ["a", "b", "c"].map((name) => ({ database: "app", name, bytes: 8192, rank: 0 }) as Relation);

test.each([
  ["as many answers as relations", ["together", "together", "together"], "together"],
  ["fewer", ["together"], "alone"],
  ["none", null, "alone"],
])("of small ones that are asked together and give %s none is passed over", async (_, answers, expected) => {
  const seen: string[] = [];
  await lookAtAll<string>(
    edge,
    relations,
    { bytes: ({ bytes }) => bytes, one: async () => "alone", together: async () => answers },
    ({ name }, outcome) => seen.push(`${name} ${outcome?.kind === "done" ? outcome.value : outcome?.kind}`),
  );
  expect(seen).toEqual(relations.map(({ name }) => `${name} ${expected}`));
});
