/** What a full disk breaks often says something else ("could not write init file"). */

import { RestoreError } from "../errors.ts";
import { formatSize } from "../units.ts";

/** About one WAL segment: what runs out of space seldom leaves nothing at all. */
const AS_GOOD_AS_FULL = 16 * 1024 ** 2;

/** The error of a restore, told as the full volume's fault when one was full at that moment. */
export function explainFullVolume(error: unknown, volumes: readonly { path: string; freeBytes: number }[]): unknown {
  if (!(error instanceof RestoreError) || error.about === "host" || STOPPED.has(error.code)) return error;
  const full = volumes.find(({ freeBytes }) => freeBytes < AS_GOOD_AS_FULL);
  if (full === undefined) return error;
  const { code, message } = error;
  return new RestoreError(
    code,
    `${message} (no space left on device: ${full.path} has ${formatSize(full.freeBytes)})`,
    {
      hint: "give the volume more space",
      about: "host",
      cause: error,
    },
  );
}

const STOPPED: ReadonlySet<string> = new Set(["INTERRUPTED", "TERMINATED"]);
