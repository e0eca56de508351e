/** The new timeline branched off the one that was recovered, and that one belongs to the receipt's. */

import { type Check, EVERY_LEVEL, type Judgement } from "../check.ts";

export interface TimelineFacts {
  timeline: number;
  /** Oldest first: the timelines that this one descends from. */
  ancestors: number[];
  history: string;
}

export const timeline: Check<TimelineFacts> = {
  id: "timeline",
  claim: "recentness",
  levels: EVERY_LEVEL,
  skip: ({ receipt, evidence }) =>
    receipt === null && evidence === null ? "neither a receipt nor a report of the restore to compare with" : null,
  collect: (edge) =>
    edge.sql(null, async (database) => {
      // The control file's timeline lags behind a promotion until the next checkpoint; the WAL's own name does not.
      const { wal } = await database.row<{ wal: string }>("SELECT pg_walfile_name(pg_current_wal_lsn()) AS wal");
      const current = Number.parseInt(wal.slice(0, 8), 16);
      if (current === 1) return { timeline: 1, ancestors: [], history: "" };
      const { history } = await database.row<{ history: string }>("SELECT pg_read_file($1) AS history", [
        `pg_wal/${wal.slice(0, 8)}.history`,
      ]);
      return { timeline: current, ancestors: parseHistory(history), history };
    }),
  judge(facts, { receipt, evidence }) {
    const { timeline, ancestors } = facts;
    const line = [...ancestors, timeline].join(" > ");
    const fail = (summary: string): Judgement => ({
      status: "fail",
      summary,
      hint: "another timeline than the marked one was recovered: see --target-timeline, and who archives into this stanza",
    });
    if (receipt !== null && timeline <= receipt.timeline) {
      return fail(`timeline ${timeline} is not newer than the receipt's timeline ${receipt.timeline}`);
    }
    if (receipt !== null && !ancestors.includes(receipt.timeline)) {
      return fail(`timeline ${timeline} does not descend from the receipt's timeline ${receipt.timeline} (${line})`);
    }
    if (evidence !== null) {
      const { recovered } = evidence;
      if (recovered === null) {
        return { status: "unverified", summary: "the report does not say which timeline was recovered" };
      }
      const parent = [...ancestors, timeline].indexOf(recovered.timeline) - 1;
      if (parent < -1)
        return fail(`the promoted timeline ${recovered.timeline} is not in this one's history (${line})`);
      if (ancestors[parent] !== recovered.parent_timeline) {
        return fail(
          `timeline ${recovered.timeline} branched off ${ancestors[parent] ?? "nothing"}, ` +
            `but timeline ${recovered.parent_timeline} was recovered (${line})`,
        );
      }
    }
    return { status: "pass", summary: `timeline ${timeline}, a new one (${line})` };
  },
};

/**
 * Lines of `parent switch-LSN reason`, oldest first, comments and empty lines between
 * (PostgreSQL src/backend/access/transam/timeline.c, readTimeLineHistory).
 */
export function parseHistory(text: string): number[] {
  return text
    .split("\n")
    .map((line) => /^\s*(\d+)\s+[0-9A-F]+\/[0-9A-F]+/i.exec(line)?.[1])
    .filter((parent) => parent !== undefined)
    .map(Number);
}
