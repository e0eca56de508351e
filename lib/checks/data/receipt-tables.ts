/** Tables of which the receipt knows every row: `table-data` compares them with the source's. */

import type { Asked } from "../check.ts";

/** Whether each of them is known from its first block to its end, and stood still meanwhile. */
export function receiptCovers({ receipt, level }: Pick<Asked, "receipt" | "level">) {
  const known = new Map(
    (level === "quick" ? [] : (receipt?.manifest.tables ?? [])).map((t) => [JSON.stringify([t.database, t.name]), t]),
  );
  return (database: string, tables: readonly string[]): boolean =>
    tables.length > 0 &&
    tables.every((name) => {
      const table = known.get(JSON.stringify([database, name]));
      if (table === undefined || table.moved > 0) return false;
      let at: number | null = 0;
      for (const [from, to] of [...table.ranges].sort((a, b) => a[0] - b[0])) {
        if (at === null || from > at) return false;
        at = to === null ? null : Math.max(at, to);
      }
      return at === null;
    });
}
