/** What a restore is told. Apart from what does it, which `--help` need not load. */

import type { Settings } from "../options.ts";

export const PLAN_OPTIONS = [
  "scope",
  "datadir",
  "stanza",
  "restoreTargetTime",
  "targetType",
  "target",
  "targetTimeline",
  "targetExclusive",
  "set",
  "receipt",
  "pgbackrestConfig",
  "processMax",
  "binDir",
  "tablespaceMap",
  "linkMap",
  "sharedPreloadLibraries",
  "spaceReserve",
  "walAhead",
] as const;
export type PlanSettings = Settings<(typeof PLAN_OPTIONS)[number]>;

export const BOOTSTRAP_OPTIONS = [
  ...PLAN_OPTIONS,
  "report",
  "detach",
  "superuser",
  "restoreTimeout",
  "recoveryTimeout",
  "recoveryStallTimeout",
  "stopTimeout",
  "pageChecksums",
  "sync",
  "previousReport",
  "maxAttempts",
] as const;
export type BootstrapSettings = Settings<(typeof BOOTSTRAP_OPTIONS)[number]>;
