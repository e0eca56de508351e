/** The marker on real parts: what it leaves on the source, what it refuses, and where recovery to its target stops. */

import { readFile, stat } from "node:fs/promises";
import { expect, test } from "vitest";
import { exists } from "../../lib/io/files.ts";
import { compareObjects } from "../../lib/manifest/compare.ts";
import { askRestored, type Snapshot } from "../../lib/manifest/manifest.ts";
import { measureManifest, parseReceipt, type Receipt } from "../../lib/mark/receipt.ts";
import { inParallel } from "../../lib/parallel.ts";
import { parseConninfo } from "../../lib/postgres/conninfo.ts";
import { useLab } from "./fixture.ts";
import type { Lab } from "./lab.ts";
import { type Service, waitFor } from "./process.ts";
import {
  APP_DATABASE,
  archiveWal,
  backup,
  connect,
  createStanza,
  loadSchema,
  ODD_DATABASE,
  query,
  type Source,
  startLoad,
  startPostgres,
  startSource,
  value,
} from "./source.ts";

const lab = useLab("mark", async (lab) => {
  const source = await startSource(lab, { stanza: "svc" });
  await loadSchema(lab, source);
  await createStanza(lab, source);
  await backup(lab, source, "full");
  // What a service's owner may have said long ago, about everything that is created later.
  await query(source, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC");
  await query(source, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO clerk");
  await query(source, "ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC");
  await query(source, "ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO clerk");
  return { source, service: source.service };
});

test("five marks at once on a service that never saw one all succeed, and each has its own marker and fence", async () => {
  const { source } = lab();
  const runs = await Promise.all([1, 2, 3, 4, 5].map((n) => mark(source, { receipt: `first-${n}` })));
  expect(runs.map((run) => [run.exitCode, run.stderr.match(/ERROR.*/)?.[0]])).toEqual(runs.map(() => [0, undefined]));
  const receipts = await Promise.all([1, 2, 3, 4, 5].map((n) => readReceipt(`first-${n}`)));
  const ids = receipts.map((receipt) => receipt.id).sort();
  expect(new Set(ids).size).toBe(5);
  expect(await column(source, 'SELECT id FROM patroni_restore.marker ORDER BY id COLLATE "C"')).toEqual(ids);
  expect(await column(source, 'SELECT id FROM patroni_restore.fence ORDER BY id COLLATE "C"')).toEqual(ids);
});

test("ordinary roles can read nothing of it, whatever the default privileges say", async () => {
  const { source } = lab();
  for (const table of ["marker", "fence"]) {
    await expect(query(source, `SET ROLE clerk; SELECT * FROM patroni_restore.${table}`)).rejects.toThrow(
      /permission denied for schema patroni_restore/,
    );
    await query(source, "GRANT USAGE ON SCHEMA patroni_restore TO clerk");
    await expect(query(source, `SET ROLE clerk; SELECT * FROM patroni_restore.${table}`)).rejects.toThrow(
      new RegExp(`permission denied for table ${table}`),
    );
    await query(source, "REVOKE USAGE ON SCHEMA patroni_restore FROM clerk");
  }
});

test("a recovery to the receipt's target has the marker and not the fence, and all that stood still is equal", async () => {
  const { source } = lab();
  const settings = await lab().writeFile(
    "queries.yml",
    `queries:
  - {name: customers, database: app, sql: "SELECT * FROM shop.customers ORDER BY id; "}
  - {name: orders by status, database: app, sql: "SELECT status, count(*), sum((total).value) FROM shop.orders GROUP BY 1 -- a report"}
  - {name: in motion, database: app, sql: "SELECT count(*) FROM pgbench_history"}\n`,
  );
  const load = await startLoad(lab(), source, 200);
  const run = await mark(source, { receipt: "loaded", arguments: ["--config", settings, "--json"] });
  await load.stop();
  expect([run.exitCode, run.stderr]).toEqual([0, expect.any(String)]);
  const receipt = await readReceipt("loaded");
  // Without what unpacks it.
  expect(JSON.parse(run.stdout)).toEqual(JSON.parse(JSON.stringify(receipt)));
  expect((await stat(lab().path("loaded.json"))).mode & 0o777).toBe(0o600);
  expect(receipt.databases).toEqual(expect.arrayContaining([APP_DATABASE, ODD_DATABASE, "postgres"]));
  expect(receipt.timeline).toBe(1);
  const { manifest } = receipt;
  expect(manifest.queries).toEqual([
    expect.objectContaining({ name: "customers", count: 5000, moved: false, still: true }),
    expect.objectContaining({ name: "orders by status", moved: false, still: true }),
    expect.objectContaining({ name: "in motion", moved: true }),
  ]);
  // No DDL ran: every object stood still, and so did the rows of every table that pgbench does not write.
  expect(manifest.objects.flatMap((o) => o.moved)).toEqual([]);
  expect(manifest.not_covered).toEqual([]);
  const inMotion = manifest.tables.filter((t) => t.moved > 0).map((t) => t.name);
  expect(inMotion.filter((name) => !name.startsWith("public.pgbench_"))).toEqual([]);
  expect(measureManifest(manifest)).toMatchObject({ objectsMoved: 0 });
  expect(measureManifest(manifest).rows).toBeGreaterThan(5000);

  const restored = await restore(source, "restored", receipt);
  const { marked, fenced } = (
    await query(
      restored,
      `SELECT (SELECT count(*) FROM patroni_restore.marker WHERE id = $1) AS marked,
            (SELECT count(*) FROM patroni_restore.fence WHERE id = $1) AS fenced`,
      { values: [receipt.id] },
    )
  )[0] as Record<string, string>;
  expect({ marked, fenced }).toEqual({ marked: "1", fenced: "0" });

  const compare = async () => {
    const answers = await answersOf(restored, receipt);
    return compareObjects(manifest, answers.objects, answers.moved);
  };
  const sound = await compare();
  expect(sound).toMatchObject({ moved: 0, differences: [], unanswered: [] });
  expect(sound.equal).toBe(measureManifest(manifest).objects);

  // And it is no formality: every kind of damage shows under its own name.
  await query(restored, "ALTER ROLE clerk CONNECTION LIMIT 7");
  await query(restored, `DROP DATABASE "${ODD_DATABASE.replaceAll('"', '""')}"`);
  await query(
    restored,
    `ALTER TABLE shop.documents ALTER COLUMN body SET DEFAULT '';
     CREATE OR REPLACE FUNCTION shop.audit_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
     DROP POLICY own_tenant ON shop.customers;
     DROP VIEW shop.open_orders; REVOKE SELECT (id, name) ON shop.customers FROM "shop reader"; SELECT lo_unlink(424242)`,
    { database: APP_DATABASE },
  );
  const damaged = (await compare()).differences;
  const of = (database: string | null) =>
    damaged.filter((d) => d.database === database).map((d) => `${d.object} ${d.what}`);
  expect(of(null)).toEqual([
    `databases: ${ODD_DATABASE} is missing here`,
    "roles: clerk is defined otherwise than on the source",
  ]);
  expect(of(APP_DATABASE)).toEqual(
    expect.arrayContaining([
      "columns: shop.documents is defined otherwise than on the source",
      "functions: shop.audit_change() is defined otherwise than on the source",
      "policies: own_tenant on shop.customers is missing here",
      "views: shop.open_orders is missing here",
      "large objects: 424242 is missing here",
      expect.stringMatching(/^grants on columns: shop\.customers\.id /),
    ]),
  );
  expect(of(ODD_DATABASE).length).toBeGreaterThan(10);
  expect(of(ODD_DATABASE).every((text) => text.includes("no answer; the source has"))).toBe(true);

  const oid = await value(restored, "SELECT oid FROM pg_database WHERE datname = 'app'");
  await lab().mustRun("mv", [`${restored.dataDir}/base/${oid}`, lab().path("lost")]);
  const lost = (await compare()).unanswered.filter((u) => u.database === APP_DATABASE);
  expect(lost.map((u) => u.question)).toEqual(expect.arrayContaining(["tables", "functions"]));
  await restored.service.stop("SIGQUIT");
});

test("what a commit that the source shows late has changed is in motion, with all whose text it is in", async () => {
  const { source } = lab();
  const set = async (standbys: string) => {
    await query(source, `ALTER SYSTEM SET synchronous_standby_names = '${standbys}'`);
    await query(source, "SELECT pg_reload_conf()");
  };
  await set("nobody");
  const renamed = query(
    source,
    "ALTER TABLE shop.orders RENAME COLUMN status TO state; ALTER ROLE clerk RENAME TO scribe",
    {
      database: APP_DATABASE,
    },
  );
  try {
    const isWaiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    await waitFor("the commit to wait", async () => (await query(source, isWaiting)).length > 0);
    expect((await mark(source, { receipt: "late" })).exitCode).toBe(0);
  } finally {
    await set("");
    await renamed;
  }
  await query(source, "ALTER TABLE shop.orders RENAME COLUMN state TO status; ALTER ROLE scribe RENAME TO clerk", {
    database: APP_DATABASE,
  });
  const receipt = await readReceipt("late");
  const moved = receipt.manifest.objects.flatMap((o) => o.moved);
  expect(moved).toEqual(expect.arrayContaining(["shop.orders", "shop.open_orders", "shop.revenue"]));
  const restored = await restore(source, "late", receipt);
  expect(await column(restored, "SELECT 1 FROM pg_roles WHERE rolname = 'scribe'")).toEqual(["1"]);
  const answers = await answersOf(restored, receipt);
  expect(compareObjects(receipt.manifest, answers.objects, answers.moved)).toMatchObject({
    differences: [],
    unanswered: [],
  });
});

test("old markers and fences are pruned, young ones stay", async () => {
  const { source } = lab();
  await query(
    source,
    `INSERT INTO patroni_restore.marker VALUES ('old', now() - interval '31 d'), ('young', now() - interval '29 d');
     INSERT INTO patroni_restore.fence VALUES ('old', now() - interval '31 d'), ('young', now() - interval '29 d')`,
  );
  const run = await mark(source);
  expect(run.exitCode).toBe(0);
  const left = "SELECT id FROM patroni_restore.TABLE WHERE id IN ('old', 'young')";
  expect(await column(source, left.replace("TABLE", "marker"))).toEqual(["young"]);
  expect(await column(source, left.replace("TABLE", "fence"))).toEqual(["young"]);
});

test("a dry run and a receipt that cannot be written leave the source as it was", async () => {
  const { source } = lab();
  const before = await markers(source);
  const dry = await mark(source, { receipt: "dry", arguments: ["--dry-run"] });
  expect([dry.exitCode, dry.stdout]).toEqual([0, expect.stringContaining("nothing was changed")]);
  await expect(stat(lab().path("dry.json"))).rejects.toThrow(/ENOENT/);
  const nowhere = await mark(source, { receipt: "no/such/directory/receipt" });
  expect(nowhere.exitCode).toBe(10);
  expect(nowhere.stderr).toMatch(/cannot write the receipt .*: directory .* does not exist/);
  expect(await markers(source)).toBe(before);
});

test("queries that cannot give the same answer twice are refused, all at once, before anything is written", async () => {
  const { source } = lab();
  const before = await markers(source);
  const settings = await lab().writeFile(
    "bad-queries.yml",
    `queries:
  - {name: clock, database: app, sql: "SELECT count(*) FROM shop.audit WHERE at < now()"}
  - {name: keyword, database: app, sql: "SELECT count(*) FROM shop.audit WHERE at < current_timestamp"}
  - {name: chance, database: app, sql: "SELECT random()"}
  - {name: own function, database: app, sql: "SELECT shop.tick()"}
  - {name: through a view, database: app, sql: "SELECT * FROM shop.recent"}
  - {name: today, database: app, sql: "SELECT count(*) FROM shop.audit WHERE at > 'today'::timestamptz"}
  - {name: sequence, database: app, sql: "SELECT last_value FROM shop.invoice_number"}
  - {name: unlogged, database: app, sql: "SELECT count(*) FROM shop.sessions"}
  - {name: sample, database: app, sql: "SELECT count(*) FROM pgbench_accounts TABLESAMPLE SYSTEM (10)"}
  - {name: write, database: app, sql: "DELETE FROM shop.audit"}
  - {name: hidden write, database: app, sql: "SELECT 1) AS a; COMMIT; DROP TABLE shop.audit; SELECT * FROM (SELECT 1"}
  - {name: typo, database: app, sql: "SELECT * FROM shop.costumers"}
  - {name: nowhere, database: nosuch, sql: "SELECT 1"}
  - {name: good, database: app, sql: "SELECT shop.order_total(4711), 'now() random(', date_trunc('day', max(placed_at)) FROM shop.orders"}\n`,
  );
  await query(
    source,
    `CREATE FUNCTION shop.tick() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RETURN clock_timestamp(); END';
     CREATE VIEW shop.recent AS SELECT * FROM shop.audit WHERE at > localtimestamp - interval '1 d'`,
    { database: APP_DATABASE },
  );
  const run = await mark(source, { arguments: ["--config", settings] });
  expect(run.exitCode).toBe(2);
  const problems = [...run.stderr.matchAll(/^ {2}- (.*)$/gm)].map(([, problem]) => problem);
  const refused = (name: string, why: string) => `query "${name}" is not deterministic (${why}); mark it or change it`;
  expect(problems).toEqual([
    refused("clock", "volatile function now()"),
    refused("keyword", "CURRENT_TIMESTAMP changes"),
    refused("chance", "volatile function random()"),
    refused("own function", "volatile function tick()"),
    refused("through a view", "LOCALTIMESTAMP changes"),
    refused("today", "'today' is the time of the query"),
    refused("sequence", "sequence shop.invoice_number jumps in recovery"),
    refused("unlogged", "unlogged table shop.sessions is empty after recovery"),
    refused("sample", "TABLESAMPLE without REPEATABLE"),
    'query "write" writes; only a SELECT can be compared',
    expect.stringMatching(/^query "hidden write" in database "app" is not valid: syntax error/),
    expect.stringMatching(/^query "typo" .* relation "shop.costumers" does not exist/),
    'query "nowhere" asks database "nosuch", which the source does not have',
  ]);
  expect(await value(source, "SELECT to_regclass('shop.audit') IS NOT NULL", { database: APP_DATABASE })).toBe("t");
  expect(await markers(source)).toBe(before);
});

test("a role without privileges is told every GRANT it needs, and marks once it has them", async () => {
  const { source } = lab();
  await query(source, "CREATE ROLE marker_role LOGIN");
  await query(source, `REVOKE CONNECT ON DATABASE ${APP_DATABASE} FROM PUBLIC`);
  const asRole = { ...source, conninfo: source.conninfo.replace("user='postgres'", "user='marker_role'") };
  const refused = await mark(asRole);
  expect(refused.exitCode).toBe(30);
  const grants = [...refused.stderr.matchAll(/HINT: (GRANT .*?) (?:in database postgres, or|to it, or)/g)].map(
    ([, g]) => g,
  );
  expect(grants).toEqual([
    'GRANT pg_read_all_settings TO "marker_role"',
    'GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO "marker_role"',
    'GRANT EXECUTE ON FUNCTION pg_switch_wal() TO "marker_role"',
    'GRANT CONNECT ON DATABASE "app" TO "marker_role"',
    "GRANT USAGE ON SCHEMA patroni_restore and GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA patroni_restore",
  ]);
  for (const grant of grants.slice(0, 4)) await query(source, grant as string);
  await query(source, "GRANT USAGE ON SCHEMA patroni_restore TO marker_role");
  await query(source, "GRANT SELECT, INSERT, DELETE ON ALL TABLES IN SCHEMA patroni_restore TO marker_role");
  const run = await mark(asRole);
  expect([run.exitCode, run.stderr.match(/ERROR[\s\S]*/)?.[0]]).toEqual([0, undefined]);
});

test("a standby is refused", async () => {
  const standby = await restore(lab().source, "standby", null);
  const run = await mark(standby);
  expect(run.exitCode).toBe(30);
  expect(run.stderr).toContain(
    "ERROR: [030]: SOURCE_UNREACHABLE: marker must be written to the primary; pg_is_in_recovery() is true",
  );
  await standby.service.stop("SIGINT");
});

test("no archiving, a read-only server and somebody else's schema are named together, and nothing is touched", async () => {
  const bare = await startSource(lab(), {
    stanza: "bare",
    parameters: { archive_mode: "off", default_transaction_read_only: "on" },
  });
  await query(bare, "SET transaction_read_only = off; CREATE SCHEMA patroni_restore CREATE TABLE marker (theirs int)");
  const run = await mark(bare);
  expect(run.exitCode).toBe(30);
  expect([...run.stderr.matchAll(/^ {2}- (.*)$/gm)].map(([, problem]) => problem)).toEqual([
    "marker must be written to the primary; the session is read-only (default_transaction_read_only is on)",
    "source does not archive: archive_mode is off, so the marker cannot reach the repository",
    "schema patroni_restore exists and is not ours (no comment tag)",
  ]);
  const tables = "SELECT relname FROM pg_class WHERE relnamespace = 'patroni_restore'::regnamespace";
  expect(await column(bare, tables)).toEqual(["marker"]);
  await bare.service.stop("SIGINT");
});

test("our schema in the hands of another role, or changed by somebody, is not written to", async () => {
  const { source } = lab();
  await query(source, "ALTER SCHEMA patroni_restore OWNER TO clerk");
  const owned = await mark(source);
  await query(source, "ALTER SCHEMA patroni_restore OWNER TO postgres");
  expect([owned.exitCode, owned.stderr]).toEqual([
    30,
    expect.stringContaining('belongs to "clerk", which is neither a superuser nor the role that marks'),
  ]);
  await query(
    source,
    `CREATE FUNCTION patroni_restore.surprise() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
     CREATE TRIGGER surprise BEFORE INSERT ON patroni_restore.marker FOR EACH ROW EXECUTE FUNCTION patroni_restore.surprise()`,
  );
  const changed = await mark(source);
  await query(source, "DROP FUNCTION patroni_restore.surprise CASCADE");
  expect([changed.exitCode, changed.stderr]).toEqual([
    30,
    expect.stringContaining("does not hold the two plain tables marker and fence"),
  ]);
  const again = await mark(source);
  expect([again.exitCode, again.stderr]).toEqual([0, expect.not.stringContaining("ERROR")]);
});

test("an archive_command that stores nothing is refused", async () => {
  const { source } = lab();
  await withArchiveCommand(source, "/bin/true", async () => {
    const run = await mark(source);
    expect(run.exitCode).toBe(30);
    expect(run.stderr).toContain('source does not archive: archive_command "/bin/true" stores nothing');
  });
});

test("when archiving is broken the wait ends at its limit and says which segment and what failed", async () => {
  const { source } = lab();
  await withArchiveCommand(source, "false", async () => {
    const run = await mark(source, { receipt: "broken", arguments: ["--archive-timeout", "2s"] });
    expect(run.exitCode).toBe(30);
    const error =
      /SOURCE_UNREACHABLE: WAL ([0-9A-F]{24}) was not archived within 2 s \(last failure ([0-9A-F]{24}) at (\S+ \S+);/;
    const [, wal = "", failed = ""] = error.exec(run.stderr) ?? [];
    expect([wal, failed]).toEqual([expect.stringMatching(/^00000001/), expect.stringMatching(/^00000001/)]);
    expect(failed <= wal).toBe(true);
    expect(run.stderr).toMatch(/HINT: .*PostgreSQL log/);
    await expect(stat(lab().path("broken.json"))).rejects.toThrow(/ENOENT/);
    const next = await mark(source, { arguments: ["--archive-timeout", "1s"] });
    expect(next.stderr).toMatch(/WARN .*source has not archived since .* \(last failure [0-9A-F]{24} at .*\)/);
  });
});

test("the file of an older backup, sent late, neither stands for the marker's segment nor hides that it is archived", async () => {
  const { source } = lab();
  const newestTaken = await lab().writeFile("newest-taken", "");
  const command = await lab().writeFile(
    "archive.sh",
    `#!/bin/sh
case $2 in
  *.backup) ;;
  *) [ "$2" \\> "$(cat ${newestTaken})" ] && exit 1 ;;
esac
exec pgbackrest --config=${source.pgbackrestConfig} --stanza=${source.stanza} archive-push "$1"\n`,
    0o755,
  );
  const lastArchived = () => value(source, "SELECT last_archived_wal FROM pg_stat_archiver");
  const inBackup = (then: (stop: () => Promise<void>) => Promise<void>) =>
    connect(source, undefined, async (session) => {
      await session.query("SELECT pg_backup_start('by hand', fast => true)");
      await then(async () => void (await session.query("SELECT pg_backup_stop(wait_for_archive => false)")));
    });
  await inBackup((stopFirst) =>
    inBackup(async (stopSecond) => {
      const before = await archiveWal(source);
      await lab().writeFile("newest-taken", before);
      await withArchiveCommand(source, `${command} %p %f`, async () => {
        const running = await startMark(source, "beside-backups");
        try {
          await waitFor("mark to wait", () => running.output().stderr.includes("waiting until its WAL"), 60_000);
          await stopFirst();
          // It looks again and again, and goes on waiting: the segment itself was refused.
          const waiting =
            /waiting for WAL ([0-9A-F]{24}) to be archived; last archived ([0-9A-F]{24})\.[0-9A-F]{8}\.backup/;
          const isSeen = () => waiting.exec(running.output().stderr) ?? undefined;
          const [, wal = "", ofBackup = ""] = await waitFor("mark to see it", isSeen, 60_000);
          expect(ofBackup < wal).toBe(true);
          expect(await exists(`${source.dataDir}/pg_wal/archive_status/${wal}.ready`)).toBe(true);
          await expect(stat(lab().path("beside-backups.json"))).rejects.toThrow(/ENOENT/);

          // While it does not look, its segment is archived, and then the older file; nothing newer follows.
          running.kill("SIGSTOP");
          await lab().writeFile("newest-taken", wal);
          await query(source, "SELECT pg_reload_conf()");
          await waitFor("the segment to be archived", async () => (await lastArchived()) === wal, 60_000);
          await stopSecond();
          await waitFor("the older file", async () => (await lastArchived()).endsWith(".backup"), 60_000);
        } finally {
          running.kill("SIGCONT");
        }
        const run = await running.result;
        expect([run.exitCode, run.stderr.match(/ERROR[\s\S]*/)?.[0]]).toEqual([0, undefined]);
        expect(await lastArchived()).toMatch(/\.backup$/);
      });
    }),
  );
});

test("SIGTERM ends the wait at once", async () => {
  const { source } = lab();
  await withArchiveCommand(source, "false", async () => {
    const command = await startMark(source);
    await waitFor("mark to wait", () => command.output().stderr.includes("waiting until its WAL"), 60_000);
    command.kill("SIGTERM");
    const run = await command.result;
    expect([run.exitCode, run.stderr]).toEqual([143, expect.stringContaining("TERMINATED: ended by SIGTERM")]);
  });
});

test("a source that restarts in the middle is an error, not a receipt", async () => {
  const { source } = lab();
  await withArchiveCommand(source, "false", async () => {
    const command = await startMark(source, "restarted");
    await waitFor("mark to wait", () => command.output().stderr.includes("waiting until its WAL"), 60_000);
    await lab().service.stop("SIGINT");
    lab().service = await startPostgres(lab(), source);
    const run = await command.result;
    expect(run.exitCode).toBe(30);
    expect(run.stderr).toMatch(/the source .*(was ended by the server|was lost|restarted or failed over)/);
    await expect(stat(lab().path("restarted.json"))).rejects.toThrow(/ENOENT/);
  });
});

test("a source that does not answer is named with the reason, and a password in argv is refused", async () => {
  const { source } = lab();
  const port = await lab().freePort();
  const refused = await mark({ ...source, conninfo: `host=127.0.0.1 port=${port} user=postgres` });
  expect(refused.exitCode).toBe(30);
  expect(refused.stderr).toMatch(
    new RegExp(`cannot reach the source \\(.*\\): connection to 127.0.0.1 port ${port} was refused`),
  );
  expect(refused.stderr).not.toMatch(/^\s+at /m);
  const noRole = await mark({ ...source, conninfo: `host=127.0.0.1 port=${source.port} user=nobody_here` });
  expect([noRole.exitCode, noRole.stderr]).toEqual([30, expect.stringContaining('role "nobody_here" does not exist')]);
  const noHost = await mark({ ...source, conninfo: "host=no-such-host.invalid user=postgres" });
  expect([noHost.exitCode, noHost.stderr]).toEqual([30, expect.stringContaining("cannot be resolved")]);
  const secret = await mark({ ...source, conninfo: "host=127.0.0.1 password=secret" });
  expect(secret.exitCode).toBe(2);
  expect(secret.stderr).not.toContain("secret ");
});

interface MarkOptions {
  /** Name of the receipt's file without `.json`. */
  receipt?: string;
  arguments?: readonly string[];
}

function mark(source: Source, options: MarkOptions = {}) {
  const file = lab().path(`${options.receipt ?? "receipt"}.json`);
  const args = ["--source", source.conninfo, "--receipt", file, ...(options.arguments ?? [])];
  return lab().runScript("mark", args, { timeoutMs: 60_000 });
}

function startMark(source: Source, receipt = "receipt") {
  const args = ["--source", source.conninfo, "--receipt", lab().path(`${receipt}.json`), "--archive-timeout", "100s"];
  return lab().startScript("mark", args, { timeoutMs: 60_000 });
}

async function readReceipt(name: string): Promise<Receipt> {
  const path = lab().path(`${name}.json`);
  return parseReceipt(await readFile(path, "utf8"), path);
}

const markers = (source: Source) => value(source, "SELECT count(*) FROM patroni_restore.marker");

async function column(source: Source, sql: string): Promise<(string | null)[]> {
  return (await query(source, sql)).map((row) => Object.values(row as Record<string, string | null>)[0] ?? null);
}

function answersOf(instance: Source, { manifest, queries }: Receipt): Promise<Snapshot> {
  const basis = { horizon: { xid: manifest.horizon }, seed: manifest.seed, nextXid: manifest.next_xid };
  return askRestored(parseConninfo(instance.conninfo), basis, {
    queries,
    eachDatabase: (names, work) => inParallel(names, 2, work),
    mostBytes: () => null,
    statementTimeoutMs: 60_000,
  });
}

/** By hand, as a person would with pgBackRest alone: to the receipt's target, or as a standby without one. */
async function restore(source: Source, name: string, receipt: Receipt | null): Promise<Source & { service: Service }> {
  const here: Lab = lab();
  const dataDir = await here.makeDirectory(`${name}-data`, 0o700);
  const target =
    receipt === null
      ? ["--type=standby"]
      : ["--type=time", `--target=${receipt.target.time}`, "--target-action=promote", "--archive-mode=off"];
  await here.mustRun("pgbackrest", [
    `--config=${source.pgbackrestConfig}`,
    `--stanza=${source.stanza}`,
    `--pg1-path=${dataDir}`,
    ...target,
    "restore",
  ]);
  const port = await here.freePort();
  const socketDir = await here.makeDirectory(`${name}-s`);
  const service = here.startService(
    name,
    "postgres",
    ["-D", dataDir, `--port=${port}`, `--unix_socket_directories=${socketDir}`, `--cluster_name=${name}`],
    { deathSignal: "QUIT" },
  );
  const restored = { ...source, dataDir, port, socketDir, conninfo: `host=127.0.0.1 port=${port} user=postgres` };
  const isReady = () => {
    if (!service.isRunning()) throw new Error(`${name} ended`);
    return value(restored, "SELECT pg_is_in_recovery()").then(
      (inRecovery) => inRecovery === (receipt === null ? "t" : "f"),
      () => false,
    );
  };
  await waitFor(`${name} to take connections`, isReady, 60_000, () => service.log());
  return { ...restored, service };
}

async function withArchiveCommand(source: Source, command: string, use: () => Promise<void>): Promise<void> {
  const set = async (sql: string, expected: (now: string) => boolean) => {
    await query(source, sql);
    await query(source, "SELECT pg_reload_conf()");
    await waitFor("the setting to be in force", async () => expected(await value(source, "SHOW archive_command")));
  };
  await set(`ALTER SYSTEM SET archive_command = '${command}'`, (now) => now === command);
  try {
    await use();
  } finally {
    await set("ALTER SYSTEM RESET archive_command", (now) => now.includes("pgbackrest"));
  }
}
