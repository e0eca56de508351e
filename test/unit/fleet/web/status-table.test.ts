import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import type { ServiceView } from "../../../../lib/fleet/view.ts";
import { describeDetails, describeFleet } from "../../../../lib/fleet/web/present.ts";
import { describeExplanation, describeStatus } from "../../../../lib/fleet/web/status-table.ts";
import { fleet, HOUR, healthy, manyServices, NOW, SERVICES } from "../../../fixtures/fleet.ts";

const status = (view = fleet(), options = { color: false }) => describeStatus(describeFleet(view, NOW), options);
const firstWords = (text: string) =>
  text
    .split("\n")
    .filter((line) => /^\S+\/\S+/.test(line))
    .map((line) => line.split(/ {2,}/)[0]);

describe("fleet status", () => {
  test("the worst first: failing, inconclusive, never tested, then the oldest proof", () => {
    expect(firstWords(status())).toEqual([
      "databases/billing",
      "archive/ledger",
      "archive/users",
      "archive/new",
      "web/paused",
      "web/misspelt",
      "web/sessions",
      "databases/cart",
      "databases/shop",
    ]);
  });

  test("a line for people on top, then a row with what is known", () => {
    const text = status();
    expect(text.split("\n")[0]).toBe(
      "9 services, 5 healthy, 2 failing, 1 inconclusive, 1 never tested, 2 due, 1 in progress",
    );
    expect(text).toMatch(/^databases\/billing +unhealthy +4d ago +1min 4s +in 3h 50min +1 of 41 checks failed/m);
    expect(text).toMatch(/^archive\/new +never tested +never +- +due +it was never tested$/m);
    expect(text).toMatch(/^web\/sessions .* recovering 42s/m);
    expect(text).toMatch(/^web\/misspelt .* not possible +the annotation interval/m);
  });

  test("says what is wrong with the fleet before anything else", () => {
    const text = status(
      fleet(SERVICES, { problems: ["the record is away"], isPaused: true, leads: false, pending: 2 }),
    );
    expect(text.split("\n").slice(0, 5)).toEqual([
      expect.stringMatching(/\(told by a standby\)$/),
      "",
      "! the record is away",
      "! the fleet is paused: no test starts",
      "! 2 changes of status wait for the record",
    ]);
  });

  test.each([110, 200])("no line is longer than %i, and nothing of a long name is lost", (width) => {
    const id = `${"n".repeat(60)}/${"s".repeat(60)}`;
    const text = describeStatus(describeFleet(fleet([...SERVICES, healthy(id, HOUR)]), NOW), { color: false, width });
    for (const line of text.split("\n")) expect(line.length).toBeLessThanOrEqual(width);
    expect(
      text
        .match(/[ns]{8,}/g)
        ?.join("")
        .replace(/[^ns]/g, "").length,
    ).toBeGreaterThan(100);
  });

  test("colour is on the verdict alone", () => {
    const text = status(fleet(), { color: true });
    expect(text).toContain("\u001b[31munhealthy\u001b[0m");
    expect(text).toContain("\u001b[32mhealthy\u001b[0m");
    expect(stripVTControlCharacters(text)).toBe(status());
  });

  test("a name cannot command the terminal", () => {
    const text = status(fleet([healthy("a\u001b[2J/b\nc", HOUR)]));
    expect(text).not.toContain("\u001b");
    expect(text).toContain("a [2J/b c");
  });

  test("an empty fleet is one line", () => {
    expect(status(fleet([]))).toBe(
      "0 services, 0 healthy, 0 failing, 0 inconclusive, 0 never tested, 0 due, 0 in progress\n",
    );
  });

  test("has a row for each of a thousand", () => {
    expect(firstWords(status(fleet(manyServices(1000))))).toHaveLength(1000);
  });
});

describe("fleet explain", () => {
  const explain = (id: string, explanation: string[] = []) =>
    describeExplanation(
      describeDetails(SERVICES.find((one) => one.service.id === id) as ServiceView, NOW, { tests: [], explanation }),
      { color: false },
    );

  test("the decision, its reasons, and what it rests on", () => {
    const text = explain("archive/ledger", ["the last test was restore", "2 are in progress with node node-1"]);
    expect(text).toMatch(/^archive\/ledger: not restored\n/);
    expect(text).toMatch(/^decision +due for 0s$/m);
    expect(text).toMatch(/^because +the last test was restore\n +2 are in progress with node node-1$/m);
    expect(text).toMatch(/^error +RECOVERY_FAILED: WAL segment \d+ is not in the archive$/m);
    expect(text).toMatch(/^hint +pgbackrest verify lists what is missing$/m);
    expect(text).toMatch(/^in a row +2$/m);
    expect(text).toMatch(/^node +node-1$/m);
  });

  test("when it is not due, for how long", () => {
    expect(explain("databases/shop")).toMatch(/^decision +not due for another 21h$/m);
    expect(explain("web/paused")).toMatch(/^decision +not due\nbecause +it is paused$/m);
  });

  test("backups count where tests follow them", () => {
    expect(explain("databases/billing")).toMatch(/^backups +0 of 3 since the last test$/m);
    expect(explain("databases/shop")).not.toContain("backups");
  });
});
