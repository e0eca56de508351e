import { expect, test } from "vitest";
import { backupPageErrors, pageChecksums, placeOf } from "../../../lib/checks/files/page-checksums.ts";
import { readLine } from "../../../lib/io/page-checksums.ts";
import type { PageChecksums } from "../../../lib/report/report.ts";
import { asked, evidence } from "./asked.ts";

const clean: PageChecksums = { status: "checked", why: null, files: 959, blocks: 21968, bad: 0, pages: [] };
const given = (pages: PageChecksums | null, pageErrors: string[] = []) => ({
  ...asked,
  evidence: {
    ...evidence,
    pageChecksums: pages,
    backup: {
      label: "20261122-095000F",
      type: "full",
      size_bytes: 1,
      repo: 1,
      started_at: "",
      stopped_at: "",
      start_lsn: "0/3",
      stop_lsn: "0/4",
      timeline: 1,
      why: "",
      page_errors: pageErrors,
    },
  },
});

test("what pg_checksums prints is read: bad pages with their place, and the counts", () => {
  const found: PageChecksums = { ...clean, files: 0, blocks: 0 };
  // Captured from pg_checksums 15.18.
  const lines = [
    'pg_checksums: error: checksum verification failed in file "/pgdata/base/5/1259", block 1: calculated checksum 7F40 but block contains 4125',
    "Checksum operation completed",
    "Files scanned:   959",
    "Blocks scanned:  21968",
    "Bad checksums:  1",
    "Data checksum version: 1",
  ];
  for (const line of lines) expect(readLine(found, line, "/pgdata")).toBe(true);
  expect(found).toEqual({ ...clean, bad: 1, pages: [{ file: "base/5/1259", block: 1 }] });
  expect(readLine(found, "pg_checksums: error: could not open file", "/pgdata")).toBe(false);
});

test.each([
  ["base/5/1259", { database: "5", tablespace: "0", filenode: "1259" }],
  ["base/16384/16402_vm", { database: "16384", tablespace: "0", filenode: "16402" }],
  ["base/16384/16402.3", { database: "16384", tablespace: "0", filenode: "16402" }],
  ["global/1262", { database: "0", tablespace: "1664", filenode: "1262" }],
  ["pg_tblspc/16500/PG_15_202209061/16384/16510", { database: "16384", tablespace: "16500", filenode: "16510" }],
  ["pg_wal/000000010000000000000001", null],
])("%s is a file of a relation, or of none", (file, place) => {
  expect(placeOf(file)).toEqual(place);
});

test("right checksums pass with their number, wrong ones fail with their place", () => {
  expect(pageChecksums.judge({ findings: [] }, given(clean))).toMatchObject({
    status: "pass",
    summary: "21968 pages (171.6 MB) of 959 files with right checksums",
  });
  const bad = { ...clean, bad: 1, pages: [{ file: "base/5/1259", block: 1 }] };
  const findings = [
    { database: "app", object: "pg_class (file base/5/1259)", where: "block 1", what: "wrong checksum" },
  ];
  expect(pageChecksums.judge({ findings }, given(bad))).toMatchObject({
    status: "fail",
    summary: "1 page of 21968 with a wrong checksum: app: pg_class (file base/5/1259) (block 1): wrong checksum",
  });
});

test("pages that nobody looked at are no pass", () => {
  expect(
    pageChecksums.judge({ findings: [] }, given({ ...clean, status: "not-checked", why: "no program" })).status,
  ).toBe("unverified");
  expect(pageChecksums.skip?.(given(null))).not.toBeNull();
  expect(pageChecksums.skip?.(given({ ...clean, status: "off", why: "data checksums are not enabled" }))).toContain(
    "data checksums are not enabled",
  );
});

test("errors that pgBackRest recorded fail, unless every page is right after recovery", () => {
  expect(backupPageErrors.judge(null, given(null)).status).toBe("pass");
  expect(backupPageErrors.judge(null, given(null, ["base/5/1259"])).status).toBe("fail");
  expect(backupPageErrors.judge(null, given(clean, ["base/5/1259"])).status).toBe("warn");
  expect(backupPageErrors.judge(null, given({ ...clean, bad: 1 }, ["base/5/1259"])).status).toBe("fail");
});
