import type { OptionName } from "../options.ts";
import { PASSED_ON_OPTIONS } from "../restore/options.ts";

/** Settings that go on to the hooks as they were given. */
export const HOOK_OPTIONS = [
  ...PASSED_ON_OPTIONS,
  "level",
  "jobs",
  "checkTimeout",
  "verifyBudget",
  "maxRpo",
  "queries",
] as const satisfies readonly OptionName[];
export type HookOption = (typeof HOOK_OPTIONS)[number];

export const RESTORE_TEST_OPTIONS = [
  "source",
  "receipt",
  "runner",
  "report",
  "previousReport",
  "keep",
  "keepFailed",
  "json",
  "dryRun",
  "etcd",
  "workDir",
  "testId",
  "osUser",
  "deadline",
  "patroniConfig",
  "timeout",
  "archiveTimeout",
  "keepMarkers",
  "manifestBudget",
  "manifestTimeout",
  "manifestConnections",
  ...HOOK_OPTIONS,
] as const satisfies readonly OptionName[];
export type RestoreTestOption = (typeof RESTORE_TEST_OPTIONS)[number];
