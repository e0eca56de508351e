/** From the record's rows to the words of the fleet. Values come as PostgreSQL's text, times in ISO and UTC. */

import type { Outcome } from "../outcome.ts";
import type { Standing } from "../service.ts";
import type { PastTest, RunningTest } from "../store.ts";
import { type LastTest, STATUSES, type Status } from "../test.ts";

export type TextRow = Readonly<Record<string, string | null>>;

/** `2026-11-22 10:00:00.123456+00`. */
export const timeOf = (text: string): Date => new Date(`${text.slice(0, 10)}T${text.slice(11).replace(/\+00$/, "Z")}`);

const timeOrNull = (text: string | null | undefined) => (text ? timeOf(text) : null);
const json = (text: string | null | undefined) => (text ? JSON.parse(text) : null);

export const STANDING_COLUMNS = `id, first_seen_at, last_test, last_outcome, last_ended_at, attempts, last_error,
  last_figures, last_healthy_at, backups_since_test, wanted_at, wanted_token`;

export function standingOf(row: TextRow): Standing {
  return {
    firstSeenAt: timeOf(row.first_seen_at as string),
    last: row.last_test
      ? {
          id: row.last_test,
          outcome: row.last_outcome as Outcome,
          endedAt: timeOf(row.last_ended_at as string),
          attempts: Number(row.attempts),
          error: json(row.last_error),
          figures: json(row.last_figures),
        }
      : null,
    lastHealthyAt: timeOrNull(row.last_healthy_at),
    backupsSinceTest: Number(row.backups_since_test),
    wantedAt: timeOrNull(row.wanted_at),
    wantedToken: row.wanted_token ?? null,
  };
}

export const RUNNING_COLUMNS =
  "id, service, namespace, scope, stanza, groups, weight, reason, requested_at, deadline_at, scheduler, statuses";

export function runningOf(row: TextRow): RunningTest {
  const requestedAt = timeOf(row.requested_at as string);
  const statuses = statusesOf(row);
  return {
    id: row.id as string,
    service: row.service as string,
    namespace: row.namespace as string,
    scope: row.scope as string,
    stanza: row.stanza as string,
    groups: json(row.groups),
    weight: Number(row.weight),
    reason: row.reason as string,
    requestedAt,
    deadlineAt: timeOf(row.deadline_at as string),
    scheduler: row.scheduler as string,
    statuses: statuses.map(({ status }) => status),
    statusAt: statuses.at(-1)?.at ?? requestedAt,
  };
}

export const PAST_COLUMNS = `id, service, stanza, reason, requested_at, scheduler, status, status_at, outcome, ended_at,
  error, figures`;

export function pastOf(row: TextRow): PastTest {
  return {
    id: row.id as string,
    service: row.service as string,
    stanza: row.stanza as string,
    reason: row.reason as string,
    requestedAt: timeOf(row.requested_at as string),
    scheduler: row.scheduler as string,
    status: row.status as Status,
    statusAt: timeOf(row.status_at as string),
    end: row.outcome
      ? {
          outcome: row.outcome as LastTest["outcome"],
          endedAt: timeOf(row.ended_at as string),
          error: json(row.error),
          figures: json(row.figures),
        }
      : null,
  };
}

/** In the order in which tests go through them. */
export function statusesOf(row: TextRow): { status: Status; at: Date }[] {
  const times: Partial<Record<Status, string>> = json(row.statuses);
  return STATUSES.flatMap((status) => {
    const at = times[status];
    return at === undefined ? [] : [{ status, at: new Date(at) }];
  });
}
