/** One way to damage a restored instance, and what must see it. */

import type { CheckLevel } from "../../../lib/checks/check.ts";
import { APP_DATABASE } from "../source.ts";
import type { Instance } from "./instance.ts";

export type Area =
  | "sound"
  | "heap"
  | "toast"
  | "indexes"
  | "maps"
  | "transactions"
  | "control"
  | "catalogs"
  | "objects"
  | "rows"
  | "recentness";

export interface Kind {
  name: string;
  area: Area;
  /** Leaves the instance stopped or running; it is stopped afterwards. */
  damage(instance: Instance): Promise<unknown>;
  /** Any of these checks; `start` when the server does not even start, `guard` when guard refuses to look. */
  caughtBy: readonly string[];
  /** The lowest level that must catch it with the receipt; null when the instance is sound and nothing may be caught. */
  level: CheckLevel | null;
  /** The same without the receipt; null when only the receipt can tell, so that nothing is asked. */
  withoutReceipt: CheckLevel | null;
}

export type KindWithoutArea = Omit<Kind, "area">;

export const inArea = (area: Area, kinds: readonly KindWithoutArea[]): Kind[] =>
  kinds.map((kind) => ({ ...kind, area }));

/** Statements of a superuser who may change catalogs; the last one must have changed something when it returns rows. */
export function bySql(statements: string, database: string = APP_DATABASE): Kind["damage"] {
  return (instance) => instance.sql(statements, database);
}

/** One statement that must change exactly one row, or at least one. */
export function rowsBySql(statement: string, options: { database?: string; atLeast?: boolean } = {}): Kind["damage"] {
  return async (instance) => {
    const rows = await instance.sql(`${statement} RETURNING 1`, options.database ?? APP_DATABASE);
    const right = options.atLeast ? rows.length > 0 : rows.length === 1;
    if (!right) throw new Error(`${statement}: changed ${rows.length} rows`);
  };
}
