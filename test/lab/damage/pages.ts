/** Pages of PostgreSQL's files, to be spoilt with care: what is not meant to be damaged stays right. */

import { open } from "node:fs/promises";
import { pageChecksum } from "../../../lib/pages/checksum.ts";

export const BLOCK = 8192;

/** `stale`: as a disk that lies would leave it. `right`: as PostgreSQL itself would have written it. */
export type Checksum = "stale" | "right";

const HEADER = 24;
const LINE_POINTER = 4;

/** storage/itemid.h */
export const LP = { UNUSED: 0, NORMAL: 1, REDIRECT: 2, DEAD: 3 } as const;

export interface Item {
  /** As in a ctid: the first is 1. */
  number: number;
  offset: number;
  flags: number;
  length: number;
}

export async function blocksOf(path: string): Promise<number> {
  const file = await open(path, "r");
  try {
    return Math.floor((await file.stat()).size / BLOCK);
  } finally {
    await file.close();
  }
}

export async function readBlock(path: string, block: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const page = Buffer.alloc(BLOCK);
    const { bytesRead } = await file.read(page, 0, BLOCK, block * BLOCK);
    if (bytesRead !== BLOCK) throw new Error(`${path} has no block ${block}`);
    return page;
  } finally {
    await file.close();
  }
}

export async function writeBlock(path: string, block: number, page: Buffer, checksum: Checksum): Promise<void> {
  if (checksum === "right" && !isZero(page)) page.writeUInt16LE(pageChecksum(page, block), 8);
  const file = await open(path, "r+");
  try {
    await file.write(page, 0, BLOCK, block * BLOCK);
  } finally {
    await file.close();
  }
}

/** Throws when nothing was changed: damage that is none would be a kind that nobody can find. */
export async function changeBlock(
  path: string,
  block: number,
  checksum: Checksum,
  change: (page: Buffer) => void,
): Promise<void> {
  const page = await readBlock(path, block);
  const before = Buffer.from(page);
  change(page);
  if (page.equals(before)) throw new Error(`block ${block} of ${path} was not changed`);
  await writeBlock(path, block, page, checksum);
}

export const isZero = (page: Buffer) => page.every((byte) => byte === 0);

export function items(page: Buffer): Item[] {
  const count = (page.readUInt16LE(12) - HEADER) / LINE_POINTER;
  return Array.from({ length: Math.max(0, Math.floor(count)) }, (_, i) => {
    const word = page.readUInt32LE(HEADER + i * LINE_POINTER);
    return { number: i + 1, offset: word & 0x7fff, flags: (word >>> 15) & 3, length: word >>> 17 };
  });
}

export function setItem(page: Buffer, item: Item): void {
  const word = ((item.length << 17) | (item.flags << 15) | item.offset) >>> 0;
  page.writeUInt32LE(word, HEADER + (item.number - 1) * LINE_POINTER);
}

/** access/htup_details.h */
export const TUPLE = {
  xmin: 0,
  xmax: 4,
  ctidBlockHigh: 12,
  ctidBlockLow: 14,
  ctidItem: 16,
  infomask2: 18,
  infomask: 20,
  hoff: 22,
} as const;
export const INFOMASK = {
  XMIN_COMMITTED: 0x0100,
  XMIN_INVALID: 0x0200,
  XMAX_COMMITTED: 0x0400,
  XMAX_INVALID: 0x0800,
  XMAX_IS_MULTI: 0x1000,
} as const;

/** A tuple that is certainly somebody's row now, if the page was not changed since it was hinted or is new. */
export function liveItems(page: Buffer): Item[] {
  return items(page).filter(
    ({ flags, length, offset }) =>
      flags === LP.NORMAL && length > 0 && (page.readUInt16LE(offset + TUPLE.infomask) & INFOMASK.XMAX_INVALID) !== 0,
  );
}

export const flip = (page: Buffer, at: number, bit = 0) => {
  page[at] = (page[at] ?? 0) ^ (1 << bit);
};
