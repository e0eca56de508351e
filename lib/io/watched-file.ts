/** Files that are replaced while we run: tokens and certificates. Kubernetes swaps a link, so their dates are looked at. */

import { readFileSync, statSync } from "node:fs";

export interface WatchedFile {
  /** The text; looked at again at most every second. Throws what fs throws when it cannot be read. */
  read(): string;
}

const LOOK_EVERY_MS = 1000;

export function watchFile(path: string): WatchedFile {
  let text: string | undefined;
  let stamp = "";
  let lookedAt = Number.NEGATIVE_INFINITY;
  return {
    read() {
      const now = performance.now();
      if (text !== undefined && now - lookedAt < LOOK_EVERY_MS) return text;
      const { mtimeMs, ino, size } = statSync(path);
      const newStamp = `${mtimeMs} ${ino} ${size}`;
      if (text === undefined || newStamp !== stamp) text = readFileSync(path, "utf8");
      stamp = newStamp;
      lookedAt = now;
      return text;
    },
  };
}
