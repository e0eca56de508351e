import { type ObjectAnswer, ObjectAnswers, type ObjectRow } from "../../../lib/manifest/objects.ts";
import { PackedList } from "../../../lib/packed.ts";

/** As a server gives them, by the object's name. */
export function answersOf(objects: Record<string, ObjectAnswer>): ObjectAnswers {
  const rows = new PackedList<ObjectRow>();
  for (const [name, { digest, version, old, calm, object }] of Object.entries(objects)) {
    rows.add(Buffer.from(JSON.stringify([name, digest, version, old, calm, object])));
  }
  return new ObjectAnswers(rows);
}
