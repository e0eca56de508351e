/**
 * Was the restore test a success? Only the report, the "not yet proven" file, Patroni's leader lock and the system
 * identifier in its DCS together say so: Patroni's exit code, `/health` and post_bootstrap's exit code prove nothing
 * (a mistyped method runs initdb and turns green; an interrupted bootstrap is adopted without any check).
 */

import { type ErrorCode, RestoreError } from "../errors.ts";
import type { Report } from "../report/report.ts";
import { complaintText, isComplaint, printedError } from "./relay.ts";

export interface Ending {
  /** `leader`: Patroni holds the leader lock. `exited`: Patroni, or a hook of the direct runner, ended. `done`: both hooks of the direct runner succeeded. */
  how: "leader" | "exited" | "done";
  /** What ended, for people: `Patroni`, `bootstrap`. */
  who: string;
  exit: { exitCode: number | null; signal: string | null } | null;
  /** Null when the hooks wrote none. */
  report: Report | null;
  /** Whether the "not yet proven" file is still there. */
  isUnproven: boolean;
  /** Patroni's `initialize` key; null when it is absent. Not asked for by the direct runner. */
  initialize: string | null;
  /** The receipt's; null without a receipt. */
  systemIdentifier: string | null;
  /** The newest lines of the log. */
  lastLines: readonly string[];
}

/** Null when the restore is proven and Patroni has it. Otherwise what an operator must know. */
export function judgeEnding(ending: Ending): RestoreError | Error | null {
  return ending.how === "exited" ? explainExit(ending) : doubt(ending);
}

function doubt(ending: Ending): RestoreError | Error | null {
  const { how, report, initialize } = ending;
  if (report === null) {
    if (how === "done" || ending.isUnproven) {
      return neverChecked(ending);
    }
    return new RestoreError(
      "PREFLIGHT_FAILED",
      `Patroni restored nothing: it made a new, empty cluster with initdb (system identifier ${initialize || "unknown"})`,
      { hint: "bootstrap.method must name a section of bootstrap: that has a command; Patroni runs initdb otherwise" },
    );
  }
  if (report.verdict !== "healthy") return explainReport(ending, report);
  if (ending.isUnproven) {
    return new RestoreError("UNVERIFIED", "the report says healthy, but the restore is still marked as not proven");
  }
  const restored = report.recovered?.system_identifier ?? null;
  const expected = ending.systemIdentifier ?? restored;
  if (restored !== expected || expected === null) {
    return new RestoreError("UNHEALTHY", `the restored system identifier is ${restored}, the source's is ${expected}`);
  }
  if (how === "leader" && initialize !== expected) {
    return new RestoreError(
      "UNHEALTHY",
      `Patroni leads a cluster with system identifier ${initialize || "unknown"}, the restored one is ${expected}`,
    );
  }
  return null;
}

function neverChecked(ending: Ending): RestoreError {
  const message =
    ending.how === "leader"
      ? "Patroni leads with a restored instance that was never checked"
      : "the restored instance was never checked";
  return new RestoreError("UNVERIFIED", message, { hint: "post_bootstrap must call the post-bootstrap script" });
}

function explainExit(ending: Ending): RestoreError | Error {
  const { who, report } = ending;
  if (report !== null && report.verdict !== "healthy") return explainReport(ending, report);
  const printed = printedError(ending.lastLines);
  if (printed !== null && report === null) return printed;
  const complaint = ending.lastLines.filter(isComplaint).map(complaintText).at(-1);
  const why = complaint === undefined ? "" : `: ${complaint}`;
  if (report === null) {
    return new RestoreError("PREFLIGHT_FAILED", `${who} ended${describeExit(ending)} before the restore began${why}`);
  }
  return new RestoreError(
    "UNVERIFIED",
    `every check passed, but ${who} then gave the instance up and ended${describeExit(ending)}${why}`,
  );
}

function explainReport(ending: Ending, report: Report): RestoreError | Error {
  const { error } = report;
  if (error?.name === "INTERNAL") return new Error(error.message);
  if (report.finished_at === null && ending.how !== "exited") return neverChecked(ending);
  if (report.finished_at === null) {
    // bootstrap is done and post-bootstrap never finished: why says the log only.
    const complaint = ending.lastLines.filter(isComplaint).map(complaintText).at(-1);
    return (
      printedError(ending.lastLines) ??
      new RestoreError(
        "UNVERIFIED",
        `${ending.who} ended${describeExit(ending)} before the restore was proven${complaint ? `: ${complaint}` : ""}`,
      )
    );
  }
  if (error)
    return new RestoreError(error.name as ErrorCode, error.message, {
      hint: error.hint ?? undefined,
      about: error.about,
    });
  const failed = report.checks.filter((check) => check.status === "fail");
  if (failed.length > 0) {
    return new RestoreError("UNHEALTHY", failed.map((check) => `${check.id}: ${check.summary}`).join("; "));
  }
  return new RestoreError("UNVERIFIED", "not every check that was asked for could run");
}

function describeExit({ exit }: Ending): string {
  if (exit === null) return "";
  return exit.signal === null ? ` with exit code ${exit.exitCode}` : ` by ${exit.signal}`;
}
