/** What was, for people: of the record alone. */

import type { LongLivedDatabase } from "../../io/long-lived-database.ts";
import type { History } from "../store.ts";
import { PAST_COLUMNS, pastOf, statusesOf, type TextRow } from "./rows.ts";

export function historyOf(database: LongLivedDatabase): History {
  return {
    async tests(service, limit) {
      const where = service === null ? "" : "WHERE service = $2";
      const rows = await database.use((db) =>
        db.query<TextRow>(
          `SELECT ${PAST_COLUMNS} FROM tests ${where} ORDER BY requested_at DESC, id LIMIT $1`,
          service === null ? [limit] : [limit, service],
        ),
      );
      return rows.map(pastOf);
    },
    async test(id) {
      const [row] = await database.use((db) =>
        db.query<TextRow>(`SELECT ${PAST_COLUMNS}, statuses, report FROM tests WHERE id = $1`, [id]),
      );
      if (row === undefined) return null;
      return { ...pastOf(row), statuses: statusesOf(row), report: row.report ? JSON.parse(row.report) : null };
    },
  };
}
