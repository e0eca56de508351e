/** A file of lines that is only ever appended to, and written anew when it is opened. */

import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { RestoreError } from "../errors.ts";
import { describeFileError, exists, readTextIfExists, writeAtomically } from "./files.ts";
import { isAlive, processStatus } from "./processes.ts";

export interface JournalFile {
  /** On disk when it returns. Throws PREFLIGHT_FAILED; what was there before stays. */
  append(line: string): Promise<void>;
  /** Replaces everything. */
  rewrite(text: string): Promise<void>;
}

/** Throws SETTINGS_INVALID when the directory cannot be used, or another process uses it. */
export async function openJournal(directory: string, name: string): Promise<{ text: string; file: JournalFile }> {
  const path = join(directory, name);
  try {
    await mkdir(directory, { recursive: true, mode: 0o750 });
    await claim(join(directory, `${name}.owner`), directory);
    const text = (await readTextIfExists(path)) ?? "";
    if (!(await exists(path))) await writeAtomically(path, "");
    return { text, file: journalFile(path) };
  } catch (error) {
    if (error instanceof RestoreError && error.code === "SETTINGS_INVALID") throw error;
    throw new RestoreError("SETTINGS_INVALID", `cannot keep a journal in ${directory}: ${describeFileError(error)}`, {
      hint: "give --state-dir a directory that this user can write",
      cause: error,
    });
  }
}

function journalFile(path: string): JournalFile {
  // One after another: two jobs may end at the same time.
  let queue: Promise<void> = Promise.resolve();
  const next = (work: () => Promise<void>) => {
    const done = queue.then(work);
    queue = done.catch(() => {});
    return done;
  };
  // A full disk may have taken half of a line, which must not spoil the next one.
  let isWhole = true;
  const appendLine = async (line: string) => {
    const text = isWhole ? line : `\n${line}`;
    isWhole = false;
    await append(path, text);
    isWhole = true;
  };
  return {
    append: (line) => next(() => appendLine(line)),
    rewrite: (text) => next(() => writeAtomically(path, text)),
  };
}

async function append(path: string, line: string): Promise<void> {
  const file = await open(path, "a", 0o600).catch(explain(path));
  try {
    await file.appendFile(line).catch(explain(path));
    await file.datasync().catch(explain(path));
  } finally {
    await file.close();
  }
}

function explain(path: string) {
  return (error: unknown): never => {
    throw new RestoreError("PREFLIGHT_FAILED", `cannot write ${path}: ${describeFileError(error)}`, { cause: error });
  };
}

/** Two processes would take each other's running jobs for lost ones. */
async function claim(path: string, directory: string): Promise<void> {
  const [pid = "", started = ""] = ((await readTextIfExists(path)) ?? "").trim().split(" ");
  if (Number(pid) !== process.pid && /^\d+$/.test(pid) && (await isAlive(Number(pid), started))) {
    throw new RestoreError("SETTINGS_INVALID", `process ${pid} keeps its journal in ${directory} already`, {
      hint: "stop it, or give --state-dir another directory",
    });
  }
  await writeAtomically(path, `${process.pid} ${(await processStatus(process.pid))?.started ?? "0"}\n`);
}
