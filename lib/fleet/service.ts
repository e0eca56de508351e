/** A service of the fleet: what its watch says of it, and what the record knows. */

import type { LastTest } from "./test.ts";
import type { Window } from "./window.ts";

/** When and how often it is tested. Durations are milliseconds. */
export interface Policy {
  intervalMs: number;
  /** Spreads the tests of a fleet over so long. */
  jitterMs: number;
  windows: readonly Window[];
  /** Also due after so many new backups; null for never. */
  afterBackups: number | null;
  isPaused: boolean;
  /** What a test of it takes of the fleet's `weight`. */
  weight: number;
}

/** What its restore test is given in Kubernetes instead of what the template says, in Kubernetes' own quantities. */
export interface Resources {
  readonly storage?: string;
  readonly cpu?: string;
  readonly memory?: string;
}

/** As the watch describes it: a leader object in Kubernetes, an entry of the services file. Replaced whole by each update. */
export interface Service {
  /** `namespace/scope`; in a file the entry's name. */
  id: string;
  /** Empty without Kubernetes. */
  namespace: string;
  scope: string;
  stanza: string;
  /** How `mark` connects to the primary (libpq); null when the source is not asked. */
  source: string | null;
  /** Whatever else tests are limited by, such as `node` or `storage_class`. */
  groups: Readonly<Record<string, string>>;
  policy: Policy;
  /** Further settings of its restore test, by their names in a settings file. */
  settings: Readonly<Record<string, unknown>>;
  /** Only of a service in Kubernetes. */
  resources?: Resources;
  /** Somebody wants a test now: each new value asks for one more. */
  wanted: string | null;
  /** Why it can't be tested, such as a wrong annotation; shown, and never tested meanwhile. */
  problem: string | null;
}

/** What the record knows of a service. */
export interface Standing {
  firstSeenAt: Date;
  /** Null before the first test ended. */
  last: LastTest | null;
  lastHealthyAt: Date | null;
  backupsSinceTest: number;
  /** Since when a test is wanted that has not begun. */
  wantedAt: Date | null;
  /** The service's `wanted` that was taken up last. */
  wantedToken: string | null;
}

export const newStanding = (firstSeenAt: Date): Standing => ({
  firstSeenAt,
  last: null,
  lastHealthyAt: null,
  backupsSinceTest: 0,
  wantedAt: null,
  wantedToken: null,
});
