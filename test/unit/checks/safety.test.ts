import { describe, expect, test } from "vitest";
import { archiveDestination, archiving } from "../../../lib/checks/safety/archiving.ts";
import { jobs } from "../../../lib/checks/safety/jobs.ts";
import { preparedTransactions } from "../../../lib/checks/safety/prepared-transactions.ts";
import { recoverySettings } from "../../../lib/checks/safety/recovery-settings.ts";
import { slots, subscriptions, synchronousStandbyNames } from "../../../lib/checks/safety/replication.ts";
import { asked, evidence } from "./asked.ts";

const clone = { ...asked, detach: "clone" } as const;

describe("where an archive_command archives to", () => {
  test.each([
    ["pgbackrest --stanza=clone archive-push %p", { kind: "stanza", stanza: "clone" }],
    ["/usr/bin/pgbackrest --config=/etc/x.conf --stanza clone archive-push %p", { kind: "stanza", stanza: "clone" }],
    [`pgbackrest "--stanza=my clone" archive-push "%p"`, { kind: "stanza", stanza: "my clone" }],
    ["PGBACKREST_STANZA=clone pgbackrest archive-push %p", { kind: "stanza", stanza: "clone" }],
    ["", { kind: "nowhere" }],
    ["/bin/false", { kind: "nowhere" }],
    ["exit 1", { kind: "nowhere" }],
    ["true", { kind: "discarded" }],
    ["/bin/true", { kind: "discarded" }],
    [":", { kind: "discarded" }],
    ["exit 0", { kind: "discarded" }],
    ["echo %p", { kind: "discarded" }],
  ])("%s", (command, expected) => {
    expect(archiveDestination(command)).toEqual(expected);
  });

  test.each([
    "pgbackrest archive-push %p",
    "pgbackrest --stanza=clone archive-push %p && cp %p /backup/source",
    "pgbackrest --stanza=$STANZA archive-push %p",
    "pgbackrest --stanza=`cat /x` archive-push %p",
    "pgbackrest --stanza=a --stanza=b archive-push %p",
    "pgbackrest --stanza=clone check",
    "wal-g wal-push %p",
    "envdir /etc/wal-e.d pgbackrest --stanza=clone archive-push %p",
    "pgbackrest --stanza='clone archive-push %p",
  ])("cannot be told from %s", (command) => {
    expect(archiveDestination(command).kind).toBe("unknown");
  });
});

describe("archiving", () => {
  const off = {
    archive_mode: "off",
    archive_command: "pgbackrest --stanza=demo archive-push %p",
    archive_library: "",
    archived_count: 0,
    failed_count: 0,
    last_archived_wal: null,
  };
  const on = { ...off, archive_mode: "on" };
  const own = { ...on, archive_command: "pgbackrest --stanza=clone archive-push %p" };

  test.each([
    { facts: off, given: asked, status: "pass", why: "off in a restore test" },
    { facts: own, given: asked, status: "fail", why: "on in a restore test, wherever to" },
    { facts: { ...off, archived_count: 1 }, given: asked, status: "fail", why: "off, but it has archived" },
    { facts: off, given: clone, status: "pass", why: "off in a clone" },
    { facts: own, given: clone, status: "pass", why: "to the clone's own stanza" },
    { facts: { ...own, archived_count: 5 }, given: clone, status: "pass", why: "has archived to its own stanza" },
    { facts: { ...off, archived_count: 5 }, given: clone, status: "fail", why: "off now, but it has archived" },
    { facts: on, given: clone, status: "fail", why: "to the source's stanza" },
    { facts: { ...on, archive_command: "true" }, given: clone, status: "fail", why: "thrown away" },
    { facts: { ...on, archive_command: "/bin/false" }, given: clone, status: "warn", why: "to nowhere" },
    {
      facts: { ...on, archive_command: "wal-g wal-push %p" },
      given: clone,
      status: "unverified",
      why: "not to be told",
    },
    { facts: { ...on, archive_library: "basic_archive" }, given: clone, status: "unverified", why: "by a library" },
    { facts: own, given: { ...clone, evidence: null }, status: "unverified", why: "the source's stanza is not known" },
    {
      facts: own,
      given: { ...clone, evidence: { ...evidence, stanza: null } },
      status: "unverified",
      why: "the report does not name the source's stanza",
    },
  ])("$status: $why", ({ facts, given, status }) => {
    expect(archiving.judge(facts, given)).toMatchObject({ status });
  });
});

describe("subscriptions", () => {
  const asleep = { database: "app", name: "s", enabled: false, slot: null, pid: null };
  test.each([
    { list: [], status: "pass", why: "there is none" },
    { list: [asleep], status: "pass", why: "disabled and off its slot" },
    { list: [{ ...asleep, enabled: true }], status: "fail", why: "enabled" },
    { list: [{ ...asleep, slot: "s" }], status: "fail", why: "disabled, but DROP would drop the publisher's slot" },
    { list: [{ ...asleep, pid: "17" }], status: "fail", why: "its worker still runs" },
  ])("$status: $why", ({ list, status }) => {
    expect(subscriptions.judge({ subscriptions: list }, asked)).toMatchObject({ status });
  });
});

describe("slots", () => {
  const physical = { name: "replica_1", type: "physical", active: false };
  test.each([
    { list: [], given: asked, status: "pass", why: "there is none" },
    { list: [physical], given: asked, status: "warn", why: "an inactive physical one may be Patroni's" },
    { list: [{ ...physical, active: true }], given: asked, status: "fail", why: "somebody follows a restore test" },
    { list: [{ ...physical, active: true }], given: clone, status: "warn", why: "a clone may have a replica" },
    { list: [{ ...physical, type: "logical" }], given: clone, status: "fail", why: "a logical one is the source's" },
  ])("$status: $why", ({ list, given, status }) => {
    expect(slots.judge({ slots: list }, given)).toMatchObject({ status });
  });
});

test("synchronous_standby_names must be empty", () => {
  expect(synchronousStandbyNames.judge({ synchronous_standby_names: "" }, asked).status).toBe("pass");
  expect(synchronousStandbyNames.judge({ synchronous_standby_names: "*" }, asked).status).toBe("fail");
});

describe("recovery-settings", () => {
  const left = { name: "restore_command", setting: "cp x", source: "/data/postgresql.auto.conf" };
  test.each([
    { facts: { settings: [], signal_files: [] }, status: "pass", why: "nothing is left" },
    { facts: { settings: [left], signal_files: [] }, status: "fail", why: "a setting" },
    { facts: { settings: [], signal_files: ["standby.signal"] }, status: "fail", why: "a signal file" },
    { facts: { settings: [], signal_files: null }, status: "unverified", why: "nobody could look for signal files" },
  ])("$status: $why", ({ facts, status }) => {
    expect(recoverySettings.judge(facts, asked)).toMatchObject({ status });
  });
});

describe("jobs", () => {
  const quiet = {
    max_logical_replication_workers: 4,
    enabled_subscriptions: 0,
    cron: null,
    timescaledb: null,
    running: [],
  };
  test.each([
    { change: {}, status: "pass", why: "nothing is loaded" },
    { change: { enabled_subscriptions: 1 }, status: "fail", why: "workers for an enabled subscription" },
    {
      change: { enabled_subscriptions: 1, max_logical_replication_workers: 0 },
      status: "pass",
      why: "no worker for the subscription",
    },
    { change: { cron: { launch_active_jobs: "off", active_jobs: 3 } }, status: "pass", why: "pg_cron holds still" },
    { change: { cron: { launch_active_jobs: "on", active_jobs: 0 } }, status: "fail", why: "pg_cron launches jobs" },
    {
      change: { cron: { launch_active_jobs: null, active_jobs: 1 } },
      status: "fail",
      why: "an old pg_cron with a job",
    },
    { change: { cron: { launch_active_jobs: null, active_jobs: 0 } }, status: "pass", why: "an old pg_cron without" },
    { change: { timescaledb: { max_background_workers: 0 } }, status: "pass", why: "TimescaleDB without workers" },
    { change: { timescaledb: { max_background_workers: 16 } }, status: "fail", why: "TimescaleDB with workers" },
  ])("$status: $why", ({ change, status }) => {
    expect(jobs.judge({ ...quiet, ...change }, asked)).toMatchObject({ status });
  });
});

test("prepared transactions are a warning with their names", () => {
  const prepared = [{ gid: "tx-1", database: "app", prepared_at: "2026-11-22 10:00:00+00" }];
  expect(preparedTransactions.judge({ prepared: [] }, asked).status).toBe("pass");
  expect(preparedTransactions.judge({ prepared }, asked)).toMatchObject({
    status: "warn",
    summary: expect.stringContaining("tx-1"),
  });
});
