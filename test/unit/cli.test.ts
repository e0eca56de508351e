import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { parseArguments, type Script } from "../../lib/cli.ts";
import { EXIT_CODES, RestoreError } from "../../lib/errors.ts";
import type { OptionName } from "../../lib/options.ts";

const OPTIONS_OF_SAMPLE = [
  "stanza",
  "restoreTargetTime",
  "targetExclusive",
  "keep",
  "linkMap",
  "target",
  "jobs",
  "maxTests",
] as const;

const sample = (changes: Partial<Script<OptionName>> = {}): Script<OptionName> => ({
  name: "sample",
  summary: "Shows how.",
  options: OPTIONS_OF_SAMPLE,
  examples: ["sample --stanza demo", "sample --stanza demo \\\n  --keep"],
  run: async () => {},
  ...changes,
});

let shown = "";
beforeEach(() => {
  shown = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    shown += String(text);
    return true;
  });
});
afterEach(() => vi.restoreAllMocks());

function parse(argv: string[], script = sample()) {
  const parsed = parseArguments(script, argv);
  if (parsed === "shown") throw new Error(`unexpected output: ${shown}`);
  return parsed;
}

function refusal(argv: string[], script = sample()): string {
  try {
    parseArguments(script, argv);
  } catch (error) {
    expect(error).toBeInstanceOf(RestoreError);
    expect((error as RestoreError).code).toBe("SETTINGS_INVALID");
    return `${(error as RestoreError).message} (${(error as RestoreError).hint})`;
  }
  return "none";
}

describe("flags", () => {
  test.each([
    { argv: ["--stanza", "demo"], flags: { stanza: "demo" } },
    { argv: ["--stanza=demo"], flags: { stanza: "demo" } },
    { argv: ["--stanza="], flags: { stanza: "" } },
    { argv: ["--stanza=a", "--stanza=b"], flags: { stanza: "b" } },
    { argv: ["--stanza=a=b"], flags: { stanza: "a=b" } },
    { argv: ["--stanza", "-x"], flags: { stanza: "-x" } },
    { argv: ["--keep"], flags: { keep: true } },
    { argv: ["--link-map", "a=/x", "--link-map=b=/y"], flags: { linkMap: ["a=/x", "b=/y"] } },
    {
      argv: ["--restore-target-time", "2026-11-22 10:00:00+00"],
      flags: { restoreTargetTime: "2026-11-22 10:00:00+00" },
    },
    { argv: ["--target=two\nlines"], flags: { target: "two\nlines" } },
    { argv: [], flags: {} },
  ])("$argv", ({ argv, flags }) => {
    expect(parse(argv).flags).toEqual(flags);
  });

  test("the settings file is no setting", () => {
    expect(parse(["--config", "/f.yml", "--stanza=a"])).toMatchObject({ config: "/f.yml", flags: { stanza: "a" } });
    expect(parse([])).toMatchObject({ config: undefined });
  });
});

describe("what Patroni >= 3.2 makes of YAML", () => {
  test.each([
    {
      argv: ["--restore_target_time=2026-11-22 10:00:00+00"],
      flags: { restoreTargetTime: "2026-11-22 10:00:00+00" },
      why: "underscores",
    },
    { argv: ["--keep=True"], flags: { keep: true }, why: "a true key, whatever its text" },
    { argv: ["--target_exclusive=False"], flags: { targetExclusive: false }, why: "a false key beats the environment" },
    { argv: ["--keep", "--keep=False"], flags: { keep: false }, why: "the last one counts" },
    { argv: ["--keep=False", "--keep"], flags: { keep: true }, why: "the last one counts" },
    { argv: ["--keep=None"], flags: {}, why: "null is not given" },
    { argv: ["--stanza=None"], flags: {}, why: "null is not given" },
    { argv: ["--stanza", "None"], flags: { stanza: "None" }, why: "but a value of its own is" },
    { argv: ["--target", "--odd_name"], flags: { target: "--odd_name" }, why: "values keep their underscores" },
    { argv: ["--target=--odd_name"], flags: { target: "--odd_name" }, why: "values keep their underscores" },
    { argv: ["--jobs=2"], flags: { jobs: "2" }, why: "numbers" },
  ])("$argv: $why", ({ argv, flags }) => {
    const given = Object.entries(parse(argv).flags).map(([name, value]) => [
      name,
      /^true$/i.test(String(value)) || value,
    ]);
    const expected = Object.entries(flags).map(([name, value]) => [name, value === false ? "False" : value]);
    expect(given).toEqual(expected);
  });
});

describe("operands", () => {
  const script = sample({ operands: "CONNINFO" });

  test.each([
    { argv: ["dbname=postgres user=postgres host=localhost port=5432"] },
    { argv: ["dbname=a\\ b user=o\\'brien"] },
    { argv: ["--", "--keep=True"] },
    { argv: ["a_b"] },
  ])("$argv is passed on as it is", ({ argv }) => {
    expect(parse(argv, script).operands).toEqual([argv.at(-1)]);
  });

  test("stand beside flags", () => {
    expect(parse(["--stanza", "s", "dbname=x", "--keep"], script)).toMatchObject({
      operands: ["dbname=x"],
      flags: { stanza: "s", keep: true },
    });
  });

  test("one too many is an error", () => {
    expect(refusal(["a", "b"], script)).toContain("too many arguments");
    expect(refusal(["a"])).toContain("too many arguments");
  });

  test("several are taken where the synopsis says so", () => {
    expect(parse(["a", "b c", "d"], sample({ operands: "FILE..." })).operands).toEqual(["a", "b c", "d"]);
  });
});

describe("mistakes", () => {
  test.each([
    { argv: ["--stanzza=demo"], says: 'unknown option --stanzza (did you mean "--stanza")' },
    { argv: ["--restore_target_tiem=x"], says: 'did you mean "--restore-target-time"' },
    { argv: ["--restore-target=x"], says: 'did you mean "--restore-target-time"' },
    { argv: ["--typo=None"], says: "unknown option --typo" },
    { argv: ["--banana"], says: "unknown option --banana (see --help for what there is)" },
    { argv: ["-k"], says: "unknown option '-k'" },
    { argv: ["--stanza"], says: "--stanza needs a value" },
    { argv: ["--stanza", "--keep"], says: "--stanza needs a value" },
    { argv: ["--config"], says: "--config needs a value" },
    { argv: ["--queries=x"], says: "unknown option --queries" },
  ])("$argv: $says", ({ argv, says }) => {
    const script = sample({ options: [...OPTIONS_OF_SAMPLE, "queries"] });
    expect(refusal(argv, script)).toContain(says);
    expect(shown).toBe("");
  });
});

describe("--help and --version", () => {
  test("--help shows what it does, options with defaults, examples and exit codes", () => {
    expect(parseArguments(sample({ operands: "CONNINFO", description: "Called by Patroni." }), ["--help"])).toBe(
      "shown",
    );
    expect(shown).toContain("Usage: sample [options] [CONNINFO]");
    expect(shown).toContain("Shows how.\n\nCalled by Patroni.");
    expect(shown).toMatch(/--max-tests <N> .*\(default: 2\)/);
    expect(shown).toContain("--config <FILE>");
    expect(shown).toContain("RESTORE_STANZA=…");
    expect(shown).toContain("  sample --stanza demo\n\n  sample --stanza demo \\\n    --keep");
    for (const [name, code] of Object.entries(EXIT_CODES)) expect(shown).toContain(`${code} ${name}`);
  });

  test("--version shows the version and nothing else", () => {
    expect(parseArguments(sample(), ["--version"])).toBe("shown");
    expect(shown).toMatch(/^\S+\n$/);
  });
});
