import type { ObjectAnswer, ObjectRow } from "../../../lib/manifest/objects.ts";
import { PackedRows } from "../../../lib/packed.ts";

/** As a server gives them, by the object's name. */
export const answersOf = (objects: Record<string, ObjectAnswer>): PackedRows<ObjectRow> =>
  PackedRows.of(
    Object.entries(objects).map(
      ([name, { digest, version, old, calm, object }]): ObjectRow => [name, digest, version, old, calm, object],
    ),
  );
