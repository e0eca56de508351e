/**
 * The service that is backed up: a plain PostgreSQL or one under Patroni, with a pgBackRest repository of its own. A
 * Source is plain data, so that one test process can hand it to another (see `global-setup.ts`).
 */

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { type Database, quoteIdentifier, quoteLiteral, type Row, withDatabase } from "../../lib/io/database.ts";
import { parseReceipt, type Receipt } from "../../lib/mark/receipt.ts";
import { formatConninfo, parseConninfo } from "../../lib/postgres/conninfo.ts";
import type { Etcd } from "./etcd.ts";
import type { Lab } from "./lab.ts";
import { startPatroni, waitForLeader } from "./patroni.ts";
import { type RunOptions, type RunResult, type Service, waitFor } from "./process.ts";

export interface Source {
  kind: "plain" | "patroni";
  stanza: string;
  dataDir: string;
  port: number;
  /** Directory of the Unix socket. */
  socketDir: string;
  /** As superuser over TCP, without password (trust). */
  conninfo: string;
  pgbackrestConfig: string;
  /** The repository's directory. */
  repository: string;
  logFile: string;
  /** Patroni's own; null for a plain source. */
  patroni: { scope: string; restPort: number; configFile: string } | null;
}

export interface SourceOptions {
  /** Also its name in the lab; `demo` by default. */
  stanza?: string;
  /** Further lines of postgresql.conf, by name. */
  parameters?: Readonly<Record<string, string | number>>;
  /** Further lines of pgbackrest.conf's [global]. */
  pgbackrest?: Readonly<Record<string, string | number>>;
}

const SUPERUSER = "postgres";

/** initdb, archiving on, started; fsync is off because nobody keeps these data. */
export async function startSource(lab: Lab, options: SourceOptions = {}): Promise<Source & { service: Service }> {
  const source = await prepareSource(lab, options);
  await lab.mustRun("initdb", [
    `--pgdata=${source.dataDir}`,
    `--username=${SUPERUSER}`,
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--data-checksums",
    "--no-sync",
  ]);
  const parameters = { ...serverParameters(source), fsync: "off", ...options.parameters };
  const lines = Object.entries(parameters).map(([name, value]) => `${name} = ${quoteLiteral(String(value))}`);
  const base = await readFile(`${source.dataDir}/postgresql.conf`, "utf8");
  await lab.writeFile(`${source.stanza}/data/postgresql.conf`, `${base}\n${lines.join("\n")}\n`, 0o600);
  return { ...source, service: await startPostgres(lab, source) };
}

/** Starts the (stopped) plain source and waits until it takes connections. */
export async function startPostgres(lab: Lab, source: Source): Promise<Service> {
  const service = launchPostgres(lab, source);
  await waitForPostgres(source, service);
  return service;
}

/** Starts it, and waits for nothing. */
export const launchPostgres = (lab: Lab, source: Source): Service =>
  lab.startService(`${source.stanza}-postgres`, "postgres", ["-D", source.dataDir], { deathSignal: "QUIT" });

async function waitForPostgres(source: Source, service: Service): Promise<void> {
  const takesConnections = async () => {
    if (!service.isRunning()) throw new Error(`PostgreSQL ended:\n${await service.log()}`);
    return query(source, "SELECT 1").then(
      () => true,
      () => false,
    );
  };
  await waitFor("PostgreSQL to take connections", takesConnections, 60_000, () => service.log());
}

/** The same under Patroni: initdb by Patroni, archiving through its dynamic configuration; returns when it is leader. */
export function startPatroniSource(
  lab: Lab,
  etcd: Etcd,
  options: SourceOptions = {},
): Promise<Source & { service: Service }> {
  return startPatroniSourceOn(lab, { settings: { etcd3: { hosts: etcd.endpoint } } }, options);
}

/** With whatever keeps its state: `settings` are lines of its configuration. */
export async function startPatroniSourceOn(
  lab: Lab,
  dcs: { settings: object; env?: Readonly<Record<string, string>> },
  options: SourceOptions = {},
): Promise<Source & { service: Service }> {
  const prepared = await prepareSource(lab, options);
  const restPort = await lab.freePort();
  const scope = `${prepared.stanza}-source`;
  const configFile = await lab.writeFile(
    `${prepared.stanza}/patroni.yml`,
    stringify(patroniSettings(lab, prepared, scope, restPort, dcs.settings, options.parameters ?? {})),
  );
  const source: Source = { ...prepared, kind: "patroni", patroni: { scope, restPort, configFile } };
  const env = dcs.env === undefined ? {} : { env: dcs.env };
  const service = startPatroni(lab, configFile, { name: `${source.stanza}-patroni`, ...env });
  await waitForLeader(service, restPort);
  return { ...source, logFile: service.logFile, service };
}

function patroniSettings(
  lab: Lab,
  source: Source,
  scope: string,
  restPort: number,
  dcs: object,
  parameters: Readonly<Record<string, string | number>>,
): object {
  return {
    scope,
    name: `${scope}-0`,
    restapi: { listen: `127.0.0.1:${restPort}`, connect_address: `127.0.0.1:${restPort}` },
    ...dcs,
    bootstrap: {
      dcs: {
        ttl: 30,
        loop_wait: 2,
        retry_timeout: 10,
        postgresql: { parameters: { ...serverParameters(source), ...parameters } },
      },
      initdb: ["data-checksums", "no-sync", { encoding: "UTF8" }, { locale: "C.UTF-8" }],
      pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
    },
    postgresql: {
      listen: `127.0.0.1:${source.port}`,
      connect_address: `127.0.0.1:${source.port}`,
      data_dir: source.dataDir,
      bin_dir: lab.binDir,
      pgpass: `${source.socketDir}/pgpass`,
      authentication: { superuser: { username: SUPERUSER }, replication: { username: "replicator" } },
      parameters: { unix_socket_directories: source.socketDir },
    },
    watchdog: { mode: "off" },
  };
}

function serverParameters(source: Source): Record<string, string | number> {
  return {
    listen_addresses: "127.0.0.1",
    port: source.port,
    unix_socket_directories: source.socketDir,
    cluster_name: source.stanza,
    shared_buffers: "64MB",
    max_connections: 60,
    max_wal_size: "1GB",
    wal_level: "replica",
    archive_mode: "on",
    archive_command: `pgbackrest --config=${source.pgbackrestConfig} --stanza=${source.stanza} archive-push %p`,
    log_line_prefix: "%m [%p] ",
    lc_messages: "C",
  };
}

async function prepareSource(lab: Lab, options: SourceOptions): Promise<Source> {
  const stanza = options.stanza ?? "demo";
  const port = await lab.freePort();
  const dataDir = await lab.makeDirectory(`${stanza}`).then(() => lab.makeDirectory(`${stanza}/data`, 0o700));
  const socketDir = await lab.makeDirectory(`${stanza}/s`);
  const repository = await lab.makeDirectory("repo", 0o750);
  const source: Source = {
    kind: "plain",
    stanza,
    dataDir,
    port,
    socketDir,
    conninfo: formatConninfo({ host: "127.0.0.1", port: String(port), user: SUPERUSER, dbname: "postgres" }),
    pgbackrestConfig: lab.path(stanza, "pgbackrest.conf"),
    repository,
    logFile: lab.path("log", `${stanza}-postgres.log`),
    patroni: null,
  };
  await writePgbackrestConfig(lab, source, options.pgbackrest ?? {});
  return source;
}

/** Every path in the lab: a lock, log or spool shared with another pgBackRest of this machine would mix the two. */
async function writePgbackrestConfig(
  lab: Lab,
  source: Source,
  global: Readonly<Record<string, string | number>>,
): Promise<void> {
  const section = (name: string, settings: Readonly<Record<string, string | number>>) =>
    [`[${name}]`, ...Object.entries(settings).map(([key, value]) => `${key}=${value}`), ""].join("\n");
  const text = [
    section("global", {
      "repo1-path": source.repository,
      "repo1-retention-full": 9,
      "lock-path": await lab.makeDirectory(`${source.stanza}/lock`),
      "log-path": await lab.makeDirectory(`${source.stanza}/pgbackrest-log`),
      "spool-path": await lab.makeDirectory(`${source.stanza}/spool`),
      "log-level-console": "warn",
      "log-level-file": "detail",
      "compress-type": "lz4",
      "process-max": 2,
      "start-fast": "y",
      "archive-timeout": 60,
      ...global,
    }),
    section(source.stanza, {
      "pg1-path": source.dataDir,
      "pg1-port": source.port,
      "pg1-socket-path": source.socketDir,
      "pg1-user": SUPERUSER,
    }),
  ].join("\n");
  await lab.writeFile(`${source.stanza}/pgbackrest.conf`, text);
}

/**
 * The same source with a copy of its repository in this lab, for tests that damage the repository. `conninfo` and
 * `dataDir` stay the original's: the copy is for restoring only.
 */
export async function copyRepository(lab: Lab, source: Source): Promise<Source> {
  const repository = await lab.makeDirectory("repo", 0o750);
  await lab.mustRun("cp", ["--archive", "--reflink=auto", `${source.repository}/.`, repository], { asRoot: true });
  await lab.makeDirectory(source.stanza);
  const copy = { ...source, repository, pgbackrestConfig: lab.path(source.stanza, "pgbackrest.conf") };
  await writePgbackrestConfig(lab, copy, {});
  return copy;
}

export function pgbackrest(lab: Lab, source: Source, ...args: string[]): Promise<RunResult> {
  return lab.mustRun("pgbackrest", [`--config=${source.pgbackrestConfig}`, `--stanza=${source.stanza}`, ...args]);
}

export async function createStanza(lab: Lab, source: Source): Promise<void> {
  await pgbackrest(lab, source, "stanza-create");
}

/** Returns the label of the new backup set. */
export async function backup(lab: Lab, source: Source, type: "full" | "diff" | "incr"): Promise<string> {
  await pgbackrest(lab, source, `--type=${type}`, "backup");
  const { stdout } = await pgbackrest(lab, source, "info", "--output=json");
  const [{ backup: backups }] = JSON.parse(stdout) as [{ backup: { label: string }[] }];
  const label = backups.at(-1)?.label;
  if (label === undefined) throw new Error("pgbackrest made a backup and does not list it");
  return label;
}

/** Rows of text values, as superuser; `postgres` unless another database is named. */
export async function query(
  source: Pick<Source, "conninfo">,
  sql: string,
  options: { database?: string; values?: readonly unknown[] } = {},
): Promise<Row[]> {
  return connect(source, options.database, (database) => database.query(sql, options.values));
}

/** The only value of a query with one row and one column. */
export async function value(
  source: Pick<Source, "conninfo">,
  sql: string,
  options: { database?: string } = {},
): Promise<string> {
  const rows = await query(source, sql, options);
  return String(Object.values(rows[0] ?? {})[0]);
}

export function connect<T>(
  source: Pick<Source, "conninfo">,
  database: string | undefined,
  use: (database: Database) => Promise<T>,
): Promise<T> {
  return withDatabase(parseConninfo(source.conninfo), { database, applicationName: "lab" }, use);
}

/** Runs a script with psql; stops at its first error. */
export async function psql(lab: Lab, source: Source, database: string, script: string): Promise<void> {
  const conninfo = formatConninfo({ ...parseConninfo(source.conninfo), dbname: database });
  await lab.mustRun("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", conninfo], { input: script });
}

/** Databases that `loadSchema` makes. The second one's name is as odd as PostgreSQL allows. */
export const APP_DATABASE = "app";
export const ODD_DATABASE = `Kunden "Süd" 'A'`;
export const TABLESPACE = "archive space";

/** pgbench's tables (15 MB per unit of scale) and the usual variety of a real schema, in two databases. */
export async function loadSchema(
  lab: Lab,
  source: Source,
  options: { scale?: number; tablespace?: boolean } = {},
): Promise<void> {
  for (const name of [APP_DATABASE, ODD_DATABASE]) await query(source, `CREATE DATABASE ${quoteIdentifier(name)}`);
  await lab.mustRun("pgbench", [
    "--initialize",
    "--quiet",
    `--scale=${options.scale ?? 1}`,
    "--init-steps=dtgvp",
    ...pgbenchConnection(source),
  ]);
  await psql(lab, source, APP_DATABASE, await sqlFile("schema.sql"));
  await psql(lab, source, ODD_DATABASE, await sqlFile("second-database.sql"));
  if (options.tablespace) {
    const location = await lab.makeDirectory(`${source.stanza}/tablespace`, 0o700);
    await query(source, `CREATE TABLESPACE ${quoteIdentifier(TABLESPACE)} LOCATION ${quoteLiteral(location)}`);
    const sql = `CREATE TABLE shop.old_orders TABLESPACE ${quoteIdentifier(TABLESPACE)} AS SELECT * FROM shop.orders`;
    await query(source, sql, { database: APP_DATABASE });
  }
}

const sqlFile = (name: string) => readFile(fileURLToPath(new URL(name, import.meta.url)), "utf8");

const pgbenchConnection = (source: Source) => [
  "--host=127.0.0.1",
  `--port=${source.port}`,
  `--username=${SUPERUSER}`,
  APP_DATABASE,
];

/** Transactions of two clients, 50 a second, until it is stopped. Needs `loadSchema`. */
export async function startLoad(lab: Lab, source: Source, rate = 50): Promise<Service> {
  const service = lab.startService("load", "pgbench", [
    "--no-vacuum",
    "--client=2",
    `--rate=${rate}`,
    "--time=86400",
    "--progress=5",
    ...pgbenchConnection(source),
  ]);
  const before = await transactions(source);
  const isWorking = async () => {
    if (!service.isRunning()) throw new Error(`pgbench ended:\n${await service.log()}`);
    return (await transactions(source)) > before;
  };
  await waitFor("pgbench to commit", isWorking, 30_000, () => service.log());
  return service;
}

const transactions = async (source: Source) =>
  Number(await value(source, "SELECT count(*) FROM pgbench_history", { database: APP_DATABASE }));

/** Switches WAL and waits until everything up to now is in the archive; returns the last segment's name. */
export async function archiveWal(source: Source): Promise<string> {
  const segment = await value(source, "SELECT pg_walfile_name(pg_switch_wal())");
  // Not pg_stat_archiver: where nothing was to be switched, the last one sent can be the older file of a backup.
  const waiting = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}[.]ready$'";
  const isArchived = async () => (await value(source, `${waiting} AND left(name, 24) <= '${segment}'`)) === "0";
  await waitFor(`${segment} to be archived`, isArchived, 60_000);
  return segment;
}

/** The source's own clock, as text with microseconds and offset. */
export function now(source: Source): Promise<string> {
  return value(source, `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'`);
}

/** Runs `mark`; returns when the fence's WAL is archived. */
export async function markAndWait(
  lab: Lab,
  source: Source,
  name = "receipt",
  options: RunOptions = {},
): Promise<{ file: string; receipt: Receipt }> {
  const file = lab.path(`${name}.json`);
  const result = await lab.runScript("mark", ["--source", source.conninfo, "--receipt", file], options);
  if (result.exitCode !== 0) throw new Error(`mark: exit code ${result.exitCode}\n${result.stderr}`);
  return { file, receipt: parseReceipt(await readFile(file, "utf8"), file) };
}
