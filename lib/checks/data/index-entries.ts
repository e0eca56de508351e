/** Entries of indexes that lead nowhere, and rows that an index does not know: for each type of index, page by page. */

import type { Check } from "../check.ts";
import { type Finding, type FoundFacts, judgeFindings, sortOutcomes } from "../findings.ts";
import type { Outcome } from "../pool.ts";
import type { Relation } from "../relations.ts";
import { type PassItem, pagePass } from "./page-pass.ts";

interface IndexValue {
  findings: Finding[];
  entries: number;
}

export interface IndexEntriesFacts extends FoundFacts {
  entries: number;
}

export const indexEntries: Check<IndexEntriesFacts> = {
  id: "index-entries",
  claim: "consistency",
  levels: ["full"],
  stage: "data",
  async collect(edge) {
    return indexFacts(await pagePass(edge));
  },
  judge(facts) {
    const judgement = judgeFindings("index-entries", facts, {
      good: `${facts.coverage.relations} indexes with ${facts.entries} entries agree with their tables`,
      meaning:
        "an index and its table are not of the same moment: queries miss rows or fail. If the table is right (compare with " +
        "the source), REINDEX repairs it; if blocks of the table are gone, the backup is damaged: restore another one",
    });
    return { ...judgement, facts: { ...judgement.facts, entries: facts.entries } };
  },
};

export function indexFacts(items: readonly PassItem[]): IndexEntriesFacts {
  let entries = 0;
  const units = items.flatMap(({ indexes, outcome }) =>
    indexes.map((relation): { relation: Relation; outcome: Outcome<IndexValue> } => {
      if (outcome.kind !== "done") return { relation, outcome };
      const of = outcome.value.indexes.find(({ oid }) => oid === relation.oid);
      // Dropped or rebuilt since the list was made: there is another one now, or none.
      if (of === undefined) return { relation, outcome: { kind: "left-out", why: "it went away meanwhile" } };
      if (of.notCovered !== null) return { relation, outcome: { kind: "left-out", why: of.notCovered } };
      const findings = of.problems.map(({ where, what }): Finding => {
        return { database: relation.database, object: `index ${relation.name}`, where, what };
      });
      entries += of.entries;
      return { relation, outcome: { kind: "done", value: { findings, entries: of.entries } } };
    }),
  );
  return { ...sortOutcomes(units, ({ findings }) => findings), entries };
}
