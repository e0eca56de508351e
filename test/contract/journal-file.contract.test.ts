/** lib/io/journal-file.ts and lib/io/watched-file.ts on a real file system. */

import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openJournal } from "../../lib/io/journal-file.ts";
import { watchFile } from "../../lib/io/watched-file.ts";

let directory: string;
const at = (...parts: string[]) => join(directory, ...parts);
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "patroni-restore-journal-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const open = (...parts: string[]) => openJournal(at(...parts), "j.jsonl");
const text = () => readFile(at("state", "j.jsonl"), "utf8");

describe("the journal", () => {
  test("makes its directory, and is empty and private at first", async () => {
    expect((await open("a", "b")).text).toBe("");
    expect(((await stat(at("a", "b", "j.jsonl"))).mode & 0o777).toString(8)).toBe("600");
  });

  test("has what was appended, in that order, when it is opened again", async () => {
    const { file } = await open("state");
    await Promise.all(Array.from({ length: 200 }, (_, i) => file.append(`${i} ${"x".repeat(3000)}\n`)));
    const lines = (await open("state")).text.trimEnd().split("\n");
    expect(lines.map((line) => Number(line.split(" ")[0]))).toEqual(Array.from({ length: 200 }, (_, i) => i));
  });

  test("what is appended while it is rewritten comes after that", async () => {
    const { file } = await open("state");
    await Promise.all([file.append("old\n"), file.rewrite("new\n"), file.append("last\n")]);
    expect(await text()).toBe("new\nlast\n");
    expect((await readdir(at("state"))).sort()).toEqual(["j.jsonl", "j.jsonl.owner"]);
  });

  test("one that cannot be written throws, and the next one is tried again", async () => {
    const { file } = await open("state");
    await rename(at("state"), at("moved"));
    await expect(file.append("lost\n")).rejects.toMatchObject({
      code: "PREFLIGHT_FAILED",
      message: `cannot write ${at("state", "j.jsonl")}: it does not exist`,
    });
    await expect(file.rewrite("lost\n")).rejects.toMatchObject({ code: "PREFLIGHT_FAILED" });
    await rename(at("moved"), at("state"));
    await file.append("kept\n");
    expect((await text()).trim()).toBe("kept");
  });

  test("what follows a line that failed does not stand on the same line", async () => {
    const { file } = await open("state");
    await rename(at("state"), at("moved"));
    await expect(file.append("lost\n")).rejects.toThrow();
    await rename(at("moved"), at("state"));
    // A full disk takes half of a line.
    await writeFile(at("state", "j.jsonl"), '{"half":');
    await file.append("whole\n");
    expect((await text()).split("\n")).toContain("whole");
  });

  test("one of a process that has ended, or of another that has its number, is taken over", async () => {
    await mkdir(at("state"));
    for (const owner of ["1073741824 5\n", "1 99999999999\n", "", "nonsense\n"]) {
      await writeFile(at("state", "j.jsonl.owner"), owner);
      await expect(open("state"), owner).resolves.toBeDefined();
    }
  });

  test.each([
    { what: "a file", place: ["file"], says: "cannot keep a journal in" },
    { what: "below a file", place: ["file", "x"], says: "a part of the path is not a directory" },
  ])("a directory that is $what", async ({ place, says }) => {
    await writeFile(at("file"), "");
    await expect(open(...place)).rejects.toMatchObject({
      code: "SETTINGS_INVALID",
      message: expect.stringContaining(says),
      hint: "give --state-dir a directory that this user can write",
    });
  });
});

describe("a watched file", () => {
  const reaches = async (read: () => string, wanted: string) => {
    while (read() !== wanted) await new Promise((resolve) => setTimeout(resolve, 50));
  };

  test("is read again when it was written, replaced, or a link to it was", async () => {
    await writeFile(at("v1"), "one");
    await symlink("v1", at("link"));
    const watched = watchFile(at("link"));
    expect(watched.read()).toBe("one");
    await writeFile(at("v1"), "two");
    await reaches(watched.read, "two");
    await writeFile(at("next"), "six");
    await rename(at("next"), at("v1"));
    await reaches(watched.read, "six");
    // As Kubernetes does with a Secret.
    await writeFile(at("v2"), "ten");
    await symlink("v2", at("new-link"));
    await rename(at("new-link"), at("link"));
    await reaches(watched.read, "ten");
  });

  test("one that is not there throws, until it is", async () => {
    const watched = watchFile(at("later"));
    expect(() => watched.read()).toThrow("ENOENT");
    await writeFile(at("later"), "here");
    expect(watched.read()).toBe("here");
  });

  test("one that has gone throws soon", async () => {
    await writeFile(at("f"), "x");
    const watched = watchFile(at("f"));
    watched.read();
    await rm(at("f"));
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect(() => watched.read()).toThrow("ENOENT");
  });
});
