/** What became of transactions: pg_xact and pg_multixact. The rows of lab.late and lab.tried carry no hint of it themselves. */

import { readFile, rm, writeFile } from "node:fs/promises";
import { CATCHERS } from "../catchers.ts";
import type { Instance } from "../instance.ts";
import { inArea } from "../kind.ts";
import { BLOCK, blocksOf, INFOMASK, items, LP, readBlock, TUPLE } from "../pages.ts";

const { transactions, data, rows } = CATCHERS;
const SEGMENT = "pg_xact/0000";
const COMMITTED = 1;
const ABORTED = 2;

/** Transactions that wrote rows of the table, in order, whose fate nothing but pg_xact tells. */
async function lateTransactions(instance: Instance, status: number, table = "lab.late"): Promise<number[]> {
  const file = await instance.relation(table).file;
  const xact = await readFile(await instance.file(SEGMENT));
  const found = new Set<number>();
  for (let block = 0; block < (await blocksOf(file)); block++) {
    const page = await readBlock(file, block);
    for (const { offset, flags } of items(page)) {
      if (flags !== LP.NORMAL) continue;
      const xmin = page.readUInt32LE(offset + TUPLE.xmin);
      const hinted = page.readUInt16LE(offset + TUPLE.infomask) & (INFOMASK.XMIN_COMMITTED | INFOMASK.XMIN_INVALID);
      if (hinted === 0 && statusOf(xact, xmin) === status) found.add(xmin);
    }
  }
  if (found.size < 5)
    throw new Error(`only ${found.size} transactions of ${table} without hints have status ${status}`);
  return [...found].sort((a, b) => a - b);
}

const statusOf = (xact: Buffer, xid: number) => ((xact[xid >> 2] ?? 0) >> ((xid & 3) * 2)) & 3;

function setStatus(xact: Buffer, xid: number, status: number): void {
  const shift = (xid & 3) * 2;
  xact[xid >> 2] = ((xact[xid >> 2] ?? 0) & ~(3 << shift)) | (status << shift);
}

const turn = (from: number, to: number, table?: string) => async (instance: Instance) => {
  const path = await instance.file(SEGMENT);
  const xids = await lateTransactions(instance, from, table);
  const xact = await readFile(path);
  for (const xid of xids.slice(2, 5)) setStatus(xact, xid, to);
  await writeFile(path, xact);
};

export const transactionKinds = inArea("transactions", [
  {
    name: "pg_xact: committed transactions are aborted",
    damage: turn(COMMITTED, ABORTED),
    caughtBy: [...transactions, ...data],
    level: "full",
    // As if they had been: no row says otherwise.
    withoutReceipt: null,
  },
  {
    name: "pg_xact: aborted transactions are committed",
    damage: turn(ABORTED, COMMITTED, "lab.tried"),
    caughtBy: [...transactions, ...data],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "pg_xact: the end is zeroed",
    damage: async (instance) => {
      const path = await instance.file(SEGMENT);
      const [first] = await lateTransactions(instance, COMMITTED);
      const xact = await readFile(path);
      await writeFile(path, xact.fill(0, (first ?? 0) >> 2));
    },
    caughtBy: [...transactions, ...data],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "pg_xact: as it was some time ago",
    damage: async (instance) => {
      await writeFile(await instance.file(SEGMENT), instance.golden.old.get(SEGMENT) ?? "");
    },
    caughtBy: [...transactions, ...data],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "pg_xact: missing",
    damage: async (instance) => rm(await instance.file(SEGMENT)),
    caughtBy: [...CATCHERS.start, ...transactions, ...rows],
    level: "quick",
    withoutReceipt: "quick",
  },
  {
    name: "pg_multixact: members zeroed",
    damage: async (instance) => {
      await writeFile(await instance.file("pg_multixact/members/0000"), Buffer.alloc(BLOCK));
    },
    caughtBy: [...transactions, ...data, ...rows],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "pg_multixact: offsets zeroed",
    damage: async (instance) => {
      await writeFile(await instance.file("pg_multixact/offsets/0000"), Buffer.alloc(BLOCK));
    },
    caughtBy: [...transactions, ...data, ...rows],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "pg_multixact: members missing",
    damage: async (instance) => rm(await instance.file("pg_multixact/members/0000")),
    caughtBy: [...CATCHERS.start, ...transactions, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
]);
