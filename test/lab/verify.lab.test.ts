/** `post-bootstrap` and `verify` against a real restored instance, sound at first and then spoilt in one way after another. */

import { readFile, rm } from "node:fs/promises";
import { beforeEach, describe, expect, test } from "vitest";
import { quoteIdentifier, quoteLiteral, withDatabase } from "../../lib/io/database.ts";
import { formatConninfo, parseConninfo } from "../../lib/postgres/conninfo.ts";
import type { CheckResult, Report } from "../../lib/report/report.ts";
import { sharedSource, useLab } from "./fixture.ts";
import type { Lab } from "./lab.ts";
import { type RunOptions, type Service, waitFor } from "./process.ts";
import { APP_DATABASE, markAndWait, query, startLoad } from "./source.ts";

interface Copy {
  datadir: string;
  port: number;
  conninfo: string;
  service: Service;
  settings: Record<string, string>;
}

const lab = useLab("verify", async (lab) => {
  const source = sharedSource();
  const load = await startLoad(lab, source);
  const { file, receipt } = await markAndWait(lab, source);
  await load.stop();
  await lab.makeDirectory("copy", 0o700);
  const datadir = lab.path("copy", "data");
  const bootstrap = await lab.runScript("bootstrap", [
    "--scope=verify-rt",
    `--datadir=${datadir}`,
    `--stanza=${source.stanza}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    `--receipt=${file}`,
  ]);
  if (bootstrap.exitCode !== 0) throw new Error(bootstrap.stderr);
  const left = {
    report: await readFile(`${datadir}.report.json`, "utf8"),
    unproven: await readFile(`${datadir}.unproven`, "utf8"),
  };
  const port = await lab.freePort();
  const conninfo = formatConninfo({ host: "127.0.0.1", port: String(port), user: "postgres", dbname: "postgres" });
  const copy: Copy = { datadir, port, conninfo, service: undefined as never, settings: {} };
  await start(lab, copy);
  return { source, receipt, receiptFile: file, copy, left };
});

async function start(lab: Lab, copy: Copy, settings: Record<string, string> = {}): Promise<void> {
  const all = {
    port: String(copy.port),
    listen_addresses: "127.0.0.1",
    unix_socket_directories: lab.path("copy"),
    shared_buffers: "64MB",
    fsync: "off",
    ...settings,
  };
  const args = Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  copy.settings = settings;
  copy.service = lab.startService("copy", "postgres", ["-D", copy.datadir, ...args], { deathSignal: "QUIT" });
  const takesConnections = () =>
    query(copy, "SELECT 1").then(
      () => true,
      () => false,
    );
  await waitFor("the copy to take connections", takesConnections, 60_000, () => copy.service.log());
}

async function restart(settings: Record<string, string> = {}): Promise<void> {
  const { copy } = lab();
  await copy.service.stop("SIGINT");
  await start(lab(), copy, settings);
}

/** Every test begins with what the bootstrap left: a report without verdict, and a restore that is not proven. */
beforeEach(async () => {
  const { copy, left } = lab();
  if (!copy.service.isRunning() || Object.keys(copy.settings).length > 0) await restart();
  await lab().writeFile("copy/data.report.json", left.report, 0o600);
  await lab().writeFile("copy/data.unproven", left.unproven, 0o600);
});

const readReport = async (): Promise<Report> => JSON.parse(await readFile(`${lab().copy.datadir}.report.json`, "utf8"));
const isUnproven = () =>
  readFile(`${lab().copy.datadir}.unproven`).then(
    () => true,
    () => false,
  );

/** What is told here shows at every level; the others have a story of their own, and the damage laboratory. */
const QUICK = "--level=quick";

const postBootstrap = (options: RunOptions & { args?: string[] } = {}) =>
  lab().runScript("post-bootstrap", [QUICK, ...(options.args ?? []), lab().copy.conninfo], options);

/** `verify --json` with the receipt; the results by the check's name. */
async function verify(...args: string[]) {
  const { copy, receiptFile } = lab();
  const ended = await lab().runScript("verify", [
    `--conninfo=${copy.conninfo}`,
    `--receipt=${receiptFile}`,
    "--json",
    QUICK,
    ...args,
  ]);
  const report: Report = JSON.parse(ended.stdout);
  const check = (id: string): CheckResult => {
    const found = report.checks.find((c) => c.id === id);
    if (found === undefined) throw new Error(`there is no check ${id}`);
    return found;
  };
  return { ...ended, report, check };
}

/** Spoils the copy, looks, and mends it. */
async function spoilt<T>(spoil: string, mend: string, look: () => Promise<T>, database = "postgres"): Promise<T> {
  const { copy } = lab();
  await query(copy, spoil, { database });
  try {
    return await look();
  } finally {
    await query(copy, mend, { database });
  }
}

describe("a sound restore", () => {
  test("is healthy to post-bootstrap: the report says so, and the restore is no longer marked as not proven", async () => {
    const ended = await postBootstrap({ args: ["--level=full"] });
    expect(ended.stderr).toContain("healthy after");
    expect(ended.exitCode).toBe(0);
    const report = await readReport();
    expect(report).toMatchObject({ verdict: "healthy", error: null, receipt_id: lab().receipt.id });
    expect(report.phases.map((p) => p.name)).toEqual(
      expect.arrayContaining(["restore", "recovery", "handover", "verify"]),
    );
    expect(report.checks.filter((c) => c.status !== "pass" && c.status !== "skipped")).toEqual([]);
    expect(report.coverage).toMatchObject({ databases: 3, globals_dumped: true });
    expect(report.rpo_ms).toBeLessThan(60_000);
    expect(report.target?.value).toBe(lab().receipt.target.time);
    expect(report.checks.find((c) => c.id === "last-commit")?.summary).toContain("exactly the receipt's");
    expect(await isUnproven()).toBe(false);
  });

  test("is healthy to verify, with and without the report of the bootstrap", async () => {
    const withReport = await verify();
    expect(withReport.exitCode).toBe(0);
    expect(withReport.check("last-commit").status).toBe("pass");
    expect(await isUnproven()).toBe(true);

    await rm(`${lab().copy.datadir}.report.json`);
    const without = await verify();
    expect(without.exitCode).toBe(0);
    expect(without.check("timeline").status).toBe("pass");
    expect(without.check("last-commit").status).toBe("skipped");
  });

  test("is told as a table that fits a terminal, on standard output", async () => {
    const { copy, receiptFile } = lab();
    const { stdout, exitCode } = await lab().runScript("verify", [copy.conninfo, `--receipt=${receiptFile}`]);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^verdict {2}healthy/);
    expect(stdout).toMatch(/pass +marker-present/);
    expect(stdout).not.toContain("\u001b");
    expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(110);
  });

  test("tells its age by the newest marker when the source is gone", async () => {
    const { copy } = lab();
    const run = (maxRpo: string) =>
      lab().runScript("verify", [`--conninfo=${copy.conninfo}`, `--max-rpo=${maxRpo}`, "--json", QUICK]);
    const recent = await run("1h");
    expect(recent.exitCode).toBe(0);
    const report: Report = JSON.parse(recent.stdout);
    expect(report.checks.find((c) => c.id === "newest-marker")?.status).toBe("pass");
    expect(report.rpo_ms).toBeGreaterThanOrEqual(0);
    // The report of the restore asks for the receipt's instant; the limit counts from there.
    expect((await run("0ms")).exitCode).toBe(20);
  });
});

describe("recentness", () => {
  test("a restore without the marker is unhealthy, and stays not proven", async () => {
    const { receipt } = lab();
    const row = `(${quoteLiteral(receipt.id)}, ${quoteLiteral(receipt.marked_at)})`;
    const ended = await spoilt(
      `DELETE FROM patroni_restore.marker WHERE id = ${quoteLiteral(receipt.id)}`,
      `INSERT INTO patroni_restore.marker VALUES ${row}`,
      () => postBootstrap(),
    );
    expect(ended.exitCode).toBe(20);
    expect(ended.stderr).toMatch(/ERROR: \[020\]: UNHEALTHY: .*marker-present: marker \S+ is missing/);
    expect(await readReport()).toMatchObject({ verdict: "unhealthy", error: { name: "UNHEALTHY" } });
    expect(await isUnproven()).toBe(true);
  });

  test("a restore with the fence in it went too far", async () => {
    const id = quoteLiteral(lab().receipt.id);
    const ended = await spoilt(
      `INSERT INTO patroni_restore.fence VALUES (${id}, now())`,
      `DELETE FROM patroni_restore.fence WHERE id = ${id}`,
      () => postBootstrap(),
    );
    expect(ended.exitCode).toBe(20);
    expect(ended.stderr).toMatch(/fence-absent: fence \S+ of .* is there/);
  });

  test("the source itself is never healthy", async () => {
    const { source, receiptFile } = lab();
    const ended = await lab().runScript("verify", [source.conninfo, `--receipt=${receiptFile}`]);
    expect(ended.exitCode).toBe(20);
    for (const id of ["fence-absent", "timeline", "archiving"]) expect(ended.stdout).toMatch(new RegExp(`fail +${id}`));
  });

  test("an empty cluster that Patroni made with initdb is not what was asked for", async () => {
    const dataDir = lab().path("copy", "empty");
    await lab().mustRun("initdb", [`--pgdata=${dataDir}`, "--username=postgres", "--auth=trust", "--no-sync"]);
    const port = await lab().freePort();
    const settings = [`port=${port}`, `unix_socket_directories=${lab().path("copy")}`, "listen_addresses="];
    const service = lab().startService("empty", "postgres", ["-D", dataDir, ...settings.flatMap((s) => ["-c", s])], {
      deathSignal: "QUIT",
    });
    const conninfo = formatConninfo({
      host: lab().path("copy"),
      port: String(port),
      user: "postgres",
      dbname: "postgres",
    });
    try {
      const isUp = () => query({ conninfo }, "SELECT 1").then(() => true, () => false); // biome-ignore format: one line
      await waitFor("the empty cluster", isUp, 60_000, () => service.log());
      const hook = await lab().runScript("post-bootstrap", [conninfo]);
      expect(hook.exitCode).toBe(21);
      expect(hook.stderr).toMatch(/was not restored by bootstrap/);
      const byHand = await lab().runScript("verify", [conninfo, `--receipt=${lab().receiptFile}`]);
      expect(byHand.exitCode).toBe(20);
      for (const id of ["marker-present", "system-identifier", "databases-readable", "manifest"]) {
        expect(byHand.stdout).toMatch(new RegExp(`fail +${id}`));
      }
    } finally {
      await service.stop("SIGQUIT");
    }
  });
});

describe("consistency", () => {
  test("an object that cannot be dumped is a failure, and names the database", async () => {
    const { check, exitCode } = await spoilt(
      "SET allow_system_table_mods = on; CREATE VIEW public.broken AS SELECT 1; " +
        "CREATE TABLE public.lost AS SELECT * FROM pg_rewrite WHERE ev_class = 'public.broken'::regclass; " +
        "DELETE FROM pg_rewrite WHERE ev_class = 'public.broken'::regclass",
      "SET allow_system_table_mods = on; INSERT INTO pg_rewrite SELECT * FROM public.lost; " +
        "DROP TABLE public.lost; DROP VIEW public.broken",
      () => verify(),
      APP_DATABASE,
    );
    expect(exitCode).toBe(20);
    expect(check("schema-dump")).toMatchObject({
      status: "fail",
      summary: expect.stringMatching(/^app cannot be dumped/),
    });
  });

  test("a table that is not there is a difference that the manifest names", async () => {
    const { check, exitCode } = await spoilt(
      "ALTER TABLE pgbench_history RENAME TO elsewhere",
      "ALTER TABLE elsewhere RENAME TO pgbench_history",
      () => verify(),
      APP_DATABASE,
    );
    expect(exitCode).toBe(20);
    expect(check("manifest").summary).toMatch(/differ from the source: app: /);
  });

  test("the constraints of a table that an extension keeps in pg_catalog must hold too", async () => {
    const { check } = await spoilt(
      "SET allow_system_table_mods = on; CREATE TABLE pg_catalog.kept AS SELECT NULL::int AS n; " +
        "UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'pg_catalog.kept'::regclass AND attname = 'n'",
      "SET allow_system_table_mods = on; DROP TABLE pg_catalog.kept",
      () => verify("--level=standard"),
      APP_DATABASE,
    );
    expect(check("constraints")).toMatchObject({
      status: "fail",
      summary: expect.stringContaining("1 row with NULL in the NOT NULL column n"),
    });
  });
});

describe("safety", () => {
  test("archiving that is on is a failure, and for a clone only its own stanza will do", async () => {
    const { source } = lab();
    await restart({ archive_mode: "on", archive_command: "false" });
    expect((await verify()).check("archiving")).toMatchObject({
      status: "fail",
      summary: expect.stringContaining("archive_mode is on"),
    });
    expect((await verify("--detach=clone")).check("archiving").status).toBe("warn");
    await restart({ archive_mode: "on", archive_command: `pgbackrest --stanza=${source.stanza} archive-push %p.none` });
    const intoSource = await verify("--detach=clone");
    expect(intoSource.exitCode).toBe(20);
    expect(intoSource.check("archiving").summary).toBe(
      `archive_command archives into the source's stanza ${source.stanza}`,
    );
    await restart({ archive_mode: "on", archive_command: "pgbackrest --stanza=other archive-push %p.none" });
    expect((await verify("--detach=clone")).check("archiving").status).toBe("pass");
  });

  test("a live subscription is a failure until it is disabled and off its slot", async () => {
    const { copy } = lab();
    const run = (sql: string) => query(copy, sql, { database: APP_DATABASE });
    await run("CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)");
    try {
      await run("ALTER SUBSCRIPTION sub ENABLE");
      const live = await verify();
      expect(live.exitCode).toBe(20);
      expect(live.check("subscriptions").summary).toContain("app.sub (enabled, slot sub)");
      await run("ALTER SUBSCRIPTION sub DISABLE");
      expect((await verify()).check("subscriptions").status).toBe("fail");
      await run("ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
      expect((await verify()).check("subscriptions").status).toBe("pass");
    } finally {
      await run("ALTER SUBSCRIPTION sub DISABLE");
      await run("ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
      await run("DROP SUBSCRIPTION sub");
    }
  });

  test("slots, synchronous standbys, settings of a recovery and signal files are found all at once", async () => {
    const { copy } = lab();
    await restart({
      synchronous_standby_names: "nobody",
      restore_command: "cp /nowhere/%f %p",
      synchronous_commit: "local",
    });
    await lab().writeFile("copy/data/standby.signal", "");
    await query(copy, "SELECT pg_create_physical_replication_slot('left')");
    try {
      const { check, report } = await verify();
      expect(check("synchronous-standby-names").status).toBe("fail");
      expect(check("recovery-settings").summary).toMatch(/restore_command = .*file standby\.signal/);
      expect(check("slots")).toMatchObject({ status: "warn", summary: expect.stringContaining("left (physical") });
      expect(report.error?.message).toMatch(/2 of \d+ checks failed/);
    } finally {
      await query(copy, "SELECT pg_drop_replication_slot('left')");
      await rm(`${copy.datadir}/standby.signal`);
    }
  });
});

describe("in the middle of the checks", () => {
  /** Starts post-bootstrap and calls back when its pg_dump waits for a lock that this session holds. */
  async function disturb(
    disturbance: (command: { kill(signal: NodeJS.Signals): void; holder: string }) => Promise<void>,
  ) {
    const { copy } = lab();
    const conninfo = { ...parseConninfo(copy.conninfo), dbname: APP_DATABASE };
    const command = await withDatabase(conninfo, { applicationName: "holder" }, async (database) => {
      await database.query("BEGIN; LOCK TABLE pgbench_branches IN ACCESS EXCLUSIVE MODE");
      const { pid } = await database.row<{ pid: string }>("SELECT pg_backend_pid()::text AS pid");
      const running = await lab().startScript("post-bootstrap", [copy.conninfo]);
      const dumpWaits = async () =>
        (
          await query(
            copy,
            `SELECT 1 FROM pg_stat_activity WHERE application_name = 'pg_dump' AND ${pid} = ANY(pg_blocking_pids(pid))`,
          )
        ).length > 0;
      await waitFor("pg_dump to wait for the lock", dumpWaits, 60_000, async () => running.output().stderr);
      await disturbance({ kill: (signal) => running.kill(signal), holder: pid });
      return running;
    });
    return command.result;
  }

  test("a restart of the server is a failure", async () => {
    const ended = await disturb(() => restart());
    expect(ended.exitCode).toBe(20);
    expect(ended.stderr).toMatch(/server-stayed-up: PostgreSQL was restarted while the checks ran/);
    expect(await readReport()).toMatchObject({ verdict: "unhealthy" });
    expect(await isUnproven()).toBe(true);
  });

  test("a crash that the server recovers from by itself is a failure", async () => {
    const ended = await disturb(async ({ holder }) => {
      process.kill(Number(holder), "SIGKILL");
    });
    expect(ended.exitCode).toBe(20);
    expect(ended.stderr).toMatch(/server-stayed-up: PostgreSQL crashed/);
    expect(await isUnproven()).toBe(true);
  });

  test("a dump that the kernel kills for want of memory says nothing about the catalog: unverified", async () => {
    const ended = await disturb(async () => {
      const port = String(lab().copy.port);
      expect((await lab().run("pkill", ["-KILL", "-f", `^[^ ]*pg_dump .*port=.?${port}`])).exitCode).toBe(0);
    });
    expect(ended.exitCode).toBe(21);
    expect(ended.stderr).toMatch(/schema-dump: .*pg_dump ended with SIGKILL/);
    expect(await readReport()).toMatchObject({ verdict: "error", error: { name: "UNVERIFIED" } });
  });

  test("a server that is stopped and stays away says nothing about the data: unverified, with Patroni's reason", async () => {
    const ended = await disturb(async () => {
      await lab().copy.service.stop("SIGINT");
    });
    expect(ended.exitCode).toBe(21);
    expect(ended.stderr).toMatch(/ERROR: \[021\]: UNVERIFIED: .*\n(.*\n)*.*server-stayed-up: PostgreSQL went away/);
    expect(ended.stderr).toMatch(/HINT: .*DCS .*retry_timeout/);
    expect(await readReport()).toMatchObject({ verdict: "error", error: { name: "UNVERIFIED" } });
    expect(await isUnproven()).toBe(true);
  });

  test("SIGTERM ends it with its programs; the report keeps the verdict error", async () => {
    const ended = await disturb(async ({ kill }) => kill("SIGTERM"));
    expect(ended.exitCode).toBe(143);
    expect(await readReport()).toMatchObject({ verdict: "error", error: { name: "TERMINATED" } });
    expect(await isUnproven()).toBe(true);
    expect(
      lab()
        .processes()
        .filter((p) => /pg_dump|post-bootstrap/.test(p.command)),
    ).toEqual([]);
  });
});

describe("what the bootstrap left", () => {
  test("without the file that says not yet proven, nothing is proven", async () => {
    await rm(`${lab().copy.datadir}.unproven`);
    const ended = await postBootstrap();
    expect(ended.exitCode).toBe(21);
    expect(ended.stderr).toMatch(/UNVERIFIED: \S+ was not restored by bootstrap: \S+\.unproven does not exist/);
    expect(await readReport()).toMatchObject({ verdict: "error" });
  });

  test("a report that is missing, or of another restore, is not finished", async () => {
    await rm(`${lab().copy.datadir}.report.json`);
    expect(await postBootstrap()).toMatchObject({ exitCode: 21, stderr: expect.stringMatching(/it does not exist/) });
    const other = { ...JSON.parse(lab().left.report), id: "another" };
    await lab().writeFile("copy/data.report.json", JSON.stringify(other), 0o600);
    expect(await postBootstrap()).toMatchObject({
      exitCode: 21,
      stderr: expect.stringMatching(/it is of restore another/),
    });
    expect(await isUnproven()).toBe(true);
  });

  test("a bootstrap that did not finish is not judged by what lies there", async () => {
    const error = { code: 12, name: "RECOVERY_FAILED", message: "missing WAL", hint: null };
    const report = { ...JSON.parse(lab().left.report), error };
    await lab().writeFile("copy/data.report.json", JSON.stringify(report), 0o600);
    const ended = await postBootstrap();
    expect(ended.exitCode).toBe(21);
    expect(ended.stderr).toMatch(/the bootstrap did not finish: RECOVERY_FAILED: missing WAL/);
    expect(await isUnproven()).toBe(true);
  });

  test("a receipt that was recorded and cannot be read is an error, and so is another mark's", async () => {
    const unproven = { ...JSON.parse(lab().left.unproven), receipt: "/nowhere/receipt.json" };
    await lab().writeFile("copy/data.unproven", JSON.stringify(unproven), 0o600);
    expect(await postBootstrap()).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/cannot read the receipt \/nowhere\/receipt\.json: it does not exist/),
    });
    const other = await lab().writeFile("other.json", JSON.stringify({ ...lab().receipt, id: "other" }));
    const ended = await postBootstrap({ args: [`--receipt=${other}`] });
    expect(ended.exitCode).toBe(21);
    expect(ended.stderr).toMatch(/is of mark other, and the restore was made for/);
    expect(await isUnproven()).toBe(true);
  });

  test("an earlier verdict does not keep a sound restore from being proven", async () => {
    await rm(`${lab().copy.datadir}.report.json`);
    const error = { code: 20, name: "UNHEALTHY", message: "1 of 17 checks failed", hint: null };
    const earlier = { ...JSON.parse(lab().left.report), verdict: "unhealthy", error };
    await lab().writeFile("copy/data.report.json", JSON.stringify(earlier), 0o600);
    expect((await postBootstrap()).exitCode).toBe(0);
    expect(await readReport()).toMatchObject({ verdict: "healthy", error: null });
  });
});

describe("connecting", () => {
  const ROLE = `o'dd "super" \\ user`;

  test("an odd role with a password from PGPASSFILE reaches SQL and the dumps; without it, all is unverified", async () => {
    const { copy } = lab();
    const hba = await readFile(`${copy.datadir}/pg_hba.conf`, "utf8");
    const role = quoteIdentifier(ROLE);
    await query(copy, `CREATE ROLE ${role} SUPERUSER LOGIN PASSWORD 'pa:ss\\word'`);
    const quoted = `"${ROLE.replaceAll('"', '""')}"`;
    await lab().writeFile("copy/data/pg_hba.conf", `host all ${quoted} 127.0.0.1/32 scram-sha-256\n${hba}`, 0o600);
    await query(copy, "SELECT pg_reload_conf()");
    const escaped = ROLE.replaceAll("\\", "\\\\");
    const pgpass = await lab().writeFile("copy/pgpass", `127.0.0.1:${copy.port}:*:${escaped}:pa\\:ss\\\\word`, 0o600);
    // As Patroni writes it: a backslash before quote, backslash and space (3.0.2 postgresql/config.py, format_dsn).
    const user = ROLE.replace(/[\\' ]/g, "\\$&");
    const dsn = `dbname=postgres user=${user} host=127.0.0.1 port=${copy.port}`;
    try {
      const env = { PGPASSFILE: pgpass, PGOPTIONS: "-c synchronous_commit=local -c statement_timeout=0" };
      const ended = await lab().runScript("verify", [dsn, `--receipt=${lab().receiptFile}`, "--json", QUICK], { env });
      const report: Report = JSON.parse(ended.stdout);
      const status = (id: string) => report.checks.find((c) => c.id === id)?.status;
      expect([status("marker-present"), status("schema-dump"), status("databases-readable")]).toEqual([
        "pass",
        "pass",
        "pass",
      ]);
      expect(ended.stdout + ended.stderr).not.toContain("pa:ss");
      const without = await lab().runScript("post-bootstrap", [dsn]);
      expect(without.exitCode).toBe(21);
    } finally {
      await lab().writeFile("copy/data/pg_hba.conf", hba, 0o600);
      await query(copy, "SELECT pg_reload_conf()");
      await query(copy, `DROP ROLE ${role}`);
    }
  });

  test("nobody there is unverified, and a password in argv is refused", async () => {
    const port = await lab().freePort();
    const nobody = await lab().runScript("verify", [`host=127.0.0.1 port=${port} user=postgres`]);
    expect(nobody.exitCode).toBe(21);
    expect(nobody.stderr).toMatch(/UNVERIFIED: cannot connect to the instance/);
    for (const args of [["--conninfo=host=x password=s3cret"], ["postgresql://u:s3cret@h/d"]]) {
      const refused = await lab().runScript("verify", args);
      expect(refused.exitCode).toBe(2);
      expect(refused.stderr).not.toContain("s3cret");
    }
    expect((await lab().runScript("post-bootstrap", ["dbname=a password=s3cret"])).exitCode).toBe(2);
  });
});
