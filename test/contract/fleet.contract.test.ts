/** `fleet` as people call it: help, mistakes, and what is said before anything is started. No database is there. */

import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EXIT_CODES } from "../../lib/errors.ts";
import { compiled, runScript, startScript } from "../fixtures/run-script.ts";

const SCRIPT = compiled("fleet");

let directory: string;
const at = (...parts: string[]) => join(directory, ...parts);
beforeAll(async () => {
  // Short, and everybody may pass: as root PostgreSQL's user has to reach it.
  directory = await mkdtemp(join(tmpdir(), "pr-fleet-"));
  await chmod(directory, 0o755);
  await mkdir(at("w"), 0o755);
  await writeFile(at("none.yml"), "services: {}\n");
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const fleet = (...args: string[]) => runScript(SCRIPT, args);
/** Nobody listens on port 1. */
const RECORD = "--record=host=127.0.0.1 port=1 connect_timeout=1";
const run = (...args: string[]) =>
  fleet("run", RECORD, `--work-dir=${at("w")}`, `--services=${at("none.yml")}`, ...args);

test("the help says which options belong to which command", async () => {
  const { exitCode, stdout } = await fleet("--help");
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^Usage: fleet \[options\]/);
  const flat = stdout.replaceAll(/\s+/g, " ");
  expect(flat).toContain("status, explain and test ask a fleet that runs, at --url; of the options below they take");
  expect(flat).toContain("run takes all but --url and --json");
  for (const [code, number] of Object.entries(EXIT_CODES)) expect(flat).toContain(`${number} ${code}`);
});

describe("a mistake in the command ends with 2 and the way out", () => {
  test.each([
    [[], "a command is missing", "fleet run | status | explain SERVICE | test SERVICE"],
    [["statsu"], '"statsu" is not a command', 'did you mean "status"'],
    [["explain"], "fleet explain needs the name of a service", "fleet run | status"],
    [["status", "orders"], 'fleet status takes no "orders"', "fleet run | status"],
    [["test", "orders", "now"], '"now" is one word too many', "fleet run | status"],
    [["run", "--url=http://h"], "fleet run does not take --url", "that is for fleet status, explain and test"],
    [["status", "--services=f", "--max-tests=1"], "does not take --services, --max-tests", "that is for fleet run"],
    [["run"], "--record is missing", "--record dbname=fleet"],
    [["run", "--servces=f"], "unknown option --servces", 'did you mean "--services"'],
    [["run", "--record=nonsense"], '--record: expected "keyword=value"', "such as dbname=fleet"],
    [
      ["status", "--token-file=/nonexistent"],
      "--token-file /nonexistent cannot be used: it does not exist",
      "on its first line",
    ],
    [["run", "--record=host=h password=hunter2"], "--record holds a password", "RESTORE_RECORD"],
  ])("%j", async (args, message, hint) => {
    const { exitCode, stdout, stderr } = await fleet(...args);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(message);
    expect(stderr).toMatch(/^HINT: /m);
    expect(stderr).toContain(hint);
    expect(stderr).not.toContain("hunter2");
  });

  test("a URL that is none", async () => {
    const { exitCode, stderr } = await fleet("status", "--url=hubba");
    expect(exitCode).toBe(EXIT_CODES.SETTINGS_INVALID);
    expect(stderr).toContain('--url: "hubba" is not an http or https URL');
  });

  test("what a settings file says for both is no mistake", async () => {
    await writeFile(at("both.yml"), `services: ${at("none.yml")}\nurl: http://127.0.0.1:1\n`);
    const { exitCode, stderr } = await fleet("status", `--config=${at("both.yml")}`);
    expect(exitCode).toBe(EXIT_CODES.SOURCE_UNREACHABLE);
    expect(stderr).toContain("no answer from http://127.0.0.1:1/services");
    expect(stderr).toMatch(/HINT: .*--url/);
  });
});

describe("what run can't use is said before it asks for its record", () => {
  test.each([
    ["a services file that is not there", async () => [`--services=${at("nothing.yml")}`], /nothing\.yml: it does not/],
    ["one that is a directory", async () => [`--services=${directory}`], /services file .*: it is a directory/],
    [
      "an empty one",
      async () => {
        await writeFile(at("empty.yml"), "");
        return [`--services=${at("empty.yml")}`];
      },
      /empty\.yml:1:1: services is missing/,
    ],
    [
      "one with mistakes",
      async () => {
        await writeFile(at("wrong.yml"), "services:\n  a: {interval: soon}\n  b: {wieght: 2}\n");
        return [`--services=${at("wrong.yml")}`];
      },
      /wrong\.yml:2:\d+: services\.a\.interval .*[\s\S]*wrong\.yml:3:\d+: services\.b has the unknown key "wieght"/,
    ],
    [
      "a token file that is not there",
      async () => [`--token-file=${at("token")}`],
      /token cannot be used: it does not/,
    ],
    ["a work directory that is not there", async () => [`--work-dir=${at("x")}`], /work directory .* does not exist/],
    [
      "one with too long a path",
      async () => {
        const long = at("long".repeat(20));
        await mkdir(long);
        return [`--work-dir=${long}`];
      },
      /path too long for PostgreSQL's socket \(at most \d+ bytes\)/,
    ],
    ["everybody's network without protection", async () => ["--listen=0.0.0.0:0"], /reachable from other machines/],
  ])("%s", async (_, prepare, message) => {
    const { exitCode, stdout, stderr } = await run(...(await prepare()));
    expect({ exitCode, stdout }, stderr).toEqual({ exitCode: EXIT_CODES.SETTINGS_INVALID, stdout: "" });
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/record is away|\n {4}at /);
  });

  test.skipIf(process.getuid?.() !== 0)("a work directory that only root can reach", async () => {
    await mkdir(at("private"), 0o700);
    const { exitCode, stderr } = await run(`--work-dir=${at("private")}`);
    expect(exitCode).toBe(EXIT_CODES.SETTINGS_INVALID);
    expect(stderr).toMatch(/cannot be reached by the user postgres/);
  });
});

test("a port that is in use is named", async () => {
  const other = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => other.once("listening", resolve));
  const { port } = other.address() as { port: number };
  const { exitCode, stderr } = await run(`--listen=127.0.0.1:${port}`);
  other.close();
  expect(exitCode).toBe(EXIT_CODES.SETTINGS_INVALID);
  expect(stderr).toContain(`cannot listen on 127.0.0.1 port ${port}: another process listens there`);
});

test.each([
  ["SIGTERM", "TERMINATED"],
  ["SIGINT", "INTERRUPTED"],
] as const)("a record that is away is waited for, and %s ends it with its own exit code", async (signal, code) => {
  const running = startScript(SCRIPT, [
    ...["run", RECORD, `--services=${at("none.yml")}`, `--work-dir=${at("w")}`, "--listen=127.0.0.1:0"],
    "--log-format=json",
  ]);
  await running.printed('"0 services"');
  running.child.kill(signal);
  // A second one changes nothing.
  running.child.kill(signal);
  const { exitCode, stdout, stderr } = await running.ended;
  expect({ exitCode, stdout }).toEqual({ exitCode: EXIT_CODES[code], stdout: "" });
  const lines = stderr.trim().split("\n");
  expect(stderr).toContain("this scheduler ends; no test is in progress");
  expect(lines.at(-1)).toBe(`ERROR: [${exitCode}]: ${code}: ended by ${signal}`);
  const events = lines.slice(0, -1).map((line) => JSON.parse(line));
  const isAway = { level: "warn", message: expect.stringMatching(/the record is away: .* was refused/) };
  expect(events).toContainEqual(expect.objectContaining(isAway));
});

test("neither a services file nor a Kubernetes", async () => {
  const { exitCode, stderr } = await fleet("run", RECORD);
  expect(exitCode).toBe(EXIT_CODES.SETTINGS_INVALID);
  expect(stderr).toMatch(/there is no Kubernetes cluster[\s\S]*HINT: .*--services/);
});

test("a Kubernetes that does not answer is named, and a signal ends the wait for it", async () => {
  await writeFile(
    at("kubeconfig"),
    `apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: t}}]\n`,
  );
  const env = { KUBECONFIG: at("kubeconfig") };
  const running = startScript(SCRIPT, ["run", RECORD, "--listen=127.0.0.1:0"], { env });
  await running.printed("cannot be watched");
  running.child.kill("SIGTERM");
  const { exitCode, stderr } = await running.ended;
  expect(exitCode).toBe(EXIT_CODES.TERMINATED);
  expect(stderr).toMatch(/WARN {2}runner: StatefulSet objects cannot be watched: .*ECONNREFUSED/);
  expect(stderr).not.toContain("cut short");
});
