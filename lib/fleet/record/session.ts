/** How the record's sessions are set up, and the advisory locks that schedulers meet at. */

import type { ConnectOptions } from "../../io/database.ts";
import { SCHEMA } from "./schema.ts";

/** First half of the locks' keys; other programs in the same database have other ones. */
export const LOCK_CLASS = 0x70_72_66_6c;

export const LOCKS = { leader: 1, begin: 2, migrate: 3, seen: 4 } as const;

export const STATEMENT_LIMIT_MS = 10_000;

export const sessionOptions = (scheduler: string) =>
  ({
    // PostgreSQL cuts it at 63 bytes.
    applicationName: `patroni-restore fleet ${scheduler}`,
    connectTimeoutMs: 5_000,
    statementTimeoutMs: STATEMENT_LIMIT_MS,
    silenceMs: 3_000,
    settings: {
      // Temporary tables are looked for last: nobody can put one in the place of ours.
      search_path: `${SCHEMA}, pg_temp`,
      TimeZone: "UTC",
      DateStyle: "ISO",
      lock_timeout: "5s",
      // What was answered must survive a crash, and a failover to a synchronous standby.
      synchronous_commit: "on",
      // A scheduler that was stopped in the middle must not keep others from beginning tests.
      idle_in_transaction_session_timeout: "15s",
    },
  }) satisfies ConnectOptions;
