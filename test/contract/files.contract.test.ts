/** lib/io/files.ts on a real file system: whatever is written is complete or absent. */

import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  directorySize,
  exists,
  freeSpace,
  list,
  makePrivateDirectory,
  mountPoints,
  readTextIfExists,
  readTextOrExplain,
  removeTree,
  writeAtomically,
} from "../../lib/io/files.ts";

let directory: string;
const at = (...parts: string[]) => join(directory, ...parts);
const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-files-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe("writeAtomically", () => {
  test("writes what only the owner can read, and leaves nothing else", async () => {
    await writeAtomically(at("report.json"), "{}");
    expect(await readFile(at("report.json"), "utf8")).toBe("{}");
    expect(await modeOf(at("report.json"))).toBe("600");
    expect(await readdir(directory)).toEqual(["report.json"]);
  });

  test("replaces what was there, its mode too", async () => {
    await writeFile(at("report.json"), "old and longer", { mode: 0o644 });
    await writeAtomically(at("report.json"), "new");
    expect(await readFile(at("report.json"), "utf8")).toBe("new");
    expect(await modeOf(at("report.json"))).toBe("600");
  });

  test("several at once leave one of them whole", async () => {
    const texts = Array.from({ length: 8 }, (_, i) => String(i).repeat(200_000));
    await Promise.all(texts.map((text) => writeAtomically(at("report.json"), text)));
    expect(texts).toContain(await readFile(at("report.json"), "utf8"));
    expect(await readdir(directory)).toEqual(["report.json"]);
  });

  test.each([
    { what: "a directory that does not exist", path: ["no", "report.json"], says: "it does not exist" },
    { what: "the place of a directory", path: ["taken"], says: "it is a directory" },
  ])("into $what is an error that names the file and leaves nothing", async ({ path, says }) => {
    await mkdir(at("taken"));
    await expect(writeAtomically(at(...path), "x")).rejects.toMatchObject({
      code: "PREFLIGHT_FAILED",
      message: `cannot write ${at(...path)}: ${says}`,
    });
    expect(await readdir(directory)).toEqual(["taken"]);
  });
});

describe("reading", () => {
  test("a missing file is undefined, a broken one is an error", async () => {
    expect(await readTextIfExists(at("no"))).toBeUndefined();
    expect(await readTextIfExists("/etc/passwd/no")).toBeUndefined();
    await expect(readTextIfExists(directory)).rejects.toThrow("EISDIR");
  });

  test("what must be there says what it is for", async () => {
    await expect(readTextOrExplain(at("no"), "receipt")).rejects.toMatchObject({
      code: "SETTINGS_INVALID",
      message: `cannot read the receipt ${at("no")}: it does not exist`,
    });
  });

  test("a link that leads nowhere exists", async () => {
    await symlink(at("nowhere"), at("link"));
    expect(await exists(at("link"))).toBe(true);
    expect(await exists(at("nowhere"))).toBe(false);
  });

  test("a directory is listed in order, a missing one is empty", async () => {
    for (const name of ["b", "a", "c"]) await writeFile(at(name), "");
    expect(await list(directory)).toEqual(["a", "b", "c"]);
    expect(await list(at("no"))).toEqual([]);
  });
});

describe("space", () => {
  test("the size of a directory is that of its files, links not followed", async () => {
    await mkdir(at("a", "b"), { recursive: true });
    await writeFile(at("one"), "x".repeat(1000));
    await writeFile(at("a", "two"), "x".repeat(200));
    await writeFile(at("a", "b", "sparse"), "");
    await truncate(at("a", "b", "sparse"), 30);
    await symlink(at("one"), at("a", "link"));
    await symlink(directory, at("a", "loop"));
    expect(await directorySize(directory)).toBe(1230);
    expect(await directorySize(at("no"))).toBe(0);
  });

  test("is asked of the nearest directory that exists", async () => {
    const here = await freeSpace(directory);
    expect(here).toBeGreaterThan(0);
    const below = await freeSpace(at("not", "yet", "there"));
    expect(Math.abs(below - here)).toBeLessThan(here / 2);
  });
});

test("a private directory is private, also when it was there and open", async () => {
  await makePrivateDirectory(at("new", "inner"));
  expect([await modeOf(at("new")), await modeOf(at("new", "inner"))]).toEqual(["700", "700"]);
  await mkdir(at("open"));
  await chmod(at("open"), 0o777);
  await makePrivateDirectory(at("open"));
  expect(await modeOf(at("open"))).toBe("700");
});

test("a tree is removed, read-only files and all, and a missing one is fine", async () => {
  await mkdir(at("tree", "sub"), { recursive: true });
  await writeFile(at("tree", "sub", "file"), "", { mode: 0o400 });
  await removeTree(at("tree"));
  await removeTree(at("tree"));
  expect(await readdir(directory)).toEqual([]);
});

test("mount points are the kernel's own list", async () => {
  const points = await mountPoints();
  expect(points.has("/")).toBe(true);
  expect(points.has("/proc")).toBe(true);
  expect(points.has(directory)).toBe(false);
});
