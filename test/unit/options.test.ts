import { describe, expect, test } from "vitest";
import { environmentName, kebab, OPTIONS, type Option, type OptionName, snake } from "../../lib/options.ts";

const names = Object.keys(OPTIONS) as OptionName[];
const parse = (name: OptionName, value: unknown) => (OPTIONS[name] as Option).schema.parse(value);

describe("one word for flag, environment and file", () => {
  test.each([
    { name: "scope", flag: "scope", key: "scope", variable: "RESTORE_SCOPE" },
    {
      name: "restoreTargetTime",
      flag: "restore-target-time",
      key: "restore_target_time",
      variable: "RESTORE_RESTORE_TARGET_TIME",
    },
    { name: "maxRpo", flag: "max-rpo", key: "max_rpo", variable: "RESTORE_MAX_RPO" },
  ])("$name", ({ name, flag, key, variable }) => {
    expect([kebab(name), snake(name), environmentName(name)]).toEqual([flag, key, variable]);
  });

  test("no two settings share a name", () => {
    expect(new Set(names.map((name) => kebab(name))).size).toBe(names.length);
  });
});

describe("every setting", () => {
  test.each(names)("%s has a help text of one line that starts small and ends without period", (name) => {
    const { help } = OPTIONS[name];
    expect(help).toMatch(/^[a-zP].*[^.]$/);
    expect(help).not.toContain("\n");
  });

  test.each(names.filter((name) => (OPTIONS[name] as Option).fallback !== undefined))(
    "%s has a default that is valid",
    (name) => {
      expect(() => parse(name, (OPTIONS[name] as Option).fallback)).not.toThrow();
    },
  );
});

describe("values", () => {
  test.each([
    { name: "jobs", given: "4", value: 4 },
    { name: "jobs", given: 4, value: 4 },
    { name: "keep", given: "True", value: true },
    { name: "keep", given: "off", value: false },
    { name: "keep", given: false, value: false },
    { name: "restoreTimeout", given: "10min", value: 600_000 },
    { name: "restoreTimeout", given: 30, value: 30_000 },
    { name: "keepMarkers", given: "90d", value: 7_776_000_000 },
    { name: "spaceReserve", given: "0", value: 0 },
    { name: "level", given: "full", value: "full" },
    { name: "stanza", given: 15, value: "15" },
    {
      name: "linkMap",
      given: ["pg_wal=/wal/data", "x=/a=b"],
      value: [
        ["pg_wal", "/wal/data"],
        ["x", "/a=b"],
      ],
    },
    { name: "linkMap", given: { pg_wal: "/wal/data" }, value: [["pg_wal", "/wal/data"]] },
    { name: "queries", given: [{ name: "n", sql: "s" }], value: [{ name: "n", database: "postgres", sql: "s" }] },
  ] as const)("$name: $given is $value", ({ name, given, value }) => {
    expect(parse(name, given)).toEqual(value);
  });

  test.each([
    { name: "jobs", given: "0", says: '"0" is not a whole number from 1' },
    { name: "jobs", given: "1.5", says: '"1.5" is not a whole number from 1' },
    { name: "keep", given: "maybe", says: '"maybe" is neither true nor false' },
    { name: "stanza", given: "", says: "is empty" },
    { name: "stanza", given: ["a"], says: "is not a single value" },
    { name: "level", given: "deep", says: '"deep" is not one of quick, standard, full' },
    { name: "restoreTimeout", given: "soon", says: '"soon" is not a duration' },
    { name: "restoreTimeout", given: "0", says: '"0" is not a limit between 1ms and 24d' },
    { name: "restoreTimeout", given: "25d", says: '"25d" is not a limit between 1ms and 24d' },
    { name: "spaceReserve", given: "1KB", says: '"1KB" is not a size' },
    { name: "linkMap", given: "x", says: "is not a list of NAME=/PATH" },
    { name: "linkMap", given: ["x"], says: '"x" is not of the form NAME=/PATH' },
    { name: "linkMap", given: ["x=relative"], says: '"x=relative" is not of the form NAME=/PATH' },
    { name: "linkMap", given: { x: "relative" }, says: '"x=relative" is not of the form NAME=/PATH' },
    { name: "linkMap", given: ["=/a"], says: '"=/a" is not of the form NAME=/PATH' },
    { name: "queries", given: [{ name: "n" }], says: "sql" },
    { name: "queries", given: [{ name: "n", sql: "s", db: "d" }], says: "db" },
  ] as const)("$name refuses $given", ({ name, given, says }) => {
    expect(() => parse(name, given)).toThrow(says.replaceAll('"', '\\"'));
  });
});
