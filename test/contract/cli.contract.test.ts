/** The command line as every script has it: exit codes, streams, signals, settings. */

import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { isRunning, until } from "../fixtures/processes.ts";
import { compiled, runScript, startProbe, startScript } from "../fixtures/run-script.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-cli-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const SCRIPTS = ["bootstrap", "post-bootstrap", "mark", "verify", "restore-test", "guard", "preflight"];

describe("mistakes on the command line end with 2 before anything is done", () => {
  test.each(SCRIPTS)("%s refuses a flag that it does not know", async (name) => {
    const { exitCode, stdout, stderr } = await runScript(compiled(name), ["--log-fromat=json"]);
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: 'ERROR: [002]: SETTINGS_INVALID: unknown option --log-fromat\nHINT: did you mean "--log-format".\n',
    });
  });

  test("mark names the nearest flag", async () => {
    const { exitCode, stderr } = await runScript(compiled("mark"), ["--sorce", "host=x", "--receipt", "/nowhere"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('HINT: did you mean "--source".');
  });

  test("mark says all that is missing, and the three places to give it", async () => {
    const { exitCode, stderr } = await runScript(compiled("mark"), []);
    expect(exitCode).toBe(2);
    expect(stderr).toBe(
      "ERROR: [002]: SETTINGS_INVALID: 2 problems were found\n" +
        "  - --source is missing\n" +
        "      HINT: give --source CONNINFO, RESTORE_SOURCE or source in the settings file.\n" +
        "  - --receipt is missing\n" +
        "      HINT: give --receipt FILE, RESTORE_RECEIPT or receipt in the settings file.\n",
    );
  });

  test("a variable that is no setting is refused", async () => {
    const { exitCode, stderr } = await runScript(compiled("preflight"), [], { env: { RESTORE_STANZZA: "demo" } });
    expect(exitCode).toBe(2);
    expect(stderr).toContain("environment variable RESTORE_STANZZA is not a setting");
    expect(stderr).toContain('did you mean "RESTORE_STANZA"');
  });

  test("a password in argv is refused and not repeated", async () => {
    const args = ["--source", "host=h user=u password=hunter2", "--receipt", join(directory, "receipt.json")];
    const { exitCode, stdout, stderr } = await runScript(compiled("mark"), args);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("--source holds a password, which is visible in ps");
    expect(stdout + stderr).not.toContain("hunter2");
  });
});

describe("the settings file", () => {
  test("all its mistakes are told at once, each with line and column", async () => {
    const file = join(directory, "two-mistakes.yml");
    await writeFile(file, "# settings\nstanza: demo\n  \nrecovery_timout: 1h\njobs: 4\nlevel: deep\n");
    const { exitCode, stderr } = await runScript(compiled("verify"), ["--config", file, "--conninfo", "host=/nowhere"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`${file}:4:1: recovery_timout is not a setting`);
    expect(stderr).toContain('did you mean "recovery_timeout"');
    expect(stderr).toContain(`${file}:6:1: level: "deep" is not one of quick, standard, full`);
  });

  test.each([
    { how: "that does not exist", name: "missing.yml", says: "it does not exist" },
    { how: "that is a directory", name: ".", says: "it is a directory" },
  ])("one $how is an error of the settings", async ({ name, says }) => {
    const { exitCode, stderr } = await runScript(compiled("verify"), ["--config", join(directory, name)]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`cannot read the settings file ${join(directory, name)}: ${says}`);
  });

  test("can be named by RESTORE_CONFIG, and flags win over environment and file", async () => {
    const file = join(directory, "settings.yml");
    await writeFile(file, "stanza: from-file\nkeep: true\nlog_format: json\n");
    const env = { RESTORE_CONFIG: file, RESTORE_STANZA: "from-environment" };
    const { stdout } = await startProbe("settings", ["--keep=False"], { env }).ended;
    expect(JSON.parse(stdout)).toEqual({ stanza: "from-environment", keep: false, logFormat: "json" });
  });
});

describe("streams", () => {
  test("results go to standard output, the log to standard error, one line per event", async () => {
    const { exitCode, stdout, stderr } = await startProbe("log").ended;
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: "the result\n" });
    const lines = stderr.trimEnd().split("\n");
    expect(lines.map((line) => line.replace(/^\S+ \S+ /, ""))).toEqual([
      "INFO  restore: started lsn=0/3000028",
      "WARN  restore: two | lines",
      "ERROR verify: failed level=standard",
    ]);
  });

  test("--log-format json makes every line an object", async () => {
    const { stderr } = await startProbe("log", ["--log-format", "json"]).ended;
    const events = stderr
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(events).toMatchObject([
      { level: "info", phase: "restore", message: "started", lsn: "0/3000028" },
      { level: "warn", phase: "restore", message: "two\nlines" },
      { level: "error", phase: "verify", message: "failed", level_: "standard" },
    ]);
    for (const { at } of events) expect(new Date(at).toISOString()).toBe(at);
  });

  test.each([
    { how: "much", exitCode: 0 },
    { how: "much, then fail", exitCode: 20 },
  ])("a reader that goes away (| head) does not change the exit code of '$how'", async ({ how, exitCode }) => {
    const { child, ended, printed } = startProbe(how);
    await printed("line 1");
    child.stdout.destroy();
    expect(await ended).toMatchObject({ exitCode, signal: null });
  });

  test("nor does one that never listened to errors", async () => {
    const { child, ended } = startScript(compiled("mark"), ["--sorce=x"]);
    child.stdout.destroy();
    child.stderr.destroy();
    expect(await ended).toMatchObject({ exitCode: 2, signal: null });
  });
});

describe("being ended", () => {
  test.each([
    { signal: "SIGINT", exitCode: 130, name: "INTERRUPTED" },
    { signal: "SIGTERM", exitCode: 143, name: "TERMINATED" },
    { signal: "SIGHUP", exitCode: 143, name: "TERMINATED" },
  ] as const)("$signal gives $exitCode", async ({ signal, exitCode, name }) => {
    const { child, ended, printed } = startProbe("wait");
    await printed("waiting");
    child.kill(signal);
    const run = await ended;
    expect(run).toMatchObject({ exitCode, signal: null });
    expect(run.stderr).toContain(`ERROR: [${exitCode}]: ${name}: ended by ${signal}\n`);
  });

  test("what breaks meanwhile is a consequence and not the verdict: Ctrl-C reaches the children too", async () => {
    const { child, ended, printed } = startProbe("fail when ended");
    await printed("waiting");
    child.kill("SIGINT");
    expect(await ended).toMatchObject({ exitCode: 130 });
  });

  test("a script that was done anyway has succeeded", async () => {
    const { child, ended, printed } = startProbe("succeed when ended");
    await printed("waiting");
    child.kill("SIGTERM");
    expect(await ended).toMatchObject({ exitCode: 0 });
  });

  test("a clean-up that takes too long is cut short, children and all", async () => {
    const { child, ended, printed } = startProbe("never end");
    await printed("waiting");
    child.kill("SIGTERM");
    const run = await ended;
    expect(run).toMatchObject({ exitCode: 143, signal: null });
    expect(run.stderr).toContain("clean-up took longer than 8 s and was cut short");
    const pid = Number(/pid=(\d+)/.exec(run.stderr)?.[1]);
    expect(pid).toBeGreaterThan(1);
    await until(() => !isRunning(pid));
  });
});

describe("the end", () => {
  test("a forgotten timer does not keep a script that is done", async () => {
    expect(await startProbe("forget a timer").ended).toMatchObject({ exitCode: 0, signal: null });
  });

  test("many can wait for its signal without a warning", async () => {
    expect(await startProbe("many at once").ended).toMatchObject({ stdout: "30 done\n", stderr: "" });
  });

  test("a forgotten child does not outlive it", async () => {
    const { exitCode, stdout } = await startProbe("forget a child").ended;
    expect(exitCode).toBe(0);
    expect(Number(stdout)).toBeGreaterThan(1);
    await until(() => !isRunning(Number(stdout)));
  });

  test.each(["bug", "bug in an event"])("a %s ends with 1 and shows its stack", async (how) => {
    const { exitCode, stderr } = await startProbe(how).ended;
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^ERROR: \[001\]: INTERNAL: a bug in patroni-restore \S+; please report it\n/);
    expect(stderr).toMatch(/TypeError: x is undefined\n\s+at .*probe/);
  });

  test("garbage does not stand high, although the machine has memory", async () => {
    const { exitCode, stdout } = await startProbe("leave garbage").ended;
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: "collected\n" });
  });

  test("one that waits for nothing any more has failed, although Node would end with 0", async () => {
    const { exitCode, stderr } = await startProbe("wait for nothing").ended;
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^ERROR: \[001\]: INTERNAL: .*\nError: it waited for something that could no longer come\n/);
  });
});

describe("mark, while the source accepts connections but never answers", () => {
  let server: Server;
  let port: number;
  const sockets = new Set<Socket>();
  let connected: Promise<void>;

  beforeAll(async () => {
    server = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => {});
    });
    await new Promise<void>((resolve) => server.listen({ host: "127.0.0.1", port: 0 }, resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterEach(() => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  test.each([
    { signal: "SIGINT", exitCode: 130 },
    { signal: "SIGTERM", exitCode: 143 },
  ] as const)("$signal ends it with $exitCode and leaves no receipt", async ({ signal, exitCode }) => {
    connected = new Promise((resolve) => server.once("connection", () => resolve()));
    const receipt = join(directory, "receipt.json");
    const source = `host=127.0.0.1 port=${port} user=nobody`;
    const { child, ended } = startScript(compiled("mark"), ["--source", source, "--receipt", receipt]);
    await Promise.race([connected, ended.then((run) => Promise.reject(new Error(run.stderr)))]);
    child.kill(signal);
    expect(await ended).toMatchObject({ exitCode, signal: null, stdout: "" });
    await expect(rm(receipt)).rejects.toThrow("ENOENT");
  });
});
