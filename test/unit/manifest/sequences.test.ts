import { expect, test } from "vitest";
import { judgeSequence } from "../../../lib/manifest/sequences.ts";

const source = { last_value: "100", is_called: true, increment: "1", cache: "1", cycle: false };
const at = (lastValue: string, isCalled = true) => ({ lastValue, isCalled });

test.each([
  ["the same value", source, at("100")],
  ["32 logged ahead and the cache", source, at("133")],
  ["a cache of 50", { ...source, cache: "50" }, at("182")],
  ["steps of 10", { ...source, increment: "10" }, at("430")],
  ["downwards", { ...source, increment: "-1" }, at("67")],
  ["a cycle may begin again", { ...source, cycle: true }, at("1")],
  ["not called yet, both", { ...source, last_value: "1", is_called: false }, at("1", false)],
])("%s fits", (_, expected, found) => {
  expect(judgeSequence(expected, found)).toBeNull();
});

test.each([
  ["behind", source, at("99"), /is at 99, behind the source's 100/],
  ["behind, downwards", { ...source, increment: "-1" }, at("101"), /behind/],
  ["not called any more", source, at("100", false), /is at 100 \(not called\), behind/],
  ["too far ahead", source, at("134"), /34 ahead of the source's 100; recovery explains 33/],
])("%s does not", (_, expected, found, sentence) => {
  expect(judgeSequence(expected, found)).toMatch(sentence);
});
