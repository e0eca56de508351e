/** What the routes of the fleet work with. */

import type { History } from "../store.ts";
import type { FleetView } from "../view.ts";

export interface FleetApi {
  /** From memory; called for each request that shows something. */
  view(): FleetView;
  history: Pick<History, "tests" | "test">;
  /** Through the record, so that any scheduler can take it. `by`: for people. */
  want(service: string, by: string): Promise<void>;
  countBackup(service: string, label: string): Promise<void>;
  /** Sentences on what is decided of a service and what it waits for; the first one is the decision's reason. */
  explain(service: string): readonly string[];
  /** Prometheus' text. */
  metrics(): Promise<string>;
}
