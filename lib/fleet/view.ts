/** The fleet as it is shown: in JSON, in `fleet status`, on the page and in metrics. */

import type { Decision } from "./decide.ts";
import type { Service, Standing } from "./service.ts";
import type { Status } from "./test.ts";

/** What the scheduler knows in memory; asked for each time something is shown. */
export interface FleetView {
  services: readonly ServiceView[];
  isPaused: boolean;
  /** This scheduler leads; a standby shows the same. */
  leads: boolean;
  /** What keeps the fleet from working as it should: the record is away, the watch is out of date. */
  problems: readonly string[];
  /** Status changes that wait for the database. */
  pending: number;
}

export interface ServiceView {
  service: Service;
  standing: Standing;
  decision: Decision;
  /** Null when none is in progress. */
  running: { test: string; status: Status; since: Date } | null;
}
