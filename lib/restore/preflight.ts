/** Everything that can be seen before the first byte is downloaded: the plan, or every reason why it would not work. */

import { basename, dirname } from "node:path";
import { combineProblems, RestoreError } from "../errors.ts";
import {
  directorySize,
  exists,
  freeSpace,
  isWritable,
  list,
  lstatIfExists,
  mountPoints,
  readTextOrExplain,
} from "../io/files.ts";
import { listWal, overridesIn, type PgBackRest, pgBackRestVersion, readBackupSet, readInfo } from "../io/pgbackrest.ts";
import { findBinDir } from "../io/postgres.ts";
import { livePostmaster } from "../io/processes.ts";
import { grantedProcessors } from "../io/processors.ts";
import { parseReceipt, type Receipt } from "../mark/receipt.ts";
import { DEFAULT_WAL_SEGMENT_SIZE } from "../postgres/lsn.ts";
import type { Target } from "../postgres/target.ts";
import { formatSize } from "../units.ts";
import { chooseBackup, type Problem, type StanzaInfo, stanzaProblems } from "./backup-info.ts";
import type { PlanSettings } from "./options.ts";
import {
  chooseTarget,
  linkedDirectories,
  missingSegments,
  type Plan,
  reportBackup,
  restoreArguments,
  walRange,
  walSpace,
} from "./plan.ts";
import {
  mapTablespaces,
  noSpace,
  precisionWarnings,
  receiptProblems,
  targetProblems,
  versionProblems,
  walProblems,
} from "./preflight-problems.ts";
import { pathsOf } from "./state.ts";
import { readUnproven } from "./unproven.ts";
import { aheadSpace } from "./wal-ahead.ts";

export interface Preflight {
  plan: Plan;
  receipt: Receipt | undefined;
}

/** Throws PREFLIGHT_FAILED with all problems at once. Changes nothing. */
export async function preflight(
  settings: PlanSettings,
  request: RestoreRequest,
  context: PreflightContext,
): Promise<Preflight> {
  const { problems, found } = await examine(settings, request, context);
  if (found === undefined || problems.length > 0) throw combineProblems("PREFLIGHT_FAILED", problems);
  return found;
}

export interface PreflightContext {
  /** Private, for pgBackRest's lock and spool. */
  workDir: string;
  signal: AbortSignal;
}

/** What was asked for. Read once: the receipt of very many objects takes as much memory as all else. */
export interface RestoreRequest {
  receipt: Receipt | undefined;
  target: Target;
}

/** The same without throwing what it finds: `found` is missing when a problem leaves nothing to plan with. */
export async function examine(
  settings: PlanSettings,
  { receipt, target }: RestoreRequest,
  context: PreflightContext,
): Promise<{ problems: Problem[]; found?: Preflight }> {
  const datadir = settings.datadir as string;
  const stanza = settings.stanza as string;
  const pgbackrest: PgBackRest = { config: settings.pgbackrestConfig, stanza, workDir: context.workDir };
  const problems: Problem[] = ofHost(await datadirProblems(datadir));
  const warnings: string[] = overridesIn(process.env).map((name) => `${name} in the environment is ignored`);
  const hasConfig = settings.pgbackrestConfig === undefined || (await exists(settings.pgbackrestConfig));
  const [version, asked] = await Promise.all([
    pgBackRestVersion(context.signal),
    hasConfig ? ask(() => readInfo(pgbackrest, context.signal)) : NOT_ASKED,
  ]);
  problems.push(...ofHost(versionProblems(version)), ...asked.problems);
  if (!hasConfig) {
    problems.push({
      message: `pgBackRest's configuration file ${settings.pgbackrestConfig} does not exist`,
      about: "host",
    });
  }
  if (asked.answer === FAILED) return { problems };
  const info = asked.answer;
  problems.push(...stanzaProblems(info, stanza), ...targetProblems(target, receipt, new Date()));
  if (info === undefined || info.backup.length === 0) return { problems };
  const choice = chooseBackup(info, target, { set: settings.set, receipt });
  if ("message" in choice) return { problems: [...problems, choice] };
  const { backup } = choice;
  warnings.push(...choice.warnings, ...precisionWarnings(settings, target, receipt));
  const database = info.db.find((db) => db.id === backup.database.id && db["repo-key"] === backup.database["repo-key"]);
  problems.push(...receiptProblems(receipt, database?.["system-id"], stanza));
  const major = (database?.version ?? "").replace(/^(\d{2})\..*/, "$1");
  const segmentSize = receipt?.wal_segment_size ?? DEFAULT_WAL_SEGMENT_SIZE;
  const archive = archiveOf(info, backup.database);
  const range = walRange(backup, target, receipt, archive?.max ?? null);
  const { signal } = context;
  const [programs, wal, files] = await Promise.all([
    ask(() => findBinDir(major, settings.binDir)),
    ask(() => missingWal(pgbackrest, archive?.id, range, archive?.max ?? null, segmentSize, signal)),
    ask(() => readBackupSet(pgbackrest, backup.label, signal)),
  ]);
  const binDir = programs.answer;
  problems.push(...programs.problems);
  if (binDir !== FAILED) problems.push(...ofHost(await libraryProblems(binDir, settings, receipt)));
  const missing = wal.answer === FAILED ? [] : wal.answer;
  problems.push(...wal.problems, ...walProblems(range, missing, archive?.max ?? null));
  const set = files.answer;
  problems.push(...files.problems);
  const tablespaces = set === FAILED ? [] : mapTablespaces(set.tablespaces, settings.tablespaceMap ?? [], datadir);
  if (set !== FAILED && set.pageErrors.length > 0) {
    warnings.push(`backup ${backup.label} recorded page checksum errors in ${set.pageErrors.slice(0, 5).join(", ")}`);
  }
  problems.push(
    ...ofHost(await linkedProblems(datadir, linkedDirectories({ tablespaces, links: settings.linkMap ?? [] }))),
  );
  const space = {
    neededBytes: backup.info.size + walSpace(range.first, range.last, segmentSize) + settings.spaceReserve,
    freeBytes: await freeSpace(dirname(datadir)),
  };
  const failed = await failedCopy(datadir);
  if (space.neededBytes > space.freeBytes) problems.push(...ofHost([noSpace(space, datadir, failed)]));
  else if (failed)
    warnings.push(
      `${failed.path} (${formatSize(failed.bytes)}) is left from an earlier attempt; remove it when it is not needed`,
    );
  if (binDir === FAILED) return { problems };
  const base = {
    stanza,
    target,
    backup: {
      ...reportBackup(backup, choice.why),
      page_errors: set === FAILED ? [] : pageErrorsOf(backup.error, set.pageErrors),
    },
    tablespaces,
    links: settings.linkMap ?? [],
    processMax: settings.processMax ?? Math.max(2, Math.min(MOST_PROCESSES, await grantedProcessors())),
  };
  const common = settings.pgbackrestConfig === undefined ? [] : [`--config=${settings.pgbackrestConfig}`];
  const found: Preflight = {
    receipt,
    plan: {
      ...base,
      scope: settings.scope ?? null,
      datadir,
      archiveId: archive?.id ?? "",
      wal: { ...range, archiveMax: archive?.max ?? null, missing },
      walAheadBytes: aheadSpace(settings.walAhead, space, segmentSize),
      space,
      binDir,
      systemIdentifier: database?.["system-id"] ?? "",
      pgVersion: database?.version ?? "",
      pgbackrestVersion: version.join("."),
      restoreCommand: restoreArguments(base, common, pathsOf(datadir).restoring),
      warnings,
    },
  };
  return { problems, found };
}

/** Throws SETTINGS_INVALID where the words themselves are wrong. */
export async function readRequest(settings: PlanSettings): Promise<RestoreRequest> {
  const problems: Problem[] = [];
  for (const name of ["datadir", "stanza"] as const) {
    if (settings[name] === undefined) {
      problems.push({
        message: `--${name} is missing`,
        hint: name === "datadir" ? "remove no_params from Patroni's bootstrap method, or give --datadir" : undefined,
      });
    }
  }
  for (const [flag, path] of [
    ["--datadir", settings.datadir],
    ["--pgbackrest-config", settings.pgbackrestConfig],
  ] as const) {
    if (path !== undefined && !path.startsWith("/"))
      problems.push({ message: `${flag} "${path}" is not an absolute path` });
  }
  const receipt =
    settings.receipt === undefined
      ? undefined
      : parseReceipt(await readTextOrExplain(settings.receipt, "receipt"), settings.receipt);
  let target: Target | undefined;
  try {
    target = chooseTarget(settings, receipt);
  } catch (error) {
    problems.push({ message: (error as Error).message });
  }
  if (problems.length > 0 || target === undefined) throw combineProblems("SETTINGS_INVALID", problems);
  return { receipt, target };
}

const ofHost = (problems: readonly Problem[]): Problem[] => problems.map((one) => ({ ...one, about: "host" }));

/** Of pgBackRest, unless more are asked for: a repository has other clients too. One of two waits while the other works. */
const MOST_PROCESSES = 8;

const FAILED = Symbol("failed");

interface Asked<T> {
  answer: T | typeof FAILED;
  problems: Problem[];
}

const NOT_ASKED: Asked<never> = { answer: FAILED, problems: [] };

/** A question that failed is one more problem, not the end of the list. */
async function ask<T>(question: () => Promise<T>): Promise<Asked<T>> {
  try {
    return { answer: await question(), problems: [] };
  } catch (error) {
    if (!(error instanceof RestoreError) || error.code === "INTERRUPTED" || error.code === "TERMINATED") throw error;
    return { answer: FAILED, problems: [{ message: error.message, hint: error.hint, about: error.about }] };
  }
}

async function datadirProblems(datadir: string): Promise<Problem[]> {
  const problems: Problem[] = [];
  const parent = dirname(datadir);
  if (process.getuid?.() === 0) {
    problems.push({
      message: "a restore as root leaves files that PostgreSQL cannot read",
      hint: "run it as the user that owns the data directory, such as postgres",
    });
  }
  const found = await lstatIfExists(datadir);
  if (found?.isSymbolicLink()) {
    problems.push({
      message: `data directory ${datadir} is a symbolic link`,
      hint: "give its real path: the finished restore is put in place by a rename",
    });
  }
  if ((await mountPoints()).has(datadir)) {
    problems.push({
      message: `data directory ${datadir} is a mount point, which cannot be renamed: Patroni would adopt a rejected restore`,
      hint: `use a directory below it, such as ${datadir}/data`,
    });
  } else if (found !== undefined && !found.isSymbolicLink()) {
    const names = found.isDirectory() ? await list(datadir) : [basename(datadir)];
    if (names.length > 0) {
      problems.push({
        message: `data directory ${datadir} is not empty: it contains ${names.slice(0, 5).join(", ")}${names.length > 5 ? ` and ${names.length - 5} more` : ""}`,
        hint: "nothing is overwritten; remove it yourself or give another --datadir",
      });
    }
  }
  const live = await livePostmaster(datadir);
  if (live)
    problems.push({
      message: `PostgreSQL (process ${live.pid}) is running on ${datadir}`,
      hint: "give another --datadir",
    });
  if (!(await exists(parent)))
    problems.push({
      message: `directory ${parent} does not exist`,
      hint: "create it, owned by the user that runs PostgreSQL",
    });
  else if (!(await isWritable(parent))) problems.push({ message: `directory ${parent} is not writable for this user` });
  return problems;
}

async function libraryProblems(
  binDir: string,
  settings: PlanSettings,
  receipt: Receipt | undefined,
): Promise<Problem[]> {
  const libDir = `${dirname(binDir)}/lib`;
  const wanted = settings.sharedPreloadLibraries ?? receipt?.shared_preload_libraries ?? "";
  const installed = await list(libDir);
  // Other distributions keep libraries elsewhere; then PostgreSQL itself will say it.
  if (!installed.includes("plpgsql.so")) return [];
  return wanted
    .split(",")
    .map((name) => name.trim().replace(/^"|"$/g, ""))
    .filter((name) => name !== "" && !name.includes("/") && !installed.includes(`${name}.so`))
    .map((name) => ({
      message: `library "${name}", which the source preloads, is not installed in ${libDir}`,
      hint: "install its package in this image, or give --shared-preload-libraries without it",
    }));
}

function archiveOf(info: StanzaInfo, database: { id: number; "repo-key": number }) {
  const entry = info.archive.find(
    (a) => a.database.id === database.id && a.database["repo-key"] === database["repo-key"],
  );
  return entry === undefined ? undefined : { id: entry.id, max: entry.max ?? null };
}

/** Holes between the first needed segment and the last needed (or newest) one of the same timeline. */
async function missingWal(
  pgbackrest: PgBackRest,
  archiveId: string | undefined,
  range: { first: string; last: string | null },
  archiveMax: string | null,
  segmentSize: number,
  signal: AbortSignal,
): Promise<string[]> {
  const last = range.last ?? archiveMax;
  if (archiveId === undefined || last === null || last.slice(0, 8) !== range.first.slice(0, 8)) return [];
  const present = new Set<string>();
  const from = Number.parseInt(range.first.slice(8, 16), 16);
  const to = Number.parseInt(last.slice(8, 16), 16);
  for (let log = from; log <= to; log++) {
    const prefix = range.first.slice(0, 8) + log.toString(16).toUpperCase().padStart(8, "0");
    for (const name of await listWal(pgbackrest, archiveId, prefix, signal)) present.add(name);
  }
  return missingSegments(range.first, last, present, segmentSize);
}

/** A restore that fails empties them again, so nothing of anybody else's may be in them. */
async function linkedProblems(datadir: string, directories: readonly string[]): Promise<Problem[]> {
  const left = (await readUnproven(datadir))?.state?.linked ?? [];
  const problems: Problem[] = [];
  for (const directory of directories) {
    const names = left.includes(directory) ? [] : await list(directory);
    if (names.length === 0) continue;
    problems.push({
      message: `${directory}, for a tablespace or link, is not empty: it contains ${names.slice(0, 5).join(", ")}`,
      hint: "nothing is overwritten; map it to an empty or new directory",
    });
  }
  return problems;
}

async function failedCopy(datadir: string): Promise<{ path: string; bytes: number } | undefined> {
  const path = pathsOf(datadir).failed;
  return (await exists(path)) ? { path, bytes: await directorySize(path) } : undefined;
}

/** `info` may say that there were errors and not where. */
const pageErrorsOf = (hasErrors: boolean, files: readonly string[]) =>
  files.length > 0 || !hasErrors ? [...files] : ["a file that pgBackRest does not name"];
