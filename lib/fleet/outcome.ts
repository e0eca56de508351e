/** How a restore test ended, in the words that decide what happens next: who is told, and when it is tried again. */

import { type ErrorCode, EXIT_CODES, type ReportedError } from "../errors.ts";

/**
 * `healthy`; `unhealthy`: the restore is there and is not what it must be; `restore`: it could not be restored or recovered,
 * or not in time; `source`: the service itself could not be asked; `infra`: what the test needs was not there; `cancelled`:
 * somebody ended it. Only `unhealthy` and `restore` say something about the backup.
 */
export const OUTCOMES = ["healthy", "unhealthy", "restore", "source", "infra", "cancelled"] as const;
export type Outcome = (typeof OUTCOMES)[number];

const BY_CODE: Readonly<Record<ErrorCode, Outcome>> = {
  SETTINGS_INVALID: "infra",
  PREFLIGHT_FAILED: "restore",
  RESTORE_FAILED: "restore",
  RECOVERY_FAILED: "restore",
  TARGET_UNREACHED: "restore",
  TIMED_OUT: "restore",
  DETACH_FAILED: "infra",
  UNHEALTHY: "unhealthy",
  UNVERIFIED: "infra",
  SOURCE_UNREACHABLE: "source",
  INTERRUPTED: "cancelled",
  TERMINATED: "cancelled",
};

/** A restore that the machine had no means for says nothing about the backup. */
export function outcomeOfError({ code, about }: Pick<ReportedError, "code" | "about">): Outcome {
  const outcome = outcomeOf(code);
  return outcome === "restore" && about === "host" ? "infra" : outcome;
}

/** Of the code of an error: only a report can say healthy. */
export function outcomeOf(errorCode: number): Outcome {
  const name = (Object.keys(EXIT_CODES) as ErrorCode[]).find((code) => EXIT_CODES[code] === errorCode);
  return name === undefined ? "infra" : BY_CODE[name];
}
