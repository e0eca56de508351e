import { expect, test } from "vitest";
import { cleanText, toJson } from "../../../../lib/fleet/record/json.ts";

test.each([
  ["a NUL", { a: ["x\0y"] }, { a: ["x\ufffdy"] }],
  ["half of a pair", "a\ud83d", "a\ufffd"],
  ["the other half", { "\udc00": 1 }, { "\ufffd": 1 }],
  ["a whole pair", "\ud83d\ude00", "\ud83d\ude00"],
  ["a backslash before u0000", "C:\\u0000", "C:\\u0000"],
  ["what is not there", { a: undefined, b: null, c: "\0" }, { b: null, c: "\ufffd" }],
  ["a date beside one", { at: new Date(0), text: "\0" }, { at: "1970-01-01T00:00:00.000Z", text: "\ufffd" }],
  ["numbers and truth", { a: 1.5, b: true }, { a: 1.5, b: true }],
])("JSON for PostgreSQL with %s", (_, value, expected) => {
  expect(JSON.parse(toJson(value))).toEqual(expected);
});

test("text is cleaned likewise", () => {
  expect(cleanText("a\0b\ud800c\ud83d\ude00")).toBe("a\ufffdb\ufffdc\ud83d\ude00");
});
