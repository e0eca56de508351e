/** Everything that would stop a restore test, found before the source is touched, all of it at once. Changes nothing. */

import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import type { Context } from "../cli.ts";
import { combineProblems, messageOf, RestoreError } from "../errors.ts";
import { checkEtcd } from "../io/etcd.ts";
import { isWritable, list, readTextOrExplain } from "../io/files.ts";
import { readInfo } from "../io/pgbackrest.ts";
import { findBinDir } from "../io/postgres.ts";
import {
  canSwitchUser,
  currentUid,
  findProgram,
  isDirectory,
  lookUpUser,
  type OsUser,
  processesBelow,
  runningScript,
} from "../io/throwaway.ts";
import type { Log } from "../log.ts";
import { parseReceipt, type Receipt } from "../mark/receipt.ts";
import type { Settings } from "../options.ts";
import { describeConninfo, parseConninfo } from "../postgres/conninfo.ts";
import { type Problem, stanzaProblems } from "../restore/backup-info.ts";
import { chooseTarget } from "../restore/plan.ts";
import { refuseSecretFlag } from "../settings.ts";
import { DIRECTORY_NAME, type Layout, longestSocketPath, makeLayout, SOCKET_PATH_LIMIT } from "./layout.ts";
import type { RestoreTestOption } from "./options.ts";

export interface Preparation {
  layout: Layout;
  stanza: string;
  /** Null: the servers run as this process's own user. */
  user: OsUser | null;
  /** Where the report is kept when the test's own directory is gone. */
  report: string;
  /** Null when the source is to be marked, or is gone. */
  receipt: Receipt | null;
  /** The source to mark, as a connection string. */
  source: string | null;
  /** The operator's own template instead of the built-in one. */
  template: string | null;
  binDir: string;
  script: string;
  /** Null with the direct runner. */
  patroni: string | null;
  /** Null when an etcd is given, or none is needed. */
  etcd: string | null;
}

/** Throws SETTINGS_INVALID for contradictions and unreadable files, PREFLIGHT_FAILED for what is missing here. */
export async function prepare(context: Context<RestoreTestOption>): Promise<Preparation> {
  const { settings, signal } = context;
  const { receipt, source, template } = await readInputs(context);
  const stanza = settings.stanza as string;
  const layout = makeLayout(resolve(settings.workDir), stanza, settings.testId ?? randomBytes(4).toString("hex"));
  const report = resolve(settings.report ?? `${settings.workDir}/patroni-restore-${layout.id}.report.json`);
  const problems: Problem[] = [];
  const noting = async <T>(find: () => Promise<T>): Promise<T | null> => {
    try {
      return await find();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof RestoreError)) throw error;
      problems.push({ message: error.message, hint: error.hint, about: error.about });
      return null;
    }
  };
  const needProgram = (name: string, hint: string): string | null => {
    const path = findProgram(name);
    if (path === undefined) problems.push({ message: `the program ${name} is not installed`, hint, about: "host" });
    return path ?? null;
  };

  const ofHost: Problem[] = [];
  await checkWorkDir(settings.workDir, layout, ofHost);
  await nameLeftovers(settings.workDir, context.log);
  await checkReportPlace(report, ofHost);
  const user = await findUser(settings.osUser, ofHost);
  problems.push(...ofHost.map((problem) => ({ ...problem, about: "host" as const })));
  const withPatroni = settings.runner === "patroni";
  const patroni = withPatroni
    ? needProgram("patroni", "install Patroni, or use --runner direct to do without it")
    : null;
  const etcd =
    withPatroni && settings.etcd === undefined
      ? needProgram("etcd", "install etcd, give one with --etcd, or use --runner direct to do without it")
      : null;
  if (withPatroni && settings.etcd !== undefined) {
    await checkEtcd(settings.etcd, signal).catch((error) =>
      problems.push({ message: messageOf(error), about: "host" }),
    );
  }
  const version = await noting(() => majorVersion(context, receipt, problems));
  const binDir = version === null ? null : await noting(() => findBinDir(version, absolute(settings.binDir)));
  if (problems.length > 0 || binDir === null) throw combineProblems("PREFLIGHT_FAILED", problems);
  return {
    layout,
    stanza,
    user,
    report,
    receipt,
    source,
    template,
    binDir,
    script: await runningScript(),
    patroni,
    etcd,
  };
}

export const absolute = (path: string | undefined) => (path === undefined ? undefined : resolve(path));

async function readInputs({ settings, flags }: Context<RestoreTestOption>) {
  refuseSecretFlag(flags, "source");
  const problems: Problem[] = [];
  const noting = <T>(read: () => T): T | null => {
    try {
      return read();
    } catch (error) {
      problems.push({ message: messageOf(error), hint: error instanceof RestoreError ? error.hint : undefined });
      return null;
    }
  };
  const text = async (path: string | undefined, what: string) =>
    path === undefined
      ? null
      : await readTextOrExplain(path, what).catch((error) => {
          problems.push({ message: messageOf(error) });
          return null;
        });
  const receiptText = await text(settings.receipt, "receipt");
  const template = await text(settings.patroniConfig, "Patroni configuration");
  const receipt = receiptText === null ? null : noting(() => parseReceipt(receiptText, settings.receipt ?? ""));
  const source = settings.source ?? null;
  if (source !== null) noting(() => parseConninfo(source));
  if (settings.source !== undefined && settings.receipt !== undefined) {
    problems.push({
      message: "--source and --receipt contradict each other",
      hint: "--source marks the source now; --receipt is for a marker that is already there",
    });
  }
  const target = (["restoreTargetTime", "targetType", "target"] as const).find((name) => settings[name] !== undefined);
  if (settings.source !== undefined && target !== undefined) {
    problems.push({
      message: "--source and a target of your own contradict each other",
      hint: "--source marks the source now, and the marker's time is the target",
    });
  }
  if (problems.length === 0) noting(() => chooseTarget(settings, receipt ?? undefined));
  if (problems.length > 0) throw combineProblems("SETTINGS_INVALID", problems);
  return { receipt, source, template };
}

async function checkWorkDir(workDir: string, layout: Layout, problems: Problem[]): Promise<void> {
  if (!(await isDirectory(workDir))) {
    problems.push({
      message: `the work directory ${workDir} does not exist`,
      hint: "make it or give another --work-dir",
    });
  } else if (!(await isWritable(workDir))) {
    problems.push({ message: `the work directory ${workDir} is not writable`, hint: "give another --work-dir" });
  }
  const length = Buffer.byteLength(longestSocketPath(layout));
  if (length > SOCKET_PATH_LIMIT) {
    const spare = SOCKET_PATH_LIMIT - (length - Buffer.byteLength(workDir));
    problems.push({
      message: `the work directory ${workDir} has a path too long for PostgreSQL's socket (at most ${spare} bytes)`,
      hint: "give a --work-dir with a shorter path",
    });
  }
}

/** Of tests that were killed with SIGKILL, or kept after a failure: they fill the volume. */
async function nameLeftovers(workDir: string, log: Log): Promise<void> {
  for (const name of (await list(workDir)).filter((entry) => DIRECTORY_NAME.test(entry))) {
    const path = resolve(workDir, name);
    if ((await processesBelow(path)).length > 0) continue;
    log.warn("preflight", `${path} is left from an earlier restore test; nothing runs in it and it can be removed`);
  }
}

async function checkReportPlace(report: string, problems: Problem[]): Promise<void> {
  const directory = resolve(report, "..");
  if (!(await isDirectory(directory)) || !(await isWritable(directory))) {
    problems.push({ message: `the report cannot be written to ${directory}`, hint: "give another --report" });
  } else if (await isDirectory(report)) {
    problems.push({ message: `the report ${report} is a directory`, hint: "give a file's name with --report" });
  }
}

async function findUser(name: string, problems: Problem[]): Promise<OsUser | null> {
  if (currentUid() !== 0) return null;
  const user = await lookUpUser(name);
  if (user === undefined) {
    problems.push({ message: `there is no user "${name}" to run the servers as`, hint: "give another --os-user" });
  } else if (user.uid === 0) {
    problems.push({ message: `PostgreSQL does not run as "${name}"`, hint: "give an ordinary --os-user" });
  }
  if (!canSwitchUser()) {
    problems.push({
      message: "setpriv is not installed, so no other user can be had",
      hint: "install util-linux, or start restore-test as an ordinary user",
    });
  }
  return user ?? null;
}

/** PostgreSQL's version in the stanza; null when a problem of the stanza was noted. */
async function majorVersion(
  { settings, signal }: Context<RestoreTestOption>,
  receipt: Receipt | null,
  problems: Problem[],
): Promise<string | null> {
  const stanza = settings.stanza ?? "";
  const info = await readInfo(
    { config: absolute(settings.pgbackrestConfig), stanza, workDir: resolve(settings.workDir) },
    signal,
  );
  problems.push(...stanzaProblems(info, stanza));
  if (receipt !== null) return String(Math.floor(receipt.server_version_num / 10_000));
  return info?.db.at(-1)?.version ?? null;
}

/** For `--dry-run`. */
export function describePreparation(found: Preparation, settings: Settings<RestoreTestOption>): string {
  const { layout, user, patroni, etcd, source } = found;
  const lines = [
    source === null
      ? null
      : `mark the source (${describeConninfo(parseConninfo(source))}) and wait until the fence's WAL is archived`,
    `work in ${layout.directory}${user === null ? "" : ` as ${user.name}`}, PostgreSQL from ${found.binDir}`,
    etcd === null ? null : "start a throwaway etcd on 127.0.0.1",
    patroni === null
      ? "call bootstrap, start PostgreSQL on a private socket, call post-bootstrap"
      : `start a throwaway Patroni with scope ${layout.scope}, which calls bootstrap and post-bootstrap`,
    `restore stanza ${settings.stanza}, check at level ${settings.level}`,
    `store the report in ${found.report}`,
    settings.keep ? "keep everything running" : "remove everything",
  ];
  return lines
    .filter((line) => line !== null)
    .map((line, index) => `${index + 1}. ${line}`)
    .join("\n");
}
