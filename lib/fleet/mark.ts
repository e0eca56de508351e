/** Marks a service before its test: by `mark` in a process of its own, so that a large manifest is nobody else's memory. */

import { join } from "node:path";
import { stringify } from "yaml";
import { RestoreError } from "../errors.ts";
import { runCommand } from "../io/command.ts";
import { readTextIfExists, removeTree, writeAtomically } from "../io/files.ts";
import { makeTemporaryDirectory } from "../io/temporary.ts";
import { snake } from "../options.ts";
import { printedError } from "../restore-test/relay.ts";
import { MARK_OPTIONS } from "../scripts/mark.ts";
import { formatDuration } from "../units.ts";
import type { Service } from "./service.ts";

/** A source that is slow is a source that can't be asked; its own limits speak first. */
const LIMIT_MS = 60 * 60_000;

/** The receipt's text. Throws what mark said, by its own name. */
export async function markService(
  service: Service,
  { script, environment, signal }: { script: string; environment: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<string> {
  const directory = await makeTemporaryDirectory();
  try {
    const config = join(directory, "mark.yml");
    const receipt = join(directory, "receipt.json");
    const own = Object.entries(service.settings).filter(([key]) => MARK_OPTIONS.some((name) => snake(name) === key));
    await writeAtomically(config, stringify({ ...Object.fromEntries(own), source: service.source, receipt }));
    const result = await runCommand(process.execPath, [script, `--config=${config}`], {
      env: environment,
      timeoutMs: LIMIT_MS,
      signal,
    });
    signal.throwIfAborted();
    const text = await readTextIfExists(receipt);
    if (result.exitCode === 0 && text !== undefined) return text;
    // Ended by us, it only says that somebody ended it.
    if (result.timedOut) {
      throw new RestoreError("SOURCE_UNREACHABLE", `mark was not done within ${formatDuration(LIMIT_MS)}`);
    }
    const last = result.stderr.trim().split("\n").at(-1) ?? "";
    // What can be said of a source mark says itself: this was killed, or is a bug of ours.
    throw (
      printedError(result.stderr.split("\n")) ??
      new Error(`mark ended with ${result.signal ?? `exit code ${result.exitCode}`}: ${last}`)
    );
  } finally {
    await removeTree(directory);
  }
}
