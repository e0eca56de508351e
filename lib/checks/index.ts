/** The checks, in the order of the report. Adding one: its file, and its line here. */

import { archiving } from "./archiving.ts";
import type { Check } from "./check.ts";
import { databasesReadable } from "./databases.ts";
import { jobs } from "./jobs.ts";
import { lastCommit } from "./last-commit.ts";
import { manifest, queries } from "./manifest.ts";
import { fenceAbsent, markerPresent, newestMarker } from "./marker.ts";
import { preparedTransactions } from "./prepared-transactions.ts";
import { promoted } from "./promoted.ts";
import { recoverySettings } from "./recovery-settings.ts";
import { slots, subscriptions, synchronousStandbyNames } from "./replication.ts";
import { schemaDump } from "./schema-dump.ts";
import { serverStayedUp } from "./server-stayed-up.ts";
import { systemIdentifier } from "./system-identifier.ts";
import { timeline } from "./timeline.ts";

export const CHECKS: readonly Check[] = [
  markerPresent,
  fenceAbsent,
  newestMarker,
  promoted,
  timeline,
  systemIdentifier,
  lastCommit,
  databasesReadable,
  schemaDump,
  manifest,
  queries,
  serverStayedUp,
  archiving,
  subscriptions,
  slots,
  synchronousStandbyNames,
  recoverySettings,
  jobs,
  preparedTransactions,
];
