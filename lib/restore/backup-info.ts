/** `pgbackrest info --output=json` and the choice of the backup set. The JSON is the verdict: exit codes are 0 on errors. */

import { z } from "zod";
import type { About } from "../errors.ts";
import type { Receipt } from "../mark/receipt.ts";
import { compareLsn, parseWalName } from "../postgres/lsn.ts";
import { describeTarget, type Target, timeToMicros } from "../postgres/target.ts";
import { describeText, repositoryHint } from "./repository-error.ts";

export const BACKUP_TYPES = ["full", "diff", "incr"] as const;
export type BackupType = (typeof BACKUP_TYPES)[number];

const backupSchema = z.object({
  label: z.string(),
  type: z.enum(BACKUP_TYPES),
  error: z.boolean().optional().default(false),
  archive: z.object({ start: z.string().nullable(), stop: z.string().nullable() }),
  database: z.object({ id: z.number(), "repo-key": z.number().optional().default(1) }),
  info: z.object({ size: z.number() }),
  lsn: z.object({ start: z.string(), stop: z.string() }).optional(),
  /** Seconds since the epoch. */
  timestamp: z.object({ start: z.number(), stop: z.number() }),
});
export type Backup = z.infer<typeof backupSchema>;

const statusSchema = z.object({ code: z.number(), message: z.string() });

const stanzaSchema = z.object({
  name: z.string(),
  status: statusSchema,
  db: z.array(
    z.object({
      id: z.number(),
      "repo-key": z.number().optional().default(1),
      "system-id": z.union([z.number(), z.bigint(), z.string()]).transform(String),
      version: z.string(),
    }),
  ),
  archive: z.array(
    z.object({
      id: z.string(),
      database: z.object({ id: z.number(), "repo-key": z.number().optional().default(1) }),
      min: z.string().nullable().optional(),
      max: z.string().nullable().optional(),
    }),
  ),
  backup: z.array(backupSchema),
  repo: z
    .array(z.object({ key: z.number(), status: statusSchema, cipher: z.string().optional() }))
    .optional()
    .default([]),
});
export type StanzaInfo = z.infer<typeof stanzaSchema>;

/** The stanza of an `info` answer. A system identifier is beyond JavaScript's integers, so it is quoted before parsing. */
export function parseInfo(json: string, stanza: string): StanzaInfo | undefined {
  const quoted = json.replace(/("system-id"\s*:\s*)(\d+)/g, '$1"$2"');
  return z
    .array(stanzaSchema)
    .parse(JSON.parse(quoted))
    .find((entry) => entry.name === stanza);
}

export interface Problem {
  message: string;
  hint?: string | undefined;
  about?: About | undefined;
}

/** What is wrong with the stanza or its repositories, if anything. */
export function stanzaProblems(info: StanzaInfo | undefined, stanza: string): Problem[] {
  const hint = "check --stanza and --pgbackrest-config with `pgbackrest info`";
  if (info === undefined) return [{ message: `stanza "${stanza}" is not known to pgBackRest`, hint }];
  const broken = info.repo.filter((repo) => repo.status.code !== 0);
  // One repository that works is enough: pgBackRest tries them in order.
  const allBroken = info.repo.length > 0 && broken.length === info.repo.length;
  if (info.repo.length === 0 ? info.status.code === 0 : !allBroken) {
    return info.backup.length > 0
      ? []
      : [{ message: `stanza "${stanza}" has no backup`, hint: "run a full backup first" }];
  }
  const repos = broken.length > 0 ? broken : [{ key: 0, status: info.status }];
  return repos.map(({ key, status }) => ({
    message: `stanza "${stanza}": ${describeText(status.message)} (code ${status.code})${key ? ` in repo${key}` : ""}`,
    hint: status.code === 2 ? "run a full backup first" : (repositoryHint(status.message) ?? hint),
  }));
}

export interface Choice {
  backup: Backup;
  /** One clause for the plan and the report. */
  why: string;
  warnings: string[];
}

export const backupTimeline = (backup: Backup): number => parseWalName(backup.archive.start ?? "")?.timeline ?? 1;

export const formatSecond = (seconds: number): string =>
  `${new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19)}+00`;

/**
 * The newest backup set that can reach the target, or why there is none. A backup can reach a target only when it ended
 * before it. pgBackRest 2.45 compares whole seconds (command/restore/restore.c); so does this.
 */
export function chooseBackup(
  info: StanzaInfo,
  target: Target,
  wanted: { set?: string | undefined; receipt?: Receipt | undefined },
): Choice | Problem {
  const newestFirst = [...info.backup].sort((a, b) => b.timestamp.stop - a.timestamp.stop);
  const { set, receipt } = wanted;
  if (set !== undefined) {
    const backup = newestFirst.find((b) => b.label === set);
    if (backup === undefined) {
      return {
        message: `backup set "${set}" does not exist in stanza "${info.name}"`,
        hint: `there are ${
          newestFirst
            .slice(0, 5)
            .map((b) => b.label)
            .join(", ") || "none"
        }`,
      };
    }
    const late = tooLate(backup, target, receipt);
    if (late) return { message: `backup set ${set} cannot reach the target: ${late}`, hint: "choose an older set" };
    return { backup, why: "asked for with --set", warnings: pageErrors(backup) };
  }
  const needsSet = (target.type === "xid" || target.type === "name") && receipt?.target.name !== target.value;
  if (needsSet && newestFirst.length > 1) {
    return {
      message: `target type "${target.type}": no backup can be searched for it, and the newest may end after the point`,
      hint: "give --set",
    };
  }
  const candidates = newestFirst.filter((b) => tooLate(b, target, receipt) === undefined);
  const [backup] = candidates;
  if (backup === undefined) {
    const oldest = newestFirst.at(-1);
    return {
      message:
        `target ${describeTarget(target)} is before the first restorable ` +
        (target.type === "lsn"
          ? `LSN ${oldest?.lsn?.stop}`
          : `time ${formatSecond((oldest?.timestamp.stop ?? 0) + 1)}`) +
        ` (backup ${oldest?.label}, repo${oldest?.database["repo-key"]})`,
      hint: "choose a later target",
    };
  }
  const warnings = pageErrors(backup);
  const skipped = newestFirst.find((b) => sameSecond(b, target));
  if (skipped && skipped.label !== backup.label) {
    warnings.push(`backup ${skipped.label} ended in the second of the target and is not used; ${backup.label} is`);
  }
  const why = hasPoint(target) || receipt ? "the newest that ended before the target" : "the newest";
  return { backup, why, warnings };
}

const hasPoint = (target: Target) => target.type === "time" || target.type === "lsn";

/** Why this backup cannot reach the target, or undefined when it can as far as can be known. */
function tooLate(backup: Backup, target: Target, receipt: Receipt | undefined): string | undefined {
  // The receipt knows the very place in the WAL, which is exact where seconds are not.
  const isReceipts =
    target.value !== null && (target.value === receipt?.target.time || target.value === receipt?.target.name);
  const lsn = target.type === "lsn" ? target.value : isReceipts ? receipt?.target.lsn : undefined;
  if (lsn && backup.lsn) {
    if (compareLsn(backup.lsn.stop, lsn) > 0) return `it ended at LSN ${backup.lsn.stop}`;
  } else if (target.type === "time" && target.value !== null) {
    if (BigInt(backup.timestamp.stop) >= timeToMicros(target.value) / 1_000_000n) {
      return `it ended at ${formatSecond(backup.timestamp.stop)}`;
    }
  }
  const timeline = /^\d+$/.test(target.timeline ?? "") ? Number(target.timeline) : undefined;
  if (timeline !== undefined && backupTimeline(backup) > timeline) {
    return `it is of timeline ${backupTimeline(backup)}`;
  }
  return undefined;
}

function sameSecond(backup: Backup, target: Target): boolean {
  return (
    target.type === "time" &&
    target.value !== null &&
    BigInt(backup.timestamp.stop) === timeToMicros(target.value) / 1_000_000n
  );
}

function pageErrors(backup: Backup): string[] {
  return backup.error ? [`backup ${backup.label} recorded page checksum errors; see pgbackrest info --set`] : [];
}
