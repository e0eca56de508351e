/** lib/io/throwaway.ts on a real file system: programs that stand in for others, and files that are watched. */

import { appendFile, mkdir, mkdtemp, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { runCommand } from "../../lib/io/command.ts";
import { standInFor, watchFile } from "../../lib/io/throwaway.ts";
import isReadyScript from "../../lib/restore-test/pg_isready.sh?raw";

let directory: string;
const at = (...parts: string[]) => join(directory, ...parts);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-throwaway-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("the pg_isready of a throwaway Patroni", () => {
  /** Answers with what is in the file `code`, and notes how it was called. */
  const original = () => `#!/bin/sh
echo "$*" >> "${at("calls")}"
exit $(cat "${at("code")}")
`;
  const standIn = () => runCommand(at("bin", "pg_isready"), ["-p", "5432", "-d", "a b"]);

  beforeEach(async () => {
    await mkdir(at("postgresql"));
    await writeFile(at("postgresql", "pg_isready"), original(), { mode: 0o755 });
    await writeFile(at("postgresql", "postgres"), "#!/bin/sh\n", { mode: 0o755 });
    await standInFor(at("postgresql"), at("bin"), null, { pg_isready: isReadyScript });
  });

  test("all other programs are the real ones, and the directory is private", async () => {
    expect(await readlink(at("bin", "postgres"))).toBe(at("postgresql", "postgres"));
    expect((await stat(at("bin"))).mode & 0o777).toBe(0o700);
  });

  test.each([0, 3])("says %i at once", async (code) => {
    await writeFile(at("code"), `${code}`);
    expect((await standIn()).exitCode).toBe(code);
    expect(await readFile(at("calls"), "utf8")).toBe("-q -p 5432 -d a b\n");
  });

  test.each([1, 2])("waits while the answer is %i, and says when PostgreSQL has started", async (code) => {
    await writeFile(at("code"), `${code}`);
    const waiting = standIn();
    while (!(await readFile(at("calls"), "utf8").catch(() => ""))) await new Promise(setImmediate);
    await writeFile(at("code"), "0");
    expect((await waiting).exitCode).toBe(0);
  });

  test("leaves it to Patroni when it takes longer", async () => {
    await writeFile(at("code"), "2");
    expect((await standIn()).exitCode).toBe(2);
  });
});

test("a file is watched from before it is made", async () => {
  const waiting: (() => void)[] = [];
  const next = () => new Promise<void>((resolve) => waiting.push(resolve));
  const { isWatched, stop } = watchFile(at("log"), () => {
    for (const heard of waiting.splice(0)) heard();
  });
  expect(isWatched).toBe(true);
  let heard = next();
  await writeFile(at("log"), "one\n");
  await heard;
  heard = next();
  await appendFile(at("log"), "two\n");
  await heard;
  stop();
});

test("where nothing can be watched somebody else must look", () => {
  expect(watchFile("/nonexistent/log", () => {}).isWatched).toBe(false);
});
