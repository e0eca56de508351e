/** Long values: TOAST tables, their indexes, and the pointers to them. */

import { rm, truncate, writeFile } from "node:fs/promises";
import { CATCHERS } from "../catchers.ts";
import type { Instance } from "../instance.ts";
import { inArea } from "../kind.ts";
import {
  BLOCK,
  blocksOf,
  type Checksum,
  changeBlock,
  flip,
  type Item,
  items,
  LP,
  liveItems,
  readBlock,
  setItem,
  TUPLE,
  writeBlock,
} from "../pages.ts";

const { checksums, rows, data, heap, files } = CATCHERS;

/** Stored as they are, and stored compressed. */
const EXTERNAL = "shop.documents";
const COMPRESSED = "lab.papers";

const toastOf = (instance: Instance, table: string) => instance.relation(String(instance.relation(table).toast));

/** chunk_id, chunk_seq and the length of chunk_data come before the data. */
const CHUNK_DATA = 12;

const changeChunk =
  (table: string, checksum: Checksum, change: (page: Buffer, item: Item, data: number) => void) =>
  async (instance: Instance) => {
    await changeBlock(await toastOf(instance, table).file, 2, checksum, (page) => {
      const item = liveItems(page)[1];
      if (item === undefined) throw new Error(`no chunk in block 2 of the TOAST table of ${table}`);
      change(page, item, item.offset + page.readUInt8(item.offset + TUPLE.hoff) + CHUNK_DATA);
    });
  };

export const toastKinds = inArea("toast", [
  {
    name: "toast: a bit flipped, checksum stale",
    damage: changeChunk(EXTERNAL, "stale", (page, _, data) => flip(page, data + 100)),
    caughtBy: [...checksums, ...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: a bit flipped in a plain value, checksum right",
    damage: changeChunk(EXTERNAL, "right", (page, _, data) => flip(page, data + 100)),
    caughtBy: data,
    level: "full",
    withoutReceipt: null,
  },
  {
    name: "toast: a compressed value that cannot be unpacked, checksum right",
    damage: changeChunk(COMPRESSED, "right", (page, _, data) => page.fill(0xff, data + 200, data + 300)),
    caughtBy: [...rows, ...data],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: a chunk lost, checksum right",
    damage: changeChunk(EXTERNAL, "right", (page, item) =>
      setItem(page, { ...item, offset: 0, length: 0, flags: LP.UNUSED }),
    ),
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: a chunk with another number, checksum right",
    damage: changeChunk(EXTERNAL, "right", (page, _, data) => flip(page, data - 8, 4)),
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: a chunk of another value, checksum right",
    damage: changeChunk(EXTERNAL, "right", (page, _, data) => flip(page, data - 12, 5)),
    caughtBy: [...rows, ...data, ...heap],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "toast: a block zeroed",
    damage: async (instance) => writeBlock(await toastOf(instance, EXTERNAL).file, 3, Buffer.alloc(BLOCK), "right"),
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: two blocks exchanged, checksums right",
    damage: async (instance) => {
      const { file } = toastOf(instance, EXTERNAL);
      const [second, ninth] = [await readBlock(await file, 2), await readBlock(await file, 9)];
      await writeBlock(await file, 2, ninth, "right");
      await writeBlock(await file, 9, second, "right");
    },
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: the file as it was some time ago",
    damage: async (instance) => {
      const { path, file } = toastOf(instance, "lab.moving");
      await writeFile(await file, instance.golden.old.get(path) ?? "");
    },
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: the last blocks cut off",
    damage: async (instance) => {
      const file = await toastOf(instance, EXTERNAL).file;
      await truncate(file, ((await blocksOf(file)) - 4) * BLOCK);
    },
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: the file is missing",
    damage: async (instance) => rm(await toastOf(instance, COMPRESSED).file),
    caughtBy: [...rows, ...data, ...files],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: an index entry lost, checksum right",
    damage: async (instance) => {
      const index = instance.relation(String(instance.relation(EXTERNAL).toastIndex));
      await changeBlock(await index.file, 1, "right", (page) => {
        const item = items(page)[20];
        if (item === undefined) throw new Error("the TOAST index is too small");
        setItem(page, { ...item, flags: LP.DEAD });
      });
    },
    caughtBy: [...rows, ...data, ...CATCHERS.indexes],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "toast: a row points to another value, checksum right",
    damage: async (instance) => {
      const file = await instance.relation(EXTERNAL).file;
      await changeBlock(file, 1, "right", (page) => {
        const item = liveItems(page)[0];
        if (item === undefined) throw new Error("no row in block 1");
        // The pointer (18 bytes) is the last column: value's OID, then its TOAST table's.
        flip(page, item.offset + item.length - 8, 1);
      });
    },
    caughtBy: [...rows, ...data, ...heap],
    level: "standard",
    // Nothing in a value says whose it is.
    withoutReceipt: null,
  },
]);
