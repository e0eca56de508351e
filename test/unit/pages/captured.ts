/** Pages of PostgreSQL 15.18, as they were in their files; the number in the name is the block. */

import { readdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

const DIRECTORY = new URL("../../fixtures/pages-15/", import.meta.url);

export interface Captured {
  name: string;
  block: number;
  bytes: Buffer;
}

export const CAPTURED: readonly Captured[] = readdirSync(DIRECTORY).map((file) => {
  const [, name = "", block] = /^(.*)-(\d+)\.bin\.gz$/.exec(file) ?? [];
  return { name, block: Number(block), bytes: gunzipSync(readFileSync(new URL(file, DIRECTORY))) };
});

/** A copy of its own, to damage. */
export function captured(name: string): Captured {
  const found = CAPTURED.find((page) => page.name === name);
  if (found === undefined) throw new Error(`no page ${name}`);
  return { ...found, bytes: Buffer.from(found.bytes) };
}
