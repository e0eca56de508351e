/**
 * Node lets garbage stand as long as the machine has memory, up to several times what is in use; only who starts it can say
 * otherwise, by flags. So it is asked to collect it, through the protocol of its own inspector, which opens no port:
 * https://nodejs.org/api/inspector.html#class-inspectorsession
 * https://chromedevtools.github.io/devtools-protocol/tot/HeapProfiler/#method-collectGarbage
 */

import { Session } from "node:inspector";

const MEGABYTE = 1024 ** 2;
/** Resident memory from which on it is worth the work: an ordinary run stays below. */
const ENOUGH = 110 * MEGABYTE;
/** Not again before there is that much more than the last time. */
const MORE = 16 * MEGABYTE;
const EVERY_MS = 100;
/** Between two times, in times of what the last one took: of very much that is in use it would take half of all work. */
const PAUSE = 9;

/** Until the process ends, without keeping it from that. */
export function keepGarbageLow(): void {
  let limit = ENOUGH;
  let notBefore = 0;
  let session: Session | undefined;
  const timer = setInterval(() => {
    const startedAt = performance.now();
    if (startedAt < notBefore || process.memoryUsage.rss() < limit) return;
    // Until it is done.
    limit = Number.POSITIVE_INFINITY;
    try {
      session ??= connected();
      session.post("HeapProfiler.collectGarbage", () => {
        limit = Math.max(ENOUGH, process.memoryUsage.rss() + MORE);
        const endedAt = performance.now();
        notBefore = endedAt + PAUSE * (endedAt - startedAt);
      });
    } catch {
      // This Node was built without its inspector.
      clearInterval(timer);
    }
  }, EVERY_MS).unref();
}

function connected(): Session {
  const session = new Session();
  session.connect();
  return session;
}
