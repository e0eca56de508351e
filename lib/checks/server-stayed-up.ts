/** One and the same run of the server from the first check to the last: a crash in between is damage that was seen. */

import { freeSpace } from "../io/files.ts";
import { killedForMemory } from "../io/memory.ts";
import { formatSize } from "../units.ts";
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
  /** Processes of this machine that the kernel killed meanwhile for want of memory; null when it does not tell. */
  killed_for_memory: number | null;
  /** Bytes that are free where the data directory is; null when this machine has no such place. */
  free_bytes: number | null;
}

/** Starting after a crash, or shutting down (57P03): which of them shows only afterwards. */
const CHANGING_LIMIT_MS = 15_000;
/** Gone: a restart would be back by then. */
const GONE_LIMIT_MS = 3000;
/** A WAL segment finds no room: PostgreSQL ends then, and starts no more. */
const AS_GOOD_AS_FULL = 16 * 1024 ** 2;

export const serverStayedUp: Check<ServerStayedUpFacts> = {
  id: "server-stayed-up",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "last",
  async collect(edge) {
    const { begin } = edge;
    const killed = await killedForMemory();
    const seen = {
      begin,
      crash_seen: edge.failures.some(isCrash),
      // Several checks may have waited for the same answer.
      sessions_lost: [...new Set(edge.failures)].filter(isAway).length,
      killed_for_memory: killed === null || begin.killedForMemory === null ? null : killed - begin.killedForMemory,
      free_bytes: begin.dataDirectory === null ? null : await freeSpace(begin.dataDirectory).catch(() => null),
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
  judge({ begin, end, error, crash_seen, sessions_lost, killed_for_memory, free_bytes }) {
    const ended = crash_seen ? "crashed" : end === null ? null : whatHappened(begin, end);
    const want = wantOf(killed_for_memory, free_bytes);
    // A server that was let down by its machine says nothing about the data.
    if (ended !== null && want !== null) {
      const summary = `PostgreSQL ${ended} while the checks ran, and ${want.what}`;
      return { status: "unverified", summary, hint: want.hint };
    }
    if (ended !== null) {
      return {
        status: "fail",
        summary: `PostgreSQL ${ended} while the checks ran`,
        hint: "a damaged page or an extension's library can make it crash: the server log names the statement; see Patroni's log too",
      };
    }
    if (end === null) {
      return { status: "unverified", summary: `PostgreSQL went away while the checks ran: ${error}`, hint: AWAY_HINT };
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

function whatHappened(begin: ServerRun, end: ServerRun): string | null {
  if (end.postmasterStartedAt !== begin.postmasterStartedAt) return "was restarted";
  return end.checkpointer === begin.checkpointer ? null : "crashed and recovered";
}

function wantOf(killed: number | null, freeBytes: number | null): { what: string; hint: string } | null {
  if (killed !== null && killed > 0) {
    const what = `the kernel killed ${killed} ${killed === 1 ? "process" : "processes"} for want of memory meanwhile`;
    return { what, hint: "give this machine or container more memory, or lower --jobs, and test again" };
  }
  if (freeBytes !== null && freeBytes < AS_GOOD_AS_FULL) {
    return {
      what: `the volume of the data directory has ${formatSize(freeBytes)} left`,
      hint: "give the volume more space, and test again",
    };
  }
  return null;
}
