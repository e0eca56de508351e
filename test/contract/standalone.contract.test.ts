/** One file, copied into an empty folder, run by another user: a debugging pod has Node and nothing else. */

import { chmod, chown, copyFile, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { EXIT_CODES } from "../../lib/errors.ts";
import { compiled, startProgram } from "../fixtures/run-script.ts";

const NAMES = ["bootstrap", "guard", "mark", "post-bootstrap", "preflight", "restore-test", "verify"];

/** Root becomes nobody; anybody else stays who he is. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined;

async function inEmptyFolder<T>(name: string, use: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "patroni-restore-alone-"));
  try {
    await copyFile(compiled(name), join(folder, `${name}.mjs`));
    await chmod(folder, 0o755);
    if (user) await chown(folder, user.uid, user.gid);
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[], folder: string, more: Record<string, string> = {}) {
  const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: folder, ...more };
  return startProgram(program, args, { cwd: folder, env, ...(user ? { user } : {}) }).ended;
}

test("there is one file per script", async () => {
  const files = await readdir(dirname(compiled("x")));
  expect(files).toEqual(expect.arrayContaining(NAMES.map((name) => `${name}.mjs`)));
});

describe.each(NAMES)("%s.mjs alone in an empty folder", (name) => {
  test("says its version, called through node and directly", async () => {
    const { version } = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8"));
    const said = { exitCode: 0, signal: null, stdout: `${version}\n`, stderr: "" };
    await inEmptyFolder(name, async (folder) => {
      expect(await run(process.execPath, [`${name}.mjs`, "--version"], folder)).toEqual(said);
      expect(await run(`./${name}.mjs`, ["--version"], folder)).toEqual(said);
      expect(await readdir(folder)).toEqual([`${name}.mjs`]);
    });
  });

  test("explains itself, with examples that name it and the exit codes", async () => {
    await inEmptyFolder(name, async (folder) => {
      const { exitCode, stdout, stderr } = await run(`./${name}.mjs`, ["--help"], folder);
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
      expect(stdout).toMatch(new RegExp(`^Usage: ${name} `));
      expect(stdout.slice(stdout.indexOf("\nExamples:\n"))).toContain(name);
      for (const [code, number] of Object.entries(EXIT_CODES)) expect(stdout).toContain(`${number} ${code}`);
    });
  });

  test("has the run bit for everybody and no path of the machine that compiled it", async () => {
    expect((await stat(compiled(name))).mode & 0o777).toBe(0o755);
    expect(await readFile(compiled(name), "utf8")).not.toContain(new URL("../..", import.meta.url).pathname);
  });

  test("can be called through a link, where nobody can write, and with source maps asked for", async () => {
    await inEmptyFolder(name, async (folder) => {
      await symlink(`${name}.mjs`, join(folder, "linked"));
      await chmod(join(folder, `${name}.mjs`), 0o555);
      await chmod(folder, 0o555);
      const { exitCode, stderr } = await run("./linked", ["--stanzza"], folder, {
        NODE_OPTIONS: "--enable-source-maps",
      });
      expect({ exitCode, stderr: stderr.split("\n")[0] }).toEqual({
        exitCode: 2,
        stderr: "ERROR: [002]: SETTINGS_INVALID: unknown option --stanzza",
      });
      expect(await readdir(folder)).toEqual([`${name}.mjs`, "linked"].sort());
    });
  });

  test("shows where in it a bug is", async () => {
    await inEmptyFolder(name, async (folder) => {
      const breakIt = "process.stdout.write = () => { throw new TypeError('broken by the test'); }";
      const { exitCode, stderr } = await run(`./${name}.mjs`, ["--help"], folder, {
        NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(breakIt)}`,
      });
      expect(exitCode).toBe(1);
      const [, line, column] = new RegExp(`broken by the test\n.*\n.*/${name}\\.mjs:(\\d+):(\\d+)`).exec(stderr) ?? [];
      const text = (await readFile(join(folder, `${name}.mjs`), "utf8")).split("\n")[Number(line) - 1];
      expect(text?.slice(Number(column) - 1)).toMatch(/^write\(/);
    });
  });

  test("is small to parse: all but its entry stands in comments", async () => {
    const lines = (await readFile(compiled(name), "utf8")).trimEnd().split("\n");
    const code = lines.filter((line) => !line.startsWith("//")).join("\n");
    expect(code.length).toBeLessThan(10_000);
    for (const line of lines) expect(line).toMatch(/^[\0-~]*$/);
  });
});

test("a script that is replaced by another version while it starts says so", async () => {
  await inEmptyFolder("guard", async (folder) => {
    const file = join(folder, "guard.mjs");
    // As if what stands behind its entry were of another one.
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replaceAll('\n//"use strict";', '\n//"use strict"; '));
    const { exitCode, stderr } = await run("./guard.mjs", ["--help"], folder);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("guard.mjs was replaced while it was started");
  });
});
