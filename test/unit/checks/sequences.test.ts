import { expect, test } from "vitest";
import { judgeSequences, type SequenceState, SequenceTally } from "../../../lib/checks/data/sequences.ts";
import type { Relation } from "../../../lib/checks/relations.ts";

const relation = { database: "app", name: "public.s", bytes: 8192 } as Relation;
const state: SequenceState = { rows: 1, last: "5", called: true, min: "1", max: "100", increment: "1", cycle: false };

test.each([
  ["ahead", state, "5", "pass"],
  ["not called, and its value is taken", { ...state, called: false }, "5", "warn"],
  ["behind", state, "6", "warn"],
  ["behind, but it cycles", { ...state, cycle: true }, "6", "pass"],
  ["an empty column", state, null, "pass"],
  ["descending, ahead", { ...state, increment: "-1" }, "6", "pass"],
  ["descending, behind", { ...state, increment: "-1" }, "4", "warn"],
  [
    "beyond JavaScript's numbers",
    { ...state, last: "9007199254740992", max: "9223372036854775807" },
    "9007199254740993",
    "warn",
  ],
  ["outside of its limits", { ...state, last: "101" }, "5", "fail"],
  ["no row", { ...state, rows: 0, last: null }, null, "fail"],
  ["not in pg_sequence", null, null, "fail"],
] as const)("%s", (_, given, furthest, status) => {
  const value = { state: given, columns: [{ table: "public.t", column: "id", furthest }], left: [] };
  const tally = new SequenceTally();
  tally.add(relation, { kind: "done", value });
  expect(judgeSequences(tally.facts()).status).toBe(status);
});
