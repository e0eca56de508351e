import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const module = fileURLToPath(new URL("../../lib/io/temporary.ts", import.meta.url));

/** Runs in a process of its own, which prints the directory it made and ends without removing it. */
function makeIn(directory: string): string {
  const program = `const { makeTemporaryDirectory } = await import(${JSON.stringify(module)}); console.log(await makeTemporaryDirectory());`;
  const args = ["--import", "tsx", "--input-type=module", "--eval", program];
  const result = spawnSync(process.execPath, args, { encoding: "utf8", env: { ...process.env, TMPDIR: directory } });
  expect(result.stderr).toBe("");
  return result.stdout.trim();
}

test("what a killed process has left is removed by the next, and nothing else", async () => {
  const directory = await mkdtemp(join(tmpdir(), "temporary-test-"));
  try {
    const foreign = await mkdtemp(join(directory, "pr-1-"));
    const first = makeIn(directory);
    expect(existsSync(first)).toBe(true);
    const second = makeIn(directory);
    const left = (await readdir(directory)).filter((name) => name.startsWith("pr-"));
    expect(left.map((name) => join(directory, name)).sort()).toEqual([foreign, second].sort());
  } finally {
    await rm(directory, { recursive: true });
  }
});
