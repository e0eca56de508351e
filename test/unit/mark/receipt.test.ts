import { expect, test } from "vitest";
import { describeReceipt, parseReceipt, type Receipt } from "../../../lib/mark/receipt.ts";

const RECEIPT: Receipt = {
  schema_version: 1,
  id: "20261122T233501Z-1a2b3c4d",
  marked_at: "2026-11-22 23:35:01.123456+00",
  target: {
    time: "2026-11-22 23:35:01.126001+00",
    lsn: "0/5DDAA30",
    name: "patroni-restore-20261122T233501Z-1a2b3c4d",
  },
  fence_wal: "000000010000000000000005",
  fence_lsn: "0/5DDAB70",
  timeline: 1,
  system_identifier: "7711149530324495601",
  server_version: "15.18",
  server_version_num: 150018,
  wal_segment_size: 16777216,
  data_checksums: true,
  databases: ["app", "postgres"],
  superusers: ["postgres"],
  shared_preload_libraries: "",
  manifest: [
    { id: "roles", database: null, question: "roles", count: 3, digest: "a", moved: false },
    { id: "app: tables", database: "app", question: "tables", count: 8, digest: "b", moved: true },
  ],
  queries: [{ name: "orders", database: "app", sql: "SELECT 1" }],
};

test("a receipt survives being written and read, to the microsecond", () => {
  expect(parseReceipt(JSON.stringify(RECEIPT), "r.json")).toEqual(RECEIPT);
});

test.each([
  ["no JSON", "{", /the receipt r.json is not JSON/],
  ["another version", JSON.stringify({ ...RECEIPT, schema_version: 2 }), /r.json is not valid: schema_version/],
  ["a missing target", JSON.stringify({ ...RECEIPT, target: undefined }), /r.json is not valid: target/],
  ["something unknown", JSON.stringify({ ...RECEIPT, extra: 1 }), /r.json is not valid: .*extra/],
])("a receipt with %s is refused by name", (_, text, sentence) => {
  expect(() => parseReceipt(text, "r.json")).toThrow(sentence);
});

test("people see the target, the fence's WAL and how much of the manifest proves something", () => {
  expect(describeReceipt(RECEIPT)).toMatchInlineSnapshot(`
    "marker         20261122T233501Z-1a2b3c4d at 2026-11-22 23:35:01.123456+00
    target         2026-11-22 23:35:01.126001+00
    restore point  patroni-restore-20261122T233501Z-1a2b3c4d at 0/5DDAA30
    fence          0/5DDAB70 in WAL 000000010000000000000005, archived
    source         PostgreSQL 15.18, system identifier 7711149530324495601, timeline 1
    databases      app, postgres
    manifest       2 answers, 1 stable, 1 in motion"
  `);
});
