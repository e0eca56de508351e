/** What a cluster knows about itself in files: control data, versions, maps, directories. */

import { open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { APP_DATABASE, ODD_DATABASE } from "../../source.ts";
import { CATCHERS } from "../catchers.ts";
import type { Instance } from "../instance.ts";
import { inArea } from "../kind.ts";
import { flip } from "../pages.ts";

const { start, heap, transactions, rows, files } = CATCHERS;

/** offsetof(ControlFileData, crc), PostgreSQL 13 to 16. */
const CRC = 288;

const changeControl = (change: (control: Buffer) => void, crc: "right" | "stale") => async (instance: Instance) => {
  const path = await instance.file("global/pg_control");
  const control = await readFile(path);
  if (control.readUInt32LE(CRC) !== crc32c(control.subarray(0, CRC))) throw new Error("pg_control is not as expected");
  change(control);
  if (crc === "right") control.writeUInt32LE(crc32c(control.subarray(0, CRC)), CRC);
  await writeFile(path, control);
};

function crc32c(data: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** `pg_resetwal`, after which a server starts as if nothing were wrong. */
export const resetWal =
  (...args: string[]) =>
  async (instance: Instance) => {
    await instance.stop();
    await instance.lab.mustRun("pg_resetwal", ["-f", ...args, instance.datadir]);
  };

const databaseFile = async (instance: Instance, name: string, database: string = APP_DATABASE) =>
  instance.file(join("base", String(instance.golden.databaseOids.get(database)), name));

async function flipInFile(path: string, at: number): Promise<void> {
  const file = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    flip(byte, 0);
    await file.write(byte, 0, 1, at);
  } finally {
    await file.close();
  }
}

export const controlKinds = inArea("control", [
  {
    name: "pg_control: a bit flipped",
    damage: changeControl((control) => flip(control, 60), "stale"),
    caughtBy: start,
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "pg_control: another system identifier, checksum right",
    damage: changeControl((control) => control.writeBigUInt64LE(control.readBigUInt64LE(0) + 1n, 0), "right"),
    caughtBy: [...start, "system-identifier"],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "pg_control: missing",
    damage: async (instance) => rm(await instance.file("global/pg_control")),
    caughtBy: start,
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "pg_control: next transaction ID set back",
    damage: resetWal("-x", "800"),
    caughtBy: [...heap, ...transactions, ...rows],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "pg_control: next multixact ID set back",
    damage: resetWal("-m", "2,1"),
    caughtBy: [...heap, ...transactions, ...rows],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "pg_control: oldest transaction ID set forward",
    damage: resetWal("-u", "1000"),
    caughtBy: [...heap, ...transactions, ...rows],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "PG_VERSION of a database is missing",
    damage: async (instance) => rm(await databaseFile(instance, "PG_VERSION", ODD_DATABASE)),
    caughtBy: ["databases-readable", ...files],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "PG_VERSION of the cluster is another version's",
    damage: async (instance) => writeFile(await instance.file("PG_VERSION"), "13\n"),
    caughtBy: start,
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "pg_filenode.map of a database: a bit flipped",
    damage: async (instance) => flipInFile(await databaseFile(instance, "pg_filenode.map"), 20),
    caughtBy: ["databases-readable", ...files],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "the directory of a database is missing",
    damage: async (instance) => rm(await databaseFile(instance, ".", ODD_DATABASE), { recursive: true }),
    caughtBy: ["databases-readable", ...files],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "the directory of a tablespace is missing",
    damage: async (instance) => {
      await instance.stop();
      for (const directory of instance.unproven.linked) await rm(directory, { recursive: true });
    },
    caughtBy: [...files, ...rows, ...start],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "the WAL with the last checkpoint is missing",
    damage: async (instance) => {
      const wal = await instance.file("pg_wal");
      await instance.lab.mustRun("find", [wal, "-type", "f", "-delete"]);
    },
    caughtBy: start,
    level: "quick",
    withoutReceipt: "quick",
  },
]);
