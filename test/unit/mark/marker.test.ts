import { expect, test } from "vitest";
import { type FoundSchema, judgeSchema, markerId, restorePointName, SCHEMA_TAG } from "../../../lib/mark/marker.ts";
import { parseTargetValue } from "../../../lib/postgres/target.ts";

const OURS: FoundSchema = {
  comment: SCHEMA_TAG,
  owner: "postgres",
  ownerIsTrusted: true,
  writable: true,
  tables: 2,
};

test("an id sorts by time, differs by chance, and makes a valid restore point's name", () => {
  const id = markerId("2026-11-22 23:35:01.123456+00", new Uint8Array([0x1a, 0x2b, 0x3c, 0x4d, 0xff]));
  expect(id).toBe("20261122T233501Z-1a2b3c4d");
  expect(parseTargetValue("name", restorePointName(id))).toBe("patroni-restore-20261122T233501Z-1a2b3c4d");
  expect(markerId("2026-11-22 23:35:02.000000+00", new Uint8Array(4)) > id).toBe(true);
});

test("no schema, or ours, is no problem", () => {
  expect(judgeSchema(null, "postgres")).toBeNull();
  expect(judgeSchema(OURS, "postgres")).toBeNull();
});

test.each<[string, Partial<FoundSchema>, RegExp]>([
  ["without our comment", { comment: null }, /^schema patroni_restore exists and is not ours \(no comment tag\)$/],
  ["with another comment", { comment: "our restores" }, /is not ours/],
  ["of an ordinary role", { owner: "app", ownerIsTrusted: false }, /belongs to "app", which is neither a superuser/],
  ["with a table missing or with a trigger", { tables: 1 }, /does not hold the two plain tables/],
  ["that may not be written", { writable: false }, /^role "marker" may not write the markers/],
])("a schema %s is not touched", (_, found, sentence) => {
  expect(judgeSchema({ ...OURS, ...found }, "marker")?.message).toMatch(sentence);
});
