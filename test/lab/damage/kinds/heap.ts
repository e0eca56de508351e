/** Files of tables: what a disk, a controller or a copying program may do to them. */

import { appendFile, copyFile, rm, truncate } from "node:fs/promises";
import { ODD_DATABASE } from "../../source.ts";
import { CATCHERS } from "../catchers.ts";
import type { Instance } from "../instance.ts";
import { inArea } from "../kind.ts";
import {
  BLOCK,
  blocksOf,
  type Checksum,
  changeBlock,
  flip,
  INFOMASK,
  type Item,
  LP,
  liveItems,
  readBlock,
  setItem,
  TUPLE,
  writeBlock,
} from "../pages.ts";

const { checksums, heap, rows, data, files } = CATCHERS;

/** Rows of it are of one size, its blocks are full, and its key is its only index. */
const LEDGER = "lab.ledger";
/** No index knows its rows. */
const PLAIN = "lab.plain";

const changeRow =
  (checksum: Checksum, change: (page: Buffer, item: Item) => void, relation = LEDGER, database?: string) =>
  async (instance: Instance) => {
    const file = await instance.relation(relation, database).file;
    await changeBlock(file, 3, checksum, (page) => {
      const live = liveItems(page);
      const item = live[Math.floor(live.length / 2)];
      if (item === undefined) throw new Error(`no row in block 3 of ${relation}`);
      change(page, item);
    });
  };

const lastCharacter = (page: Buffer, { offset, length }: Item) => flip(page, offset + length - 3);
const infomask = (page: Buffer, { offset }: Item, clear: number, set: number) =>
  page.writeUInt16LE((page.readUInt16LE(offset + TUPLE.infomask) & ~clear) | set, offset + TUPLE.infomask);

const zeroBlock = (relation: string) => async (instance: Instance) => {
  await writeBlock(await instance.relation(relation).file, 3, Buffer.alloc(BLOCK), "right");
};

/** The place of one block that has rows and differs from what it was. */
export async function oldBlock(instance: Instance, relation: string): Promise<{ block: number; page: Buffer }> {
  const { path, file } = instance.relation(relation);
  const old = instance.golden.old.get(path);
  if (old === undefined) throw new Error(`no old blocks of ${relation} were kept`);
  const count = Math.min(old.length / BLOCK, await blocksOf(await file));
  for (let block = 1; block < count; block++) {
    const page = Buffer.from(old.subarray(block * BLOCK, (block + 1) * BLOCK));
    if (!page.equals(await readBlock(await file, block))) return { block, page };
  }
  throw new Error(`no block of ${relation} is old`);
}

export const heapKinds = inArea("heap", [
  {
    name: "heap: a bit flipped, checksum stale",
    damage: changeRow("stale", lastCharacter),
    caughtBy: [...checksums, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a bit flipped in the second database, checksum stale",
    damage: changeRow("stale", lastCharacter, "Mein Schema.Beträge", ODD_DATABASE),
    caughtBy: [...checksums, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a bit flipped in a value, checksum right",
    damage: changeRow("right", lastCharacter),
    caughtBy: data,
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "heap: a column's length runs past its row, checksum right",
    damage: changeRow("right", (page, { offset, length }) => page.writeUInt8(0xff, offset + length - 24)),
    caughtBy: [...heap, ...rows, ...data],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "heap: a row from a transaction of the future, checksum right",
    damage: changeRow("right", (page, item) => {
      page.writeUInt32LE(0x40000000, item.offset + TUPLE.xmin);
      infomask(page, item, INFOMASK.XMIN_COMMITTED | INFOMASK.XMIN_INVALID, 0);
    }),
    caughtBy: [...heap, ...data, ...rows],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a row with more columns than its table, checksum right",
    damage: changeRow("right", (page, { offset }) => page.writeUInt16LE(700, offset + TUPLE.infomask2)),
    caughtBy: [...heap, ...data, ...rows],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a line pointer beyond its page, checksum right",
    damage: changeRow("right", (page, item) => setItem(page, { ...item, offset: 8184, length: 200 })),
    caughtBy: [...heap, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a row lost from its page, checksum right",
    damage: changeRow("right", (page, item) => setItem(page, { ...item, offset: 0, length: 0, flags: LP.UNUSED })),
    caughtBy: [...data, ...CATCHERS.indexes],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: a row marked as never committed, checksum right",
    damage: changeRow("right", (page, item) => infomask(page, item, INFOMASK.XMIN_COMMITTED, INFOMASK.XMIN_INVALID)),
    caughtBy: [...data, ...CATCHERS.maps, ...CATCHERS.transactions],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: a row marked as deleted, checksum right",
    damage: changeRow("right", (page, item) => {
      page.writeUInt32LE(page.readUInt32LE(item.offset + TUPLE.xmin), item.offset + TUPLE.xmax);
      infomask(page, item, INFOMASK.XMAX_INVALID, INFOMASK.XMAX_COMMITTED);
    }),
    caughtBy: [...data, ...CATCHERS.maps, ...CATCHERS.transactions],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: page header without sense, checksum right",
    damage: async (instance) =>
      changeBlock(await instance.relation(LEDGER).file, 3, "right", (page) => page.writeUInt16LE(8000, 12)),
    caughtBy: [...checksums, ...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a block zeroed inside a table",
    damage: zeroBlock(LEDGER),
    caughtBy: [...data, ...CATCHERS.indexes, ...heap, ...files],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: a block zeroed inside a table without index",
    damage: zeroBlock(PLAIN),
    caughtBy: [...data, ...heap, ...files],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "heap: two blocks exchanged, checksums right",
    damage: async (instance) => {
      const file = await instance.relation(LEDGER).file;
      const [third, seventh] = [await readBlock(file, 3), await readBlock(file, 7)];
      await writeBlock(file, 3, seventh, "right");
      await writeBlock(file, 7, third, "right");
    },
    caughtBy: [...data, ...CATCHERS.indexes, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: two blocks exchanged, checksums stale",
    damage: async (instance) => {
      const file = await instance.relation(LEDGER).file;
      const [third, seventh] = [await readBlock(file, 3), await readBlock(file, 7)];
      await writeBlock(file, 3, seventh, "stale");
      await writeBlock(file, 7, third, "stale");
    },
    caughtBy: [...checksums, ...data, ...rows],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a block of another table written here, checksum right",
    damage: async (instance) => {
      const page = await readBlock(await instance.relation(PLAIN).file, 2);
      await writeBlock(await instance.relation(LEDGER).file, 3, page, "right");
    },
    caughtBy: [...data, ...CATCHERS.indexes, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: an old block, as after a lost write",
    damage: async (instance) => {
      const { block, page } = await oldBlock(instance, "lab.moving");
      await writeBlock(await instance.relation("lab.moving").file, block, page, "stale");
    },
    caughtBy: [...data, ...CATCHERS.indexes, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: the last blocks cut off",
    damage: async (instance) => {
      const file = await instance.relation(LEDGER).file;
      await truncate(file, ((await blocksOf(file)) - 3) * BLOCK);
    },
    caughtBy: [...data, ...CATCHERS.indexes, ...files, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: the file ends in the middle of a block",
    damage: async (instance) => {
      const file = await instance.relation(LEDGER).file;
      await truncate(file, (await blocksOf(file)) * BLOCK - 3000);
    },
    caughtBy: [...data, ...CATCHERS.indexes, ...files, ...checksums],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: the file is empty",
    damage: async (instance) => truncate(await instance.relation("lab.accounts").file, 0),
    caughtBy: [...data, ...CATCHERS.indexes, ...files, ...CATCHERS.constraints],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: the file of a table without index is empty",
    damage: async (instance) => truncate(await instance.relation(PLAIN).file, 0),
    caughtBy: [...data, ...files],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "heap: the file is missing",
    damage: async (instance) => rm(await instance.relation(LEDGER).file),
    caughtBy: [...files, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: the file of a partition is missing",
    damage: async (instance) => rm(await instance.relation("lab.measured_2").file),
    caughtBy: [...files, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "heap: a block too many, with rows that are there already",
    damage: async (instance) => {
      const file = await instance.relation(PLAIN).file;
      const [page, end] = [await readBlock(file, 1), await blocksOf(file)];
      await appendFile(file, Buffer.alloc(BLOCK));
      await writeBlock(file, end, page, "right");
    },
    caughtBy: [...data, ...files],
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "heap: another table's file in its place",
    damage: async (instance) => {
      const file = await instance.relation(LEDGER).file;
      await copyFile(await instance.relation(PLAIN).file, file);
    },
    caughtBy: [...data, ...CATCHERS.indexes, ...heap, ...files],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "heap: a block of a table in a tablespace, checksum stale",
    damage: changeRow("stale", lastCharacter, "shop.old_orders"),
    caughtBy: [...checksums, ...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
]);
