/** Recovery stopped at the target that was asked for, and replayed no commit after it. */

import type { Receipt } from "../../mark/receipt.ts";
import { describeTarget, type Target, timeToMicros } from "../../postgres/target.ts";
import { type Check, EVERY_LEVEL } from "../check.ts";

/** The evidence is all there is: PostgreSQL forgets its last replayed commit with the first restart. */
export const lastCommit: Check<Record<string, never>> = {
  id: "last-commit",
  claim: "recentness",
  levels: EVERY_LEVEL,
  skip: ({ evidence }) =>
    evidence === null ? "no report of the restore, and the instance itself has forgotten it" : null,
  collect: async () => ({}),
  judge(_, { evidence, receipt }) {
    const target = evidence?.target ?? null;
    const recovered = evidence?.recovered ?? null;
    if (target === null || recovered === null) {
      return {
        status: "unverified",
        summary: "the report does not say how far recovery got",
        hint: "bootstrap was interrupted before it had finished",
      };
    }
    const facts = {
      target: target.value,
      target_type: target.type,
      receipt_target: receipt?.target.time ?? null,
      last_commit_at: recovered.last_commit_at,
      lsn: recovered.lsn,
      stop_reason: recovered.stop_reason,
    };
    const last = recovered.last_commit_at;
    const until = last === null ? "no transaction was replayed" : `the last commit is of ${last}`;
    if (target.type === "time" && target.value !== null && last !== null) {
      const past = timeToMicros(last) - timeToMicros(target.value);
      if (past > 0n || (past === 0n && target.exclusive)) {
        return {
          status: "fail",
          summary: `recovery went past the target: ${until}, ${past} µs after ${describeTarget(target)}`,
          facts,
        };
      }
    }
    if (receipt !== null) {
      if (!isMarked(target, receipt.target)) {
        return {
          status: "warn",
          summary: `the target was ${describeTarget(target)}, not the receipt's ${receipt.target.time}; ${until}`,
          hint: "marker and fence alone say whether the marked instant was met",
          facts,
        };
      }
    }
    if (last === null) {
      return {
        status: "warn",
        summary: `${until}: the base backup alone reaches ${describeTarget(target)}, or the source was idle`,
        facts,
      };
    }
    const exact = receipt === null ? "" : ", exactly the receipt's";
    return { status: "pass", summary: `${until}; the target was ${describeTarget(target)}${exact}`, facts };
  },
};

function isMarked(target: Target, marked: Receipt["target"]): boolean {
  if (target.value === null) return false;
  if (target.type === "time") return timeToMicros(target.value) === timeToMicros(marked.time);
  return (
    (target.type === "lsn" && target.value === marked.lsn) || (target.type === "name" && target.value === marked.name)
  );
}
