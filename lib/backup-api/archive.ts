/** The WAL archive of one stanza in one repository: is all there that restores need, and how far does it reach. Pure. */

import { lsnToBigInt, parseWalName, walName } from "../postgres/lsn.ts";
import type { Backup } from "../restore/backup-info.ts";

export interface ArchivedFile {
  /** 24 hexadecimal digits. */
  segment: string;
  /** Its name in the repository, with checksum and compression. */
  path: string;
  /** When it was stored, in seconds since the epoch. */
  storedAt: number;
  /** Bytes in the repository. */
  size: number;
}

/** `(timeline, switch point)` of a timeline's parents, oldest first, as in `00000003.history`. */
export type History = readonly { timeline: number; lsn: string }[];

export interface Gap {
  timeline: number;
  first: string;
  last: string;
  segments: number;
  /**
   * True when everything between two backup sets is missing: so does `repo1-retention-archive` leave it, and each of the sets
   * can still be restored to its own end.
   */
  isRetention: boolean;
  /** When the segment after it was stored, in seconds since the epoch: asynchronous archiving stores them in any order. */
  nextStoredAt: number;
}

export interface ArchiveState {
  segmentSize: number;
  segments: number;
  /** The last one that was stored, whatever its timeline; null when there is none. */
  newest: ArchivedFile | null;
  gaps: Gap[];
  /** The end of what can be restored without a gap, from the newest backup set on; null when there is no backup set. */
  restorable: ArchivedFile | null;
  /** Backup sets whose own WAL is not complete: these cannot be restored at all. */
  unusable: string[];
}

/** From `repo-ls --recurse --output=json` of `archive/<stanza>/<archive-id>`. */
export function readListing(json: string): { files: ArchivedFile[]; histories: string[] } {
  const entries = Object.entries(JSON.parse(json) as Record<string, { type: string; size?: number; time?: number }>);
  const files: ArchivedFile[] = [];
  const histories: string[] = [];
  for (const [path, { type, size = 0, time = 0 }] of entries) {
    if (type !== "file") continue;
    const name = path.slice(path.lastIndexOf("/") + 1);
    const segment = /^([0-9A-F]{24})-[0-9a-f]{40}/.exec(name)?.[1];
    if (segment !== undefined) files.push({ segment, path, storedAt: time, size });
    else if (/^[0-9A-F]{8}\.history/.test(name)) histories.push(path);
  }
  // A segment that was pushed twice stands there twice.
  files.sort((a, b) => (a.segment === b.segment ? a.storedAt - b.storedAt : a.segment < b.segment ? -1 : 1));
  return { files, histories };
}

/** `1\t0/3000060\tno recovery target specified`, one line for each parent (PostgreSQL 15, timeline.c). */
export function readHistory(text: string): History {
  return text
    .split("\n")
    .map((line) => /^\s*(\d+)\s+([0-9A-F]+\/[0-9A-F]+)/.exec(line))
    .filter((match) => match !== null)
    .map((match) => ({ timeline: Number(match[1]), lsn: match[2] as string }));
}

/**
 * PostgreSQL's segment size, which pgBackRest's info does not have: a backup's LSN and the name of the segment that holds it
 * allow only one. 16 MB when every LSN is at the very beginning.
 */
export function segmentSizeOf(backups: readonly Pick<Backup, "archive" | "lsn">[]): number {
  const sizes = Array.from({ length: 11 }, (_, power) => 2 ** (20 + power));
  const pairs = backups.flatMap(({ archive, lsn }) => [
    [archive.start, lsn?.start],
    [archive.stop, lsn?.stop],
  ]);
  const fits = (size: number) =>
    pairs.every(([name, lsn]) => {
      if (!name || !lsn) return true;
      // A stop LSN may be the first byte of the next segment.
      const segment = (lsnToBigInt(lsn) - 1n) / BigInt(size);
      return name.slice(8) === walName(0, segment, size).slice(8);
    });
  const possible = sizes.filter(fits);
  const standard = 16 * 1024 ** 2;
  return possible.length === 0 || possible.includes(standard) ? standard : (possible[0] as number);
}

export function judgeArchive(
  backups: readonly Backup[],
  files: readonly ArchivedFile[],
  histories: ReadonlyMap<number, History>,
): ArchiveState {
  const segmentSize = segmentSizeOf(backups);
  const stored = new Map(files.map((file) => [file.segment, file]));
  const newest = files.reduce<ArchivedFile | null>((a, b) => (a === null || b.storedAt >= a.storedAt ? b : a), null);
  const sets = [...backups].sort((a, b) => a.timestamp.stop - b.timestamp.stop);
  const state = { segmentSize, segments: stored.size, newest };
  const unusable = sets.filter((set) => missingOf(set, stored, segmentSize).length > 0).map(({ label }) => label);
  const [oldest, latest] = [sets[0], sets.at(-1)];
  if (oldest === undefined || latest === undefined) return { ...state, gaps: [], restorable: null, unusable };
  const wanted = (from: Backup) => wantedSegments(from, files, histories, segmentSize);
  const gaps = pathsOf(sets, wanted).flatMap((path) => gapsOf(path, stored, sets));
  return { ...state, gaps, restorable: endOf(wanted(latest), stored), unusable };
}

/** One for all sets that lie on the oldest's own way, and one more for each that is on another timeline's. */
function pathsOf(sets: readonly Backup[], wanted: (from: Backup) => string[]): string[][] {
  const covered = new Set<string>();
  return sets.flatMap((set) => {
    if (covered.has(set.archive.start ?? "")) return [];
    const path = wanted(set).filter((name) => !covered.has(name));
    for (const name of path) covered.add(name);
    return [path];
  });
}

function missingOf(set: Backup, stored: ReadonlyMap<string, unknown>, segmentSize: number): string[] {
  const [first, last] = [set.archive.start, set.archive.stop].map((name) => parseWalName(name ?? "", segmentSize));
  if (!first || !last) return [];
  const names: string[] = [];
  for (let n = first.segment; n <= last.segment; n++) names.push(walName(first.timeline, n, segmentSize));
  return names.filter((name) => !stored.has(name));
}

/** Every segment that recovery needs from a set's start to the newest that is there, along the timelines. */
function wantedSegments(
  from: Backup,
  files: readonly ArchivedFile[],
  histories: ReadonlyMap<number, History>,
  segmentSize: number,
): string[] {
  const start = parseWalName(from.archive.start ?? "", segmentSize);
  if (start === null) return [];
  // Recovery goes over to the newest timeline whose history has this set: one that forked off before its end does not.
  const stop = from.lsn === undefined ? null : lsnToBigInt(from.lsn.stop);
  const isChild = (history: History) =>
    history.some(
      ({ timeline, lsn }) =>
        timeline === start.timeline &&
        (stop === null ? start.segment <= segmentOf(lsn, segmentSize) : stop <= lsnToBigInt(lsn)),
    );
  const children = [...histories].filter(([, history]) => isChild(history)).map(([timeline]) => timeline);
  const latestTimeline = Math.max(start.timeline, ...children);
  const history = histories.get(latestTimeline) ?? [];
  // The switch's own segment is complete only on the new timeline.
  const legs: { timeline: number; end: bigint | null }[] = history
    .filter(({ timeline }) => timeline >= start.timeline && timeline < latestTimeline)
    .map(({ timeline, lsn }) => ({ timeline, end: segmentOf(lsn, segmentSize) }));
  legs.push({ timeline: latestTimeline, end: null });
  const names: string[] = [];
  let next = start.segment;
  for (const { timeline, end } of legs) {
    const last = end ?? lastOn(timeline, files, segmentSize) + 1n;
    for (; next < last; next++) names.push(walName(timeline, next, segmentSize));
  }
  return names;
}

const timelineOf = (segment: string) => Number.parseInt(segment.slice(0, 8), 16);

const segmentOf = (lsn: string, segmentSize: number) => lsnToBigInt(lsn) / BigInt(segmentSize);

function lastOn(timeline: number, files: readonly ArchivedFile[], segmentSize: number): bigint {
  const last = files.findLast(({ segment }) => timelineOf(segment) === timeline);
  return parseWalName(last?.segment ?? "", segmentSize)?.segment ?? -1n;
}

function gapsOf(path: readonly string[], stored: ReadonlyMap<string, ArchivedFile>, sets: readonly Backup[]): Gap[] {
  const starts = new Set(sets.map(({ archive }) => archive.start));
  const stops = new Set(sets.map(({ archive }) => archive.stop));
  const gaps: Gap[] = [];
  for (let at = 0; at < path.length; at++) {
    if (stored.has(path[at] as string)) continue;
    const from = at;
    while (at + 1 < path.length && !stored.has(path[at + 1] as string)) at++;
    const [before, after] = [path[from - 1], path[at + 1]];
    const isRetention = before !== undefined && after !== undefined && stops.has(before) && starts.has(after);
    const missing = path.slice(from, at + 1);
    const nextStoredAt = stored.get(after ?? "")?.storedAt ?? 0;
    // Names count on within one timeline only.
    for (const timeline of new Set(missing.map(timelineOf))) {
      const names = missing.filter((name) => timelineOf(name) === timeline);
      const [first, last] = [names[0] as string, names.at(-1) as string];
      gaps.push({ timeline, first, last, segments: names.length, isRetention, nextStoredAt });
    }
  }
  return gaps;
}

/** A store that is slow may take so long for a segment while the next one is there. */
const SETTLING_S = 60;

/** Of these nothing explains that they are missing. */
export function lostGaps({ gaps }: Pick<ArchiveState, "gaps">, now: Date): Gap[] {
  const settled = now.getTime() / 1000 - SETTLING_S;
  return gaps.filter(({ isRetention, nextStoredAt }) => !isRetention && nextStoredAt <= settled);
}

/** The last segment before the first gap. */
function endOf(path: readonly string[], stored: ReadonlyMap<string, ArchivedFile>): ArchivedFile | null {
  const missing = path.findIndex((name) => !stored.has(name));
  const last = missing < 0 ? path.at(-1) : path[missing - 1];
  return stored.get(last ?? "") ?? null;
}
