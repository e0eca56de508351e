/** Prepared transactions come back with a restore and keep their locks until somebody ends them. */

import { type Check, EVERY_LEVEL, enumerate, plural } from "../check.ts";

export interface PreparedFacts {
  prepared: { gid: string; database: string; prepared_at: string }[];
}

export const preparedTransactions: Check<PreparedFacts> = {
  id: "prepared-transactions",
  claim: "safety",
  levels: EVERY_LEVEL,
  collect: async (edge) => ({
    prepared: await edge.sql(null, (database) =>
      database.query<PreparedFacts["prepared"][number]>(
        "SELECT gid, database, prepared::text AS prepared_at FROM pg_prepared_xacts ORDER BY prepared LIMIT 100",
      ),
    ),
  }),
  judge({ prepared }) {
    if (prepared.length === 0) return { status: "pass", summary: "there is no prepared transaction" };
    return {
      status: "warn",
      summary: `${plural(prepared.length, "prepared transaction")} of the source holds locks: ${enumerate(prepared.map((p) => p.gid))}`,
      hint: "COMMIT PREPARED or ROLLBACK PREPARED, as its coordinator decided",
    };
  },
};
