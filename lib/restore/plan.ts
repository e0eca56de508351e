/** Exactly what a restore will do, as data: `preflight` and `--dry-run` print it, `bootstrap` runs it. */

import type { Receipt } from "../mark/receipt.ts";
import { compareLsn, lsnToBigInt, parseWalName, walName, walNameOf } from "../postgres/lsn.ts";
import {
  describeTarget,
  normaliseTargetTime,
  parseTargetValue,
  parseTimeline,
  type Target,
  targetOptions,
} from "../postgres/target.ts";
import type { Report } from "../report/report.ts";
import { formatSize } from "../units.ts";
import type { Backup } from "./backup-info.ts";
import { backupTimeline, formatSecond } from "./backup-info.ts";
import { pathsOf } from "./state.ts";

export interface Plan {
  scope: string | null;
  stanza: string;
  datadir: string;
  target: Target;
  backup: Report["backup"] & object;
  archiveId: string;
  /** First segment that recovery needs, and the last where that can be known. */
  wal: { first: string; last: string | null; archiveMax: string | null; missing: string[] };
  /** Bytes of WAL that may lie ready before recovery needs it; 0 when there is no room for it. */
  walAheadBytes: number;
  space: { neededBytes: number; freeBytes: number };
  binDir: string;
  tablespaces: [string, string][];
  links: [string, string][];
  systemIdentifier: string;
  pgVersion: string;
  pgbackrestVersion: string;
  /** Of pgBackRest, at the same time. */
  processMax: number;
  /** The command that restores, without pgBackRest's private paths. */
  restoreCommand: string[];
  warnings: string[];
}

export interface TargetSettings {
  restoreTargetTime?: string | undefined;
  targetType?: Target["type"] | undefined;
  target?: string | undefined;
  targetTimeline?: string | undefined;
  targetExclusive: boolean;
}

/**
 * What was asked for, or the receipt's own target time on the receipt's timeline. Without either it is the end of the
 * archive. Throws a plain Error with the sentence to show; never chooses a weaker target than asked.
 */
export function chooseTarget(settings: TargetSettings, receipt: Receipt | undefined): Target {
  const { restoreTargetTime, targetType, target, targetTimeline, targetExclusive } = settings;
  const given = [
    restoreTargetTime === undefined ? undefined : "--restore-target-time",
    targetType === undefined ? undefined : `--target-type=${targetType}`,
  ].filter((g) => g !== undefined);
  if (given.length > 1) throw new Error(`choose one target; got ${given.join(" and ")}`);
  if (target !== undefined && targetType === undefined) {
    throw new Error(`--target "${target}" needs --target-type (time, lsn, xid or name)`);
  }
  const timeline = targetTimeline === undefined ? null : parseTimeline(targetTimeline);
  const asked: Target | undefined =
    restoreTargetTime !== undefined
      ? { type: "time", value: normaliseTargetTime(restoreTargetTime), timeline, exclusive: targetExclusive }
      : targetType !== undefined
        ? { type: targetType, value: parseTargetValue(targetType, target), timeline, exclusive: targetExclusive }
        : undefined;
  const chosen = asked ?? {
    type: receipt === undefined ? "latest" : "time",
    value: receipt === undefined ? null : receipt.target.time,
    timeline,
    exclusive: targetExclusive,
  };
  // PostgreSQL ignores it for the others, and pgBackRest 2.45 refuses it there (`[031]`).
  if (chosen.exclusive && !["time", "lsn", "xid"].includes(chosen.type)) {
    throw new Error(`--target-exclusive has no meaning for target type "${chosen.type}"`);
  }
  // `latest` would follow any timeline in the archive, also one that a clone pushed there by mistake.
  const known = receipt !== undefined && chosen.type !== "immediate" && chosen.type !== "latest";
  return chosen.timeline === null && known ? { ...chosen, timeline: String(receipt.timeline) } : chosen;
}

/** The segments that recovery needs on the backup's timeline, as far as the receipt or the archive tell. */
export function walRange(
  backup: Backup,
  target: Target,
  receipt: Receipt | undefined,
  archiveMax: string | null,
): { first: string; last: string | null } {
  const first = backup.archive.start ?? walNameOf(backupTimeline(backup), backup.lsn?.start ?? "0/1000000");
  if (target.type === "immediate") return { first, last: backup.archive.stop };
  if (receipt !== undefined && target.type === "time" && target.value === receipt.target.time) {
    return { first, last: receipt.fence_wal };
  }
  return { first, last: target.type === "latest" ? archiveMax : null };
}

/** Segments between first and last (one timeline, both included) that the archive does not have. */
export function missingSegments(
  first: string,
  last: string,
  present: ReadonlySet<string>,
  segmentSize: number,
): string[] {
  const from = parseWalName(first, segmentSize);
  const to = parseWalName(last, segmentSize);
  if (from === null || to === null || from.timeline !== to.timeline) return [];
  const missing: string[] = [];
  for (let segment = from.segment; segment <= to.segment; segment++) {
    const name = walName(from.timeline, segment, segmentSize);
    if (!present.has(name)) missing.push(name);
  }
  return missing;
}

/** Bytes of WAL that recovery may hold at once: PostgreSQL removes what lies behind its restartpoints. */
export function walSpace(first: string, last: string | null, segmentSize: number): number {
  const limit = 1024 ** 3 + 4 * segmentSize;
  const from = parseWalName(first, segmentSize);
  const to = last === null ? null : parseWalName(last, segmentSize);
  if (from === null || to === null) return limit;
  return Math.min(limit, Number(to.segment - from.segment + 4n) * segmentSize);
}

export function reportBackup(backup: Backup, why: string): Plan["backup"] {
  return {
    label: backup.label,
    type: backup.type,
    size_bytes: backup.info.size,
    repo: backup.database["repo-key"],
    started_at: formatSecond(backup.timestamp.start),
    stopped_at: formatSecond(backup.timestamp.stop),
    start_lsn: backup.lsn?.start ?? "",
    stop_lsn: backup.lsn?.stop ?? "",
    timeline: backupTimeline(backup),
    why,
  };
}

/** The arguments of `pgbackrest` for this plan; `common` are its private paths, `directory` is where to restore. */
export function restoreArguments(
  plan: Pick<Plan, "stanza" | "backup" | "target" | "tablespaces" | "links" | "processMax">,
  common: readonly string[],
  directory: string,
): string[] {
  return [
    "restore",
    ...common,
    `--stanza=${plan.stanza}`,
    `--pg1-path=${directory}`,
    `--set=${plan.backup.label}`,
    ...targetOptions(plan.target),
    "--archive-mode=off", // a restored instance has the source's system identifier: its WAL would be accepted there
    "--no-delta", // the directory is new; an inherited delta=y would only weaken pgBackRest's own refusals
    // Linux keeps what one large write wrote as one piece of its cache, and replay, which writes single pages into it, then
    // takes twice as long (kernel 6.18, ext4: 10.1 s instead of 5.5 s where shared_buffers hold a quarter of the copy).
    "--buffer-size=64KiB",
    `--process-max=${plan.processMax}`,
    ...plan.tablespaces.map(([name, path]) => `--tablespace-map=${name}=${path}`),
    ...plan.links.map(([name, path]) => `--link-map=${name}=${path}`),
  ];
}

/** Directories outside the data directory that belong to it. */
export const linkedDirectories = (plan: Pick<Plan, "tablespaces" | "links">): string[] =>
  [...plan.tablespaces, ...plan.links].map(([, path]) => path);

/** How far the wanted segment is beyond the archive, as a sentence; undefined when it is there. */
export function beyondArchive(wanted: string, archiveMax: string | null): string | undefined {
  if (archiveMax !== null && archiveMax.slice(8) >= wanted.slice(8)) return undefined;
  return `newest archived WAL ${archiveMax ?? "(none)"} ends before the target, which needs ${wanted}`;
}

export function describePlan(plan: Plan): string {
  const { backup, wal, space } = plan;
  const rows: [string, string][] = [
    ["stanza", `${plan.stanza} (PostgreSQL ${plan.pgVersion}, system identifier ${plan.systemIdentifier})`],
    ["data directory", plan.datadir],
    ["target", describeTarget(plan.target)],
    [
      "backup set",
      `${backup.label} (${backup.type}, ${formatSize(backup.size_bytes)}, repo${backup.repo}), ${backup.why}`,
    ],
    [
      "",
      `from ${backup.started_at} to ${backup.stopped_at}, ${backup.start_lsn} to ${backup.stop_lsn}, timeline ${backup.timeline}`,
    ],
    ["WAL", `${wal.first} to ${wal.last ?? `the target, at most ${wal.archiveMax}`}`],
    [
      "WAL ahead",
      plan.walAheadBytes > 0
        ? `at most ${formatSize(plan.walAheadBytes)} is fetched while the backup is copied, in ${pathsOf(plan.datadir).walAhead}`
        : "none: recovery fetches one segment after the other",
    ],
    ["space", `${formatSize(space.neededBytes)} needed, ${formatSize(space.freeBytes)} free`],
    ["programs", plan.binDir],
    ...plan.tablespaces.map(([name, path]): [string, string] => [`tablespace ${name}`, path]),
    ...plan.links.map(([name, path]): [string, string] => [`link ${name}`, path]),
    ["command", `pgbackrest ${plan.restoreCommand.map((a) => (/[\s'"]/.test(a) ? JSON.stringify(a) : a)).join(" ")}`],
  ];
  return rows.map(([name, value]) => `${name.padEnd(16)}${value}`).join("\n");
}

/** Share of the way from the backup's start to the receipt's fence that is replayed, 0 to 1. */
export function replayFraction(plan: Plan, lsn: string | null, segmentSize: number): number | undefined {
  const last = plan.wal.last === null ? null : parseWalName(plan.wal.last, segmentSize);
  if (lsn === null || last === null || plan.backup.start_lsn === "") return undefined;
  const end = (last.segment + 1n) * BigInt(segmentSize);
  const start = lsnToBigInt(plan.backup.start_lsn);
  if (compareLsn(lsn, plan.backup.start_lsn) < 0 || end <= start) return 0;
  return Math.min(1, Number(lsnToBigInt(lsn) - start) / Number(end - start));
}

/** WAL from the backup's start to the end of the segment of the target; null where that end cannot be known. */
export function walBytes({ wal }: Pick<Plan, "wal">, segmentSize: number): number | null {
  const [first, last] = [wal.first, wal.last].map((name) => (name === null ? null : parseWalName(name, segmentSize)));
  if (first == null || last == null) return null;
  return Number(last.segment - first.segment + 1n) * segmentSize;
}
