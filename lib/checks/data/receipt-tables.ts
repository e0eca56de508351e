/** Tables of which the receipt knows every row: `table-data` compares them with the source's. */

import type { Manifest } from "../../manifest/schema.ts";
import type { Asked } from "../check.ts";

type Table = Manifest["tables"][number];

/** Whether each of them is known from its first block to its end, and stood still meanwhile. */
export function receiptCovers({ receipt, level }: Pick<Asked, "receipt" | "level">) {
  let known: Map<string, Table> | undefined;
  return (database: string, names: readonly string[]): boolean => {
    // Not before somebody wants to know: there may be very many.
    known ??= new Map(
      (level === "quick" ? [] : (receipt?.manifest.tables ?? [])).map((t) => [JSON.stringify([t.database, t.name]), t]),
    );
    const tables = names.map((name) => known?.get(JSON.stringify([database, name])));
    return names.length > 0 && tables.every((table) => table !== undefined && isWhole(table));
  };
}

function isWhole({ ranges, moved }: Table): boolean {
  if (moved > 0) return false;
  let at: number | null = 0;
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (at === null || from > at) return false;
    at = to === null ? null : Math.max(at, to);
  }
  return at === null;
}
