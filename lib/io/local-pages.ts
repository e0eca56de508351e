/** Files of a data directory on this machine: much cheaper to read here than through the server. */

import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";

/** Whether this process sees the very file of which the server gave the bytes, and may read it. */
export function seesSameFile(datadir: string, path: string, bytes: Uint8Array): boolean {
  try {
    return Buffer.compare(readFileSync(join(datadir, path)), bytes) === 0;
  } catch {
    return false;
  }
}

/** Fills `into` from `offset` on, as far as the file goes. Returns the number of bytes; 0 when the file is gone. */
export function readPart(file: string, offset: number, into: Uint8Array): number {
  let descriptor: number;
  try {
    descriptor = openSync(file, "r");
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return 0;
    throw error;
  }
  try {
    let length = 0;
    while (length < into.length) {
      const got = readSync(descriptor, into, length, into.length - length, offset + length);
      if (got === 0) break;
      length += got;
    }
    return length;
  } finally {
    closeSync(descriptor);
  }
}
