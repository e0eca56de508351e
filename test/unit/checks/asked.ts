/** What a judgement is asked, with the receipt and the evidence of a restore on which nothing is wrong. */

import type { Asked, Evidence } from "../../../lib/checks/check.ts";
import type { Manifest } from "../../../lib/manifest/schema.ts";
import type { Receipt } from "../../../lib/mark/receipt.ts";

export const TARGET_TIME = "2026-11-22 10:00:00.123456+00";
export const SYSTEM_IDENTIFIER = "7711153000826630564";

export const emptyManifest: Manifest = {
  horizon: "1000",
  next_xid: "1010",
  seed: "42",
  objects: [],
  sequences: [],
  sequences_moved: 0,
  tables: [],
  queries: [],
  collation_mismatches: [],
  not_covered: [],
};

export const receipt: Receipt = {
  schema_version: 2,
  id: "20261122T100000Z-1a2b3c4d",
  marked_at: "2026-11-22 10:00:00.120000+00",
  target: { time: TARGET_TIME, lsn: "0/5000028", name: "patroni-restore-20261122T100000Z-1a2b3c4d" },
  fence_wal: "000000010000000000000005",
  fence_lsn: "0/5000100",
  timeline: 1,
  system_identifier: SYSTEM_IDENTIFIER,
  server_version: "15.18",
  server_version_num: 150018,
  wal_segment_size: 16 * 1024 ** 2,
  data_checksums: true,
  databases: ["app", "postgres"],
  superusers: ["postgres"],
  shared_preload_libraries: "",
  manifest: emptyManifest,
  queries: [],
};

export const evidence = {
  target: { type: "time", value: TARGET_TIME, timeline: "1", exclusive: false },
  recovered: {
    lsn: "0/5000080",
    timeline: 2,
    parent_timeline: 1,
    last_commit_at: "2026-11-22 10:00:00.121000+00",
    segments: 2,
    stop_reason: "recovery stopping before commit of transaction 913",
    system_identifier: SYSTEM_IDENTIFIER,
  },
  stanza: "demo",
  backup: null,
  pageChecksums: null,
} satisfies Evidence;

export const asked: Asked = {
  receipt,
  evidence,
  level: "standard",
  detach: "restore-test",
  maxRpoMs: 25 * 3_600_000,
  startedAt: new Date("2026-11-22T10:00:05Z"),
  queries: [],
  ledger: {},
};
