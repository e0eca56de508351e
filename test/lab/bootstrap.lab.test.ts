/** `bootstrap` on real PostgreSQL and pgBackRest: every kind of target, and every failure that one machine can produce. */

import { existsSync, readFileSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { Report } from "../../lib/report/report.ts";
import { useLab } from "./fixture.ts";
import { assertNothingRuns, type Lab } from "./lab.ts";
import { waitFor } from "./process.ts";
import {
  archiveWal,
  backup,
  createStanza,
  markAndWait,
  now,
  query,
  type Source,
  startPostgres,
  startSource,
  value,
} from "./source.ts";

/** What the source's history offers to aim at: row 1 before it, row 2 after it. */
interface History {
  time: string;
  lsn: string;
  xid: string;
  name: string;
}

const lab = useLab("bootstrap", async (lab) => {
  const source = await startSource(lab, { stanza: "svc", parameters: { track_commit_timestamp: "on" } });
  await createStanza(lab, source);
  const first = await backup(lab, source, "full");
  await query(source, "CREATE TABLE event (id int PRIMARY KEY, filler text)");
  await query(source, "INSERT INTO event VALUES (1)");
  const xid = await value(source, "SELECT xmin FROM event WHERE id = 1");
  const lsn = await value(source, "SELECT pg_current_wal_insert_lsn()");
  // A target time in the very second in which the backup ended belongs to the backup before, and there is none.
  await query(source, "SELECT pg_sleep(1)");
  const time = await now(source);
  await query(source, "SELECT pg_create_restore_point('between')");
  await query(source, "INSERT INTO event VALUES (2)");
  // A few segments, so that there is a recovery to interrupt.
  for (let round = 0; round < 6; round++) {
    await query(
      source,
      `INSERT INTO event SELECT ${100 + round * 10000} + g, repeat('x', 900) FROM generate_series(1, 8000) g`,
    );
    await archiveWal(source);
  }
  const history: History = { time, lsn, xid, name: "between" };
  return { source, first, history };
});

let datadir: string;
let count = 0;
beforeEach(() => {
  datadir = lab().path(`restore-${++count}`, "data");
});

const common = (source: Source = lab().source) => [
  "--scope=rt",
  `--datadir=${datadir}`,
  `--stanza=${source.stanza}`,
  `--pgbackrest-config=${source.pgbackrestConfig}`,
];

async function bootstrap(args: readonly string[], options: { env?: Record<string, string> } = {}) {
  await lab().makeDirectory(`restore-${count}`, 0o700);
  return lab().runScript("bootstrap", args, options);
}

/** The source with a copy of its repository, to be damaged. */
async function copyRepository(): Promise<Source> {
  const { source } = lab();
  const repository = lab().path(`repository-${count}`);
  await lab().mustRun("cp", ["--archive", "--reflink=auto", source.repository, repository]);
  const config = (await readFile(source.pgbackrestConfig, "utf8")).replace(source.repository, repository);
  return { ...source, repository, pgbackrestConfig: await lab().writeFile(`pgbackrest-${count}.conf`, config) };
}

/** PostgreSQL's programs, with an initdb that does something first. */
async function programs(before: string): Promise<string> {
  const directory = await lab().makeDirectory(`bin-${count}`);
  await lab().mustRun("sh", ["-c", `ln -s ${lab().binDir}/* ${directory} && rm ${directory}/initdb`]);
  await lab().writeFile(`bin-${count}/initdb`, `#!/bin/sh\n${before}\nexec ${lab().binDir}/initdb "$@"\n`, 0o755);
  return directory;
}

const report = (): Report => JSON.parse(readFileSync(`${datadir}.report.json`, "utf8"));

let asked = 0;

/** Starts what was handed over, as plainly as Patroni does, and asks it. */
async function ask(sql: string): Promise<string> {
  const socket = await lab().makeDirectory(`socket-${count}`, 0o700);
  const settings = ["-c", "listen_addresses=", "-c", `unix_socket_directories=${socket}`, "-c", "port=5432"];
  const service = lab().startService(`restored-${++asked}`, "postgres", ["-D", datadir, ...settings]);
  try {
    await service.waitForLog(/ready to accept connections/, 60_000);
    const { stdout } = await lab().mustRun("psql", ["-XAtqc", sql, "-h", socket, "-U", "postgres", "postgres"]);
    return stdout.trim();
  } finally {
    await service.stop("SIGINT");
  }
}

/** What may lie beside a data directory that is not there. */
async function expectNothingRestored(): Promise<void> {
  expect(existsSync(datadir)).toBe(false);
  const beside = await readdir(lab().path(`restore-${count}`));
  expect(beside.filter((name) => !/^data\.(unproven|report\.json|recovery\.log)$/.test(name))).toEqual([]);
  assertNothingRuns(lab(), isSource);
}

const isSource = ({ command }: { command: string }) => command.includes("postgres") && !command.includes("restore-");

describe("every kind of target stops where it should", () => {
  const ROWS = "SELECT string_agg(id::text, ',' ORDER BY id) FROM event WHERE id < 100";

  test.each([
    { type: "time", args: (h: History) => [`--restore-target-time=${h.time}`], rows: "1" },
    { type: "lsn", args: (h: History) => ["--target-type=lsn", `--target=${h.lsn}`], rows: "1" },
    { type: "xid", args: (h: History) => ["--target-type=xid", `--target=${h.xid}`], rows: "1" },
    { type: "name", args: (h: History) => ["--target-type=name", `--target=${h.name}`], rows: "1" },
    { type: "latest", args: () => ["--target-type=latest"], rows: "1,2" },
    {
      type: "xid, exclusive",
      args: (h: History) => ["--target-type=xid", `--target=${h.xid}`, "--target-exclusive"],
      rows: "",
    },
  ])("$type", async ({ args, rows }) => {
    const result = await bootstrap([...common(), ...args(lab().history)]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await ask(ROWS)).toBe(rows);
    const { verdict, recovered, phases, backup } = report();
    expect(verdict).toBe("error");
    expect(recovered).toMatchObject({ timeline: 2, parent_timeline: 1 });
    expect(backup?.label).toBe(lab().first);
    expect(phases.map((p) => p.name)).toEqual([
      "preflight",
      "restore",
      "recovery",
      "promote",
      "detach",
      "stop",
      "handover",
    ]);
    expect(existsSync(`${datadir}.unproven`)).toBe(true);
  });

  test("immediate ends with the backup itself", async () => {
    const result = await bootstrap([...common(), "--target-type=immediate", `--set=${lab().first}`]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await ask("SELECT to_regclass('event') IS NULL")).toBe("t");
    expect(report().recovered?.stop_reason).toContain("consistency");
  });

  test("a timeline that is not there is said", async () => {
    const result = await bootstrap([...common(), `--restore-target-time=${lab().history.time}`, "--target-timeline=7"]);
    expect(result.exitCode).toBe(12);
    expect(result.stderr).toContain("timeline 7 is not in the WAL archive");
    await expectNothingRestored();
  });
});

test("a failover since the backup is followed, by the receipt's timeline and to the end of the archive", async () => {
  const own = await startSource(lab(), { stanza: "failover" });
  await createStanza(lab(), own);
  const set = await backup(lab(), own, "full");
  await query(own, "CREATE TABLE event AS SELECT 1 AS id");
  await own.service.stop("SIGINT");
  await lab().writeFile("failover/data/standby.signal", "", 0o600);
  const service = await startPostgres(lab(), own);
  await query(own, "SELECT pg_promote()");
  await query(own, "INSERT INTO event VALUES (2)");
  const { file, receipt } = await markAndWait(lab(), own, "after-failover");
  expect(receipt.timeline).toBe(2);
  await query(own, "INSERT INTO event VALUES (3)");
  await archiveWal(own);
  await service.stop("SIGINT");
  const ids = "SELECT string_agg(id::text, ',' ORDER BY id) FROM event";
  expect(await bootstrap([...common(own), `--receipt=${file}`, `--set=${set}`])).toMatchObject({ exitCode: 0 });
  expect(report()).toMatchObject({ recovered: { timeline: 3, parent_timeline: 2 }, target: { timeline: "2" } });
  expect(await ask(ids)).toBe("1,2");
  datadir = lab().path(`restore-${count}`, "latest");
  expect(await bootstrap([...common(own), "--target-type=latest"])).toMatchObject({ exitCode: 0 });
  expect(await ask(ids)).toBe("1,2,3");
});

describe("what is handed over", () => {
  test("archives nothing, follows nobody, and holds nothing of the source's Patroni", async () => {
    const result = await bootstrap([...common(), `--restore-target-time=${lab().history.time}`]);
    expect(result.exitCode).toBe(0);
    const files = await readdir(datadir);
    expect(files.filter((f) => /signal$|postmaster|dynamic|\.backup$/.test(f))).toEqual([]);
    const settings = await ask(
      `SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
        WHERE name IN ('archive_mode', 'restore_command', 'primary_conninfo', 'recovery_target_time', 'synchronous_standby_names')`,
    );
    expect(settings).toBe(
      "archive_mode=off primary_conninfo= recovery_target_time= restore_command= synchronous_standby_names=",
    );
  });

  test("it is flushed to disk while it is stopped, and keeps none of the settings of its recovery", async () => {
    const log = lab().path(`initdb-${count}`);
    const args = [
      ...common(),
      "--target-type=immediate",
      `--bin-dir=${await programs(`pg_controldata -D "$3" >${log}`)}`,
    ];
    expect((await bootstrap(args)).exitCode).toBe(0);
    expect(readFileSync(log, "utf8")).toMatch(/cluster state: +shut down\n/);
    expect(report().synced).toBe(true);
    const names = "'full_page_writes', 'recovery_prefetch', 'checkpoint_flush_after', 'wal_recycle'";
    const kept = `SELECT string_agg(setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN (${names})`;
    expect(await ask(kept)).toBe("32 on try on");
  });

  test("with --sync=skip it is not flushed, and the report says so", async () => {
    const log = lab().path(`initdb-${count}`);
    const own = ["--target-type=immediate", "--sync=skip", `--bin-dir=${await programs(`touch ${log}`)}`];
    expect((await bootstrap([...common(), ...own])).exitCode).toBe(0);
    expect([existsSync(log), report().synced]).toEqual([false, false]);
  });

  test("settings of the source that do not fit here are set aside", async () => {
    const { source } = lab();
    await query(source, "ALTER SYSTEM SET shared_buffers = '900GB'");
    await query(source, "ALTER SYSTEM SET ssl_cert_file = '/nowhere/server.crt'");
    await query(source, "ALTER SYSTEM SET work_mem = '5MB'");
    const set = await backup(lab(), source, "full").finally(() => query(source, "ALTER SYSTEM RESET ALL"));
    expect((await bootstrap([...common(), "--target-type=immediate", `--set=${set}`])).exitCode).toBe(0);
    expect(await ask("SELECT current_setting('shared_buffers') || ' ' || current_setting('work_mem')")).toBe(
      "64MB 5MB",
    );
    const aside = await readFile(join(datadir, "postgresql.auto.conf.source"), "utf8");
    expect(aside).toBe("shared_buffers = '900GB'\nssl_cert_file = '/nowhere/server.crt'\n");
  });

  test("a clone may archive again, but the source's own archive_command is gone", async () => {
    const result = await bootstrap([...common(), `--restore-target-time=${lab().history.time}`, "--detach=clone"]);
    expect(result.exitCode).toBe(0);
    expect(await readFile(join(datadir, "postgresql.auto.conf"), "utf8")).not.toContain("archive_mode");
    expect(await ask("SELECT current_setting('archive_command')")).toBe("(disabled)");
  });

  test("a live subscription is disabled and off its slot before anything could connect", async () => {
    const { source } = lab();
    await query(source, "CREATE DATABASE subscriber");
    const create = `CREATE SUBSCRIPTION live CONNECTION 'host=127.0.0.1 port=${source.port} dbname=postgres' PUBLICATION p WITH (connect = false, slot_name = 'live')`;
    await query(source, create, { database: "subscriber" });
    await query(source, "ALTER SUBSCRIPTION live ENABLE", { database: "subscriber" });
    const { file } = await markAndWait(lab(), source, "with-subscription");
    await query(source, "ALTER SUBSCRIPTION live DISABLE", { database: "subscriber" });
    await query(source, "ALTER SUBSCRIPTION live SET (slot_name = NONE)", { database: "subscriber" });
    await query(source, "DROP SUBSCRIPTION live", { database: "subscriber" });
    await query(source, "DROP DATABASE subscriber");
    const result = await bootstrap([...common(), `--receipt=${file}`]);
    expect(result.stderr).toContain("subscriptions disabled: subscriber.live");
    expect(await ask("SELECT subenabled::text || coalesce(subslotname, ' none') FROM pg_subscription")).toBe(
      "false none",
    );
  });

  test("tablespaces and pg_wal lie where they were mapped and work from there", async () => {
    const { source } = lab();
    const location = await lab().makeDirectory("source-space", 0o700);
    await query(source, `CREATE TABLESPACE "fast disk" LOCATION '${location}'`);
    await query(source, 'CREATE TABLE spaced TABLESPACE "fast disk" AS SELECT 42 AS answer');
    const set = await backup(lab(), source, "full");
    await query(source, "DROP TABLE spaced");
    await query(source, 'DROP TABLESPACE "fast disk"');
    await lab().makeDirectory(`restore-${count}`, 0o700);
    const wal = lab().path(`restore-${count}`, "wal");
    const result = await bootstrap([
      ...common(),
      "--target-type=immediate",
      `--set=${set}`,
      `--link-map=pg_wal=${wal}`,
    ]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await ask("SELECT answer FROM spaced")).toBe("42");
    expect((await readdir(wal)).some((name) => /^0000000/.test(name))).toBe(true);
    expect(await readdir(`${datadir}.tablespaces`)).toEqual(["fast disk"]);
  });

  test("a setting that the source raised after the backup does not stop recovery", async () => {
    const own = await startSource(lab(), { stanza: "raised", parameters: { max_connections: 20 } });
    await createStanza(lab(), own);
    const set = await backup(lab(), own, "full");
    await query(own, "ALTER SYSTEM SET max_connections = 150");
    await own.service.stop("SIGINT");

    const service = await startPostgres(lab(), own);
    await query(own, "CREATE TABLE after_raise AS SELECT 1");
    await archiveWal(own);
    const result = await bootstrap([...common(own), "--target-type=latest", `--set=${set}`]);
    await service.stop("SIGINT");
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stderr).toContain("starting again without hot_standby");
    expect(await ask("SELECT count(*) FROM after_raise")).toBe("1");
  });
});

describe("what cannot work is refused before anything is downloaded", () => {
  test.each([
    {
      what: "a target in the future",
      args: ["--restore-target-time=2099-01-01 00:00:00+00"],
      says: "ahead of the clock",
    },
    {
      what: "a target before the first backup",
      args: ["--restore-target-time=2020-01-01 00:00:00+00"],
      says: "is before the first restorable time",
    },
    {
      what: "a backup set that does not exist",
      args: ["--set=20200101-000000F"],
      says: 'backup set "20200101-000000F" does not exist',
    },
    {
      what: "a directory without PostgreSQL",
      args: ["--bin-dir=/usr/bin/nowhere"],
      says: "there is no PostgreSQL in /usr/bin/nowhere",
    },
  ])("$what", async ({ args, says }) => {
    const result = await bootstrap([...common(), ...args]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain(says);
    await expectNothingRestored();
    expect(existsSync(`${datadir}.unproven`)).toBe(false);
    expect(report()).toMatchObject({ verdict: "error", error: { code: 10, name: "PREFLIGHT_FAILED" } });
  });

  test("an unknown stanza, by pgBackRest's JSON and not by its exit code", async () => {
    const result = await bootstrap([...common({ ...lab().source, stanza: "svcc" })]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain('stanza "svcc": missing stanza path (code 1) in repo1');
  });

  test("another PostgreSQL version", async () => {
    const bin = await lab().makeDirectory("pg14");
    await lab().writeFile("pg14/postgres", "#!/bin/sh\necho 'postgres (PostgreSQL) 14.9'\n", 0o755);
    const result = await bootstrap([...common(), `--bin-dir=${bin}`]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain(`the backup is PostgreSQL 15, and here is only 14.9 in ${bin}`);
  });

  test("the running source's own directory, which stays as it is", async () => {
    const { source } = lab();
    const before = await readdir(source.dataDir);
    const result = await bootstrap([...common(), `--datadir=${source.dataDir}`]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toMatch(/PostgreSQL \(process \d+\) is running on/);
    expect(result.stderr).toContain("is not empty");
    expect(await readdir(source.dataDir)).toEqual(before);
    expect(existsSync(`${source.dataDir}.report.json`)).toBe(false);
    expect(await value(source, "SELECT count(*) > 0 FROM event")).toBe("t");
  });

  test("a data directory that is a mount point", async () => {
    const mount = await lab().makeDirectory(`restore-${count}/data`, 0o700);
    await lab().mustRun("mount", ["-t", "tmpfs", "tmpfs", mount], { asRoot: true });
    try {
      const result = await bootstrap(common());
      expect(result.exitCode).toBe(10);
      expect(result.stderr).toContain("is a mount point, which cannot be renamed");
    } finally {
      await lab().mustRun("umount", [mount], { asRoot: true });
    }
  });

  test("a volume that is too small, and what fills it", async () => {
    const mount = await lab().makeDirectory(`restore-${count}`, 0o700);
    await lab().mustRun("mount", ["-t", "tmpfs", "-o", "size=48m,mode=0777", "tmpfs", mount], { asRoot: true });
    try {
      await lab().mustRun("mkdir", [`${datadir}.failed`]);
      await lab().mustRun("dd", ["if=/dev/zero", `of=${datadir}.failed/1`, "bs=1M", "count=8"]);
      const result = await bootstrap([...common(), "--target-type=immediate"]);
      expect(result.exitCode).toBe(10);
      expect(result.stderr).toMatch(/need [\d.]+ MB \(database, WAL and reserve\); [\d.]+ MB free on/);
      expect(result.stderr).toContain(`${datadir}.failed (8.0 MB) from an earlier attempt fills the volume`);
    } finally {
      await lab().mustRun("umount", [mount], { asRoot: true });
    }
  });

  test("a directory for pg_wal that holds somebody's files, which stay", async () => {
    const wal = await lab().makeDirectory(`restore-${count}-wal`, 0o700);
    await lab().writeFile(`restore-${count}-wal/precious`, "1");
    const result = await bootstrap([...common(), "--target-type=immediate", `--link-map=pg_wal=${wal}`]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain(`${wal}, for a tablespace or link, is not empty: it contains precious`);
    expect(await readdir(wal)).toEqual(["precious"]);
  });

  test("root", async () => {
    const path = await lab().script("bootstrap");
    const result = await lab().run(process.execPath, [path, ...common()], { asRoot: true });
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain("a restore as root leaves files that PostgreSQL cannot read");
  });

  test("a receipt of another service", async () => {
    const { file, receipt } = await markAndWait(lab(), lab().source, "foreign");
    await lab().writeFile(
      "foreign.json",
      JSON.stringify({ ...receipt, system_identifier: "7000000000000000000" }),
      0o600,
    );
    const result = await bootstrap([...common(), `--receipt=${file}`]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain("the receipt is of system 7000000000000000000");
  });
});

describe("a restore that fails says why in one line and leaves no data directory", () => {
  test("the target lies behind the last archived commit: it is never weakened", async () => {
    const own = await copyRepository();
    const target = await now(lab().source);
    const result = await bootstrap([...common(own), `--restore-target-time=${target}`, `--set=${lab().first}`]);
    expect(result.exitCode).toBe(13);
    expect(result.stderr).toMatch(
      /TARGET_UNREACHED: WAL ended before the target .*the last replayed commit is of 20\d\d-/,
    );
    expect(report()).toMatchObject({ verdict: "error", error: { name: "TARGET_UNREACHED" } });
    await expectNothingRestored();
  });

  test("a WAL segment is missing: by the plan where the receipt tells how far it goes, by recovery where not", async () => {
    const { file, receipt } = await markAndWait(lab(), lab().source, "gap");
    const own = await copyRepository();
    const archive = `${own.repository}/archive/svc/15-1/0000000100000000`;
    const segments = (await readdir(archive)).filter((n) => /^[0-9A-F]{24}-/.test(n)).sort();
    const victim = segments.at(-2) as string;
    await rm(join(archive, victim));
    const planned = await bootstrap([...common(own), `--receipt=${file}`, `--set=${lab().first}`]);
    expect(planned.exitCode).toBe(10);
    expect(planned.stderr).toContain(`WAL segment ${victim.slice(0, 24)} is missing in the archive, which goes on to`);
    const tried = await bootstrap([
      ...common(own),
      `--restore-target-time=${receipt.target.time}`,
      `--set=${lab().first}`,
    ]);
    expect(tried.exitCode).toBe(13);
    expect(tried.stderr).toContain(`${victim.slice(0, 24)} is missing in the archive although it goes on to`);
    const latest = await bootstrap([...common(own), "--target-type=latest", `--set=${lab().first}`]);
    expect(latest.exitCode).toBe(10);
    await expectNothingRestored();
  });

  test("a file of the backup is missing in the repository", async () => {
    const own = await copyRepository();
    await lab().mustRun("find", [`${own.repository}/backup/svc`, "-name", "1259.*", "-delete"]);
    const result = await bootstrap([...common(own), "--target-type=immediate", `--set=${lab().first}`]);
    expect(result.exitCode).toBe(11);
    expect(result.stderr).toMatch(/RESTORE_FAILED: pgbackrest restore ended with code \d+: \[\d+\]/);
    await expectNothingRestored();
  });

  test("the volume fills up in the middle", async () => {
    const mount = await lab().makeDirectory(`restore-${count}`, 0o700);
    await lab().mustRun("mount", ["-t", "tmpfs", "-o", "size=400m,mode=0777", "tmpfs", mount], { asRoot: true });
    try {
      const running = await lab().startScript("bootstrap", [
        ...common(),
        "--target-type=latest",
        `--set=${lab().first}`,
        "--space-reserve=1kB",
      ]);
      await waitFor("the restore to begin", () => existsSync(`${datadir}.restoring`), 30_000, undefined, 5);
      await lab().run("dd", ["if=/dev/zero", `of=${mount}/filler`, "bs=1M"], { asRoot: true });
      const result = await running.result;
      // Which of them depends on what was writing at that moment: pgBackRest, PostgreSQL, or bootstrap its own files.
      expect([10, 11, 12]).toContain(result.exitCode);
      expect(result.stderr).toMatch(/no space left on (the )?device|the disk ran full during recovery/i);
      expect(result.stderr).toMatch(/HINT: .*more space/);
      expect(existsSync(datadir) || existsSync(`${datadir}.restoring`)).toBe(false);
      expect(report()).toMatchObject({ verdict: "error", error: { code: result.exitCode, about: "host" } });
    } finally {
      await lab().mustRun("umount", [mount], { asRoot: true });
    }
  });

  test("a file cannot be flushed to disk at the end", async () => {
    const fails = "echo 'initdb: error: could not fsync file \"base/1/1259\": Input/output error' >&2; exit 1";
    const result = await bootstrap([...common(), "--target-type=immediate", `--bin-dir=${await programs(fails)}`]);
    expect(result.exitCode).toBe(12);
    expect(result.stderr).toMatch(/could not be flushed to disk: .*base\/1\/1259": Input\/output error/);
    await expectNothingRestored();
  });

  test("a preloaded library is not installed here", async () => {
    const { source } = lab();
    await query(source, "ALTER SYSTEM SET shared_preload_libraries = 'not_installed_here'");
    const set = await backup(lab(), source, "full").finally(() => query(source, "ALTER SYSTEM RESET ALL"));
    const args = [...common(), "--target-type=immediate", `--set=${set}`];
    const result = await bootstrap(args);
    expect(result.exitCode).toBe(12);
    expect(result.stderr).toContain(
      'the library "not_installed_here" that shared_preload_libraries names is not installed here',
    );
    await expectNothingRestored();
    expect((await bootstrap([...args, "--shared-preload-libraries=auto_explain"])).exitCode).toBe(0);
  });

  test("Patroni's superuser does not exist in the backup", async () => {
    const result = await bootstrap([...common(), `--restore-target-time=${lab().history.time}`, "--superuser=admin"]);
    expect(result.exitCode).toBe(10);
    expect(result.stderr).toContain('superuser "admin" does not exist in the restored cluster; it has postgres');
    await expectNothingRestored();
  });

  test("recovery beyond its limit", async () => {
    const result = await bootstrap([
      ...common(),
      "--target-type=latest",
      `--set=${lab().first}`,
      "--recovery-timeout=1ms",
    ]);
    expect(result.exitCode).toBe(14);
    expect(result.stderr).toContain("TIMED_OUT: recovery did not end within 1ms");
    await expectNothingRestored();
  });

  test("after --max-attempts failures nothing is downloaded again and the verdict stays", async () => {
    const args = [
      ...common(),
      `--restore-target-time=${lab().history.time}`,
      "--target-timeline=7",
      "--max-attempts=2",
    ];
    for (const attempt of [1, 2]) {
      expect((await bootstrap(args)).exitCode).toBe(12);
      expect(JSON.parse(await readFile(`${datadir}.unproven`, "utf8")).attempts).toBe(attempt);
    }
    const verdict = report();
    const third = await bootstrap(args);
    expect(third.exitCode).toBe(10);
    expect(third.stderr).toContain("2 attempts at this restore have failed, and nothing is downloaded again");
    expect(third.stderr).toContain(`remove ${datadir}.unproven`);
    expect(report()).toEqual(verdict);
  });
});

describe("whatever the moment, the data directory is absent or complete", () => {
  const phaseOf = (): string => {
    try {
      return JSON.parse(readFileSync(`${datadir}.unproven`, "utf8")).phase;
    } catch {
      return "none";
    }
  };

  const start = async (): Promise<{ running: Awaited<ReturnType<Lab["startScript"]>>; args: string[] }> => {
    await lab().makeDirectory(`restore-${count}`, 0o700);
    const args = [...common(), "--target-type=latest", `--set=${lab().first}`, "--process-max=1"];
    return { running: await lab().startScript("bootstrap", args), args };
  };

  test.each(["restore", "recovery"])(
    "SIGTERM in %s: ends its children, exits 143, and the next try succeeds",
    async (phase) => {
      const { running, args } = await start();
      await waitFor(`phase ${phase}`, () => phaseOf() === phase, 60_000);
      running.kill("SIGTERM");
      const result = await running.result;
      expect(result.exitCode).toBe(143);
      expect(result.stderr).toContain("TERMINATED: ended by SIGTERM");
      await expectNothingRestored();
      expect(report()).toMatchObject({ verdict: "error", error: { name: "TERMINATED" } });
      expect((await bootstrap(args)).exitCode).toBe(0);
    },
  );

  test("a worker of pgBackRest that an ended attempt left does not write into the next one", async () => {
    const worker = ["pgbackrest", `--config=${lab().source.pgbackrestConfig}`, `--stanza=${lab().source.stanza}`]
      .concat(`--pg1-path=${datadir}.restoring`, "--exec-id=1-00000000", "--process=1", "--remote-type=repo")
      .concat("--log-level-console=off", "--log-level-file=off", "restore:local");
    // Its own main process would keep its stdin open.
    const stdin = lab().path(`stdin-${count}`);
    const start = `mkfifo ${stdin} && exec 3<>${stdin} && exec ${worker.join(" ")} <&3`;
    const left = lab().startService("left", "sh", ["-c", start]);
    const workers = () =>
      lab()
        .processes()
        .filter((p) => p.command.startsWith(worker.join(" ")));
    try {
      await waitFor("the worker", () => workers().length === 1, 10_000);
      const result = await bootstrap([...common(), "--target-type=latest", `--set=${lab().first}`]);
      expect(result).toMatchObject({ exitCode: 0 });
      expect(workers()).toEqual([]);
    } finally {
      await left.stop("SIGKILL");
    }
  });

  test.each(["restore", "recovery"])(
    "SIGKILL in %s: no orphan goes on, and the next try cleans up and succeeds",
    async (phase) => {
      const { running, args } = await start();
      await waitFor(`phase ${phase}`, () => phaseOf() === phase && existsSync(`${datadir}.restoring`), 60_000);
      running.kill("SIGKILL");
      await running.result;
      const ours = () =>
        lab()
          .processes()
          .filter((p) => !isSource(p));
      // A worker of pgBackRest may sleep for 15 s first (job-retry-interval).
      await waitFor("the children to end", () => ours().length === 0, 40_000);
      expect(existsSync(datadir)).toBe(false);
      expect(report()).toMatchObject({ verdict: "error", finished_at: null });
      expect((await bootstrap(args)).exitCode).toBe(0);
      expect(await ask("SELECT count(*) > 1000 FROM event")).toBe("t");
    },
  );
});
