/** Entries of indexes that lead nowhere, and rows that an index does not know: for each type of index, page by page. */

import type { Check } from "../check.ts";
import { judgeFindings } from "../findings.ts";
import { type IndexEntriesFacts, pageFacts } from "./page-facts.ts";

export const indexEntries: Check<IndexEntriesFacts> = {
  id: "index-entries",
  claim: "consistency",
  levels: ["full"],
  stage: "data",
  async collect(edge) {
    return (await pageFacts(edge)).indexEntries();
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
