/** Indexes of every access method: damaged pages, and entries that are missing, misplaced or lead astray. */

import { copyFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ODD_DATABASE } from "../../source.ts";
import { CATCHERS } from "../catchers.ts";
import type { Instance } from "../instance.ts";
import { inArea, type KindWithoutArea } from "../kind.ts";
import { BLOCK, blocksOf, changeBlock, flip, items, LP, readBlock, setItem, writeBlock } from "../pages.ts";
import { oldBlock } from "./heap.ts";

const { checksums, indexes, files } = CATCHERS;

/** One of each access method. */
const BY_METHOD = {
  btree: "lab.things_expression",
  hash: "lab.things_hash",
  gin: "lab.things_doc",
  gist: "lab.things_area",
  spgist: "lab.things_spot",
  brin: "lab.things_at",
  bloom: "lab.things_bloom",
} as const;

const KEY = "lab.things_pkey";

/** The index as it would be had PostgreSQL never heard of some rows: built without them, and put in its place. */
const withoutRows =
  (name: string, where = "id % 10 <> 3", database?: string) =>
  async (instance: Instance) => {
    const quoted = name
      .split(".")
      .map((part) => `"${part}"`)
      .join(".");
    const [row] = await instance.sql(`SELECT pg_get_indexdef('${quoted}'::regclass) AS definition`, database);
    const definition = String(row?.definition).replace(/ INDEX (".*?"|\S+) ON /, " INDEX lab_without_rows ON ");
    const schema = quoted.split(".")[0];
    await instance.sql(
      / WHERE /.test(definition)
        ? definition.replace(/ WHERE (.*)$/, ` WHERE $1 AND ${where}`)
        : `${definition} WHERE ${where}`,
      database,
    );
    await instance.sql("CHECKPOINT");
    const [built] = await instance.sql(`SELECT pg_relation_filepath('${schema}.lab_without_rows') AS path`, database);
    const aside = join(instance.dir, "index");
    await copyFile(join(instance.datadir, String(built?.path)), aside);
    await instance.sql(`DROP INDEX ${schema}.lab_without_rows`, database);
    await writeFileInto(aside, await instance.relation(name, database).file);
    await rm(aside);
  };

/** Keeps the owner of the file that is there. */
async function writeFileInto(from: string, to: string): Promise<void> {
  await truncate(to, 0);
  await copyFile(from, to);
}

const lacking = (index: string, what: string, where?: string): KindWithoutArea => ({
  name: `${what}: rows that the index does not know`,
  damage: withoutRows(index, where),
  caughtBy: indexes,
  level: "full",
  withoutReceipt: "full",
});

const ofMethod = ([method, index]: readonly [string, string]): KindWithoutArea[] => [
  {
    name: `${method}: a bit flipped, checksum stale`,
    damage: async (instance) =>
      changeBlock(await instance.relation(index).file, 1, "stale", (page) => flip(page, 8000)),
    caughtBy: [...checksums, ...indexes],
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: `${method}: a block zeroed`,
    damage: async (instance) => {
      const file = await instance.relation(index).file;
      await writeBlock(file, (await blocksOf(file)) > 2 ? 2 : 1, Buffer.alloc(BLOCK), "right");
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
];

/** The first block of the index for which this holds. */
async function findBlock(file: string, from: number, suits: (page: Buffer) => boolean): Promise<number> {
  const count = await blocksOf(file);
  for (let block = from; block < count; block++) if (suits(await readBlock(file, block))) return block;
  throw new Error(`${file} has no such block`);
}

/** access/nbtree.h, access/ginblock.h, access/gist.h, access/hash.h: flags in the special space. */
const isBtreeLeaf = (page: Buffer) => (page.readUInt16LE(BLOCK - 4) & 0x1f) === 1 && items(page).length > 20;
const isGinLeaf = (page: Buffer) => page.readUInt16LE(BLOCK - 2) === 2 && items(page).length > 20;
const isHashBucket = (page: Buffer) => (page.readUInt16LE(BLOCK - 4) & 0x3) !== 0 && items(page).length > 20;

function exchangeItems(page: Buffer, first: number, second: number): void {
  const [a, b] = [items(page)[first], items(page)[second]];
  if (a === undefined || b === undefined) throw new Error("too few items");
  setItem(page, { ...a, number: b.number });
  setItem(page, { ...b, number: a.number });
}

const item = (page: Buffer, index: number) => {
  const found = items(page)[index];
  if (found === undefined) throw new Error(`the page has no item ${index}`);
  return found;
};

export const indexKinds = inArea("indexes", [
  ...Object.entries(BY_METHOD).flatMap(ofMethod),
  lacking(KEY, "btree (primary key)"),
  lacking("lab.things_expression", "btree (expression)"),
  lacking("lab.things_partial", "btree (partial)"),
  lacking("lab.things_hash", "hash"),
  lacking("lab.things_doc", "gin (jsonb)"),
  lacking("lab.things_tags", "gin (array)"),
  lacking("lab.things_trigrams", "gin (trigrams)"),
  lacking("lab.things_search", "gin (tsvector)"),
  lacking("lab.things_area", "gist (box)"),
  lacking("lab.things_during", "gist (range)"),
  lacking("lab.things_path", "gist (ltree)"),
  lacking("lab.things_spot", "spgist (point)"),
  lacking("lab.things_word", "spgist (text)"),
  lacking("lab.things_at", "brin", "id > 1200"),
  lacking("lab.things_bloom", "bloom"),
  {
    name: "gin: rows that an index of the second database does not know",
    damage: withoutRows("Mein Schema.Beträge daten", "id % 10 <> 3", ODD_DATABASE),
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: a key in order that is not its row's, checksum right",
    damage: async (instance) => {
      const file = await instance.relation(KEY).file;
      const key = (page: Buffer, index: number) => page.readUInt32LE(item(page, index).offset + 8);
      // Every hundredth row was deleted, so that there is room for the next key.
      const beforeGap = (page: Buffer) => items(page).findIndex((_, i) => i > 0 && key(page, i) % 100 === 99);
      const block = await findBlock(file, 1, (page) => isBtreeLeaf(page) && beforeGap(page) > 0);
      await changeBlock(file, block, "right", (page) => {
        const index = beforeGap(page);
        page.writeUInt32LE(key(page, index) + 1, item(page, index).offset + 8);
      });
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: an entry that leads to another row, checksum right",
    damage: async (instance) => {
      const file = await instance.relation(KEY).file;
      await changeBlock(file, await findBlock(file, 1, isBtreeLeaf), "right", (page) => {
        const [one, other] = [item(page, 5), item(page, 9)];
        page.copyWithin(one.offset, other.offset, other.offset + 6);
      });
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: an entry that leads nowhere, checksum right",
    damage: async (instance) => {
      const file = await instance.relation(KEY).file;
      await changeBlock(file, await findBlock(file, 1, isBtreeLeaf), "right", (page) =>
        page.writeUInt16LE(9999, item(page, 5).offset + 2),
      );
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: two entries out of order, checksum right",
    damage: async (instance) => {
      const file = await instance.relation("lab.things_mail").file;
      await changeBlock(file, await findBlock(file, 1, isBtreeLeaf), "right", (page) => exchangeItems(page, 5, 9));
    },
    caughtBy: indexes,
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "btree: an entry lost, checksum right",
    damage: async (instance) => {
      const file = await instance.relation("shop.customers_pkey").file;
      await changeBlock(file, await findBlock(file, 1, isBtreeLeaf), "right", (page) =>
        setItem(page, { ...item(page, 7), flags: LP.DEAD }),
      );
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: the root is the wrong page, checksum right",
    damage: async (instance) => {
      const file = await instance.relation(KEY).file;
      const leaf = await findBlock(file, 4, isBtreeLeaf);
      // btm_root and btm_fastroot, each followed by its level.
      await changeBlock(file, 0, "right", (page) => {
        for (const at of [32, 40]) {
          page.writeUInt32LE(leaf, at);
          page.writeUInt32LE(0, at + 4);
        }
      });
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: a sibling link leads astray, checksum right",
    damage: async (instance) => {
      const file = await instance.relation(KEY).file;
      await changeBlock(file, await findBlock(file, 1, isBtreeLeaf), "right", (page) =>
        page.writeUInt32LE(page.readUInt32LE(BLOCK - 12) + 3, BLOCK - 12),
      );
    },
    caughtBy: indexes,
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "btree: an old block, as after a lost write",
    damage: async (instance) => {
      const { block, page } = await oldBlock(instance, KEY);
      await writeBlock(await instance.relation(KEY).file, block, page, "stale");
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: the file is missing",
    damage: async (instance) => rm(await instance.relation("lab.things_pair").file),
    caughtBy: [...files, ...indexes],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "btree: another index's file in its place",
    damage: async (instance) => {
      const file = await instance.relation("lab.things_pair").file;
      await copyFile(await instance.relation("lab.things_partial").file, file);
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "btree: the file is empty",
    damage: async (instance) => truncate(await instance.relation("lab.typed_name").file, 0),
    caughtBy: [...files, ...indexes],
    level: "standard",
    withoutReceipt: "standard",
  },
  {
    name: "gin: the file as it was some time ago",
    damage: async (instance) => {
      const { path, file } = instance.relation("lab.things_tags");
      await writeFile(await file, instance.golden.old.get(path) ?? "");
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "gin: two keys out of order, checksum right",
    damage: async (instance) => {
      const file = await instance.relation("lab.things_tags").file;
      await changeBlock(file, await findBlock(file, 1, isGinLeaf), "right", (page) => exchangeItems(page, 5, 15));
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "hash: an entry with another hash, checksum right",
    damage: async (instance) => {
      const file = await instance.relation("lab.things_hash").file;
      await changeBlock(file, await findBlock(file, 1, isHashBucket), "right", (page) =>
        page.writeUInt32LE(0, item(page, 10).offset + 8),
      );
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "gist: a key of the root too small, checksum right",
    damage: async (instance) =>
      changeBlock(await instance.relation("lab.things_area").file, 0, "right", (page) => {
        const { offset } = item(page, 1);
        page.fill(0, offset + 8, offset + 40);
      }),
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "brin: a range's summary too narrow, checksum right",
    damage: async (instance) => {
      const file = await instance.relation("lab.things_at").file;
      const regular = (page: Buffer) => page.readUInt16LE(BLOCK - 2) === 0xf093;
      // The tuple: block number, flags, then the least and the greatest value.
      await changeBlock(file, await findBlock(file, 1, regular), "right", (page) => {
        const { offset } = item(page, 2);
        page.copyWithin(offset + 16, offset + 8, offset + 16);
      });
    },
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
  {
    name: "bloom: a row's signature emptied, checksum right",
    // After each row's place of six bytes its signature of ten; the first row has been updated since.
    damage: async (instance) =>
      changeBlock(await instance.relation("lab.things_bloom").file, 1, "right", (page) => page.fill(0, 46, 56)),
    caughtBy: indexes,
    level: "full",
    withoutReceipt: "full",
  },
]);
