/** lib/io/command.ts with real programs: what the rest of the product relies on when it starts, hears and ends them. */

import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RestoreError } from "../../lib/errors.ts";
import { killAllChildren } from "../../lib/io/children.ts";
import { runCommand, startService } from "../../lib/io/command.ts";
import { isRunning, until } from "../fixtures/processes.ts";
import { startProbe } from "../fixtures/run-script.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-command-"));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** What the shell of the test says is what the program under test would say. */
const sh = (script: string, options?: Parameters<typeof runCommand>[2]) => runCommand("sh", ["-c", script], options);

describe("runCommand", () => {
  test("gives both streams and the exit code; a non-zero exit is a result", async () => {
    expect(await sh("echo out; echo err >&2; exit 3")).toMatchObject({
      exitCode: 3,
      signal: null,
      stdout: "out",
      stderr: "err",
      timedOut: false,
    });
  });

  test("tells which signal ended it", async () => {
    expect(await sh("kill -KILL $$")).toMatchObject({ exitCode: null, signal: "SIGKILL" });
  });

  test("passes arguments as they are: no shell looks at them", async () => {
    const odd = ["a b", "$HOME", "`id`", "'", '"', "*", "\\", "", "é\n"];
    const { stdout } = await runCommand("printf", ["<%s>", ...odd]);
    expect(stdout).toBe(odd.map((argument) => `<${argument}>`).join(""));
  });

  test("gives the environment as the whole of it", async () => {
    const { stdout } = await runCommand("/usr/bin/env", [], { env: { ONLY: "this" } });
    expect(stdout).toBe("ONLY=this");
  });

  test("feeds its input, also to a program that does not read it", async () => {
    expect((await runCommand("cat", [], { input: "text" })).stdout).toBe("text");
    expect(await runCommand("true", [], { input: "x".repeat(5_000_000) })).toMatchObject({ exitCode: 0 });
  });

  test("never lets a program read this process's own input", async () => {
    expect(await runCommand("cat", [])).toMatchObject({ exitCode: 0, stdout: "" });
  });

  test("runs as another user when this is root", async ({ skip }) => {
    if (process.getuid?.() !== 0) skip("only root can become someone else");
    const { stdout } = await runCommand("id", ["-u"], { user: { uid: 65_534, gid: 65_534 } });
    expect(stdout).toBe("65534");
  });
});

describe("output", () => {
  test("onLine gets every line of both streams, the last one without its end too", async () => {
    const lines: string[] = [];
    await sh("printf 'a\\n\\nb\\r\\n'; printf 'c' ; printf 'x\\ny' >&2", {
      onLine: (line, from) => lines.push(`${from}: ${line}`),
    });
    expect(lines.filter((line) => line.startsWith("stdout"))).toEqual([
      "stdout: a",
      "stdout: ",
      "stdout: b",
      "stdout: c",
    ]);
    expect(lines.filter((line) => line.startsWith("stderr"))).toEqual(["stderr: x", "stderr: y"]);
  });

  test("onLine gets a line when it comes, not at the end", async () => {
    const go = join(directory, "go");
    let hasStarted = false;
    await sh(`echo first; until test -e '${go}'; do sleep 0.05; done`, {
      onLine() {
        hasStarted = true;
        void writeFile(go, "");
      },
    });
    expect(hasStarted).toBe(true);
  });

  test("a million lines arrive whole, and only their end is kept", async () => {
    let count = 0;
    let sum = 0;
    const { stdout } = await runCommand("seq", ["1000000"], {
      onLine(line) {
        count++;
        sum += Number(line);
      },
    });
    expect({ count, sum }).toEqual({ count: 1_000_000, sum: 500_000_500_000 });
    expect(stdout.endsWith("\n999999\n1000000")).toBe(true);
    expect(stdout.length).toBeLessThan(200_000);
    expect(stdout.split("\n")[0]).toMatch(/^\d{6}$/);
  });

  test("without onLine a long answer arrives whole", async () => {
    const { stdout } = await runCommand("head", ["-c", "20000000", "/dev/zero"]);
    expect(stdout.length).toBe(20_000_000);
  });

  test("an answer that would be cut is an error, never a shorter answer", async () => {
    await expect(runCommand("head", ["-c", "110000000", "/dev/zero"])).rejects.toThrow("printed more than");
  });

  test("letters are not torn where a chunk ends", async () => {
    const lines: string[] = [];
    await sh("printf '\\303'; sleep 0.2; printf '\\251\\n'", { onLine: (line) => lines.push(line) });
    expect(lines).toEqual(["é"]);
  });

  test("discardStdout throws stdout away and keeps stderr", async () => {
    const lines: string[] = [];
    const result = await sh("seq 100000; echo done >&2", { discardStdout: true, onLine: (line) => lines.push(line) });
    expect(result).toMatchObject({ exitCode: 0, stdout: "", stderr: "done" });
    expect(lines).toEqual(["done"]);
  });

  test("an exception of onLine ends the program and is thrown", async () => {
    const call = sh("echo a; exec sleep 60", {
      onLine() {
        throw new Error("cannot understand this line");
      },
    });
    await expect(call).rejects.toThrow("cannot understand this line");
  });

  test("a process left behind with the pipes open does not hold the result up", async () => {
    const { exitCode, stdout } = await sh("sleep 60 & echo $!");
    expect(exitCode).toBe(0);
    process.kill(Number(stdout), "SIGKILL");
  });
});

describe("a program that cannot be started", () => {
  beforeAll(async () => {
    await writeFile(join(directory, "no-run-bit"), "#!/bin/sh\n");
  });

  const cases = [
    { file: () => "no-such-program", says: 'cannot run "no-such-program": not found' },
    { file: () => "/no/such/program", says: 'cannot run "/no/such/program": not found' },
    { file: () => join(directory, "no-run-bit"), says: 'no-run-bit": no permission' },
    { file: () => directory, says: "not found" },
    { file: () => "true", cwd: "/no/such/directory", says: "there is no directory /no/such/directory" },
    { file: () => "true", env: { PATH: "/nowhere" }, says: 'cannot run "true": not found' },
  ];

  test.each(cases)("throws PREFLIGHT_FAILED: $says", async ({ file, says, ...options }) => {
    const error = await runCommand(file(), [], options).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RestoreError);
    expect(error).toMatchObject({ code: "PREFLIGHT_FAILED", message: expect.stringContaining(says) });
  });

  test.each(cases)("as a service it does the same: $says", ({ file, says, ...options }) => {
    expect(() => startService(file(), [], options)).toThrow(says);
  });

  test("arguments that are too long are no answer of the program", async () => {
    await expect(runCommand("true", ["x".repeat(3_000_000)])).rejects.toThrow('cannot run "true": spawn E2BIG');
  });
});

describe("limits", () => {
  test("a command that takes too long is ended and says so", async () => {
    expect(await runCommand("sleep", ["60"], { timeoutMs: 100 })).toMatchObject({ timedOut: true, signal: "SIGTERM" });
  });

  test("a limit beyond what a timer can count is not over at once", async () => {
    expect(await runCommand("true", [], { timeoutMs: 3_000_000_000 })).toMatchObject({ timedOut: false, exitCode: 0 });
  });

  test("a signal ends it and its own reason is thrown", async () => {
    const reason = new RestoreError("TERMINATED", "ended by SIGTERM");
    const stop = new AbortController();
    const call = sh("echo ready; exec sleep 60", { signal: stop.signal, onLine: () => stop.abort(reason) });
    await expect(call).rejects.toBe(reason);
  });

  test("one that was aborted before starts nothing", async () => {
    const file = join(directory, "started");
    await expect(runCommand("touch", [file], { signal: AbortSignal.abort(new Error("too late")) })).rejects.toThrow(
      "too late",
    );
    await expect(readFile(file)).rejects.toThrow("ENOENT");
  });

  test("a program that ignores SIGTERM gets SIGKILL", async () => {
    const stop = new AbortController();
    let pid = 0;
    const call = sh("trap '' TERM; echo $$; while :; do sleep 0.1; done", {
      signal: stop.signal,
      onLine(line) {
        pid = Number(line);
        stop.abort(new Error("why"));
      },
    });
    await expect(call).rejects.toThrow("why");
    expect(isRunning(pid)).toBe(false);
  });
});

describe("startService", () => {
  test("gives its lines and its end", async () => {
    const lines: string[] = [];
    const { ended } = startService("sh", ["-c", "echo a; echo b >&2; printf c; exit 4"], {
      onLine: (line, from) => lines.push(`${from}: ${line}`),
    });
    expect(await ended).toEqual({ exitCode: 4, signal: null });
    expect(lines.sort()).toEqual(["stderr: b", "stdout: a", "stdout: c"]);
    expect(await ended).toEqual({ exitCode: 4, signal: null });
  });

  test("a service that talks is never held up, listener or not", async () => {
    const { ended } = startService("seq", ["300000"]);
    expect(await ended).toEqual({ exitCode: 0, signal: null });
  });

  test("kill sends just this signal: SIGTERM, which PostgreSQL may take its time for, is not followed by SIGKILL", async () => {
    const service = startService("sh", ["-c", "trap 'sleep 6; exit 7' TERM; echo ready; while :; do sleep 0.1; done"], {
      onLine: () => service.kill("SIGTERM"),
    });
    expect(await service.ended).toEqual({ exitCode: 7, signal: null });
  });

  test("kill after the end does nothing", async () => {
    const service = startService("true", []);
    await service.ended;
    expect(() => service.kill("SIGKILL")).not.toThrow();
  });

  test("the pid is the program's own, through setpriv", async () => {
    let said = "";
    const service = startService("sh", ["-c", "echo $$"], {
      onLine: (line) => {
        said = line;
      },
    });
    await service.ended;
    expect(said).toBe(String(service.pid));
  });

  test("killAllChildren leaves none", async () => {
    const service = startService("sh", ["-c", "trap '' TERM INT QUIT; while :; do sleep 0.1; done"]);
    killAllChildren();
    expect(await service.ended).toMatchObject({ signal: "SIGKILL" });
  });
});

describe("no child outlives its owner", () => {
  test("SIGKILL of the owner ends commands and services", async () => {
    const { child, ended, printed } = startProbe("have children");
    await printed(" .");
    child.kill("SIGKILL");
    const { stdout } = await ended;
    const pids = stdout.trim().split(" ").slice(0, 2).map(Number);
    expect(pids.every((pid) => pid > 1)).toBe(true);
    await until(() => !pids.some(isRunning));
  });
});

test("a script with its own interpreter is run by it", async () => {
  const file = join(directory, "script");
  await writeFile(file, "#!/bin/cat\nhello\n");
  await chmod(file, 0o755);
  expect((await runCommand(file, [])).stdout).toBe("#!/bin/cat\nhello");
});
