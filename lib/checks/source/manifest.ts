/** The instance answers about its objects as the source did at the marked instant; what moved there proves nothing. */

import { compareObjects } from "../../manifest/compare.ts";
import type { Snapshot } from "../../manifest/manifest.ts";
import { hasNoNewRows, queryId } from "../../manifest/queries.ts";
import { judgeSequence } from "../../manifest/sequences.ts";
import { type Asked, type Check, EVERY_LEVEL, enumerate, type Judgement, plural } from "../check.ts";
import { describeFinding, type Finding, SHOWN } from "../findings.ts";

const NO_RECEIPT = "no receipt: nobody says what the source answered";

const DAMAGE =
  "the source was asked before and after the target and did not change in between: this is damage or another state, not a race; " +
  "restore to this target from an older backup set to tell which";

export interface ManifestFacts {
  answers: Snapshot;
}

/** Cancelled by a timeout, no right, a lock held by somebody, no memory or connection left: it says nothing about the data. */
const NOT_RUN = /^(57014|42501|55P03|53...)$/;

export const manifest: Check<ManifestFacts> = {
  id: "manifest",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  skip: ({ receipt }) => (receipt === null ? NO_RECEIPT : null),
  collect: async (edge) => ({ answers: await edge.manifestAnswers() }),
  judge({ answers }, { receipt }): Judgement {
    if (receipt === null) return { status: "skipped", summary: NO_RECEIPT };
    const { equal, moved, differences, unanswered } = compareObjects(receipt.manifest, answers.objects, answers.moved);
    const broken = unanswered.filter((u) => !NOT_RUN.test(u.sqlState ?? ""));
    const findings: Finding[] = [
      ...differences,
      ...broken.map((u) => ({ database: u.database, object: u.question, what: u.message })),
    ];
    const facts = {
      equal,
      moved,
      found: findings.length,
      findings: findings.slice(0, SHOWN),
      not_covered: receipt.manifest.not_covered,
    };
    const coverage = { manifest: { objects: equal, of_objects: equal + moved + findings.length, moved } };
    const result = (status: Judgement["status"], summary: string, hint?: string) => ({
      status,
      summary,
      hint,
      facts,
      coverage,
    });
    if (findings.length > 0) {
      return result(
        "fail",
        `${plural(findings.length, "object differs", "objects differ")} from the source: ${enumerate(findings.map(describeFinding))}`,
        DAMAGE,
      );
    }
    const [notRun] = unanswered;
    if (notRun !== undefined) {
      return result(
        "unverified",
        `${plural(unanswered.length, "question")} could not be asked: ${enumerate(unanswered.map((u) => u.question))}: ${notRun.message}`,
        "the source could answer: connect as a superuser, or raise --check-timeout",
      );
    }
    if (equal === 0) {
      return result(
        "unverified",
        "nothing could be compared: everything changed while the source was marked",
        "mark the source at a quieter moment",
      );
    }
    const motion = moved > 0 ? `; ${moved} changed on the source meanwhile and prove nothing` : "";
    return result("pass", `${plural(equal, "object")} as on the source${motion}`);
  },
};

export const queries: Check<ManifestFacts> = {
  id: "queries",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  skip(asked) {
    if (asked.receipt === null) return NO_RECEIPT;
    return asked.queries.length === 0 && asked.receipt.manifest.queries.length === 0
      ? "no queries were asked for"
      : null;
  },
  collect: async (edge) => ({ answers: await edge.manifestAnswers() }),
  judge({ answers }, asked): Judgement {
    const expected = asked.receipt?.manifest.queries ?? [];
    const found = new Map(answers.queries.map((answer) => [queryId(answer), answer]));
    const findings: string[] = [];
    const notRun: string[] = [];
    const unclear: string[] = [];
    let equal = 0;
    for (const query of expected.filter((q) => !q.moved)) {
      const id = queryId(query);
      const here = found.get(id);
      if (here === undefined) findings.push(`${id}: no answer`);
      else if (here.problem !== undefined) {
        (NOT_RUN.test(here.problem.sqlState ?? "") ? notRun : findings).push(`${id}: ${here.problem.message}`);
      } else if (here.digest === query.digest && here.count === query.count) equal++;
      else {
        const what =
          here.count === query.count
            ? `${plural(here.count, "row")} as on the source, with another content`
            : `${plural(here.count, "row")}, on the source ${query.count}`;
        // Tables that changed and changed back in between can explain another result at the target.
        (query.still && hasNoNewRows(here) ? findings : unclear).push(`${id}: ${what}`);
      }
    }
    const moved = expected.filter((q) => q.moved).length;
    const coverage = { queries: { equal, of_queries: expected.length, moved } };
    const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
      status,
      summary,
      hint,
      coverage,
      facts: { equal, moved, findings, unclear, not_run: notRun },
    });
    if (findings.length > 0) {
      return result(
        "fail",
        `${plural(findings.length, "query result differs", "query results differ")}: ${enumerate(findings)}`,
        DAMAGE,
      );
    }
    const unasked = notAskedOnSource(asked);
    if (unasked.length > 0) {
      return result(
        "unverified",
        `${enumerate(unasked)} of the settings file was not asked on the source`,
        "run mark with the same settings file, so that the receipt holds its result",
      );
    }
    if (notRun.length > 0)
      return result("unverified", `could not be asked: ${enumerate(notRun)}`, "raise --check-timeout");
    const motion = moved > 0 ? `; ${moved} moved on the source and prove nothing` : "";
    if (unclear.length > 0) {
      return result(
        "warn",
        `${plural(equal, "query result")} as on the source${motion}; different, while their tables were written on the source: ${enumerate(unclear)}`,
        "a result that was the same before and after the target may have been another at the target",
      );
    }
    if (equal === 0)
      return result("unverified", `nothing could be compared${motion}`, "mark the source at a quieter moment");
    return result("pass", `${plural(equal, "query result")} as on the source${motion}`);
  },
};

function notAskedOnSource({ queries, receipt }: Asked): string[] {
  return queries
    .filter((q) => !receipt?.queries.some((r) => r.name === q.name && r.database === q.database && r.sql === q.sql))
    .map((q) => `query "${q.name}"`);
}

export const sequenceValues: Check<ManifestFacts> = {
  id: "sequence-values",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  skip: ({ receipt }) => (receipt === null ? NO_RECEIPT : null),
  collect: async (edge) => ({ answers: await edge.manifestAnswers() }),
  judge({ answers }, { receipt }): Judgement {
    if (receipt === null) return { status: "skipped", summary: NO_RECEIPT };
    const { sequences, sequences_moved: moved } = receipt.manifest;
    const found = new Map(
      answers.sequences.flatMap(({ database, values }) => values.map((v) => [JSON.stringify([database, v.name]), v])),
    );
    const problems = answers.problems.filter((p) => p.what === "sequences");
    const findings: Finding[] = [];
    for (const expected of sequences) {
      const { database, name } = expected;
      if (problems.some((p) => p.database === database)) continue;
      const here = found.get(JSON.stringify([database, name]));
      const what = here === undefined ? "is missing here" : judgeSequence(expected, here);
      if (what !== null) findings.push({ database, object: `sequence ${name}`, what });
    }
    const coverage = { "sequence-values": { sequences: sequences.length, moved } };
    const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
      status,
      summary,
      hint,
      coverage,
      facts: { sequences: sequences.length, moved, found: findings.length, findings: findings.slice(0, SHOWN) },
    });
    if (findings.length > 0) {
      return result(
        "fail",
        enumerate(findings.map(describeFinding)),
        `a sequence behind gives out numbers twice; ${DAMAGE}`,
      );
    }
    if (problems[0] !== undefined) {
      return result("fail", `database ${problems[0].database}: its sequences cannot be read: ${problems[0].why}`);
    }
    const motion = moved > 0 ? `; ${moved} were used meanwhile and prove nothing` : "";
    return result("pass", `${plural(sequences.length, "sequence")} where the source had them${motion}`);
  },
};
