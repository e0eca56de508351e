import { describe, expect, test } from "vitest";
import { parseDocument } from "yaml";
import { isPatroniCommand, splitCommand } from "../../../lib/patroni/command.ts";
import { checkPatroniConfig, type PatroniConfigFacts, programsOf } from "../../../lib/patroni/patroni-config.ts";

const GOOD = `scope: demo-rt
name: demo-rt-0
restapi:
  listen: 127.0.0.1:8008
  connect_address: 127.0.0.1:8008
etcd3:
  hosts: 127.0.0.1:2379
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 5
    retry_timeout: 10
  method: pitr
  pitr:
    command: /opt/patroni-restore/bootstrap.mjs --stanza=main
  post_bootstrap: /opt/patroni-restore/post-bootstrap.mjs
postgresql:
  listen: 127.0.0.1:5433
  connect_address: 127.0.0.1:5433
  data_dir: /var/lib/postgresql/demo/data
  authentication:
    superuser: {username: postgres, password: secret}
    replication: {username: standby, password: secret}
`;

/** The good configuration with one value changed; undefined removes the key. */
function withValue(path: string, value: unknown, text = GOOD): string {
  const document = parseDocument(text);
  if (value === undefined) document.deleteIn(path.split("."));
  else document.setIn(path.split("."), document.createNode(value));
  return document.toString();
}

const check = (text: string, facts?: PatroniConfigFacts) => checkPatroniConfig(text, "patroni.yml", facts);
const problemsOf = (text: string, facts?: PatroniConfigFacts) => check(text, facts).problems.map((p) => p.message);

test("the good configuration has no problem, no warning, and is summed up", () => {
  expect(check(GOOD)).toEqual({
    problems: [],
    warnings: [],
    summary: {
      scope: "demo-rt",
      namespace: "/service",
      name: "demo-rt-0",
      method: "pitr",
      command: ["/opt/patroni-restore/bootstrap.mjs", "--stanza=main"],
      postBootstrap: ["/opt/patroni-restore/post-bootstrap.mjs"],
      datadir: "/var/lib/postgresql/demo/data",
      superuser: "postgres",
      restapi: "127.0.0.1:8008",
      postgresqlListen: "127.0.0.1:5433",
      dcs: "etcd3",
      loopWait: 5,
    },
  });
});

describe("the method", () => {
  test("a mistyped method is the first problem, with its place and the nearest section", () => {
    expect(check(GOOD.replace("method: pitr", "method: pitrr")).problems).toEqual([
      {
        message:
          'patroni.yml:13:3: bootstrap.method is "pitrr" but there is no section bootstrap.pitrr: Patroni would run ' +
          "initdb and report an empty cluster as healthy",
        hint: 'did you mean "pitr"',
      },
    ]);
  });

  test.each([
    {
      title: "missing",
      path: "bootstrap.method",
      value: undefined,
      part: "bootstrap.method is missing: Patroni would run initdb",
    },
    {
      title: "initdb",
      path: "bootstrap.method",
      value: "initdb",
      part: 'bootstrap.method is "initdb": Patroni would run initdb',
    },
    {
      title: "a key that is no method",
      path: "bootstrap.method",
      value: "dcs",
      part: "there is no section bootstrap.dcs",
    },
    {
      title: "without command",
      path: "bootstrap.pitr",
      value: { no_params: false },
      part: "bootstrap.pitr has no command",
    },
    { title: "an empty section", path: "bootstrap.pitr", value: null, part: "bootstrap.pitr has no command" },
    { title: "no bootstrap at all", path: "bootstrap", value: undefined, part: "there is no bootstrap section" },
    { title: "no post_bootstrap", path: "bootstrap.post_bootstrap", value: undefined, part: "without any check" },
    {
      title: "both post hooks",
      path: "bootstrap.post_init",
      value: "/x/post-bootstrap.mjs",
      part: "Patroni ignores post_init",
    },
    {
      title: "recovery_conf",
      path: "bootstrap.pitr.recovery_conf",
      value: { restore_command: "x" },
      part: "recovery_conf makes Patroni recover once more",
    },
    {
      title: "recovery_conf without value",
      path: "bootstrap.pitr.recovery_conf",
      value: null,
      part: "recovery_conf makes Patroni recover once more",
    },
    { title: "no_params", path: "bootstrap.pitr.no_params", value: true, part: "not told --scope and --datadir" },
    { title: "a reserved key", path: "bootstrap.pitr.scope", value: "other", part: 'key "scope" is reserved' },
    {
      title: "a key of replica methods",
      path: "bootstrap.pitr.keep_data",
      value: true,
      part: "create_replica_methods only",
    },
    { title: "an unknown key", path: "bootstrap.pitr.stanzza", value: "main", part: 'key "stanzza" is neither' },
    {
      title: "an unclosed quote",
      path: "bootstrap.pitr.command",
      value: "/x/bootstrap.mjs 'a",
      part: "a quote is not closed",
    },
    {
      title: "a variable",
      path: "bootstrap.pitr.command",
      value: "/x/bootstrap.mjs --stanza=$STANZA",
      part: "without a shell",
    },
    {
      title: "a second command",
      path: "bootstrap.pitr.command",
      value: "/x/bootstrap.mjs && true",
      part: '"&&" reaches it literally',
    },
    { title: "no dcs", path: "bootstrap.dcs", value: undefined, part: "KeyError 'dcs'" },
    { title: "pause", path: "bootstrap.dcs.pause", value: true, part: "never bootstraps" },
    {
      title: "standby_cluster",
      path: "bootstrap.dcs.standby_cluster",
      value: { host: "h" },
      part: "ignores bootstrap.method",
    },
    { title: "nofailover", path: "tags", value: { nofailover: true }, part: "waits for a leader for ever" },
    { title: "a loop_wait of nothing", path: "bootstrap.dcs.loop_wait", value: 0, part: 'loop_wait is "0"' },
    { title: "a loop_wait of words", path: "bootstrap.dcs.loop_wait", value: "often", part: 'loop_wait is "often"' },
    { title: "no scope", path: "scope", value: undefined, part: "scope is missing" },
    { title: "no data_dir", path: "postgresql.data_dir", value: undefined, part: "postgresql.data_dir is missing" },
    { title: "no DCS", path: "etcd3", value: undefined, part: "no section for a DCS" },
    { title: "a relative data_dir", path: "postgresql.data_dir", value: "data", part: "is not an absolute path" },
  ])("$title is a problem", ({ path, value, part }) => {
    const problems = problemsOf(withValue(path, value));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(part);
    expect(problems[0]).toMatch(/^patroni\.yml:\d+:\d+: /);
  });

  test("a mistyped command is two problems: what Patroni does without one, and what was meant", () => {
    const { problems } = check(withValue("bootstrap.pitr", { comand: "/x/bootstrap.mjs" }));
    expect(problems.map((p) => p.hint)).toEqual(["give the bootstrap script as its command", 'did you mean "command"']);
  });

  test("all problems are reported at once", () => {
    const text = withValue("bootstrap.post_bootstrap", undefined, withValue("bootstrap.pitr.no_params", true));
    expect(problemsOf(withValue("bootstrap.dcs.pause", true, text))).toHaveLength(3);
  });

  test("no_params is fine when the command itself names the data directory", () => {
    const text = withValue("bootstrap.pitr.command", "/x/bootstrap.mjs --datadir=/d --scope=s");
    expect(problemsOf(withValue("bootstrap.pitr.no_params", true, text))).toEqual([]);
  });

  test.each([
    { version: "3.0.2", problems: 1, warnings: 0 },
    { version: "3.1.9", problems: 1, warnings: 0 },
    { version: "3.2.0", problems: 0, warnings: 0 },
    { version: "4.1.4", problems: 0, warnings: 0 },
    { version: null, problems: 0, warnings: 1 },
  ])(
    "an option as a key with Patroni $version: $problems problems, $warnings warnings",
    ({ version, problems, warnings }) => {
      const found = check(withValue("bootstrap.pitr.restore_target_time", "2026-11-22 10:00:00+00"), {
        patroniVersion: version,
      });
      expect([found.problems.length, found.warnings.length]).toEqual([problems, warnings]);
    },
  );
});

describe("warnings", () => {
  test.each([
    {
      title: "keep_existing_recovery_conf",
      path: "bootstrap.pitr.keep_existing_recovery_conf",
      value: true,
      part: "hot_standby off",
    },
    {
      title: "a foreign command",
      path: "bootstrap.pitr.command",
      value: "/usr/bin/pgbackrest restore",
      part: "not the bootstrap script",
    },
    {
      title: "a foreign post_bootstrap",
      path: "bootstrap.post_bootstrap",
      value: "/bin/true",
      part: "nothing here proves the restore",
    },
    {
      title: "a shell",
      path: "bootstrap.pitr.command",
      value: "bash -c '/x/bootstrap.mjs --stanza=$S \"$@\"'",
      part: "$0 and $1",
    },
    {
      title: "a required watchdog",
      path: "watchdog",
      value: { mode: "required" },
      part: "throws a proven restore away",
    },
    {
      title: "no superuser",
      path: "postgresql.authentication.superuser",
      value: undefined,
      part: "operating system user",
    },
    {
      title: "an archive_command that throws away",
      path: "postgresql.parameters",
      value: { archive_command: "/bin/true" },
      part: "are gone",
    },
    {
      title: "a config_dir elsewhere",
      path: "postgresql.config_dir",
      value: "/etc/postgresql",
      part: "demands a postgresql.conf there",
    },
    {
      title: "a long loop_wait",
      path: "bootstrap.dcs",
      value: { loop_wait: 60, ttl: 200 },
      part: "waits up to that long",
    },
    { title: "a short ttl", path: "bootstrap.dcs", value: { ttl: 20 }, part: "is more than ttl" },
  ])("$title", ({ path, value, part }) => {
    const { problems, warnings } = check(withValue(path, value));
    expect(problems).toEqual([]);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain(part);
  });

  test("bootstrap.users only for Patroni 4, which ignores it", () => {
    const text = withValue("bootstrap.users", { app: { password: "x" } });
    expect(check(text, { patroniVersion: "3.0.2" }).warnings).toEqual([]);
    expect(check(text, { patroniVersion: "4.0.0" }).warnings).toHaveLength(1);
  });
});

describe("facts", () => {
  const datadir = {
    path: "/var/lib/postgresql/demo/data",
    kind: "absent",
    isMountPoint: false,
    isEmpty: true,
    parentExists: true,
    parentWritable: true,
  } as const;

  test("a data directory that is not there yet, in a writable parent, is right", () => {
    expect(problemsOf(GOOD, { datadir })).toEqual([]);
  });

  test.each([
    { title: "a mount point", changes: { kind: "directory", isMountPoint: true }, part: "is a mount point" },
    { title: "a symbolic link", changes: { kind: "link" }, part: "is a symbolic link" },
    { title: "a file", changes: { kind: "other" }, part: "is not a directory" },
    { title: "not empty", changes: { kind: "directory", isEmpty: false }, part: "is not empty" },
    { title: "without parent", changes: { parentExists: false }, part: "does not exist" },
    { title: "in a parent that is read-only", changes: { parentWritable: false }, part: "is not writable" },
  ] as const)("a data directory that is $title", ({ changes, part }) => {
    const problems = problemsOf(GOOD, { datadir: { ...datadir, ...changes } });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(part);
  });

  test.each([
    {
      title: "a missing program",
      programs: { "/opt/patroni-restore/bootstrap.mjs": "not found" },
      part: "is not found",
    },
    {
      title: "a program without run bit",
      programs: { "/opt/patroni-restore/post-bootstrap.mjs": "not executable" },
      part: "is not executable",
    },
  ] as const)("$title", ({ programs, part }) => {
    const problems = problemsOf(GOOD, { programs });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(part);
  });

  test("what the environment gives is not missing", () => {
    const text = withValue("scope", undefined, withValue("etcd3", undefined));
    const environment = { PATRONI_SCOPE: "from-env", PATRONI_ETCD3_HOSTS: "127.0.0.1:2379" };
    expect(check(text, { environment })).toMatchObject({ problems: [], summary: { scope: "from-env", dcs: "etcd3" } });
  });

  test("the environment outranks the file", () => {
    const environment = { PATRONI_SUPERUSER_USERNAME: "admin", PATRONI_POSTGRESQL_DATA_DIR: "/pg/other" };
    expect(check(GOOD, { environment }).summary).toMatchObject({ superuser: "admin", datadir: "/pg/other" });
  });

  test.each([
    { title: "the source's scope", facts: { source: { scope: "demo-rt" } }, part: "the source's own" },
    {
      title: "the source's data directory",
      facts: { source: { datadir: "/var/lib/postgresql/demo/data/" } },
      part: "the source's own data directory",
    },
    { title: "an empty initialize key", facts: { initialize: "" }, part: "wait for ever" },
    { title: "an initialize key", facts: { initialize: "7283" }, part: "already has the initialize key 7283" },
  ])("$title", ({ facts, part }) => {
    const problems = problemsOf(GOOD, facts);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(part);
  });

  test.each([{ where: "bootstrap.dcs.postgresql" }, { where: "postgresql.parameters" }])(
    "archiving into the source's stanza by $where",
    ({ where }) => {
      const parameters = { archive_command: "pgbackrest --stanza=main archive-push %p" };
      const text = withValue(where, where.endsWith("parameters") ? parameters : { parameters });
      expect(problemsOf(text, { source: { stanza: "main" } })).toEqual([
        expect.stringContaining('source\'s stanza "main"'),
      ]);
      expect(problemsOf(text, { source: { stanza: "main" }, detach: "clone" })).toHaveLength(1);
      // archive_mode=off stands in postgresql.auto.conf then, which outranks Patroni's files.
      expect(problemsOf(text, { source: { stanza: "main" }, detach: "restore-test" })).toEqual([]);
      expect(problemsOf(text, { source: { stanza: "demo-rt" } })).toEqual([]);
    },
  );

  test("an archive_command that throws away is a problem for a clone that stays", () => {
    const text = withValue("postgresql.parameters", { archive_command: "true" });
    expect(problemsOf(text, { detach: "clone" })).toHaveLength(1);
  });
});

describe("a file that cannot be read as Patroni's configuration", () => {
  test.each([
    { title: "a YAML error", text: "scope: [a\nname: b\n", part: /^patroni\.yml:\d+:\d+: / },
    { title: "a key twice", text: "scope: a\nscope: b\n", part: /^patroni\.yml:2:1: Map keys must be unique/ },
    { title: "a list", text: "- a\n", part: /not a mapping/ },
    { title: "nothing", text: "", part: /not a mapping/ },
  ])("$title", ({ text, part }) => {
    const { problems } = check(text);
    expect(problems.length).toBeGreaterThan(0);
    expect(problems[0]?.message).toMatch(part);
  });
});

describe("splitCommand splits as Python's shlex.split", () => {
  test.each([
    ["a b  c", ["a", "b", "c"]],
    ["a 'b c' \"d e\"", ["a", "b c", "d e"]],
    ["a '' b", ["a", "", "b"]],
    ["--t='x y'z", ["--t=x yz"]],
    ["a\\ b", ["a b"]],
    ['"a\\"b\\\\c\\d"', ['a"b\\c\\d']],
    ["'a\\b'", ["a\\b"]],
    ["", []],
  ])("%j", (command, words) => {
    expect(splitCommand(command)).toEqual(words);
  });

  test.each(["'a", '"a', "a\\"])("throws for %j", (command) => {
    expect(() => splitCommand(command)).toThrow();
  });
});

test("programsOf names the script of a node command too", () => {
  const text = withValue("bootstrap.pitr.command", "/usr/bin/node --no-warnings /x/bootstrap.mjs --stanza=a");
  expect(programsOf(text)).toEqual({
    programs: [
      { path: "/usr/bin/node", kind: "program" },
      { path: "/x/bootstrap.mjs", kind: "script" },
      { path: "/opt/patroni-restore/post-bootstrap.mjs", kind: "program" },
    ],
    datadir: "/var/lib/postgresql/demo/data",
  });
});

describe("isPatroniCommand", () => {
  test.each([
    [["/usr/bin/python3", "/usr/bin/patroni", "/etc/patroni/config.yml"], true],
    [["/usr/bin/python3.11", "-m", "patroni", "c.yml"], true],
    [["python3", "-u", "/app/patroni.py", "c.yml"], true],
    [["/usr/local/bin/patroni", "c.yml"], true],
    [["/usr/bin/python3", "/usr/bin/patronictl", "list"], false],
    [["/usr/bin/python3", "/usr/bin/patroni_raft_controller", "c.yml"], false],
    [["bash", "/entrypoint.sh", "patroni", "c.yml"], false],
    [["/usr/bin/tini", "--", "patroni", "c.yml"], false],
    [["/usr/bin/python3", "-m", "http.server", "patroni"], false],
    [[], false],
  ])("%j is %s", (argv, expected) => {
    expect(isPatroniCommand(argv)).toBe(expected);
  });
});
