/** What the restore answers, against what the source answered. */

import type { QuestionAnswers } from "./objects.ts";
import type { Manifest } from "./schema.ts";

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
    const { database, question, complete } = asked;
    // Once: they may have to be unpacked.
    const { objects, moved: inMotion } = asked;
    result.moved += inMotion.length;
    const answer = found.get(JSON.stringify([database, question]));
    const names = Object.keys(objects);
    if (answer === undefined) {
      if (names.length > 0) {
        result.differences.push({ database, object: question, what: `no answer; the source has ${names.length}` });
      }
      continue;
    }
    if (answer.problem !== undefined) {
      result.unanswered.push({ database, question, ...answer.problem });
      continue;
    }
    const answered = answer.objects.read();
    for (const name of names) {
      const here = answered.get(name);
      const object = `${question}: ${name}`;
      if (here === undefined && answer.isPartial === true) result.moved++;
      else if (here === undefined) result.differences.push({ database, object, what: "is missing here" });
      else if (here.digest !== objects[name]) {
        result.differences.push({ database, object, what: "is defined otherwise than on the source" });
      } else result.equal++;
    }
    if (!complete) continue;
    const known = new Set([...names, ...inMotion]);
    const changed = moved.get(database ?? "postgres");
    for (const [name, here] of answered) {
      // Made since, by the source or by this restore: nobody can tell what it should be.
      if (known.has(name) || !here.old || changed === undefined || changed.has(here.object)) continue;
      result.differences.push({ database, object: `${question}: ${name}`, what: "is here and was not on the source" });
    }
  }
  return result;
}
