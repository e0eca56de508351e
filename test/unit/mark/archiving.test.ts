import { expect, test } from "vitest";
import { formatError } from "../../../lib/errors.ts";
import { coversSegment, notArchived } from "../../../lib/mark/archiving.ts";

const SIZE = 16 * 1024 ** 2;
const WANTED = "000000010000000A000000F3";

test.each([
  ["the segment itself", "000000010000000A000000F3"],
  ["a later one", "000000010000000A000000F4"],
  ["one of the next log file", "000000010000000B00000000"],
  ["a backup's file that follows it", "000000010000000A000000F3.00000028.backup"],
])("%s says that the segment is archived", (_, archived) => {
  expect(coversSegment(archived, WANTED, SIZE)).toBe(true);
});

test.each([
  ["nothing archived yet", null],
  ["an earlier one", "000000010000000A000000F2"],
  ["an earlier backup's file", "000000010000000A000000F2.00000028.backup"],
  ["half of it, kept at a promotion", "000000010000000A000000F3.partial"],
  ["a timeline's history", "00000002.history"],
  ["another timeline's segment", "000000020000000A000000F4"],
])("%s says nothing of the kind", (_, archived) => {
  expect(coversSegment(archived, WANTED, SIZE)).toBe(false);
});

const ARCHIVER = {
  lastArchivedWal: "000000010000000A000000F2",
  lastArchivedAt: "2026-11-22 03:12:07+00",
  lastFailedWal: "000000010000000A000000F3",
  lastFailedAt: "2026-11-22 09:00:00+00",
  failing: true,
};

test("the end of the wait names the segment, the limit, the failure and where to look", () => {
  expect(formatError(notArchived({ wal: WANTED, timeoutMs: 300_000 }, ARCHIVER))).toMatchInlineSnapshot(`
    "ERROR: [030]: SOURCE_UNREACHABLE: WAL 000000010000000A000000F3 was not archived within 300 s (last failure 000000010000000A000000F3 at 2026-11-22 09:00:00+00; last archived 000000010000000A000000F2 at 2026-11-22 03:12:07+00)
    HINT: the source's PostgreSQL log has the message of its archive_command; pgbackrest check --stanza=<stanza> repeats it."
  `);
});

test("an archiver that hangs without failing is told apart", () => {
  const error = notArchived({ wal: WANTED, timeoutMs: 1000 }, { ...ARCHIVER, lastArchivedWal: null, failing: false });
  expect(error.message).toMatch(/within 1 s \(nothing was ever archived; no failure is recorded\)/);
  expect(error.hint).toMatch(/archiver process/);
});
