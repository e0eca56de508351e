/** A copy of the golden instance: damaged by a kind, in its files while it is stopped or by SQL on a server of its own. */

import { chown, cp, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Receipt } from "../../../lib/mark/receipt.ts";
import { formatConninfo } from "../../../lib/postgres/conninfo.ts";
import type { Report } from "../../../lib/report/report.ts";
import { pathsOf, type Unproven } from "../../../lib/restore/state.ts";
import type { Lab } from "../lab.ts";
import { postgresUser } from "../lab.ts";
import type { Service } from "../process.ts";
import { waitFor } from "../process.ts";
import { APP_DATABASE, connect, query } from "../source.ts";
import { type Golden, type GoldenRelation, mustFind } from "./golden.ts";

export interface Instance {
  lab: Lab;
  golden: Golden;
  dir: string;
  datadir: string;
  /** What stands beside the data directory; written anew before each verification, as the kind left them. */
  unproven: Unproven;
  report: Report;
  receipt: Receipt;
  /** Superuser, allow_system_table_mods; starts the server when it is not running. */
  sql(statements: string, database?: string): Promise<Record<string, unknown>[]>;
  start(): Promise<string>;
  /** Each statement in an open transaction of its own, and then a crash of the server and its recovery. */
  crashDuring(statements: readonly string[]): Promise<void>;
  /** Cleanly, or as a crash would. Nothing happens when it is not running. */
  stop(how?: "clean" | "crash"): Promise<void>;
  /** A file of the stopped instance. */
  file(path: string): Promise<string>;
  /** The main fork of a relation of the stopped instance, as the golden instance had it. */
  relation(name: string, database?: string): GoldenRelation & { file: Promise<string> };
  /** A file or directory in the stopped instance that did not exist. */
  own(path: string): Promise<void>;
  /** After another restore has taken the copy's place. */
  readBeside(): Promise<void>;
  writeBeside(options: { receipt: boolean }): Promise<void>;
  remove(): Promise<void>;
}

/** What a temporary start of a copy has besides its own configuration. */
const SERVER = {
  listen_addresses: "",
  archive_mode: "off",
  fsync: "off",
  autovacuum: "off",
  max_logical_replication_workers: "0",
  allow_system_table_mods: "on",
  shared_buffers: "64MB",
  dynamic_shared_memory_type: "mmap",
  logging_collector: "off",
  log_destination: "stderr",
  restart_after_crash: "off",
};

export async function copyGolden(lab: Lab, golden: Golden, name: string): Promise<Instance> {
  const dir = await lab.makeDirectory(name, 0o700);
  const datadir = join(dir, "data");
  const paths = pathsOf(datadir);
  await lab.mustRun("cp", ["--archive", "--reflink=auto", golden.datadir, datadir]);
  await copyTablespaces(lab, golden, datadir);
  const [unproven, report] = await Promise.all([
    readJson<Unproven>(pathsOf(golden.datadir).unproven),
    readJson<Report>(pathsOf(golden.datadir).report),
  ]);
  const receiptFile = join(dir, "receipt.json");
  const place = (path: string) => path.replace(golden.datadir, datadir);
  let server: Service | undefined;
  let starts = 0;

  const instance: Instance = {
    lab,
    golden,
    dir,
    datadir,
    unproven: { ...unproven, receipt: receiptFile, report: paths.report, linked: unproven.linked.map(place) },
    // What bootstrap saw of the pages it saw before the damage.
    report: { ...report, page_checksums: null },
    // As it is written: what is compressed in memory has no fields of its own.
    receipt: JSON.parse(JSON.stringify(golden.receipt)),
    async start() {
      const conninfo = formatConninfo({ host: dir, port: "5432", user: "postgres", dbname: "postgres" });
      if (server?.isRunning()) return conninfo;
      const settings = { ...SERVER, port: "5432", unix_socket_directories: dir };
      const args = Object.entries(settings).flatMap(([key, value]) => ["-c", `${key}=${value}`]);
      const service = lab.startService(`${name}-server-${++starts}`, "postgres", ["-D", datadir, ...args], {
        deathSignal: "QUIT",
      });
      server = service;
      const answers = async () => {
        if (!service.isRunning()) throw new Error(`PostgreSQL ended:\n${(await service.log()).slice(-1500)}`);
        return query({ conninfo }, "SELECT 1").then(
          () => true,
          // Damage may be what keeps a session out: the server itself is there.
          (error) => !["ECONNREFUSED", "ENOENT", "57P03"].includes(String(error?.code)),
        );
      };
      await waitFor("PostgreSQL to take connections", answers, 60_000, () => service.log(), 20);
      return conninfo;
    },
    async sql(statements, database = APP_DATABASE) {
      const conninfo = await instance.start();
      return query({ conninfo }, statements, { database });
    },
    async crashDuring(statements) {
      const conninfo = await instance.start();
      const inTransaction = async ([statement, ...others]: readonly string[]): Promise<void> => {
        if (statement === undefined) return instance.stop("crash");
        await connect({ conninfo }, APP_DATABASE, async (session) => {
          await session.query("BEGIN");
          await session.query(statement);
          await inTransaction(others);
        });
      };
      await inTransaction(statements).catch((error) => {
        if (server?.isRunning()) throw error;
      });
      await instance.start();
    },
    async stop(how = "clean") {
      if (how === "crash") return void (await server?.stop("SIGQUIT"));
      await server?.stop("SIGINT");
    },
    async file(path) {
      await instance.stop();
      return join(datadir, path);
    },
    relation(relation, database = APP_DATABASE) {
      const found = mustFind(golden.relations, database, relation);
      return {
        ...found,
        get file() {
          return instance.file(found.path);
        },
      };
    },
    own,
    async readBeside() {
      instance.unproven = { ...(await readJson<Unproven>(paths.unproven)), receipt: receiptFile };
      instance.report = await readJson<Report>(paths.report);
    },
    async writeBeside({ receipt }) {
      const write = async (path: string, value: unknown) => {
        await writeFile(path, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
        await own(path);
      };
      await write(receiptFile, instance.receipt);
      await write(paths.unproven, receipt ? instance.unproven : { ...instance.unproven, receipt: null });
      await write(paths.report, receipt ? instance.report : { ...instance.report, receipt_id: null });
    },
    async remove() {
      await instance.stop();
      await rm(dir, { recursive: true, force: true, maxRetries: 3 });
    },
  };
  return instance;
}

/** Their links are absolute. */
async function copyTablespaces(lab: Lab, golden: Golden, datadir: string): Promise<void> {
  const from = pathsOf(golden.datadir).tablespaces;
  const to = pathsOf(datadir).tablespaces;
  await cp(from, to, { recursive: true });
  await lab.mustRun("chown", ["-R", "--reference", golden.datadir, to], { asRoot: true });
  for (const oid of await readdir(join(datadir, "pg_tblspc"))) {
    const link = join(datadir, "pg_tblspc", oid);
    const target = (await readlink(link)).replace(from, to);
    await rm(link);
    await symlink(target, link);
  }
}

async function own(path: string): Promise<void> {
  const owner = postgresUser();
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
}

const readJson = async <T>(path: string): Promise<T> => JSON.parse(await readFile(path, "utf8"));
