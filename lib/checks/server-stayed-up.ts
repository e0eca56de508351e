/** One and the same run of the server from the first check to the last: a crash in between is damage that was seen. */

import { type Check, EVERY_LEVEL } from "./check.ts";
import { readServerRun, type ServerRun } from "./edge.ts";
import { AWAY_HINT, describeFailure, errorCode, isAway, isCrash } from "./failure.ts";

export interface ServerStayedUpFacts {
  begin: ServerRun;
  /** Null when the server was not there any more. */
  end: ServerRun | null;
  /** Why it was not there. */
  error: string | null;
  /** A session was ended because another one crashed. */
  crash_seen: boolean;
  /** Checks whose session was broken from the other side. */
  sessions_lost: number;
}

/** Starting after a crash, or shutting down (57P03): which of them shows only afterwards. */
const CHANGING_LIMIT_MS = 15_000;
/** Gone: a restart would be back by then. */
const GONE_LIMIT_MS = 3000;

export const serverStayedUp: Check<ServerStayedUpFacts> = {
  id: "server-stayed-up",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "last",
  async collect(edge) {
    const seen = {
      begin: edge.begin,
      crash_seen: edge.failures.some(isCrash),
      sessions_lost: edge.failures.filter(isAway).length,
    };
    const since = performance.now();
    for (;;) {
      try {
        return { ...seen, end: await edge.sql(null, readServerRun), error: null };
      } catch (error) {
        edge.signal.throwIfAborted();
        if (!isAway(error)) throw error;
        const waited = performance.now() - since;
        if (waited > (errorCode(error) === "57P03" ? CHANGING_LIMIT_MS : GONE_LIMIT_MS)) {
          return { ...seen, end: null, error: describeFailure(error).message };
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  },
  judge({ begin, end, error, crash_seen, sessions_lost }) {
    if (crash_seen) {
      return {
        status: "fail",
        summary: "PostgreSQL crashed while the checks ran",
        hint: "a damaged page or an extension's library can do that: the server log names the statement",
      };
    }
    if (end === null) {
      return { status: "unverified", summary: `PostgreSQL went away while the checks ran: ${error}`, hint: AWAY_HINT };
    }
    if (end.postmasterStartedAt !== begin.postmasterStartedAt) {
      return {
        status: "fail",
        summary: `PostgreSQL was restarted while the checks ran: it runs since ${end.postmasterStartedAt}, before since ${begin.postmasterStartedAt}`,
        hint: "see the server log, and Patroni's",
      };
    }
    if (end.checkpointer !== begin.checkpointer) {
      return {
        status: "fail",
        summary: `PostgreSQL crashed and recovered while the checks ran: checkpointer ${end.checkpointer}, before ${begin.checkpointer}`,
        hint: "a damaged page or an extension's library can do that: the server log names the statement",
      };
    }
    if (end.checkpointer === null) {
      return {
        status: "unverified",
        summary: "this role may not see whether the server crashed meanwhile",
        hint: "connect as a superuser, or as a member of pg_monitor",
      };
    }
    if (sessions_lost > 0) {
      return {
        status: "unverified",
        summary: `${sessions_lost} sessions were broken while the checks ran`,
        hint: "see the server log for who ended them",
      };
    }
    return {
      status: "pass",
      summary: `one run of the server from first to last check, since ${end.postmasterStartedAt}`,
    };
  },
};
