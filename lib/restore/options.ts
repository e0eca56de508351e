/** What a restore is told. Apart from what does it, which `--help` need not load. */

import type { Settings } from "../options.ts";

/** What to restore, from where and how. */
const SOURCE_OPTIONS = [
  "stanza",
  "restoreTargetTime",
  "targetType",
  "target",
  "targetTimeline",
  "targetExclusive",
  "set",
  "pgbackrestConfig",
  "processMax",
  "binDir",
  "sharedPreloadLibraries",
  "spaceReserve",
  "walAhead",
] as const;

export const PLAN_OPTIONS = ["scope", "datadir", "receipt", ...SOURCE_OPTIONS, "tablespaceMap", "linkMap"] as const;
export type PlanSettings = Settings<(typeof PLAN_OPTIONS)[number]>;

const RUN_OPTIONS = [
  "superuser",
  "restoreTimeout",
  "recoveryTimeout",
  "recoveryStallTimeout",
  "stopTimeout",
  "pageChecksums",
] as const;

/** Of these a restore test gives its hook what it was given itself. */
export const PASSED_ON_OPTIONS = [...SOURCE_OPTIONS, ...RUN_OPTIONS] as const;

export const BOOTSTRAP_OPTIONS = [
  ...PLAN_OPTIONS,
  ...RUN_OPTIONS,
  "report",
  "detach",
  "sync",
  "previousReport",
  "maxAttempts",
] as const;
export type BootstrapSettings = Settings<(typeof BOOTSTRAP_OPTIONS)[number]>;
