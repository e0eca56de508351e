import { expect, test } from "vitest";
import { describeReceipt, formatReceipt, parseReceipt, type Receipt } from "../../../lib/mark/receipt.ts";

const RECEIPT: Receipt = {
  schema_version: 2,
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
  manifest: {
    horizon: "900",
    next_xid: "905",
    seed: "42",
    objects: [
      {
        database: null,
        question: "roles",
        objects: { postgres: "742c64eeb3f377b3", clerk: "0467dcb3b890e260" },
        moved: [],
        complete: true,
      },
      {
        database: "app",
        question: "tables",
        objects: { "shop.orders": "e52825a7f4a12008" },
        moved: ["shop.log"],
        complete: true,
      },
    ],
    sequences: [],
    sequences_moved: 1,
    tables: [
      {
        database: "app",
        name: "shop.orders",
        bytes: 4096000,
        blocks: 400,
        ranges: [
          [0, 128, 7808, "288d0f94345e32e2"],
          [384, null, 900, "54a11a5e4411ef64"],
        ],
        moved: 2,
      },
    ],
    queries: [{ database: "app", name: "orders", count: 1, digest: "a", moved: false, still: true }],
    collation_mismatches: [{ database: "app", name: "the default collation", recorded: "2.31", actual: "2.36" }],
    not_covered: [{ database: "app", what: "rows of shop.secret", why: "permission denied for table secret" }],
  },
  queries: [{ name: "orders", database: "app", sql: "SELECT 1" }],
};

/** Without what unpacks it. */
const plain = (receipt: Receipt) => JSON.parse(JSON.stringify(receipt));

test("a receipt survives being written and read, to the microsecond", () => {
  expect(plain(parseReceipt(formatReceipt(RECEIPT), "r.json"))).toEqual(RECEIPT);
});

test("a large one is packed, so that it fits into a ConfigMap, and reads the same", () => {
  // Of more than one piece, each of which is packed by itself.
  const names = Array.from({ length: 30_000 }, (_, i) => [`shop.table_number_${i}`, "e52825a7f4a12008"]);
  const objects = [
    { database: "app", question: "tables", objects: Object.fromEntries(names), moved: [], complete: true },
  ];
  const large = { ...RECEIPT, manifest: { ...RECEIPT.manifest, objects } };
  const text = formatReceipt(large);
  expect(text.length).toBeLessThan(1024 ** 2);
  expect(text.length).toBeLessThan(JSON.stringify(large).length / 4);
  expect(plain(parseReceipt(text, "r.json"))).toEqual(large);
});

test.each([
  ["no JSON", "{", /the receipt r.json is not JSON/],
  [
    "an earlier version",
    JSON.stringify({ ...RECEIPT, schema_version: 1 }),
    /r.json is of version 1; .* reads version 2/,
  ],
  ["a missing target", JSON.stringify({ ...RECEIPT, target: undefined }), /r.json is not valid: target/],
  ["something unknown", JSON.stringify({ ...RECEIPT, extra: 1 }), /r.json is not valid: .*extra/],
  ["a broken part", JSON.stringify({ ...RECEIPT, manifest: { gzip: "AAAA" } }), /the receipt r.json is not JSON/],
])("a receipt with %s is refused by name", (_, text, sentence) => {
  expect(() => parseReceipt(text, "r.json")).toThrow(sentence);
});

test("people see the target, the fence's WAL and how much of the source can be compared", () => {
  expect(describeReceipt(RECEIPT)).toMatchInlineSnapshot(`
    "marker         20261122T233501Z-1a2b3c4d at 2026-11-22 23:35:01.123456+00
    target         2026-11-22 23:35:01.126001+00
    restore point  patroni-restore-20261122T233501Z-1a2b3c4d at 0/5DDAA30
    fence          0/5DDAB70 in WAL 000000010000000000000005, archived
    source         PostgreSQL 15.18, system identifier 7711149530324495601, timeline 1
    databases      app, postgres
    objects        3 stood still, 1 in motion
    table rows     8708 in 2 block ranges of 1 tables stood still, 2 ranges in motion; 1.1 MB of 3.1 MB
    queries        1 stable, 0 in motion
    not covered    app: rows of shop.secret (permission denied for table secret)"
  `);
});
