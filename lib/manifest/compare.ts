/** What the restore answers, against what the source answered. */

import { byName, type QuestionAnswers } from "./objects.ts";
import { type Manifest, PackedQuestion } from "./schema.ts";

export interface Difference {
  database: string | null;
  /** `tables public.orders`. */
  object: string;
  what: string;
}

export interface ObjectComparison {
  equal: number;
  moved: number;
  differences: Difference[];
  /** Questions that the source answered and that failed here. */
  unanswered: { database: string | null; question: string; sqlState: string | undefined; message: string }[];
}

/** `moved`: by database, what changed on the source between its first answer and the target (`movedObjects`, asked here). */
export function compareObjects(
  manifest: Manifest,
  answers: readonly QuestionAnswers[],
  moved: ReadonlyMap<string, ReadonlySet<string>>,
): ObjectComparison {
  const found = new Map(answers.map((a) => [JSON.stringify([a.database, a.question]), a]));
  const result: ObjectComparison = { equal: 0, moved: 0, differences: [], unanswered: [] };
  for (const asked of manifest.objects) {
    const expected = PackedQuestion.of(asked);
    const { database, question, digests } = expected;
    const inMotion = new Set(expected.moved);
    result.moved += inMotion.size;
    const answer = found.get(JSON.stringify([database, question]));
    if (answer === undefined) {
      const what = `no answer; the source has ${digests.length}`;
      if (digests.length > 0) result.differences.push({ database, object: question, what });
      continue;
    }
    if (answer.problem !== undefined) {
      result.unanswered.push({ database, question, ...answer.problem });
      continue;
    }
    const changed = moved.get(database ?? "postgres");
    const differences: Difference[] = [];
    const differ = (name: string, what: string) => differences.push({ database, object: `${question}: ${name}`, what });
    const parts = Math.max(digests.parts, answer.objects.parts);
    for (let n = 0; n < parts; n++) {
      const known = new Map(digests.part(n, parts));
      const here = byName(answer.objects.part(n, parts));
      for (const [name, digest] of known) {
        const found = here.get(name);
        if (found === undefined && answer.isPartial === true) result.moved++;
        else if (found === undefined) differ(name, "is missing here");
        else if (found.digest !== digest) differ(name, "is defined otherwise than on the source");
        else result.equal++;
      }
      if (!expected.complete) continue;
      for (const [name, { old, object }] of here) {
        // Made since, by the source or by this restore: nobody can tell what it should be.
        if (known.has(name) || inMotion.has(name) || !old || changed === undefined || changed.has(object)) continue;
        differ(name, "is here and was not on the source");
      }
    }
    result.differences.push(...differences.sort((a, b) => (a.object < b.object ? -1 : 1)));
  }
  return result;
}
