/** Reading and writing `<datadir>.unproven`, and telling whether its bootstrap is still at it. */

import { messageOf } from "../errors.ts";
import { readTextIfExists, writeAtomically } from "../io/files.ts";
import { isAlive } from "../io/processes.ts";
import { pathsOf, type Unproven, unprovenSchema } from "./state.ts";

/** A file that cannot be read says "unproven" all the same: `state` is then null. */
export type FoundUnproven = { state: Unproven } | { state: null; reason: string };

/** Undefined when there is no such file. */
export async function readUnproven(datadir: string): Promise<FoundUnproven | undefined> {
  const path = pathsOf(datadir).unproven;
  let text: string | undefined;
  try {
    text = await readTextIfExists(path);
    if (text === undefined) return undefined;
    return { state: unprovenSchema.parse(JSON.parse(text)) };
  } catch (error) {
    return { state: null, reason: `${path} cannot be read: ${messageOf(error).split("\n")[0]}` };
  }
}

export async function writeUnproven(datadir: string, state: Unproven): Promise<void> {
  await writeAtomically(pathsOf(datadir).unproven, `${JSON.stringify(state, null, 2)}\n`);
}

export async function isBootstrapAlive(state: Unproven): Promise<boolean> {
  return state.pid !== process.pid && (await isAlive(state.pid, state.pid_started));
}
