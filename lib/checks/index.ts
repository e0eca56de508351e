/** The checks, in the order of the report. Adding one: its file, and its line here. */

import { builtinRows } from "./catalogs/builtin-rows.ts";
import { catalogReferences } from "./catalogs/catalog-references.ts";
import { collations } from "./catalogs/collations.ts";
import { databasesReadable } from "./catalogs/databases.ts";
import { invalidIndexes } from "./catalogs/invalid-indexes.ts";
import { libraries } from "./catalogs/libraries.ts";
import { schemaDump } from "./catalogs/schema-dump.ts";
import type { Check } from "./check.ts";
import { btree } from "./data/btree.ts";
import { constraints } from "./data/constraints.ts";
import { heap } from "./data/heap.ts";
import { indexAnswers } from "./data/index-answers.ts";
import { indexEntries } from "./data/index-entries.ts";
import { largeObjects } from "./data/large-objects.ts";
import { pages } from "./data/pages-readable.ts";
import { rowStatus } from "./data/row-status.ts";
import { sequences } from "./data/sequences.ts";
import { visibilityMap } from "./data/visibility-map.ts";
import { backupPageErrors, pageChecksums } from "./files/page-checksums.ts";
import { relationFiles } from "./files/relation-files.ts";
import { transactionFiles } from "./files/transaction-files.ts";
import { lastCommit } from "./recentness/last-commit.ts";
import { fenceAbsent, markerPresent, newestMarker } from "./recentness/marker.ts";
import { promoted } from "./recentness/promoted.ts";
import { systemIdentifier } from "./recentness/system-identifier.ts";
import { timeline } from "./recentness/timeline.ts";
import { archiving } from "./safety/archiving.ts";
import { jobs } from "./safety/jobs.ts";
import { preparedTransactions } from "./safety/prepared-transactions.ts";
import { recoverySettings } from "./safety/recovery-settings.ts";
import { slots, subscriptions, synchronousStandbyNames } from "./safety/replication.ts";
import { serverStayedUp } from "./server-stayed-up.ts";
import { manifest, queries, sequenceValues } from "./source/manifest.ts";
import { tableData } from "./source/table-data.ts";

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
  catalogReferences,
  builtinRows,
  libraries,
  collations,
  invalidIndexes,
  relationFiles,
  transactionFiles,
  backupPageErrors,
  pageChecksums,
  manifest,
  queries,
  sequenceValues,
  tableData,
  heap,
  btree,
  indexEntries,
  rowStatus,
  indexAnswers,
  visibilityMap,
  pages,
  constraints,
  sequences,
  largeObjects,
  serverStayedUp,
  archiving,
  subscriptions,
  slots,
  synchronousStandbyNames,
  recoverySettings,
  jobs,
  preparedTransactions,
];
