/** One file, copied into an empty folder, run by another user: a debugging pod has Node and nothing else. */

import { chmod, chown, copyFile, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
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

function run(program: string, args: readonly string[], folder: string) {
  const env = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin`, HOME: folder };
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
});
