/** Every B-tree as amcheck sees it: its structure, and each row of the table in it. */

import { type Check, plural } from "../check.ts";
import type { Edge } from "../edge.ts";
import { describeFailure, errorCode, isAway, isDamage } from "../failure.ts";
import { type FoundFacts, judgeFindings, type NotCovered, Tally } from "../findings.ts";
import type { Outcome } from "../pool.ts";
import type { Relation } from "../relations.ts";
import { type Session, ToolMissing } from "../session.ts";
import { pageFacts } from "./page-facts.ts";
import { lookAtAll, regclasses, type Settle } from "./relation-units.ts";

/** Finding every row again from the root doubles the time and finds little more, so only in indexes up to this size. */
export const ROOT_DESCEND_BYTES = 16 * 1024 ** 2;

export interface BtreeFacts extends FoundFacts {
  /** Indexes in which every row was found again from the root. */
  descended: number;
}

/** How thoroughly an index was looked at in the end. */
interface Looked {
  descended: boolean;
  /** What was not done, and why. */
  less: string | null;
}

const DESCENDED: Looked = { descended: true, less: null };
const NOT_DESCENDED: Looked = { descended: false, less: null };
const SOUND: Outcome<Looked> = { kind: "done", value: DESCENDED };

/** Nearly all are the same. */
const shared = (outcome: Outcome<Looked>) => (outcome.kind === "done" && outcome.value === DESCENDED ? SOUND : outcome);

export const btree: Check<BtreeFacts> = {
  id: "btree",
  claim: "consistency",
  levels: ["standard", "full"],
  stage: "data",
  async collect(edge) {
    const all = await edge.relations();
    const less: NotCovered[] = [];
    let descended = 0;
    const tally = new Tally<Looked>((looked, { database, name: object, bytes }) => {
      if (looked.descended) descended++;
      if (looked.less !== null) less.push({ database, object, bytes, why: looked.less });
      return [];
    });
    const look = (indexes: readonly Relation[], rows: boolean, settle: Settle<Looked>) =>
      lookAtAll(
        edge,
        indexes,
        {
          bytes: (index) => index.bytes + (rows ? (index.of?.bytes ?? 0) : 0),
          one: (session, index) => verifyIndex(session, edge, index, rows),
          together: async (session, small) => {
            await session.need(toolFor(edge));
            await session.query(verifySql(small, firstAttempt(edge, rows), isFull(edge), edge));
            return small.map(() => (isFull(edge) ? DESCENDED : NOT_DESCENDED));
          },
        },
        settle,
      );
    const isFixed = (index: Relation) => isFull(edge) && index.fixedKeys;
    const indexes = all.filter(isBtree);
    const fixed = indexes.filter(isFixed);
    const first = new Map<Relation, Outcome<Looked>>();
    const again = new Map<Relation, Outcome<Looked>>();
    await Promise.all([
      look(
        indexes.filter((index) => !isFixed(index)),
        true,
        tally.add,
      ),
      look(fixed, false, (index, outcome) => first.set(index, shared(outcome))),
      keysNotCompared(edge, fixed).then((left) => look(left, true, (index, outcome) => again.set(index, outcome))),
    ]);
    for (const index of fixed) {
      const outcomes = [first.get(index), again.get(index)].filter((outcome) => outcome !== undefined);
      // Of two looks what the first one found stays found.
      tally.add(index, ...outcomes.filter(({ kind }, i) => i === outcomes.length - 1 || kind !== "done"));
    }
    const sorted = tally.sorted();
    return { ...sorted, notCovered: [...sorted.notCovered, ...less], descended };
  },
  judge(facts) {
    const judgement = judgeFindings("btree", facts, {
      good: `${plural(facts.coverage.relations, "B-tree index", "B-tree indexes")} are sound and hold every row`,
      meaning:
        "queries that use these indexes give wrong answers: REINDEX repairs an index if its table is sound; " +
        "after a change of the operating system's collations many text indexes are found at once",
    });
    return {
      ...judgement,
      coverage: { ...judgement.coverage, btree: { ...facts.coverage, root_descend: facts.descended } },
    };
  },
};

export const isBtree = ({ kind, method, persistence, valid }: Relation) =>
  kind === "i" && method === "btree" && persistence === "p" && valid;

interface Attempt {
  parents: boolean;
  rows: boolean;
  /** With the search_path that the database's users have: functions of expression indexes may need it. */
  usersPath: boolean;
}

/** Full looks at parents too, under a lock that others may not give. */
const isFull = (edge: Edge) => edge.asked.level === "full";
const firstAttempt = (edge: Edge, rows: boolean): Attempt => ({ parents: isFull(edge), rows, usersPath: false });
const hasUnique = (edge: Edge) => edge.serverVersion >= 170_000;
const toolFor = (edge: Edge) => (hasUnique(edge) ? "amcheck_unique" : "amcheck");

/** What the page pass compares row by row needs no such comparison here: it is what takes the most time of all. */
async function keysNotCompared(edge: Edge, indexes: readonly Relation[]): Promise<Relation[]> {
  if (indexes.length === 0) return [];
  // What keeps the pages from being read is said by index-entries.
  const compared = await pageFacts(edge).then(
    (facts) => facts.keysCompared,
    () => new Set(),
  );
  return indexes.filter((index) => !compared.has(index));
}

async function verifyIndex(session: Session, edge: Edge, index: Relation, rows: boolean): Promise<Looked> {
  await session.need(toolFor(edge));
  let attempt = firstAttempt(edge, rows);
  let less: string | null = null;
  for (;;) {
    const descended = attempt.parents && index.bytes <= ROOT_DESCEND_BYTES;
    try {
      await session.query(verifySql([index], attempt, descended, edge));
      return { descended, less };
    } catch (error) {
      const next = afterFailure(attempt, error);
      if (next === null) throw error;
      if (next.rows !== attempt.rows || next.parents !== attempt.parents) {
        less = `${next.rows ? "parents were" : "the table was"} not compared: ${describeFailure(error).message}`;
      }
      attempt = next;
    }
  }
}

/** What is still possible; null when nothing is, or the index is damaged. */
export function afterFailure(attempt: Attempt, error: unknown): Attempt | null {
  if (isDamage(error) || isAway(error) || error instanceof ToolMissing) return null;
  const code = errorCode(error) ?? "";
  // Locked by somebody else, or the server is in recovery.
  if (code === "55P03" || code === "25006" || code === "40P01") {
    return attempt.parents ? { ...attempt, parents: false } : null;
  }
  if (code === "57014" || code.startsWith("53")) return null;
  if (!attempt.usersPath) return { ...attempt, usersPath: true };
  return attempt.rows ? { ...attempt, rows: false } : null;
}

function verifySql(
  indexes: readonly Relation[],
  { parents, rows, usersPath }: Attempt,
  descend: boolean,
  edge: Edge,
): string {
  const settings = [
    // The filter through which rows and entries are compared: smaller than it needs, it misses what is missing.
    "SET LOCAL maintenance_work_mem = '256MB'",
    // Shorter than deadlock_timeout, so that nobody else is the victim.
    ...(parents ? ["SET LOCAL lock_timeout = '500ms'"] : []),
    ...(usersPath ? ["RESET search_path"] : []),
  ];
  const name = `bt_index${parents ? "_parent" : ""}_check${hasUnique(edge) ? "_unique" : ""}`;
  const values = ["index", rows, ...(parents ? [descend] : []), ...(hasUnique(edge) ? [true] : [])];
  return `${settings.join("; ")}; SELECT pg_temp.${name}(${values.join(", ")}) FROM ${regclasses(indexes)} AS index`;
}
