import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  explainFailure,
  type FailureContext,
  lastArchiveError,
  newRecoveryLog,
  parseServerLine,
  readServerLine,
} from "../../../lib/restore/server-log.ts";

const lines = readFileSync(new URL("../../fixtures/postgresql-15-recovery.log", import.meta.url), "utf8").split("\n");

const context: FailureContext = {
  target: "time 2026-11-23 00:00:00+00",
  archiveMax: "00000001000000000000000A",
  missingWal: null,
  archiveError: null,
  freeBytes: 4 * 1024 ** 3,
  segmentSize: 16 * 1024 ** 2,
};

function read(some: readonly string[]) {
  const log = newRecoveryLog();
  for (const line of some) readServerLine(log, line);
  return log;
}

test("a whole recovery of PostgreSQL 15 is followed from its log", () => {
  expect(read(lines)).toMatchObject({
    consistent: true,
    promoting: true,
    acceptsConnections: "all",
    stopReason: expect.stringMatching(/^recovery stopping before commit of transaction \d+, time 20/),
    lastCommitAt: expect.stringMatching(/^20\d\d-\d\d-\d\d /),
    insufficientSettings: false,
    errors: [],
  });
  expect(read(lines).segments).toBeGreaterThan(3);
});

test.each([
  ["before promotion it takes no connections", /selected new timeline/, "read-only"],
  ["before consistency none at all", /consistent recovery state/, "no"],
])("%s", (_, until, accepts) => {
  const end = lines.findIndex((line) => until.test(line));
  expect(read(lines.slice(0, end)).acceptsConnections).toBe(accepts);
});

test.each([
  'recovery stopping at restore point "between", time 2026-11-23 00:06:25.1+00',
  "recovery stopping after reaching consistency",
  'recovery stopping before WAL location (LSN) "0/3000000"',
  "recovery stopping after commit of transaction 735, time 2026-11-23 00:06:25.1+00",
])("%s proves that the target stopped it", (message) => {
  expect(read([`2026-11-23 00:09:51.951 UTC [206] 00000 LOG:  ${message}`]).stopReason).toBe(message);
});

test("output of restore_command is not mistaken for the server's", () => {
  expect(parseServerLine("ERROR: [049]: unable to connect to 'localhost:443'")).toBeNull();
});

describe("a failure is explained in one line", () => {
  const fatal = (message: string) => [`2026-11-23 00:09:51.951 UTC [206] XX000 FATAL:  ${message}`];

  test.each([
    ["recovery ended before configured recovery target was reached", "TARGET_UNREACHED", "WAL ended before the target"],
    [
      "requested recovery stop point is before consistent recovery point",
      "TARGET_UNREACHED",
      "before the end of the chosen backup",
    ],
    [
      "requested timeline 2 is not a child of this server's history",
      "RECOVERY_FAILED",
      "timeline 2 in the archive did not grow out",
    ],
    [
      "could not locate required checkpoint record",
      "RECOVERY_FAILED",
      "WAL that the backup itself needs is not in the archive",
    ],
    ["WAL ends before end of online backup", "RECOVERY_FAILED", "before the backup is consistent"],
    [
      'could not access file "timescaledb-2.22.0": No such file or directory',
      "RECOVERY_FAILED",
      'library "timescaledb-2.22.0"',
    ],
    ["could not map anonymous shared memory: Cannot allocate memory", "RECOVERY_FAILED", "shared memory"],
    ['could not write to file "pg_wal/xlogtemp.29": No space left on device', "RECOVERY_FAILED", "disk ran full"],
    [
      "unexpected data beyond EOF in block 448 of relation base/5/1259",
      "RECOVERY_FAILED",
      "unexpected data beyond EOF in block 448",
    ],
    ["out of memory", "RECOVERY_FAILED", "PostgreSQL lacked means during recovery: out of memory"],
    [
      "could not fork new process for connection: Resource temporarily unavailable",
      "RECOVERY_FAILED",
      "lacked means during recovery: could not fork new process",
    ],
    ["something nobody has seen yet", "RECOVERY_FAILED", "something nobody has seen yet"],
  ])("%s", (message, code, says) => {
    const said = fatal(message);
    const explanation = explainFailure(said, read(said), context);
    expect(explanation.code).toBe(code);
    expect(explanation.message).toContain(says);
  });

  test("a process that the kernel killed lies at the host", () => {
    const said = [
      "2026-11-23 00:09:51.951 UTC [200] 00000 LOG:  startup process (PID 206) was terminated by signal 9: Killed",
      "2026-11-23 00:09:51.951 UTC [200] 00000 LOG:  terminating any other active server processes",
    ];
    expect(explainFailure(said, read(said), context)).toMatchObject({
      message: "PostgreSQL's startup process was killed, most likely by the kernel for want of memory",
      about: "host",
    });
  });

  test("WAL that ends with garbage is no want of memory", () => {
    const said = [
      "2026-11-23 00:09:51.951 UTC [206] 00000 LOG:  out of memory while trying to decode a record of length 1835103776",
      ...fatal("something nobody has seen yet"),
    ];
    expect(explainFailure(said, read(said), context).message).toContain("something nobody has seen yet");
  });

  test("a full disk is the cause of whatever else went wrong", () => {
    const said = [
      "ERROR: [041]: unable to write '/pg/data.restoring/pg_wal/RECOVERYXLOG': [28] No space left on device",
      ...fatal("could not locate required checkpoint record"),
    ];
    expect(explainFailure(said, read(said), context)).toMatchObject({
      message: "the disk ran full during recovery",
      about: "host",
    });
  });

  test.each([
    "could not locate required checkpoint record",
    "WAL ends before end of online backup",
    "recovery ended before configured recovery target was reached",
  ])("%s, where no segment finds room: the disk is full, whatever the archive has", (message) => {
    const said = fatal(message);
    const full = explainFailure(said, read(said), { ...context, freeBytes: 16 * 1024 ** 2 - 1 });
    expect(full.message).toBe("the disk ran full during recovery");
    expect(explainFailure(said, read(said), context).message).not.toBe(full.message);
  });

  test("how far recovery got and what is missing is part of it", () => {
    const said = [...lines.slice(0, 25), ...fatal("recovery ended before configured recovery target was reached")];
    const { message, hint } = explainFailure(said, read(said), {
      ...context,
      missingWal: "000000010000000000000009",
      archiveError: "[049]: unable to connect to 'localhost:443'",
    });
    expect(message).toContain(
      "000000010000000000000009 is missing in the archive although it goes on to 00000001000000000000000A",
    );
    expect(message).toContain("pgbackrest archive-get said [049]: unable to connect");
    expect(hint).toContain("the archive has a gap");
  });

  test.each([
    "could not locate required checkpoint record",
    "WAL ends before end of online backup",
    "recovery ended before configured recovery target was reached",
  ])("%s, after archive-get has failed: the repository failed, and the WAL need not have ended", (message) => {
    const said = fatal(message);
    const archiveError = "[103]: unable to find a valid repository: unable to connect to 'localhost:443'";
    const explanation = explainFailure(said, read(said), { ...context, missingWal: null, archiveError });
    expect(explanation.code).toBe("RECOVERY_FAILED");
    expect(explanation.message).toContain("the repository failed during recovery");
    expect(explanation.message).toContain(archiveError);
    expect(explanation.hint).toContain("cannot be reached");
  });

  test("a server that said nothing is said to have said nothing", () => {
    expect(explainFailure([], newRecoveryLog(), context).message).toContain("it said nothing");
  });
});

test("the last error of archive-get is found among the server's lines", () => {
  expect(lastArchiveError([...lines, "ERROR: [103]: unable to find a valid repository:"])).toBe(
    "[103]: unable to find a valid repository:",
  );
  expect(lastArchiveError(lines)).toBeNull();
});

test("an error of archive-get counts no more when a segment has come after it", () => {
  const failed = ["ERROR: [042]: unable to get 00000001000000000000000A:", "       repo1: unexpected eof"];
  const restored =
    '2026-11-23 00:09:51.951 UTC [206] 00000 LOG:  restored log file "00000001000000000000000A" from archive';
  expect(lastArchiveError([...lines, ...failed])).toBe(
    "[042]: unable to get 00000001000000000000000A: repo1: unexpected eof",
  );
  expect(lastArchiveError([...lines, ...failed, restored])).toBeNull();
});
