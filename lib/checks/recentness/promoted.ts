/** Out of recovery and able to write: the server of a recovery that only paused answers every read just as well. */

import { type Check, EVERY_LEVEL } from "../check.ts";

export interface PromotedFacts {
  in_recovery: boolean;
  /** A transaction ID that was assigned for this check; null in recovery. */
  xid: string | null;
  /** What new sessions of this role get. */
  read_only_by_default: boolean;
}

export const promoted: Check<PromotedFacts> = {
  id: "promoted",
  claim: "recentness",
  levels: EVERY_LEVEL,
  collect: (edge) =>
    edge.sql(null, async (database) => {
      const { in_recovery, read_only } = await database.row<{ in_recovery: string; read_only: string }>(
        `SELECT pg_is_in_recovery()::text AS in_recovery, reset_val AS read_only
           FROM pg_settings WHERE name = 'default_transaction_read_only'`,
      );
      const read_only_by_default = read_only === "on";
      if (in_recovery === "true") return { in_recovery: true, xid: null, read_only_by_default };
      const { xid } = await database.row<{ xid: string }>("SELECT pg_current_xact_id()::text AS xid");
      return { in_recovery: false, xid, read_only_by_default };
    }),
  judge({ in_recovery, xid, read_only_by_default }) {
    if (in_recovery) {
      return {
        status: "fail",
        summary: "the instance is still in recovery",
        hint: "recovery_target_action must be promote; see pg_get_wal_replay_pause_state()",
      };
    }
    if (read_only_by_default) {
      return {
        status: "warn",
        summary: `out of recovery and writable (transaction ${xid}), but sessions are read-only by default`,
        hint: "default_transaction_read_only is on, as it was on the source",
      };
    }
    return { status: "pass", summary: `out of recovery and writable (transaction ${xid})` };
  },
};
