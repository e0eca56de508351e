/** `pg_checksums` over a cleanly stopped data directory. https://www.postgresql.org/docs/15/app-pgchecksums.html */

import { join } from "node:path";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import type { PageChecksums } from "../report/report.ts";
import { formatDuration } from "../units.ts";
import { runCommand } from "./command.ts";

export interface PageChecksumsOptions {
  binDir: string;
  datadir: string;
  timeoutMs: number;
  signal: AbortSignal;
  log: Log;
}

/** A damaged file may have a hundred thousand bad pages; the count says so. */
const PAGES_KEPT = 1000;

/** Bad pages are a result; so is that the pages could not be looked at. Throws only the signal's reason. */
export async function checkPageChecksums(options: PageChecksumsOptions): Promise<PageChecksums> {
  const { binDir, datadir, timeoutMs, signal, log } = options;
  const found = newResult();
  const progress = log.progress("stop");
  const other: string[] = [];
  try {
    const result = await runCommand(join(binDir, "pg_checksums"), ["--check", "--progress", "-D", datadir], {
      env: { ...process.env, LC_ALL: "C" },
      timeoutMs,
      signal,
      onLine(line) {
        const done = /^\s*(\d+)\/(\d+) MB/.exec(line);
        if (done) {
          const [bytes, totalBytes] = [Number(done[1]) * 2 ** 20, Number(done[2]) * 2 ** 20];
          progress.update({ bytes, totalBytes, note: "page checksums" });
        } else if (!readLine(found, line, datadir) && line.trim() !== "") other.push(line.trim());
      },
    });
    if (result.timedOut) return notChecked(`pg_checksums did not end within ${formatDuration(timeoutMs)}`);
    if (/data checksums are not enabled/.test(result.stderr)) {
      return { ...newResult(), status: "off", why: "data checksums are not enabled in this cluster" };
    }
    if (found.bad === 0 && result.exitCode !== 0) {
      return notChecked(other.at(-1) ?? `pg_checksums ended with ${result.signal ?? result.exitCode}`);
    }
    return found;
  } catch (error) {
    signal.throwIfAborted();
    return notChecked(messageOf(error));
  } finally {
    progress.end();
  }
}

const newResult = (): PageChecksums => ({ status: "checked", why: null, files: 0, blocks: 0, bad: 0, pages: [] });

const notChecked = (why: string): PageChecksums => ({ ...newResult(), status: "not-checked", why });

/** False for a line that says something else. Exported for its test. */
export function readLine(found: PageChecksums, line: string, datadir: string): boolean {
  const bad = /checksum verification failed in file "(.*)", block (\d+):/.exec(line);
  if (bad) {
    if (found.pages.length < PAGES_KEPT) {
      found.pages.push({ file: (bad[1] as string).replace(`${datadir}/`, ""), block: Number(bad[2]) });
    }
    found.bad++;
    return true;
  }
  const count = /^(Files scanned|Blocks scanned|Bad checksums):\s+(\d+)/.exec(line);
  if (count === null) return /^(Checksum operation completed|Data checksum version)/.test(line);
  if (count[1] === "Files scanned") found.files = Number(count[2]);
  else if (count[1] === "Blocks scanned") found.blocks = Number(count[2]);
  else found.bad = Number(count[2]);
  return true;
}
