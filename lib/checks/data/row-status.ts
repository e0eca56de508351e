/**
 * Rows agree with pg_xact: what their hint bits say of a transaction is what its status says; and pg_multixact knows who is
 * in the multixacts that they name. A status that was lost makes rows vanish, or come back, without any error.
 */

import type { Check } from "../check.ts";
import { enumerate, plural } from "../check.ts";
import { judgeFindings } from "../findings.ts";
import { pageFacts, type RowStatusFacts } from "./page-facts.ts";

export const rowStatus: Check<RowStatusFacts> = {
  id: "row-status",
  claim: "consistency",
  levels: ["full"],
  stage: "data",
  async collect(edge) {
    return (await pageFacts(edge)).rowStatus();
  },
  judge(facts) {
    const judgement = judgeFindings("row-status", facts, {
      good: `what ${plural(facts.coverage.rows ?? 0, "row")} of ${plural(facts.coverage.relations, "table")} say of their transactions is what pg_xact says`,
      meaning:
        "pages of a table, or transaction status (pg_xact, pg_multixact), are damaged or not of the same moment: rows are missing or have " +
        "come back. Restore again, from another backup if it happens again",
    });
    const zero = facts.zeroBlocks.map(({ relation, blocks }) => ({
      database: relation.database,
      object: relation.name,
      blocks: blocks.slice(0, 100),
    }));
    const { asked, tablesWithMore } = facts.multixacts;
    const more = { multixacts: asked, tables_with_more_multixacts: tablesWithMore };
    const withZero = {
      ...judgement,
      facts: { ...judgement.facts, zero_blocks: zero, ...more },
      coverage: { "row-status": { ...facts.coverage, ...more } },
    };
    if (judgement.status !== "pass" || zero.length === 0) return withZero;
    const list = enumerate(
      zero.map(({ database, object, blocks }) => `${database}: ${object} (block ${enumerate(blocks.map(String), 3)})`),
      3,
    );
    return {
      ...withZero,
      status: "warn",
      summary: `${judgement.summary}; all-zero blocks, which a crash of the source may have left: ${list}`,
      hint: "compare the number of rows with the source",
    };
  },
};
