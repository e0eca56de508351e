import { expect, test } from "vitest";
import {
  clockDifference,
  judgeSource,
  type SourceFacts,
  sameServer,
  warnAboutSource,
} from "../../../lib/mark/source.ts";

const GOOD: SourceFacts = {
  role: "postgres",
  inRecovery: false,
  readOnly: false,
  archiveMode: "on",
  archiveCommand: "pgbackrest --stanza=demo archive-push %p",
  archiveLibrary: "",
  mayReadSettings: true,
  maySwitchWal: true,
  mayCreateRestorePoint: true,
  mayCreateSchema: true,
  closedDatabases: [],
  schema: null,
  archiver: { lastArchivedWal: null, lastArchivedAt: null, lastFailedWal: null, lastFailedAt: null, failing: false },
  timeline: 1,
  systemIdentifier: "7711149530324495601",
  serverVersion: "15.18",
  serverVersionNum: 150018,
  walSegmentSize: 16777216,
  dataChecksums: true,
  databases: ["postgres"],
  superusers: ["postgres"],
  sharedPreloadLibraries: "",
  identity: { systemIdentifier: "7711149530324495601", timeline: "00000001", startedAt: "2026-11-22 10:00:00+00" },
  clockDifferenceMs: 0,
};

const problems = (facts: Partial<SourceFacts>) => judgeSource({ ...GOOD, ...facts }).map((problem) => problem.message);

test("a primary that archives has no problem, with a command or a library", () => {
  expect(problems({})).toEqual([]);
  expect(problems({ archiveMode: "always" })).toEqual([]);
  expect(problems({ archiveCommand: "", archiveLibrary: "pgbackrest_archive" })).toEqual([]);
});

test.each<[string, Partial<SourceFacts>, string]>([
  ["a standby", { inRecovery: true }, "marker must be written to the primary; pg_is_in_recovery() is true"],
  [
    "a read-only session",
    { readOnly: true },
    "marker must be written to the primary; the session is read-only (default_transaction_read_only is on)",
  ],
  [
    "archive_mode off",
    { archiveMode: "off" },
    "source does not archive: archive_mode is off, so the marker cannot reach the repository",
  ],
  [
    "an empty archive_command",
    { archiveCommand: "" },
    "source does not archive: archive_mode is on but archive_command is empty",
  ],
])("%s is refused in its own words", (_, facts, sentence) => {
  expect(problems(facts)).toEqual([sentence]);
});

test.each(["true", "/bin/true", "/usr/bin/true", " : ", "exit 0", "echo %p", "true # later"])(
  "archive_command %j stores nothing",
  (archiveCommand) => {
    expect(problems({ archiveCommand })).toEqual([
      `source does not archive: archive_command "${archiveCommand}" stores nothing`,
    ]);
  },
);

test.each(["cp %p /wal/%f", "test ! -f /wal/%f && cp %p /wal/%f", "true && cp %p /wal/%f", "echo %f >> log; push %p"])(
  "archive_command %j may store something",
  (archiveCommand) => expect(problems({ archiveCommand })).toEqual([]),
);

test("a role without rights is told each GRANT, by its quoted name", () => {
  const found = judgeSource({
    ...GOOD,
    role: 'odd"role',
    archiveCommand: null,
    mayReadSettings: false,
    maySwitchWal: false,
    mayCreateRestorePoint: false,
    mayCreateSchema: false,
    closedDatabases: ["app"],
  });
  expect(found.map(({ hint }) => hint?.replace(/ in database postgres.*/, ""))).toEqual([
    'GRANT pg_read_all_settings TO "odd""role"',
    'GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO "odd""role"',
    'GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "odd""role"',
    'GRANT CREATE ON DATABASE postgres TO "odd""role"',
    'GRANT CONNECT ON DATABASE "app" TO "odd""role"',
  ]);
});

test("all problems come at once", () => {
  const schema = { comment: null, owner: "app", ownerIsTrusted: false, writable: false, tables: 0 };
  expect(problems({ inRecovery: true, archiveMode: "off", schema })).toHaveLength(3);
});

test("archiving that fails and clocks that differ are warnings", () => {
  const archiver = {
    lastArchivedWal: "000000010000000A000000F2",
    lastArchivedAt: "2026-11-22 03:12:07+00",
    lastFailedWal: "000000010000000A000000F3",
    lastFailedAt: "2026-11-22 09:00:00+00",
    failing: true,
  };
  expect(warnAboutSource({ ...GOOD, archiver, clockDifferenceMs: -4200 })).toEqual([
    "source has not archived since 2026-11-22 03:12:07+00 (last failure 000000010000000A000000F3 at 2026-11-22 09:00:00+00): recentness cannot pass until it does",
    "clocks differ by 4.2 s; target is taken from the source",
  ]);
  expect(warnAboutSource(GOOD)).toEqual([]);
});

test("a clock within the round trip does not differ", () => {
  expect(clockDifference(1500, 1000, 2000)).toBe(0);
  expect(clockDifference(900, 1000, 2000)).toBe(-100);
  expect(clockDifference(5000, 1000, 2000)).toBe(3000);
});

test("a restart, another timeline or another cluster is another server", () => {
  expect(sameServer(GOOD.identity, { ...GOOD.identity })).toBe(true);
  expect(sameServer(GOOD.identity, { ...GOOD.identity, startedAt: "2026-11-22 10:00:01+00" })).toBe(false);
  expect(sameServer(GOOD.identity, { ...GOOD.identity, timeline: "00000002" })).toBe(false);
  expect(sameServer(GOOD.identity, { ...GOOD.identity, systemIdentifier: "1" })).toBe(false);
});
