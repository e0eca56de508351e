/** Lines and ends are captured from pgBackRest 2.45 with `--log-level-console=detail --no-log-timestamp`. */

import { describe, expect, test } from "vitest";
import {
  type Ending,
  judge,
  judgeRestoreTest,
  levelOf,
  readProgress,
  readSetLabel,
  textOf,
} from "../../../lib/backup-api/output.ts";
import { job } from "./samples.ts";

const NOTHING = { fraction: 0, bytes: 0 };
const MB = 1024 ** 2;

describe("progress", () => {
  test.each([
    {
      line: "P01 DETAIL: backup file /data/base/5/16396 (256.1MB, 79.75%) checksum 50e74c16bfc26da3561089685fd8bd0e46b78f37",
      reached: { fraction: 0.7975, bytes: Math.round(256.1 * MB) },
    },
    {
      line: "P01 DETAIL: backup file /data/base/5/1255 (768KB, 79.98%) checksum adb7a4a7a6886be09982ada40de8e58a48dcb64a",
      reached: { fraction: 0.7998, bytes: 768 * 1024 },
    },
    { line: "P01 DETAIL: backup file /data/base/5/3430 (0B, 100.00%)", reached: { fraction: 1, bytes: 0 } },
    {
      line: "P01 DETAIL: backup file /data/postgresql.conf (bundle 1/0, 29KB, 0.12%) checksum 1cdc1c45c919da974cbb4d1b7912017227e2f4e9",
      reached: { fraction: 0.0012, bytes: 29 * 1024 },
    },
    {
      line: "P01 DETAIL: backup file /data/postgresql.auto.conf (bundle 1/29711, 88B, 0.12%) checksum c6b93d1c2880daea891c8879c86d167c6678facf",
      reached: { fraction: 0.0012, bytes: 88 },
    },
    {
      line: "P02 DETAIL: match file from prior backup host:/data/base/5/1255 (1.5GB, 12.34%) checksum adb7a4a7a6886be09982ada40de8e58a48dcb64a",
      reached: { fraction: 0.1234, bytes: 1.5 * 1024 ** 3 },
    },
    {
      line: "P01 DETAIL: backup file /data/base/5/odd (1) name (8KB, 50.00%) checksum adb7a4a7",
      reached: { fraction: 0.5, bytes: 8192 },
    },
  ])("$line", ({ line, reached }) => {
    expect(readProgress(line, NOTHING)).toEqual({
      bytes: reached.bytes,
      fraction: expect.closeTo(reached.fraction, 9),
    });
  });

  test("bytes are added up, the share is the newest", () => {
    const first = readProgress("P01 DETAIL: backup file /data/1 (8KB, 10.00%) checksum a", NOTHING);
    const next = readProgress("P02 DETAIL: backup file /data/2 (16KB, 30.00%) checksum b", first ?? NOTHING);
    expect(next).toEqual({ fraction: 0.3, bytes: 24 * 1024 });
  });

  test.each([
    "P00 DETAIL: store zero-length file /data/base/1/13394",
    "P00 DETAIL: wrote 'backup_label' file returned from backup stop function",
    "P00 DETAIL: reference pg_data/postgresql.conf to 20261123-183758F",
    "P00 DETAIL: repo1: 15-1 archive retention on backup 20261123-183758F, start = 000000010000000000000002",
    "P00   INFO: full backup size = 321.2MB, file total = 977",
    "P00   WARN: backup file /data/1 (8KB, 10.00%)",
    "",
  ])("%j says nothing of it", (line) => {
    expect(readProgress(line, NOTHING)).toBeNull();
  });
});

describe("lines", () => {
  test.each([
    { line: "P00   INFO: new backup label = 20261123-175909F", label: "20261123-175909F" },
    {
      line: "P00   INFO: new backup label = 20261123-183758F_20261123-183800I",
      label: "20261123-183758F_20261123-183800I",
    },
    { line: "P00   INFO: last backup label = 20261123-183758F, version = 2.45", label: undefined },
    { line: "P00 DETAIL: repo1: 15-1 archive retention on backup 20261123-183758F", label: undefined },
  ])("$line → $label", ({ line, label }) => {
    expect(readSetLabel(line)).toBe(label);
  });

  test.each([
    { line: "P00   INFO: backup start archive = 000000010000000000000011, lsn = 0/11000028", level: "info" },
    { line: "P00   WARN: no prior backup exists, incr backup has been changed to full", level: "warn" },
    { line: "P00  ERROR: [062]: stop file exists for all stanzas", level: "error" },
    { line: "P01 DETAIL: backup file /data/base/5/3430 (0B, 100.00%)", level: "detail" },
    { line: "            HINT: is another pgBackRest process running?", level: "detail" },
  ])("$line is $level", ({ line, level }) => {
    expect(levelOf(line)).toBe(level);
  });

  test("the text stands without process and level", () => {
    expect(textOf("P00  ERROR: [062]: stop file exists for all stanzas")).toBe(
      "[062]: stop file exists for all stanzas",
    );
    expect(textOf("            HINT: has a stanza-create been performed?")).toBe(
      "HINT: has a stanza-create been performed?",
    );
  });
});

const ended = (change: Partial<Ending>): Ending => ({
  exitCode: null,
  signal: null,
  tail: [],
  cancelled: null,
  timedOutAfterMs: null,
  ...change,
});

const begin = "P00   INFO: backup command begin 2.45: --exec-id=19776-dae4e9e3 --stanza=main --type=full";
const aborted = (code: string) => `P00   INFO: backup command end: aborted with exception [${code}]`;

describe("how a backup ended", () => {
  test("code 0 is success", () => {
    expect(judge(job(), ended({ exitCode: 0 }))).toEqual({ status: "FINISHED", error: null, hint: null });
  });

  test("one that was cancelled when only its expire ran is finished", () => {
    const tail = [
      "P00   INFO: new backup label = 20261123-175909F",
      "P00   INFO: expire command begin 2.45: --stanza=main",
    ];
    const cancelled = { cancelled: "cancelled on request", exitCode: 63 };
    expect(judge(job(), ended({ ...cancelled, tail }))).toMatchObject({ status: "FINISHED", error: null });
    expect(judge(job(), ended({ ...cancelled, tail: tail.slice(0, 1) })).status).toBe("CANCELLED");
  });

  test.each([
    {
      exitCode: 50,
      tail: [
        begin,
        "P00  ERROR: [050]: unable to acquire lock on file '/lock/main-backup.lock': Resource temporarily unavailable",
        "            HINT: is another pgBackRest process running?",
        aborted("050"),
      ],
      error:
        "pgbackrest backup ended with code 50: [050]: unable to acquire lock on file '/lock/main-backup.lock': " +
        "Resource temporarily unavailable",
      hint: /another pgBackRest process holds the stanza's lock/,
    },
    {
      exitCode: 55,
      tail: [
        begin,
        "P00  ERROR: [055]: unable to load info file '/repo/backup/main/backup.info' or '/repo/backup/main/backup.info.copy':",
        "            FileMissingError: unable to open missing file '/repo/backup/main/backup.info' for read",
        "            FileMissingError: unable to open missing file '/repo/backup/main/backup.info.copy' for read",
        "            HINT: backup.info cannot be opened and is required to perform a backup.",
        "            HINT: has a stanza-create been performed?",
        aborted("055"),
      ],
      error:
        "pgbackrest backup ended with code 55: [055]: unable to load info file '/repo/backup/main/backup.info' or " +
        "'/repo/backup/main/backup.info.copy': FileMissingError: unable to open missing file " +
        "'/repo/backup/main/backup.info' for read FileMissingError: unable to open missing file " +
        "'/repo/backup/main/backup.info.copy' for read",
      hint: /pgbackrest --stanza=main stanza-create/,
    },
    {
      exitCode: 55,
      tail: ["ERROR: [055]: unable to open missing file '/etc/pgb.conf' for read"],
      error: "pgbackrest backup ended with code 55: [055]: unable to open missing file '/etc/pgb.conf' for read",
      hint: null,
    },
    {
      exitCode: 56,
      tail: [
        begin,
        "P00   WARN: unable to check pg1: [DbConnectError] unable to connect to 'dbname='postgres' port=5432'",
        "P00  ERROR: [056]: unable to find primary cluster - cannot proceed",
        "            HINT: are all available clusters in recovery?",
        aborted("056"),
      ],
      error: "pgbackrest backup ended with code 56: [056]: unable to find primary cluster - cannot proceed",
      hint: /is PostgreSQL running here, and is it the primary/,
    },
    {
      exitCode: 62,
      tail: [begin, "P00  ERROR: [062]: stop file exists for all stanzas", aborted("062")],
      error: "pgbackrest backup ended with code 62: [062]: stop file exists for all stanzas",
      hint: /pgbackrest start/,
    },
    {
      exitCode: 82,
      tail: [
        begin,
        "P00  ERROR: [082]: WAL segment 000000010000000000000004 was not archived before the 60000ms timeout",
        aborted("082"),
      ],
      error:
        "pgbackrest backup ended with code 82: [082]: WAL segment 000000010000000000000004 was not archived " +
        "before the 60000ms timeout",
      hint: /archive_command/,
    },
    {
      exitCode: 68,
      tail: [begin, "P00  ERROR: [068]: archive_command 'false' must contain pgbackrest", aborted("068")],
      error: "pgbackrest backup ended with code 68: [068]: archive_command 'false' must contain pgbackrest",
      hint: null,
    },
    {
      // Before it knows its stanza it writes without process number.
      exitCode: 37,
      tail: ["ERROR: [037]: backup command requires option: pg1-path", "       HINT: does this stanza exist?"],
      error: "pgbackrest backup ended with code 37: [037]: backup command requires option: pg1-path",
      hint: /^does this stanza exist$/,
    },
  ])("code $exitCode is told in pgBackRest's words", ({ exitCode, tail, error, hint }) => {
    const verdict = judge(job(), ended({ exitCode, tail }));
    expect(verdict).toMatchObject({ status: "ERROR", error });
    if (hint === null) expect(verdict.hint).toBeNull();
    else expect(verdict.hint).toMatch(hint);
  });

  test("a full repository is told whatever the code", () => {
    const tail = ["P00  ERROR: [041]: unable to write '/repo/x': [28] No space left on device"];
    expect(judge(job(), ended({ exitCode: 41, tail })).hint).toMatch(/repository is full/);
  });

  test("no word at all is an error still", () => {
    expect(judge(job(), ended({ exitCode: 1 }))).toMatchObject({
      status: "ERROR",
      error: "pgbackrest backup ended with code 1: it said nothing",
    });
  });

  test("SIGKILL hints at the memory", () => {
    const verdict = judge(job(), ended({ signal: "SIGKILL" }));
    expect(verdict).toMatchObject({ status: "ERROR", error: "pgbackrest backup was ended by SIGKILL" });
    expect(verdict.hint).toMatch(/memory/);
  });

  test("SIGTERM of somebody else is an error, not a cancellation", () => {
    expect(judge(job(), ended({ signal: "SIGTERM" }))).toMatchObject({ status: "ERROR" });
    const tail = ["P00   INFO: backup command end: terminated on signal [SIGTERM]"];
    expect(judge(job(), ended({ exitCode: 63, tail }))).toMatchObject({ status: "ERROR" });
  });

  test.each([{ exitCode: 63 }, { exitCode: null, signal: "SIGTERM" }, { exitCode: null, signal: "SIGKILL" }])(
    "cancelled with $exitCode $signal is CANCELLED, and why",
    (end) => {
      const verdict = judge(job(), ended({ ...end, cancelled: "cancelled on request" }));
      expect(verdict).toEqual({ status: "CANCELLED", error: "cancelled on request", hint: null });
    },
  );

  test("cancelled too late, it was done already", () => {
    expect(judge(job(), ended({ exitCode: 0, cancelled: "cancelled on request" })).status).toBe("FINISHED");
  });

  test.each([{ exitCode: 63 }, { exitCode: null, signal: "SIGKILL" }])("a limit that was passed: $exitCode", (end) => {
    const verdict = judge(job(), ended({ ...end, timedOutAfterMs: 90_000 }));
    expect(verdict).toEqual({
      status: "ERROR",
      error: "pgbackrest backup did not end within 90 s and was ended",
      hint: "raise --backup-timeout",
    });
  });
});

describe("a backup that was made although the command failed", () => {
  const made = [
    begin,
    "P00   INFO: new backup label = 20261123-175909F",
    "P00   INFO: full backup size = 321.2MB, file total = 977",
    "P00   INFO: backup command end: completed successfully",
    "P00   INFO: expire command begin 2.45: --exec-id=32162-de54c1aa --stanza=main",
  ];
  const expireFailed = [
    "P00  ERROR: [055]: repo1: unable to load info file '/repo/backup/main/backup.info' or '/repo/backup/main/backup.info.copy':",
    "            FileMissingError: unable to open missing file '/repo/backup/main/backup.info' for read",
    "P00  ERROR: [104]: expire command encountered 1 error(s), check the log file for details",
    "P00   INFO: expire command end: aborted with exception [104]",
  ];

  test("is said so, with the expire's own error and not with the count of them", () => {
    const verdict = judge(job({ set: "20261123-175909F" }), ended({ exitCode: 104, tail: [...made, ...expireFailed] }));
    expect(verdict.status).toBe("ERROR");
    expect(verdict.error).toMatch(
      /^the backup 20261123-175909F was made, but pgbackrest backup ended with code 104: \[055\]: repo1/,
    );
    expect(verdict.error).not.toContain("check the log file");
    expect(verdict.error).not.toContain("INFO");
  });

  test("is not claimed while the set was only about to be written", () => {
    const tail = [...made.slice(0, 2), "P00  ERROR: [041]: unable to write", aborted("041")];
    const verdict = judge(job({ set: "20261123-175909F" }), ended({ exitCode: 41, tail }));
    expect(verdict.error).toBe("pgbackrest backup ended with code 41: [041]: unable to write");
  });

  test("an expire alone has made no backup", () => {
    const verdict = judge(job({ command: "expire", type: null }), ended({ exitCode: 104, tail: expireFailed }));
    expect(verdict.error).toMatch(/^pgbackrest expire ended with code 104: \[055\]/);
  });

  test("a count that stands alone is told", () => {
    const verdict = judge(job({ command: "expire" }), ended({ exitCode: 104, tail: expireFailed.slice(2) }));
    expect(verdict.error).toBe(
      "pgbackrest expire ended with code 104: [104]: expire command encountered 1 error(s), check the log file for details",
    );
  });
});

describe("verify ends with code 0 whatever it finds", () => {
  const verify = (output: string[], change: Partial<Ending> = {}) =>
    judge(job({ command: "verify", type: null, output }), ended({ exitCode: 0, ...change }));
  const counts = "  archiveId: 15-1, total WAL checked: 3, total valid WAL: 2";

  test("status: ok", () => {
    expect(verify(["stanza: main", "status: ok", counts]).status).toBe("FINISHED");
  });

  test.each([
    {
      of: "a damaged segment",
      output: ["stanza: main", "status: error", counts, "    missing: 0, checksum invalid: 1"],
    },
    { of: "a missing stanza", output: ["stanza: nope", "status: error", "  No usable backup.info file"] },
  ])("status: error of $of", ({ output }) => {
    expect(verify(output)).toMatchObject({
      status: "ERROR",
      error: "pgbackrest verify found damage in the repository",
    });
  });

  test("without a status nothing is proven", () => {
    expect(verify([])).toMatchObject({ status: "ERROR", error: "pgbackrest verify does not say what it found" });
    // The status of a backup set is not that of the repository.
    expect(verify(["  backup: 20261123-182545F, status: valid, total files checked: 977"]).status).toBe("ERROR");
  });

  test("a code of its own is an error before that", () => {
    const tail = ["P00  ERROR: [103]: unable to find a valid repository"];
    expect(verify(["status: ok"], { exitCode: 103, tail })).toMatchObject({
      status: "ERROR",
      error: "pgbackrest verify ended with code 103: [103]: unable to find a valid repository",
    });
  });
});

describe("a restore test", () => {
  test("code 0 is proven", () => {
    expect(judgeRestoreTest(ended({ exitCode: 0 })).status).toBe("FINISHED");
  });

  test("its last error and hint are told, whatever follows", () => {
    const tail = [
      "2026-11-23 18:25:14.171+00 INFO  restore: started",
      "ERROR: [020]: UNHEALTHY: 2 checks failed: table-data, sequences",
      "HINT: keep the evidence, test an older set with --set.",
      "clean-up took longer than 8 s and was cut short",
    ];
    expect(judgeRestoreTest(ended({ exitCode: 20, tail }))).toEqual({
      status: "ERROR",
      error: "[020]: UNHEALTHY: 2 checks failed: table-data, sequences",
      hint: "keep the evidence, test an older set with --set",
    });
  });

  test("without an error of its own the last lines are", () => {
    expect(judgeRestoreTest(ended({ exitCode: 1, tail: ["a", "b", "c", "d"] })).error).toBe(
      "restore-test ended with code 1: b | c | d",
    );
  });

  test("a signal is named, a cancellation is none", () => {
    expect(judgeRestoreTest(ended({ signal: "SIGKILL" })).error).toBe("restore-test was ended by SIGKILL");
    expect(judgeRestoreTest(ended({ exitCode: 143, cancelled: "cancelled on request" })).status).toBe("CANCELLED");
  });
});
