/** `guard` as an entrypoint or systemd calls it: the compiled script, a data directory, and an exit code. */

import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const SCRIPT = new URL("../../dist/guard.mjs", import.meta.url).pathname;
const MODES = ["refuse", "wipe", "prove"];

let home: string;
let datadir: string;
let children: ChildProcess[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "guard-"));
  datadir = join(home, "data");
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  children = [];
  await rm(home, { recursive: true });
});

function guard(...args: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const env = { PATH: process.env.PATH ?? "" };
    execFile(process.execPath, [SCRIPT, "--datadir", datadir, ...args], { env }, (error, stdout, stderr) =>
      resolve({ exitCode: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}

/** Start time of a process as `bootstrap` writes it. */
const started = (pid: number) => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ")[19] ?? "";

async function writeState(changes: object = {}): Promise<object> {
  const state = {
    schema_version: 1,
    id: "20261122T100000Z-7",
    scope: "demo",
    stanza: "main",
    started_at: "2026-11-22T10:00:00.000Z",
    phase: "verify",
    pid: 1,
    pid_started: "not this one",
    attempts: 2,
    request: "stanza main",
    receipt: null,
    report: `${datadir}.report.json`,
    detach: "restore-test",
    linked: [],
    ...changes,
  };
  await writeFile(`${datadir}.unproven`, JSON.stringify(state));
  return state;
}

async function makeDirectory(path: string): Promise<string> {
  await mkdir(join(path, "global"), { recursive: true });
  await writeFile(join(path, "PG_VERSION"), "15\n");
  await writeFile(join(path, "global/pg_control"), Buffer.alloc(512));
  return path;
}

test.each(MODES)("without an unproven file Patroni may start, whatever lies there (%s)", async (mode) => {
  await makeDirectory(datadir);
  const { exitCode, stderr } = await guard("--on-unproven", mode);
  expect(stderr).toContain(`no unproven restore beside ${datadir}`);
  expect(exitCode).toBe(0);
  expect(existsSync(join(datadir, "PG_VERSION"))).toBe(true);
});

describe("an unproven restore in place", () => {
  beforeEach(() => makeDirectory(datadir));

  test("is refused by default, with the three ways out", async () => {
    await writeState();
    const { exitCode, stderr } = await guard();
    expect(exitCode).toBe(21);
    expect(stderr).toMatch(/^ERROR: \[021\]: UNVERIFIED: .* interrupted before it was proven \(phase verify/m);
    expect(stderr).toMatch(/^HINT: prove it with --on-unproven prove, .* wipe, or remove .*\.unproven/m);
    expect(existsSync(datadir)).toBe(true);
  });

  test("is wiped with what belongs to it, and the attempts stay counted", async () => {
    const tablespace = await makeDirectory(join(home, "tablespaces/fast"));
    const other = await makeDirectory(join(home, "tablespaces/other"));
    const state = await writeState({ linked: [tablespace] });
    const { exitCode, stderr } = await guard("--on-unproven", "wipe");
    expect(stderr).toContain("patronictl remove demo");
    expect(exitCode).toBe(0);
    expect([datadir, `${datadir}.restoring`, tablespace, other].map((path) => existsSync(path))).toEqual([
      false,
      false,
      false,
      true,
    ]);
    expect(JSON.parse(await readFile(`${datadir}.unproven`, "utf8"))).toEqual({ ...state, phase: "wiped", linked: [] });
    expect((await guard()).exitCode).toBe(0);
  });

  test("another data directory in its place after a wipe is not touched", async () => {
    await writeState();
    await guard("--on-unproven", "wipe");
    await makeDirectory(datadir);
    const { exitCode, stderr } = await guard("--on-unproven", "wipe");
    expect(stderr).toContain("something else has made the data directory since");
    expect(exitCode).toBe(21);
    expect(existsSync(datadir)).toBe(true);
  });

  test.each(["wipe", "prove"])("--dry-run with %s changes nothing and does not let Patroni start", async (mode) => {
    await writeState();
    const { exitCode, stderr } = await guard("--on-unproven", mode, "--dry-run");
    expect(stderr).toContain(`without --dry-run it would ${mode} it`);
    expect(exitCode).toBe(21);
    expect(existsSync(datadir)).toBe(true);
  });

  test("--json prints the decision, also of a refusal", async () => {
    const state = await writeState();
    const { exitCode, stdout } = await guard("--json");
    expect(exitCode).toBe(21);
    expect(JSON.parse(stdout)).toMatchObject({ action: "refuse", code: "UNVERIFIED", remove: [], unproven: state });
  });

  test.each(
    MODES.flatMap((mode) => [
      { mode, what: "half a file", text: '{"schema_version": 1, "id"' },
      { mode, what: "an empty file", text: "" },
      { mode, what: "the file of another version", text: '{"schema_version": 2}' },
    ]),
  )("$what says unproven all the same, and $mode touches nothing", async ({ mode, text }) => {
    await writeFile(`${datadir}.unproven`, text);
    const { exitCode, stderr } = await guard("--on-unproven", mode);
    expect(stderr).toContain(`${datadir}.unproven cannot be read`);
    expect(exitCode).toBe(21);
    expect(existsSync(join(datadir, "PG_VERSION"))).toBe(true);
  });

  test("behind a symbolic link is refused in every mode", async () => {
    const target = join(home, "elsewhere");
    await makeDirectory(target);
    await rm(datadir, { recursive: true });
    await symlink(target, datadir);
    await writeState();
    for (const mode of MODES) expect((await guard("--on-unproven", mode)).exitCode).toBe(21);
    expect(existsSync(join(target, "PG_VERSION"))).toBe(true);
  });
});

describe("nothing that Patroni could adopt", () => {
  test("remains of an interrupted restore are removed and Patroni may start", async () => {
    const tablespace = await makeDirectory(join(home, "tablespaces/fast"));
    await makeDirectory(`${datadir}.restoring`);
    await writeState({ phase: "restore", linked: [tablespace] });
    const { exitCode, stderr } = await guard();
    expect(stderr).toContain("there is nothing to adopt");
    expect(stderr).toContain("patronictl remove demo");
    expect(exitCode).toBe(0);
    expect([`${datadir}.restoring`, tablespace, `${datadir}.unproven`].map((path) => existsSync(path))).toEqual([
      false,
      false,
      true,
    ]);
  });

  test("--dry-run only says so", async () => {
    await makeDirectory(`${datadir}.restoring`);
    await writeState({ phase: "restore" });
    const { exitCode, stderr } = await guard("--dry-run");
    expect(stderr).toContain(`would remove ${datadir}.restoring`);
    expect(exitCode).toBe(0);
    expect(existsSync(`${datadir}.restoring`)).toBe(true);
  });

  test("a bootstrap that has lost its Patroni is waited for", async () => {
    await makeDirectory(`${datadir}.restoring`);
    const child = spawn("sleep", ["600"], { stdio: "ignore" });
    children.push(child);
    const pid = child.pid as number;
    await writeState({ phase: "restore", pid, pid_started: started(pid) });
    const running = execFile(process.execPath, [SCRIPT, "--datadir", datadir]);
    let stderr = "";
    running.stderr?.on("data", (text) => {
      stderr += text;
      // It ends only once guard has said that it waits.
      if (/waiting for bootstrap/.test(stderr)) child.kill("SIGKILL");
    });
    const exitCode = await new Promise((resolve) => running.once("close", resolve));
    expect(stderr).toContain("there is nothing to adopt");
    expect(exitCode).toBe(0);
  });

  test("a number that another process uses by now is not the bootstrap", async () => {
    await writeState({ phase: "restore", pid: process.pid, pid_started: "1" });
    expect((await guard()).exitCode).toBe(0);
  });
});

describe("how it is called", () => {
  test("--datadir is required", async () => {
    const result = await new Promise<{ code: number; stderr: string }>((resolve) =>
      execFile(process.execPath, [SCRIPT], { env: {} }, (error, _, stderr) =>
        resolve({ code: Number(error?.code ?? 0), stderr }),
      ),
    );
    expect(result.stderr).toContain("--datadir is missing");
    expect(result.code).toBe(2);
  });

  test("an unknown mode names the known ones", async () => {
    const { exitCode, stderr } = await guard("--on-unproven", "ignore");
    expect(stderr).toContain("refuse, wipe, prove");
    expect(exitCode).toBe(2);
  });

  test("--help shows where it is called from", async () => {
    const { exitCode, stdout } = await guard("--help");
    expect(exitCode).toBe(0);
    expect(stdout).toContain("ExecStartPre=");
    expect(stdout).toContain("exec patroni");
  });
});
