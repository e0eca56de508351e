/**
 * Node lets garbage stand as long as the machine has memory, up to several times what is in use; only who starts it can say
 * otherwise, by flags. So it is asked to collect it, through the protocol of its own inspector, which opens no port:
 * https://nodejs.org/api/inspector.html#class-inspectorsession
 * https://chromedevtools.github.io/devtools-protocol/tot/HeapProfiler/#method-collectGarbage
 */

import { Session } from "node:inspector";
import { setFlagsFromString } from "node:v8";

const MEGABYTE = 1024 ** 2;
/** Resident memory from which on it is worth the work: an ordinary run stays below. */
const ENOUGH = 110 * MEGABYTE;
/** Not again before there is that much more than the last time. */
const MORE = 8 * MEGABYTE;
const EVERY_MS = 100;
/** Between two times, in times of what the last one took: of very much that is in use it would take half of all work. */
const PAUSE = 9;
/** So much more is more urgent. */
const MUCH_MORE = 16 * MEGABYTE;
const PAUSE_OF_MUCH = 2;

/**
 * What is young may take up to 48 MB, half of which is empty at any time; kept at 2 MB it costs no more time. Seen in Node
 * 20, 22, 24 and 26; a later one may not know the flag, and would complain. https://nodejs.org/api/v8.html#v8setflagsfromstringflags
 */
const NEWEST_KNOWN = 26;

/** Until the process ends, without keeping it from that. */
export function keepGarbageLow(): void {
  if (Number.parseInt(process.versions.node, 10) <= NEWEST_KNOWN) setFlagsFromString("--semi-space-growth-factor=1");
  let isRunning = false;
  let left = 0;
  let endedAt = 0;
  let tookMs = 0;
  let session: Session | undefined;
  const timer = setInterval(() => {
    if (isRunning) return;
    const rss = process.memoryUsage.rss();
    if (rss < Math.max(ENOUGH, left + MORE)) return;
    const startedAt = performance.now();
    if (startedAt - endedAt < tookMs * (rss < left + MUCH_MORE ? PAUSE : PAUSE_OF_MUCH)) return;
    isRunning = true;
    try {
      session ??= connected();
      session.post("HeapProfiler.collectGarbage", () => {
        isRunning = false;
        left = process.memoryUsage.rss();
        endedAt = performance.now();
        tookMs = endedAt - startedAt;
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
