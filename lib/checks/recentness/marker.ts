/** Recentness from both sides: the row committed before the target is there, the row committed after it is not. */

import { MARKER_DATABASE, MARKER_SCHEMA } from "../../mark/marker.ts";
import { timeToMicros } from "../../postgres/target.ts";
import { formatDuration } from "../../units.ts";
import { type Asked, type Check, EVERY_LEVEL } from "../check.ts";
import type { Edge } from "../edge.ts";

const MARKER_TABLE = `${MARKER_SCHEMA}.marker`;
const FENCE_TABLE = `${MARKER_SCHEMA}.fence`;

const NO_RECEIPT = "no receipt: nobody says which marker to look for";

export interface MarkerFacts {
  /** False when `mark` never ran on the service, or ran after the recovered instant. */
  table_exists: boolean;
  /** Time of the marker with the receipt's id; null when there is none. */
  marked_at: string | null;
  /** Newest marker of the instance: tells how old it is when the right one is missing. */
  newest_at: string | null;
}

export const markerPresent: Check<MarkerFacts> = {
  id: "marker-present",
  claim: "recentness",
  levels: EVERY_LEVEL,
  skip: ({ receipt }) => (receipt === null ? NO_RECEIPT : null),
  collect: (edge) =>
    edge.sql(MARKER_DATABASE, async (database) => {
      if (!(await tableExists(database, MARKER_TABLE))) {
        return { table_exists: false, marked_at: null, newest_at: null };
      }
      const row = await database.row<{ marked_at: string | null; newest_at: string | null }>(
        `SELECT max(marked_at) FILTER (WHERE id::text = $1)::text AS marked_at, max(marked_at)::text AS newest_at
           FROM ${MARKER_TABLE}`,
        [edge.asked.receipt?.id],
      );
      return { table_exists: true, ...row };
    }),
  judge(facts, { receipt }) {
    const id = receipt?.id;
    const hint =
      "the data is older than the marker: did recovery reach the target, and is the receipt of this very service";
    if (!facts.table_exists) {
      return { status: "fail", summary: `marker ${id} is missing: there is no table ${MARKER_TABLE}`, hint };
    }
    if (facts.marked_at === null) {
      const newest = facts.newest_at === null ? "the table is empty" : `the newest marker is of ${facts.newest_at}`;
      return { status: "fail", summary: `marker ${id} is missing; ${newest}`, hint };
    }
    return { status: "pass", summary: `marker ${id} of ${facts.marked_at} is there` };
  },
};

export interface FenceFacts {
  table_exists: boolean;
  fenced_at: string | null;
}

export const fenceAbsent: Check<FenceFacts> = {
  id: "fence-absent",
  claim: "recentness",
  levels: EVERY_LEVEL,
  skip: ({ receipt }) => (receipt === null ? NO_RECEIPT : null),
  collect: (edge) =>
    edge.sql(MARKER_DATABASE, async (database) => {
      if (!(await tableExists(database, FENCE_TABLE))) return { table_exists: false, fenced_at: null };
      const row = await database.row<{ fenced_at: string | null }>(
        `SELECT max(fenced_at)::text AS fenced_at FROM ${FENCE_TABLE} WHERE id::text = $1`,
        [edge.asked.receipt?.id],
      );
      return { table_exists: true, ...row };
    }),
  judge(facts, { receipt }) {
    if (!facts.table_exists) {
      return {
        status: "unverified",
        summary: `there is no table ${FENCE_TABLE}: that the fence is absent from it proves nothing`,
        hint: "the data is older than the marker",
      };
    }
    if (facts.fenced_at !== null) {
      return {
        status: "fail",
        summary: `fence ${receipt?.id} of ${facts.fenced_at} is there: the data is newer than the target`,
        hint: "recovery went past the target, or this is the source itself",
      };
    }
    return { status: "pass", summary: `fence ${receipt?.id} is absent: nothing newer than the target came in` };
  },
};

export interface NewestMarkerFacts {
  table_exists: boolean;
  newest_at: string | null;
}

/** Only without a receipt: how much of the source's last work is in the restore, as far as its markers tell. */
export const newestMarker: Check<NewestMarkerFacts> = {
  id: "newest-marker",
  claim: "recentness",
  levels: EVERY_LEVEL,
  skip: ({ receipt }) => (receipt === null ? null : "the receipt's own marker is looked for instead"),
  collect: (edge) =>
    edge.sql(MARKER_DATABASE, async (database) => {
      if (!(await tableExists(database, MARKER_TABLE))) return { table_exists: false, newest_at: null };
      const row = await database.row<{ newest_at: string | null }>(
        `SELECT max(marked_at)::text AS newest_at FROM ${MARKER_TABLE}`,
      );
      return { table_exists: true, ...row };
    }),
  judge(facts, asked) {
    if (!facts.table_exists) {
      return {
        status: "unverified",
        summary: `there is no receipt and no table ${MARKER_TABLE}: how recent the data is cannot be said`,
        hint: "give --receipt, or run mark on every service from time to time, so that a newest marker tells the age",
      };
    }
    if (facts.newest_at === null) {
      return { status: "fail", summary: `there is no receipt, and ${MARKER_TABLE} is empty`, hint: "give --receipt" };
    }
    const reference = rpoReference(asked);
    const ageMs = millisBetween(facts.newest_at, reference.micros);
    const summary = `the newest marker is of ${facts.newest_at}, ${formatDuration(Math.max(0, ageMs))} before ${reference.name}`;
    if (ageMs > asked.maxRpoMs) {
      return {
        status: "fail",
        summary: `${summary}; the limit is ${formatDuration(asked.maxRpoMs)}`,
        hint: "newer data is missing, or mark did not run: raise --max-rpo only when that is known",
      };
    }
    return { status: "pass", summary: `${summary} (limit ${formatDuration(asked.maxRpoMs)})` };
  },
};

/** Who asked for a time gets his loss measured from it; everybody else from the start of the restore. */
function rpoReference({ receipt, evidence, startedAt }: Asked): { micros: bigint; name: string } {
  const target = evidence?.target;
  if (receipt === null && target?.type === "time" && target.value !== null) {
    return { micros: timeToMicros(target.value), name: `the target ${target.value}` };
  }
  return { micros: BigInt(startedAt.getTime()) * 1000n, name: "the start of the restore" };
}

/** The newest of these commits is the newest that was proven; how long before the reference, in milliseconds. */
export function recoveryPointMs(asked: Asked, provenCommits: readonly (string | null | undefined)[]): number | null {
  const times = provenCommits.filter((time) => typeof time === "string").map(timeToMicros);
  const newest = times.sort((a, b) => (a < b ? -1 : 1)).at(-1);
  if (newest === undefined) return null;
  const lossMicros = rpoReference(asked).micros - newest;
  // The source's clock may be ahead of this machine's.
  return lossMicros < 0n ? 0 : Math.round(Number(lossMicros) / 1000);
}

const millisBetween = (from: string, toMicros: bigint) => Number(toMicros - timeToMicros(from)) / 1000;

async function tableExists(
  database: Parameters<Parameters<Edge["sql"]>[1]>[0],
  qualifiedName: string,
): Promise<boolean> {
  const row = await database.row<{ found: string }>("SELECT (to_regclass($1) IS NOT NULL)::text AS found", [
    qualifiedName,
  ]);
  return row.found === "true";
}
