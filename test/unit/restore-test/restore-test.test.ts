import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { RestoreError } from "../../../lib/errors.ts";
import type { Settings } from "../../../lib/options.ts";
import { newReport, type Report } from "../../../lib/report/report.ts";
import { hooksConfig, throwawayEnvironment } from "../../../lib/restore-test/hooks.ts";
import { type Ending, judgeEnding } from "../../../lib/restore-test/judge.ts";
import { dcsPrefix, longestSocketPath, makeLayout } from "../../../lib/restore-test/layout.ts";
import { HOOK_OPTIONS, type HookOption } from "../../../lib/restore-test/options.ts";
import { renderPatroniConfig, serverSettings } from "../../../lib/restore-test/patroni-config.ts";
import { complaintText, isComplaint, parseHookEvent, printedError } from "../../../lib/restore-test/relay.ts";
import { makeBell, patience, pause, withLimit } from "../../../lib/restore-test/wait.ts";
import { loadSettings } from "../../../lib/settings.ts";
import { parseSettingsFile } from "../../../lib/settings-file.ts";

const SYSTEM_IDENTIFIER = "7283000000000000001";

function finished(changes: Partial<Report> = {}): Report {
  const report = newReport({ id: "r", scope: "s", stanza: "main", startedAt: new Date(0) });
  const recovered = { system_identifier: SYSTEM_IDENTIFIER } as NonNullable<Report["recovered"]>;
  return { ...report, verdict: "healthy", finished_at: "2026-11-22T00:00:00Z", recovered, ...changes };
}

function judged(changes: Partial<Ending>): RestoreError | Error | null {
  return judgeEnding({
    how: "leader",
    who: "Patroni",
    exit: null,
    report: finished(),
    isUnproven: false,
    initialize: SYSTEM_IDENTIFIER,
    systemIdentifier: SYSTEM_IDENTIFIER,
    lastLines: [],
    ...changes,
  });
}

const exited = { how: "exited", exit: { exitCode: 1, signal: null }, initialize: null } as const;

describe("the ending of a restore test", () => {
  test("is a success only when report, file, leader lock and system identifier agree", () => {
    expect(judged({})).toBeNull();
    expect(judged({ systemIdentifier: null })).toBeNull();
  });

  test.each([
    ["Patroni ran initdb", { report: null, initialize: "7000" }, "PREFLIGHT_FAILED", /empty cluster with initdb.*7000/],
    ["adopted without any check", { report: null, isUnproven: true }, "UNVERIFIED", /never checked/],
    ["still marked as not proven", { isUnproven: true }, "UNVERIFIED", /not proven/],
    ["another cluster leads", { initialize: "7000" }, "UNHEALTHY", /7000/],
    ["no initialize key", { initialize: null }, "UNHEALTHY", /unknown/],
    ["an empty initialize key", { initialize: "" }, "UNHEALTHY", /unknown/],
    ["another cluster was restored", { systemIdentifier: "7000" }, "UNHEALTHY", /7000/],
    [
      "nothing says what was restored",
      { report: finished({ recovered: null }), systemIdentifier: null },
      "UNHEALTHY",
      /null/,
    ],
    [
      "Patroni leads in spite of the verdict",
      { report: finished({ verdict: "error" }) },
      "UNVERIFIED",
      /not every check/,
    ],
    ["Patroni gave up after the checks", exited, "UNVERIFIED", /every check passed.*exit code 1/],
    [
      "Patroni was killed before",
      { ...exited, report: null, exit: { exitCode: null, signal: "SIGKILL" } },
      "PREFLIGHT_FAILED",
      /by SIGKILL before the restore began/,
    ],
    [
      "the checks never ended",
      { ...exited, report: finished({ verdict: "error", finished_at: null }) },
      "UNVERIFIED",
      /before the restore was proven/,
    ],
  ] as const)("%s", (_, changes, code, words) => {
    const error = judged(changes as Partial<Ending>);
    expect(error).toMatchObject({ code });
    expect(error?.message).toMatch(words);
  });

  test("is the hook's own error when there is one", () => {
    const error = { code: 13, name: "TARGET_UNREACHED" as const, message: "WAL ended", hint: "later" };
    expect(judged({ ...exited, report: finished({ verdict: "error", error }) })).toMatchObject({
      code: "TARGET_UNREACHED",
      message: "WAL ended",
      hint: "later",
      exitCode: 13,
    });
  });

  test("names the failed checks when the report has no error", () => {
    const check = { id: "marker-present", claim: "recentness", status: "fail", summary: "no marker" } as never;
    expect(judged({ ...exited, report: finished({ verdict: "unhealthy", checks: [check] }) })).toMatchObject({
      code: "UNHEALTHY",
      message: "marker-present: no marker",
    });
  });

  test("is the error that a hook printed when it could write no report", () => {
    const lastLines = ["ERROR: [002]: SETTINGS_INVALID: --level is wrong", "HINT: did you mean quick.", "x"];
    expect(judged({ ...exited, report: null, lastLines })).toMatchObject({
      code: "SETTINGS_INVALID",
      message: "--level is wrong",
      hint: "did you mean quick",
    });
  });

  test("is a bug's own message for a bug", () => {
    const error = { code: 1, name: "INTERNAL" as const, message: "x is undefined", hint: null };
    const result = judged({ ...exited, report: finished({ verdict: "error", error }) });
    expect(result).not.toBeInstanceOf(RestoreError);
    expect(result?.message).toBe("x is undefined");
  });
});

describe("the log of Patroni, its hooks and PostgreSQL", () => {
  test("a hook's event is known by its form", () => {
    const line = '{"at":"2026-11-22T00:00:00Z","level":"warn","phase":"restore","message":"m","bytes":1}';
    expect(parseHookEvent(line)).toMatchObject({ level: "warn", phase: "restore", message: "m", fields: { bytes: 1 } });
    for (const other of [
      "2026 INFO: x",
      "{",
      '{"at":1}',
      '{"at":"x","level":"loud","phase":"p","message":"m"}',
      "null",
    ]) {
      expect(parseHookEvent(other)).toBeNull();
    }
  });

  test.each([
    [
      "2026-11-22 21:30:19,123 ERROR: post_init script x returned non-zero code 20",
      "ERROR: post_init script x returned non-zero code 20",
    ],
    ['2026-11-22 21:30:19.123 UTC [4711] FATAL:  could not access file "x"', 'FATAL:  could not access file "x"'],
    ["2026-11-22 21:30:19,123 INFO: no action", null],
    ["patroni.exceptions.PatroniFatalException", null],
  ])("%s", (line, text) => {
    expect(isComplaint(line)).toBe(text !== null);
    if (text !== null) expect(complaintText(line)).toBe(text);
  });

  test("pgBackRest's errors are not taken for a hook's", () => {
    expect(printedError(["ERROR: [055]: unable to open missing file"])).toBeNull();
  });
});

const settings = (flags: Record<string, unknown>) =>
  loadSettings<HookOption>(HOOK_OPTIONS, [], { flags, environment: {} }) as Settings<HookOption>;

describe("what the hooks are told", () => {
  test("durations and sizes are read back as they were given", () => {
    const given = {
      stanza: "main",
      recoveryTimeout: "90s",
      spaceReserve: "2GB",
      processMax: "3",
      targetExclusive: true,
    };
    const text = hooksConfig(settings(given), { receipt: "/x y/receipt.json", logFormat: "json" });
    const again = loadSettings<HookOption | "receipt" | "logFormat">([...HOOK_OPTIONS, "receipt", "logFormat"], [], {
      flags: {},
      environment: {},
      file: parseSettingsFile("hooks.yml", text),
    });
    expect(again).toEqual({ ...settings(given), receipt: "/x y/receipt.json", logFormat: "json" });
  });

  test("a target keeps every digit and stays text", () => {
    const time = "2026-11-22 10:00:00.123450+00";
    expect(parse(hooksConfig(settings({ restoreTargetTime: time, stanza: "1" }), {}))).toMatchObject({
      restore_target_time: time,
      stanza: "1",
    });
  });

  test("nothing of another Patroni, of the source or of this script is in their environment", () => {
    const environment = {
      PATH: "/bin",
      PATRONI_SCOPE: "prod",
      RESTORE_SOURCE: "password=x",
      PGPASSWORD: "x",
      PGHOST: "prod",
      PGBACKREST_REPO1_CIPHER_PASS: "needed",
      KUBERNETES_SERVICE_HOST: "10.0.0.1",
      ETCD_NAME: "x",
      HOME: "/root",
      AWS_REGION: "eu",
    };
    expect(throwawayEnvironment(environment, { home: "/var/lib/postgresql", temporary: "/t" })).toEqual({
      PATH: "/bin",
      PGBACKREST_REPO1_CIPHER_PASS: "needed",
      HOME: "/var/lib/postgresql",
      AWS_REGION: "eu",
      TMPDIR: "/t",
    });
  });
});

describe("the throwaway Patroni's configuration", () => {
  const layout = makeLayout("/var/tmp/", "main", "0a1b2c3d");
  const input = {
    layout,
    template: null,
    node: "/usr/bin/node",
    binDir: "/usr/lib/postgresql/15/bin",
    superuser: "postgres",
    sharedPreloadLibraries: undefined,
    etcd: "127.0.0.1:1",
    restapiAddress: "127.0.0.1:2",
    restapiPassword: "secret",
    postgresqlAddress: "127.0.0.1:3",
  };

  test("has a scope and namespace of its own, and everything in one directory", () => {
    const config = parse(renderPatroniConfig(input), { version: "1.1" });
    expect(config.scope).toBe("main-rt-0a1b2c3d");
    expect(dcsPrefix(layout)).toBe(`${config.namespace}${config.scope}/`);
    for (const path of [
      config.postgresql.data_dir,
      config.postgresql.pgpass,
      config.postgresql.parameters.unix_socket_directories,
    ]) {
      expect(path).toMatch(/^\/var\/tmp\/restore-test-0a1b2c3d\//);
    }
    expect(config.bootstrap.patroni_restore.command).toBe(
      "/usr/bin/node /var/tmp/restore-test-0a1b2c3d/restore-test.mjs bootstrap --config=/var/tmp/restore-test-0a1b2c3d/hooks.yml",
    );
  });

  test("loads the libraries that were asked for, and the restored configuration's own otherwise", () => {
    const libraries = (config: string) => parse(config).postgresql.parameters.shared_preload_libraries;
    expect(libraries(renderPatroniConfig(input))).toBeUndefined();
    expect(libraries(renderPatroniConfig({ ...input, sharedPreloadLibraries: "a,b" }))).toBe("a,b");
  });

  test("an operator's own template must be a restore test of this run", () => {
    expect(() => renderPatroniConfig({ ...input, template: 'scope: "{{scope}}"\n' })).toThrow(
      /does not use \{\{restapi_address\}\}, \{\{etcd\}\}/,
    );
    const own = ["scope", "restapi_address", "etcd", "datadir", "script", "settings_file"];
    const template = own.map((name) => `${name}: "{{${name}}}"\n`).join("");
    expect(parse(renderPatroniConfig({ ...input, template })).scope).toBe(layout.scope);
  });

  test("a server without Patroni gets the same settings", () => {
    const given = Object.fromEntries(serverSettings(renderPatroniConfig(input)));
    expect(given).toMatchObject({
      archive_mode: "off",
      fsync: "off",
      max_connections: "100",
      synchronous_standby_names: "",
    });
  });

  test("the default work directory leaves room for PostgreSQL's socket", () => {
    expect(Buffer.byteLength(longestSocketPath(layout))).toBeLessThan(90);
  });
});

describe("waiting", () => {
  test("ends with the signal's own reason", async () => {
    const stop = new AbortController();
    const waiting = pause(60_000, stop.signal);
    stop.abort(new RestoreError("INTERRUPTED", "ended by SIGINT"));
    await expect(waiting).rejects.toMatchObject({ code: "INTERRUPTED" });
    await expect(pause(1, stop.signal)).rejects.toMatchObject({ code: "INTERRUPTED" });
  });

  test("is ended by a bell, which is also heard when it rang before", async () => {
    const signal = new AbortController().signal;
    const bell = makeBell();
    const waiting = bell.wait(60_000, signal);
    bell.ring();
    await waiting;
    bell.ring();
    await bell.wait(60_000, signal);
    // Heard once only.
    await expect(
      withLimit(
        signal,
        5,
        () => new Error("silence"),
        (limited) => bell.wait(60_000, limited),
      ),
    ).rejects.toThrow("silence");
    await bell.wait(1, signal);
  });

  test("a limit ends work with its own reason", async () => {
    const outer = new AbortController().signal;
    const reason = () => new RestoreError("TIMED_OUT", "too long");
    await expect(withLimit(outer, 1, reason, (signal) => pause(60_000, signal))).rejects.toMatchObject({
      code: "TIMED_OUT",
    });
  });

  test("a limit beyond what a timer can hold does not end at once", async () => {
    const outer = new AbortController().signal;
    const never = () => new Error("over");
    await expect(withLimit(outer, 90 * 86_400_000, never, (signal) => pause(5, signal))).resolves.toBeUndefined();
  });

  test("clean-up has less time once somebody is in a hurry", () => {
    const hurry = new AbortController();
    const left = patience(60_000, 1000, hurry.signal);
    expect(left()).toBeGreaterThan(50_000);
    hurry.abort();
    expect(left()).toBeLessThanOrEqual(1000);
  });
});
