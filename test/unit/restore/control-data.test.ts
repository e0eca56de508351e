import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parseControlData } from "../../../lib/restore/control-data.ts";

const text = readFileSync(new URL("../../fixtures/pg_controldata-15.txt", import.meta.url), "utf8");

test("what pg_controldata of PostgreSQL 15 prints is understood", () => {
  expect(parseControlData(text)).toMatchObject({
    state: "shut down",
    systemIdentifier: "7711147517477380914",
    timeline: 2,
    dataChecksums: true,
    walSegmentSize: 16 * 1024 ** 2,
    required: {
      max_connections: 100,
      max_worker_processes: 8,
      max_wal_senders: 10,
      max_prepared_transactions: 0,
      max_locks_per_transaction: 64,
    },
  });
});

test("a line that is missing is named", () => {
  expect(() => parseControlData(text.replace(/^Bytes per WAL.*$/m, ""))).toThrow(
    'pg_controldata printed no "Bytes per WAL segment"',
  );
});
