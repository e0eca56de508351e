/** What is wrong with a restore that was asked for, as far as the facts at hand tell. Each finding has its own sentence. */

import { dirname } from "node:path";
import type { Receipt } from "../mark/receipt.ts";
import { type Target, timeToMicros } from "../postgres/target.ts";
import { formatDuration, formatSize } from "../units.ts";
import type { Problem } from "./backup-info.ts";
import { beyondArchive, type Plan, type TargetSettings } from "./plan.ts";
import { pathsOf } from "./state.ts";

export function versionProblems([major, minor]: [number, number]): Problem[] {
  const version = `${major}.${minor}`;
  const older = (than: number) => major < 2 || (major === 2 && minor < than);
  if (older(29)) {
    return [{ message: `pgBackRest ${version} cannot switch archiving off in the restored instance (needs 2.29)` }];
  }
  if (older(37)) {
    return [
      {
        message: `pgBackRest ${version} would silently take another backup for a target before the first one (needs 2.37)`,
      },
    ];
  }
  return [];
}

export function targetProblems(target: Target, receipt: Receipt | undefined, now: Date): Problem[] {
  const problems: Problem[] = [];
  if (target.type === "time" && target.value !== null) {
    const aheadMs = Number(timeToMicros(target.value) / 1000n) - now.getTime();
    if (aheadMs > 1000 && target.value !== receipt?.target.time) {
      problems.push({
        message: `target ${target.value} is ${formatDuration(aheadMs)} ahead of the clock; WAL for it cannot exist yet`,
        hint: "choose a time in the past, with its UTC offset",
      });
    }
  }
  if (target.exclusive && receipt !== undefined) {
    problems.push({
      message: "--target-exclusive excludes the marker's transaction",
      hint: "leave it out, or give no receipt",
    });
  }
  return problems;
}

export function precisionWarnings(settings: TargetSettings, target: Target, receipt: Receipt | undefined): string[] {
  if (receipt === undefined || target.type !== "time" || target.value === receipt.target.time) return [];
  const warnings = [`the target is not the receipt's ${receipt.target.time}: the marker may be missing`];
  if (/\.\d{3}(?!\d)/.test(settings.restoreTargetTime ?? "")) {
    warnings.push(
      "the target is truncated to milliseconds; a marker committed in the same millisecond would be missing",
    );
  }
  return warnings;
}

export function receiptProblems(receipt: Receipt | undefined, systemId: string | undefined, stanza: string): Problem[] {
  if (receipt === undefined || systemId === undefined || receipt.system_identifier === systemId) return [];
  return [
    {
      message: `the receipt is of system ${receipt.system_identifier}, but stanza "${stanza}" backs up system ${systemId}`,
      hint: "give the receipt of this service, or its right --stanza",
    },
  ];
}

export function walProblems(
  range: { first: string; last: string | null },
  missing: string[],
  archiveMax: string | null,
): Problem[] {
  const behind = range.last === null ? undefined : beyondArchive(range.last, archiveMax);
  if (behind !== undefined) {
    return [
      {
        message: behind,
        hint: "commit and switch WAL on the source, wait until it is archived, or choose an earlier target",
      },
    ];
  }
  const [first] = missing;
  // Without a known end the gap may lie behind the target; recovery will tell.
  if (first === undefined || (range.last === null && first !== range.first)) return [];
  return [
    {
      message: `WAL segment ${first} is missing in the archive, which goes on to ${archiveMax}${missing.length > 1 ? ` (${missing.length} segments are missing)` : ""}`,
      hint: "no target behind the gap can be reached from this backup: choose an earlier target or a newer backup",
    },
  ];
}

export function mapTablespaces(
  found: readonly { name: string }[],
  given: readonly [string, string][],
  datadir: string,
): [string, string][] {
  const places = new Map(given);
  // pgBackRest's default is the source's own path: on a shared host, the source's own directory.
  return found.map(({ name }) => [name, places.get(name) ?? `${pathsOf(datadir).tablespaces}/${name}`]);
}

export function noSpace(
  space: Plan["space"],
  datadir: string,
  failed: { path: string; bytes: number } | undefined,
): Problem {
  return {
    message: `need ${formatSize(space.neededBytes)} (database, WAL and reserve); ${formatSize(space.freeBytes)} free on ${dirname(datadir)}`,
    hint: failed
      ? `${failed.path} (${formatSize(failed.bytes)}) from an earlier attempt fills the volume; remove it`
      : "give the volume more space or another --datadir",
  };
}
