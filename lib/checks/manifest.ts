/** The instance answers about itself as the source did at the marked instant; what moved there proves nothing. */

import { compareManifest, type ManifestAnswer } from "../mark/manifest.ts";
import type { ManifestEntry } from "../mark/receipt.ts";
import { type Asked, type Check, EVERY_LEVEL, enumerate, type Judgement, plural } from "./check.ts";

const NO_RECEIPT = "no receipt: nobody says what the source answered";

/** Questions of the user's own; the rest is asked of every service. */
export const isUserQuery = (entry: { question: string }) => entry.question.startsWith("query");

export interface ManifestFacts {
  answers: ManifestAnswer[];
}

export const manifest: Check<ManifestFacts> = {
  id: "manifest",
  claim: "consistency",
  levels: EVERY_LEVEL,
  skip: ({ receipt }) => (receipt === null ? NO_RECEIPT : null),
  collect: async (edge) => ({ answers: await edge.manifestAnswers() }),
  judge: (facts, { receipt }) =>
    judgeAnswers(
      receipt?.manifest.filter((entry) => !isUserQuery(entry)) ?? [],
      facts.answers.filter((answer) => !isUserQuery(answer)),
      { word: "answer", prefix: "manifest" },
    ),
};

export const queries: Check<ManifestFacts> = {
  id: "queries",
  claim: "consistency",
  levels: EVERY_LEVEL,
  skip(asked) {
    if (asked.receipt === null) return NO_RECEIPT;
    return asked.queries.length === 0 && !asked.receipt.manifest.some(isUserQuery) ? "no queries were asked for" : null;
  },
  collect: async (edge) => ({ answers: await edge.manifestAnswers() }),
  judge(facts, asked) {
    const judgement = judgeAnswers(
      asked.receipt?.manifest.filter(isUserQuery) ?? [],
      facts.answers.filter(isUserQuery),
      { word: "query result", prefix: "queries" },
    );
    if (judgement.status === "fail") return judgement;
    const unasked = notAskedOnSource(asked);
    if (unasked.length > 0) {
      return {
        ...judgement,
        status: "unverified",
        summary: `${enumerate(unasked)} of the settings file was not asked on the source`,
        hint: "run mark with the same settings file, so that the receipt holds its result",
      };
    }
    return judgement;
  },
};

function notAskedOnSource({ queries, receipt }: Asked): string[] {
  return queries
    .filter((q) => !receipt?.queries.some((r) => r.name === q.name && r.database === q.database && r.sql === q.sql))
    .map((q) => `query "${q.name}"`);
}

function judgeAnswers(
  entries: readonly ManifestEntry[],
  answers: readonly ManifestAnswer[],
  words: { word: string; prefix: string },
): Judgement {
  const { equal, different, missing, unexpected, unanswered } = compareManifest(entries, answers);
  const moved = entries.filter((entry) => entry.moved).map((entry) => entry.id);
  const facts = { entries: entries.length, equal, moved, different, missing, unexpected, unanswered };
  const coverage = {
    [`${words.prefix}_entries`]: entries.length,
    [`${words.prefix}_equal`]: equal,
    [`${words.prefix}_moved`]: moved.length,
  };
  const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
    status,
    summary,
    hint,
    facts,
    coverage,
  });
  const states = new Map(answers.map((answer) => [answer.id, answer.problem?.sqlState]));
  const [notRun, broken] = partition(unanswered, ({ id }) => NOT_RUN.test(states.get(id) ?? ""));
  const differences = [
    ...different.map((d) =>
      d.expectedCount === d.foundCount
        ? `${d.id} (${plural(d.foundCount, "row")}, another content)`
        : `${d.id} (${plural(d.expectedCount, "row")} on the source, ${d.foundCount} here)`,
    ),
    ...missing.map((id) => `${id} (no answer)`),
    ...broken.map(({ id, message }) => `${id} (${message})`),
  ];
  if (differences.length > 0) {
    return result(
      "fail",
      `${differences.length} of ${plural(entries.length, words.word)} differ from the source: ${enumerate(differences)}`,
      "the source was asked twice and did not change in between: this is damage or another state, not a race",
    );
  }
  if (notRun[0] !== undefined) {
    return result(
      "unverified",
      `${plural(notRun.length, words.word)} could not be had: ${enumerate(notRun.map((n) => n.id))}: ${notRun[0].message}`,
      "the source could answer: connect as a superuser, or raise --check-timeout",
    );
  }
  if (equal === 0) {
    return result(
      "unverified",
      entries.length === 0
        ? `the receipt holds no ${words.word}`
        : `nothing could be compared: all of ${plural(entries.length, words.word)} changed while the source was marked`,
      "mark the source at a quieter moment",
    );
  }
  const motion = moved.length > 0 ? `; ${moved.length} moved on the source and prove nothing: ${enumerate(moved)}` : "";
  const summary = `${plural(equal, words.word)} equal the source's${motion}`;
  if (unexpected.length > 0) {
    return result("warn", `${summary}; the source was not asked about ${enumerate(unexpected)}`);
  }
  return result("pass", summary);
}

/** Cancelled by a timeout, no right, a lock held by somebody, no memory or connection left: it says nothing about the data. */
const NOT_RUN = /^(57014|42501|55P03|53...)$/;

function partition<T>(items: readonly T[], test: (item: T) => boolean): [T[], T[]] {
  return [items.filter(test), items.filter((item) => !test(item))];
}
