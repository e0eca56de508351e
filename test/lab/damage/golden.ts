/**
 * The golden instance: a service with the usual variety, backed up, marked and restored by the real `bootstrap`, and left as
 * an interruption would leave it: stopped, restored, not yet proven. Every kind of damage is done to a copy of it.
 */

import { readdir, readFile, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import type { Receipt } from "../../../lib/mark/receipt.ts";
import type { Lab } from "../lab.ts";
import {
  APP_DATABASE,
  archiveWal,
  backup,
  connect,
  createStanza,
  loadSchema,
  markAndWait,
  now,
  ODD_DATABASE,
  psql,
  query,
  type Source,
  startSource,
} from "../source.ts";

export const DATABASES = ["postgres", APP_DATABASE, ODD_DATABASE];

export interface GoldenRelation {
  oid: number;
  /** In the data directory. */
  path: string;
  /** Access method; null for a sequence. */
  method: string | null;
  kind: string;
  /** Name of its TOAST table and of that one's index, when it has them. */
  toast: string | null;
  toastIndex: string | null;
}

export interface Golden {
  source: Source;
  datadir: string;
  receiptFile: string;
  receipt: Receipt;
  /** By `database schema.name`. */
  relations: ReadonlyMap<string, GoldenRelation>;
  databaseOids: ReadonlyMap<string, number>;
  /** Files as they were before much was changed, by their path in the data directory. */
  old: ReadonlyMap<string, Buffer>;
  /** A time before the marker that the archive can reach. */
  olderTarget: string;
  bytes: number;
}

/** Asked on the source, and asked again of every copy; about tables that few kinds of damage touch. */
const QUERIES = [
  { name: "family", database: APP_DATABASE, sql: "SELECT count(*), sum(id) FROM lab.parent" },
  { name: "customers", database: APP_DATABASE, sql: "SELECT count(*) FROM shop.customers" },
];

/** Of these the blocks from before `change.sql` are kept. */
const OLD_RELATIONS = ["lab.moving", "lab.moving_pkey", "lab.things_pkey", "lab.things_tags"];

export async function makeGolden(lab: Lab, step: <T>(what: string, work: () => Promise<T>) => Promise<T>) {
  const source = await step("a source", () =>
    startSource(lab, {
      parameters: { autovacuum: "off", max_wal_size: "2GB", wal_compression: "on", max_prepared_transactions: 5 },
    }),
  );
  const old = await step("data", () => load(lab, source));
  await step("stanza and full backup", async () => {
    await createStanza(lab, source);
    await backup(lab, source, "full");
  });
  const olderTarget = await step("changes after the backup", () => changeAfterBackup(lab, source));
  const { file, receipt } = await step("mark", async () => {
    const config = await lab.writeFile("mark.yml", stringify({ queries: QUERIES }));
    return await markAndWait(lab, source, "receipt", { env: { RESTORE_CONFIG: config } });
  });
  // The archive goes on: a restore that goes too far has something to go to.
  await query(source, "INSERT INTO lab.plain VALUES (-1, 'after the fence')", { database: APP_DATABASE });
  await archiveWal(source);
  const relations = await readRelations(source);
  const databaseOids = new Map(
    (await query(source, "SELECT datname, oid FROM pg_database")).map((row) => [String(row.datname), Number(row.oid)]),
  );
  await step("the source stops", () => source.service.stop("SIGINT"));
  await lab.makeDirectory("golden", 0o700);
  const datadir = lab.path("golden", "data");
  await step("restore", () => restore(lab, source, datadir, [`--receipt=${file}`]));
  await removeOldWal(lab, datadir);
  const { stdout } = await lab.mustRun("du", ["-sb", datadir]);
  const golden: Golden = {
    source,
    datadir,
    receiptFile: file,
    receipt,
    relations,
    databaseOids,
    old,
    olderTarget,
    bytes: Number.parseInt(stdout, 10),
  };
  return golden;
}

/** A clean stop needs the last checkpoint's segment only, and every copy would carry the others. */
async function removeOldWal(lab: Lab, datadir: string): Promise<void> {
  const { stdout } = await lab.mustRun("pg_controldata", ["-D", datadir]);
  const needed = /REDO WAL file:\s+(\S+)/.exec(stdout)?.[1];
  const segments = (await readdir(`${datadir}/pg_wal`)).filter((name) => /^[0-9A-F]{24}$/.test(name));
  if (needed === undefined || !segments.includes(needed)) throw new Error(`${needed} is not in pg_wal`);
  for (const name of segments) if (name !== needed) await rm(`${datadir}/pg_wal/${name}`);
}

/** The real bootstrap; what it leaves is unproven. */
export async function restore(lab: Lab, source: Source, datadir: string, args: readonly string[]): Promise<void> {
  const ended = await lab.runScript("bootstrap", [
    "--scope=damage",
    `--datadir=${datadir}`,
    `--stanza=${source.stanza}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    ...args,
  ]);
  if (ended.exitCode !== 0) throw new Error(`bootstrap: exit code ${ended.exitCode}\n${ended.stderr}`);
}

async function load(lab: Lab, source: Source): Promise<Map<string, Buffer>> {
  await loadSchema(lab, source, { scale: 1, tablespace: true });
  await psql(lab, source, APP_DATABASE, await sqlFile("variety.sql"));
  await psql(lab, source, ODD_DATABASE, await sqlFile("odd.sql"));
  await query(source, "CHECKPOINT");
  const old = await keepOld(source);
  await psql(lab, source, APP_DATABASE, await sqlFile("change.sql"));
  return old;
}

async function keepOld(source: Source): Promise<Map<string, Buffer>> {
  const relations = await readRelations(source);
  const paths = OLD_RELATIONS.flatMap((name) => {
    const found = mustFind(relations, APP_DATABASE, name);
    const toast = found.toast === null ? [] : [mustFind(relations, APP_DATABASE, found.toast).path];
    return found.kind === "r" ? [found.path, `${found.path}_vm`, ...toast] : [found.path, ...toast];
  });
  const old = new Map<string, Buffer>();
  for (const path of [...paths, "pg_xact/0000"]) old.set(path, await readFile(`${source.dataDir}/${path}`));
  return old;
}

async function changeAfterBackup(lab: Lab, source: Source): Promise<string> {
  await psql(lab, source, APP_DATABASE, await sqlFile("late.sql"));
  await lockByMany(source);
  await query(source, "SELECT pg_switch_wal()");
  // pgBackRest knows the end of a backup to the second, and refuses a target within it.
  await query(source, "SELECT pg_sleep(2)");
  const olderTarget = await now(source);
  await query(source, "CREATE TABLE lab.newest AS SELECT i AS id FROM generate_series(1, 300) i", {
    database: APP_DATABASE,
  });
  return olderTarget;
}

/**
 * Rows whose xmax is a multixact with an updater in it: what they are only pg_multixact knows. So few that their page stays
 * nearly empty, and nobody prunes the versions that have been replaced.
 */
async function lockByMany(source: Source): Promise<void> {
  await connect(source, APP_DATABASE, async (locker) => {
    for (let row = 1; row <= 20; row++) {
      await locker.query("BEGIN");
      await locker.query(`SELECT 1 FROM lab.shared WHERE id = ${row} FOR KEY SHARE`);
      await query(source, `UPDATE lab.shared SET note = 'changed' WHERE id = ${row}`, {
        database: APP_DATABASE,
      });
      await locker.query("COMMIT");
    }
  });
}

async function readRelations(source: Source): Promise<Map<string, GoldenRelation>> {
  const relations = new Map<string, GoldenRelation>();
  for (const database of DATABASES) {
    const rows = await query(
      source,
      `SELECT n.nspname || '.' || c.relname AS name, c.oid, pg_relation_filepath(c.oid) AS path, a.amname AS method,
              c.relkind AS kind, tn.nspname || '.' || t.relname AS toast, tn.nspname || '.' || ti.relname AS toast_index
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am a ON a.oid = c.relam
         LEFT JOIN pg_class t ON t.oid = c.reltoastrelid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
         LEFT JOIN pg_index x ON x.indrelid = t.oid LEFT JOIN pg_class ti ON ti.oid = x.indexrelid
        WHERE c.relkind IN ('r', 'm', 't', 'i', 'S')`,
      { database },
    );
    for (const row of rows) {
      relations.set(`${database} ${row.name}`, {
        oid: Number(row.oid),
        path: String(row.path),
        method: row.method as string | null,
        kind: String(row.kind),
        toast: row.toast as string | null,
        toastIndex: row.toast_index as string | null,
      });
    }
  }
  return relations;
}

export function mustFind(
  relations: ReadonlyMap<string, GoldenRelation>,
  database: string,
  name: string,
): GoldenRelation {
  const found = relations.get(`${database} ${name}`);
  if (found === undefined) throw new Error(`the golden instance has no ${name} in ${database}`);
  return found;
}

const sqlFile = (name: string) => readFile(fileURLToPath(new URL(name, import.meta.url)), "utf8");
