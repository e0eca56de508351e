import type { OptionName } from "../options.ts";
import { HOOK_OPTIONS } from "./hooks.ts";

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
