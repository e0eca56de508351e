/** What the tests of the API work with: jobs, sets and answers as they are, with only what matters said. */

import type { SetDescription, StanzaAnswer } from "../../../lib/backup-api/info.ts";
import { readAnswer } from "../../../lib/backup-api/info.ts";
import { type Job, newJob } from "../../../lib/backup-api/job.ts";
import type { JournalFile } from "../../../lib/io/journal-file.ts";
import type { Log } from "../../../lib/log.ts";

export const START = new Date("2026-11-23T01:00:00.250Z");

export function job(change: Partial<Job> = {}): Job {
  const fresh = newJob({ command: "backup", type: "full", stanza: "main", by: "request" }, START, () => false);
  return { ...fresh, ...change };
}

export const second = (iso: string): number => Date.parse(iso) / 1000;

/** As pgBackRest 2.45 describes it; `label` says the second in which it began. */
export function set(label: string, change: Partial<SetDescription> = {}): SetDescription {
  const [day = "", time = ""] = (label.split("_").at(-1) ?? "").split("-");
  const start = second(
    `${day.replace(/^(....)(..)(..)$/, "$1-$2-$3")}T${time.replace(/^(..)(..)(..).*$/, "$1:$2:$3")}Z`,
  );
  const type = { F: "full", D: "diff", I: "incr" }[label.slice(-1)] as string;
  return {
    archive: { start: "000000010000000000000017", stop: "000000010000000000000017" },
    backrest: { format: 5, version: "2.45" },
    database: { id: 1, "repo-key": 1 },
    error: false,
    info: { delta: 336860855, repository: { delta: 19860789, size: 19860790 }, size: 336860856 },
    label,
    lsn: { start: "0/17000028", stop: "0/17000100" },
    prior: null,
    reference: null,
    timestamp: { start, stop: start + 6 },
    type,
    ...change,
  };
}

const OK = { code: 0, message: "ok" };

/** `pgbackrest info --stanza=… --output=json` of 2.45. */
export function answer(stanza: string, sets: readonly SetDescription[], change: object = {}): StanzaAnswer {
  const entry = {
    archive: [
      {
        database: { id: 1, "repo-key": 1 },
        id: "15-1",
        max: "00000001000000000000001D",
        min: "000000010000000000000017",
      },
    ],
    backup: sets,
    cipher: "none",
    db: [{ id: 1, "repo-key": 1, "system-id": 7711427999638, version: "15" }],
    name: stanza,
    repo: [{ cipher: "none", key: 1, status: sets.length > 0 ? OK : { code: 2, message: "no valid backups" } }],
    status:
      sets.length > 0
        ? { ...OK, lock: { backup: { held: false } } }
        : { code: 2, lock: { backup: { held: false } }, message: "no valid backups" },
    ...change,
  };
  return readAnswer(stanza, JSON.stringify([entry]));
}

/** Captured from pgBackRest 2.45. */
export const MISSING_STANZA =
  '[{"archive":[],"backup":[],"cipher":"none","db":[],"name":"nope","repo":[{"cipher":"none","key":1,"status":' +
  '{"code":1,"message":"missing stanza path"}}],"status":{"code":1,"lock":{"backup":{"held":false}},' +
  '"message":"missing stanza path"}}]';

export interface Logged {
  level: "info" | "warn" | "error";
  phase: string;
  message: string;
  fields: Record<string, unknown>;
}

export function fakeLog(): Log & { lines: Logged[] } {
  const lines: Logged[] = [];
  const at =
    (level: Logged["level"]) =>
    (phase: string, message: string, fields: Record<string, unknown> = {}) =>
      void lines.push({ level, phase, message, fields });
  return { lines, info: at("info"), warn: at("warn"), error: at("error"), progress: () => ({ update() {}, end() {} }) };
}

/** A journal in memory. */
export function fakeJournal(): JournalFile & { text(): string } {
  let text = "";
  return {
    text: () => text,
    append: async (line) => {
      text += line;
    },
    rewrite: async (all) => {
      text = all;
    },
  };
}
