/** What the scheduler needs of its record. record/ keeps it in PostgreSQL. */

import type { Report } from "../report/report.ts";
import type { Limits } from "./decide.ts";
import type { Standing } from "./service.ts";
import type { LastTest, Status, StatusChange, Test } from "./test.ts";

/** A test that has a slot, and the statuses that were recorded. */
export interface RunningTest extends Test {
  statuses: readonly Status[];
}

export interface Store {
  /** This scheduler leads: it holds the record's lock. False while the database is away. */
  leads(): boolean;
  /** Why nothing can be recorded at present; null when it can. */
  problem(): string | null;
  /** Standings that changed since the last call (all, at the first), and every test that has a slot. Throws when the database is away. */
  changes(): Promise<{ standings: ReadonlyMap<string, Standing>; running: readonly RunningTest[] }>;
  /** Services that the watch knows: new ones get their first standing, those that are gone are marked so. */
  seen(services: readonly { id: string; namespace: string; scope: string; stanza: string }[]): Promise<void>;
  gone(ids: readonly string[]): Promise<void>;
  /** A test is wanted now. `token`: the annotation's value, when it was one. */
  want(service: string, by: string, token?: string): Promise<void>;
  /** A backup was made. */
  countBackup(service: string, label: string): Promise<void>;
  /** Takes a slot and records `requested`, in one transaction with the limits; the sentence why not, or null. Throws when the database is away. */
  begin(test: Test, limits: Limits): Promise<string | null>;
  /** Returns when it is recorded, however long the database is away; twice is once. An end frees the slot. */
  record(change: StatusChange): Promise<void>;
  /** Recorded soon. */
  pending(): number;
  close(): Promise<void>;
}

/** What was, for people: of the record alone, so any scheduler can answer. Throws when the database is away. */
export interface History {
  /** Newest first, of one service or of all. */
  tests(service: string | null, limit: number): Promise<PastTest[]>;
  /** With its statuses and its report; null when there is no such test. */
  test(id: string): Promise<(PastTest & { statuses: { status: Status; at: Date }[]; report: Report | null }) | null>;
}

export interface PastTest extends Pick<Test, "id" | "service" | "stanza" | "reason" | "requestedAt" | "scheduler"> {
  /** The newest one. */
  status: Status;
  statusAt: Date;
  /** Null while it goes on. */
  end: Pick<LastTest, "outcome" | "endedAt" | "error" | "figures"> | null;
}
