import { describe, expect, test } from "vitest";
import { RestoreError } from "../../lib/errors.ts";
import type { OptionName } from "../../lib/options.ts";
import { didYouMean, loadSettings, refuseSecretFlag } from "../../lib/settings.ts";
import { parseSettingsFile } from "../../lib/settings-file.ts";

interface Given {
  flags?: Record<string, unknown>;
  environment?: Record<string, string | undefined>;
  file?: string;
}

const NAMES = ["stanza", "jobs", "maxAttempts", "level", "keep", "linkMap", "queries", "target", "set"] as const;

function load(given: Given, required: readonly (typeof NAMES)[number][] = []) {
  return loadSettings(NAMES, required, {
    flags: given.flags ?? {},
    environment: given.environment ?? {},
    ...(given.file === undefined ? {} : { file: parseSettingsFile("/etc/r.yml", given.file) }),
  });
}

/** Message and hints as one text. */
function problemsOf(given: Given, required: readonly (typeof NAMES)[number][] = []): string {
  try {
    load(given, required);
  } catch (error) {
    expect(error).toBeInstanceOf(RestoreError);
    const { code, message, hint } = error as RestoreError;
    expect(code).toBe("SETTINGS_INVALID");
    return hint === undefined ? message : `${message} (${hint})`;
  }
  return "none";
}

describe("where a value comes from", () => {
  const flags = { maxAttempts: "1" };
  const environment = { RESTORE_MAX_ATTEMPTS: "2" };
  const file = "max_attempts: 4\n";

  test.each([
    { given: { flags, environment, file }, attempts: 1, source: "the flag" },
    { given: { environment, file }, attempts: 2, source: "the environment" },
    { given: { file }, attempts: 4, source: "the file" },
    { given: {}, attempts: 3, source: "the default" },
    { given: { file: "max_attempts: null\n" }, attempts: 3, source: "the default, since null is not given" },
    { given: { file: "max_attempts:\n" }, attempts: 3, source: "the default, since nothing is not given" },
    { given: { file: "max_attempts: ~\n", environment }, attempts: 2, source: "the environment beside null" },
    { given: { file: "" }, attempts: 3, source: "the default beside an empty file" },
    { given: { file: "# only a comment\n" }, attempts: 3, source: "the default beside a file of comments" },
  ])("$source", ({ given, attempts }) => {
    expect(load(given).maxAttempts).toBe(attempts);
  });

  test("a flag that says no wins over an environment that says yes", () => {
    expect(load({ flags: { keep: "False" }, environment: { RESTORE_KEEP: "1" } }).keep).toBe(false);
  });

  test("a value of a source that loses is not looked at, its name is", () => {
    expect(load({ flags, environment: { RESTORE_MAX_ATTEMPTS: "many" } }).maxAttempts).toBe(1);
  });

  test("what was not given and has no default is undefined", () => {
    expect(load({}).stanza).toBeUndefined();
  });

  test("settings cannot be changed afterwards", () => {
    expect(Object.isFrozen(load({}))).toBe(true);
  });

  test("settings of other scripts may stand in the file and the environment", () => {
    const settings = load({ file: "scope: main\n", environment: { RESTORE_DEADLINE: "1h" } });
    expect(settings).not.toHaveProperty("scope");
    expect(settings).not.toHaveProperty("deadline");
  });
});

describe("lists", () => {
  const pairs = [
    ["pg_wal", "/wal"],
    ["pg_log", "/log"],
  ];

  test.each([
    { from: "flags", given: { flags: { linkMap: ["pg_wal=/wal", "pg_log=/log"] } } },
    {
      from: "the environment, separated by commas",
      given: { environment: { RESTORE_LINK_MAP: "pg_wal=/wal, pg_log=/log" } },
    },
    { from: "a list in the file", given: { file: "link_map: [pg_wal=/wal, pg_log=/log]\n" } },
    { from: "a mapping in the file", given: { file: "link_map:\n  pg_wal: /wal\n  pg_log: /log\n" } },
  ])("from $from", ({ given }) => {
    expect(load(given).linkMap).toEqual(pairs);
  });

  test("queries come from the file", () => {
    const file =
      "queries:\n  - {name: orders, database: shop, sql: SELECT count(*) FROM orders}\n  - {name: one, sql: SELECT 1}\n";
    expect(load({ file }).queries).toEqual([
      { name: "orders", database: "shop", sql: "SELECT count(*) FROM orders" },
      { name: "one", database: "postgres", sql: "SELECT 1" },
    ]);
  });

  test("and only from there", () => {
    expect(problemsOf({ environment: { RESTORE_QUERIES: "[]" } })).toContain("RESTORE_QUERIES is not a setting");
  });
});

describe("text stays text in the file", () => {
  test.each([
    { file: "target: 0123\n", target: "0123" },
    { file: "target: 1e3\n", target: "1e3" },
    { file: "target: 0x10\n", target: "0x10" },
    { file: "target: 12345678901234567890\n", target: "12345678901234567890" },
    { file: "target: 2026-11-22 10:00:00.123456+00\n", target: "2026-11-22 10:00:00.123456+00" },
    { file: "target: 0/3000028\n", target: "0/3000028" },
    { file: "target: 'quoted: yes'\n", target: "quoted: yes" },
  ])("$file", ({ file, target }) => {
    expect(load({ file }).target).toBe(target);
  });
});

describe("the environment", () => {
  test.each([
    { name: "RESTORE_STANZAA", says: 'RESTORE_STANZAA is not a setting (did you mean "RESTORE_STANZA")' },
    { name: "RESTORE_PORT_WHATEVER", says: "RESTORE_PORT_WHATEVER is not a setting" },
    { name: "RESTORE_", says: "RESTORE_ is not a setting" },
  ])("$name is refused", ({ name, says }) => {
    expect(problemsOf({ environment: { [name]: "x" } })).toContain(says);
  });

  test.each([
    "RESTORE_API_SERVICE_HOST",
    "RESTORE_API_SERVICE_PORT",
    "RESTORE_API_SERVICE_PORT_HTTP",
    "RESTORE_API_PORT",
    "RESTORE_API_PORT_8080_TCP",
    "RESTORE_API_PORT_8080_TCP_PROTO",
    "RESTORE_API_PORT_8080_TCP_ADDR",
  ])("%s comes from a Kubernetes Service of that name and is left alone", (name) => {
    expect(problemsOf({ environment: { [name]: "x" } })).toBe("none");
  });

  test("other people's variables and RESTORE_CONFIG are left alone", () => {
    expect(problemsOf({ environment: { PATH: "/bin", PGHOST: "h", RESTORE_CONFIG: "/f", RESTORED: "1" } })).toBe(
      "none",
    );
  });
});

describe("the settings file", () => {
  test.each([
    { file: "stanza: a\njbos: 3\n", says: '/etc/r.yml:2:1: jbos is not a setting (did you mean "jobs")' },
    { file: "\n\n  link-map: []\n", says: '/etc/r.yml:3:3: link-map is not a setting (did you mean "link_map")' },
    { file: "jobs: many\n", says: '/etc/r.yml:1:1: jobs: "many" is not a whole number from 1' },
    { file: "stanza: [a]\n", says: "/etc/r.yml:1:1: stanza: is not a single value" },
    { file: "queries:\n  - name: a\n", says: "/etc/r.yml:1:1: queries (0.sql)" },
    { file: "stanza: a\nstanza: b\n", says: "/etc/r.yml:2:1: Map keys must be unique" },
    { file: "stanza: 'a\n", says: "/etc/r.yml:2:1: Missing closing 'quote" },
    { file: "- stanza\n", says: "/etc/r.yml:1:1: the settings file is not a mapping" },
    { file: "stanza\n", says: "/etc/r.yml:1:1: the settings file is not a mapping" },
    { file: "stanza: a\n---\nstanza: b\n", says: "/etc/r.yml:2:1: " },
    { file: "stanza: *nowhere\n", says: "/etc/r.yml: Unresolved alias" },
    { file: ": a\n", says: "/etc/r.yml:1:1: null is not a setting" },
    { file: "constructor: a\n", says: "/etc/r.yml:1:1: constructor is not a setting" },
  ])("$says", ({ file, says }) => {
    expect(problemsOf({ file })).toContain(says);
  });
});

describe("all problems at once", () => {
  test("of every source, each with its place and its hint", () => {
    const given = {
      flags: { jobs: "many" },
      environment: { RESTORE_LEVEL: "deep", RESTORE_SETT: "x" },
      file: "keep: maybe\nstanzza: a\n",
    };
    expect(problemsOf(given, ["stanza"]).split("\n")).toEqual([
      "6 problems were found",
      "  - /etc/r.yml:2:1: stanzza is not a setting",
      '      HINT: did you mean "stanza".',
      "  - environment variable RESTORE_SETT is not a setting",
      '      HINT: did you mean "RESTORE_SET".',
      "  - --stanza is missing",
      "      HINT: give --stanza NAME, RESTORE_STANZA or stanza in the settings file.",
      '  - --jobs: "many" is not a whole number from 1',
      '  - RESTORE_LEVEL: "deep" is not one of quick, standard, full',
      '  - /etc/r.yml:1:1: keep: "maybe" is neither true nor false',
    ]);
  });
});

describe("didYouMean", () => {
  test.each([
    { text: "stanzza", candidates: ["set", "stanza"], hint: 'did you mean "stanza"' },
    { text: "sttanza", candidates: ["stanza", "standby"], hint: 'did you mean "stanza"' },
    {
      text: "restore_target",
      candidates: ["target", "restore_target_time"],
      hint: 'did you mean "restore_target_time"',
    },
    { text: "banana", candidates: ["set", "stanza"], hint: undefined },
    { text: "x", candidates: [], hint: undefined },
  ])("$text", ({ text, candidates, hint }) => {
    expect(didYouMean(text, candidates)).toBe(hint);
  });
});

describe("a password in argv", () => {
  test.each([
    "host=h password=hunter2",
    "password = hunter2",
    "host=h sslpassword=hunter2",
    "postgresql://u:hunter2@h/d",
    "postgres://u:hunter2@h/d",
    "postgresql://h/d?password=hunter2",
    "postgresql://u@h/d?sslpassword=hunter2",
  ])("%s is refused without being shown", (source) => {
    const name: OptionName = "source";
    let message = "";
    try {
      refuseSecretFlag({ source }, name);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toBe("--source holds a password, which is visible in ps");
  });

  test.each(["host=h user=u", "postgresql://u@h/d", "postgresql://h:5432/d", "dbname=password", undefined])(
    "%s is fine",
    (source) => {
      expect(() => refuseSecretFlag({ source }, "source")).not.toThrow();
    },
  );
});
