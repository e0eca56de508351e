/**
 * Indexes that amcheck cannot check give the rows that their tables hold: each row is asked for by its own value. B-trees are
 * left to `btree`.
 */

import { type Check, enumerate, type Judgement, plural } from "../check.ts";
import { type Finding, type FoundFacts, judgeFindings, SHOWN, sortOutcomes } from "../findings.ts";
import type { Outcome } from "../pool.ts";
import { type Relation, unitOf } from "../relations.ts";
import { askIndex } from "./index-ask.ts";
import { type Described, describeIndexes, type IndexAnswer } from "./index-description.ts";

export interface IndexAnswersFacts extends FoundFacts {
  rows: number;
  ofRows: number;
  /** Of which only a part of the rows was asked for. */
  sampled: number;
  doubtful: readonly { database: string; index: string; rows: readonly string[] }[];
}

export const indexAnswers: Check<IndexAnswersFacts, ReadonlyMap<Relation, Described>> = {
  id: "index-answers",
  claim: "consistency",
  stage: "data",
  levels: ["standard", "full"],
  plan: (database, relations) =>
    describeIndexes(
      database,
      relations.filter((relation) => isAsked(relation) && !relation.held),
    ),
  async collect(edge, planned) {
    const full = edge.asked.level === "full";
    const indexes = (await edge.relations()).filter(isAsked);
    const items: { relation: Relation; outcome: Outcome<IndexAnswer> }[] = [];
    const describedOf = (index: Relation) => planned(index.database).get(index);
    const isThere = (index: Relation) => index.held || describedOf(index) !== undefined;
    for (const relation of indexes.filter((index) => !isThere(index))) {
      items.push({ relation, outcome: { kind: "left-out", why: "it was dropped meanwhile" } });
    }
    await edge.pool.work(
      indexes.filter(isThere).map((relation) => ({ ...unitOf(relation), relation })),
      (session, { relation }) => askIndex(session, describedOf(relation) as Described, full, edge.statementTimeoutMs),
      ({ relation }, outcome) => items.push({ relation, outcome }),
    );
    return summarize(items);
  },
  judge: judgeIndexAnswers,
};

const isAsked = ({ kind, valid, system, populated, method }: Relation) =>
  kind === "i" && valid && !system && populated && method !== "btree";

export function summarize(items: readonly { relation: Relation; outcome: Outcome<IndexAnswer> }[]): IndexAnswersFacts {
  const rows = { asked: 0, of: 0, sampled: 0 };
  const notCovered: IndexAnswersFacts["notCovered"][number][] = [];
  const doubtful: IndexAnswersFacts["doubtful"][number][] = [];
  for (const { relation, outcome } of items) {
    if (outcome.kind !== "done") continue;
    const { value } = outcome;
    rows.asked += value.rows;
    rows.of += value.ofRows;
    if (value.doubtful.length > 0) {
      doubtful.push({ database: relation.database, index: relation.name, rows: value.doubtful.slice(0, 20) });
    }
    if (value.rows > 0 && value.rows < value.ofRows) rows.sampled++;
    if (value.why !== null) {
      const { database, name: object, bytes } = relation;
      notCovered.push({ database, object, bytes, why: value.why });
    }
  }
  const unasked = new Set(
    items.filter((i) => i.outcome.kind === "done" && i.outcome.value.rows === 0 && i.outcome.value.why !== null),
  );
  const sorted = sortOutcomes(
    items.map((item) =>
      unasked.has(item)
        ? { ...item, outcome: { kind: "left-out", why: reasonOf(item.outcome) } as typeof item.outcome }
        : item,
    ),
    findingsOf,
  );
  const listed = new Set(sorted.notCovered.map((n) => `${n.database} ${n.object}`));
  return {
    ...sorted,
    notCovered: [...sorted.notCovered, ...notCovered.filter((n) => !listed.has(`${n.database} ${n.object}`))],
    coverage: { ...sorted.coverage, rows: rows.asked },
    rows: rows.asked,
    ofRows: rows.of,
    sampled: rows.sampled,
    doubtful,
  };
}

const reasonOf = (outcome: Outcome<IndexAnswer>) =>
  outcome.kind === "done" ? (outcome.value.why ?? "nothing was asked") : "nothing was asked";

export function findingsOf({ bad, wrong }: IndexAnswer, relation: Relation): Finding[] {
  if (bad === 0 || wrong.length === 0) return [];
  const object = `index ${relation.name}`;
  const at = (rows: IndexAnswer["wrong"]) => `rows at ${enumerate(rows.map((w) => w.tid))} of its table`;
  const kinds: [IndexAnswer["wrong"], string][] = [
    [wrong.filter((w) => w.found === 0), "the index does not find them by their own value"],
    [wrong.filter((w) => w.found > 1), "the index finds them more than once"],
    [
      wrong.filter((w) => w.found === 1),
      `asked for them, the index gives others: ${wrong.find((w) => w.other !== "")?.other}`,
    ],
  ];
  const count = bad > 1 ? ` (${plural(bad, "value")} answered differently)` : "";
  return kinds
    .filter(([rows]) => rows.length > 0)
    .map(([rows, what]) => ({
      database: relation.database,
      object,
      where: rows[0]?.tid === "" ? undefined : at(rows),
      what: rows[0]?.tid === "" ? (rows[0]?.other ?? "") : `${what}${count}`,
    }));
}

export function judgeIndexAnswers(facts: IndexAnswersFacts): Judgement {
  const judged = judgeFindings("index-answers", facts, {
    good: `${plural(facts.coverage.relations, "index", "indexes")} found ${facts.rows} of ${facts.ofRows} rows by their own values`,
    meaning:
      "these indexes and their tables disagree, so queries that use the index give wrong answers: rows were lost or changed in " +
      "one of them. REINDEX repairs it when the table is right, which the same question on the source tells",
  });
  const result: Judgement = {
    ...judged,
    facts: {
      ...judged.facts,
      rows: facts.rows,
      of_rows: facts.ofRows,
      sampled_indexes: facts.sampled,
      ...(facts.doubtful.length > 0 ? { doubtful: facts.doubtful.slice(0, SHOWN) } : {}),
    },
    coverage: { "index-answers": { ...facts.coverage, of_rows: facts.ofRows, sampled_relations: facts.sampled } },
  };
  if ((judged.status !== "pass" && judged.status !== "skipped") || facts.doubtful.length === 0) return result;
  const list = facts.doubtful.map((d) => `${d.database}: index ${d.index} (rows at ${enumerate(d.rows)} of its table)`);
  return {
    ...result,
    status: "warn",
    summary: `${plural(facts.doubtful.length, "index does", "indexes do")} not find rows that are in them: ${enumerate(list, 3)}`,
    hint:
      "values like NaN, even if deleted since, do that to an index of such an operator class, so the source's probably does it " +
      "too: REINDEX repairs it",
  };
}
