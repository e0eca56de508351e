/** The same cluster as the source's: an empty one that Patroni made with initdb has another identifier. */

import { type Check, EVERY_LEVEL } from "../check.ts";

export const systemIdentifier: Check<{ system_identifier: string }> = {
  id: "system-identifier",
  claim: "recentness",
  levels: EVERY_LEVEL,
  skip: ({ receipt, evidence }) =>
    receipt === null && evidence === null ? "neither a receipt nor a report of the restore to compare with" : null,
  collect: (edge) =>
    edge.sql(null, (database) =>
      database.row("SELECT system_identifier::text AS system_identifier FROM pg_control_system()"),
    ),
  judge({ system_identifier }, { receipt, evidence }) {
    const expected = [
      { of: "the receipt", id: receipt?.system_identifier },
      { of: "the restored backup", id: evidence?.recovered?.system_identifier },
    ].filter((e): e is { of: string; id: string } => e.id !== undefined);
    const other = expected.find(({ id }) => id !== system_identifier);
    if (other !== undefined) {
      return {
        status: "fail",
        summary: `system identifier ${system_identifier} is not that of ${other.of}, ${other.id}`,
        hint: "this is another cluster: is bootstrap.method spelt as its section (Patroni runs initdb otherwise)",
      };
    }
    if (expected.length === 0) {
      return { status: "unverified", summary: "the report does not say which system identifier was restored" };
    }
    return {
      status: "pass",
      summary: `system identifier ${system_identifier}, as ${expected.map((e) => e.of).join(" and ")}`,
    };
  },
};
