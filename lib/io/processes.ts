/**
 * What /proc says about processes. A process is known by its number and its start time together: a number alone is
 * re-used, and in a container small numbers are re-used at once. Format: proc(5).
 */

import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

export interface ProcessStatus {
  pid: number;
  ppid: number;
  /** Name of the program's file, cut to 15 characters by the kernel. */
  comm: string;
  /** `R`, `S`, `D`, `T`, `Z`, …; a zombie (`Z`) has ended and only waits for its parent. */
  state: string;
  /** Start time in clock ticks since the machine's start (field 22), as text. */
  started: string;
}

/** Null when there is no such process (any more). */
export async function processStatus(pid: number): Promise<ProcessStatus | null> {
  const text = await readProc(pid, "stat");
  if (text === null) return null;
  // The name stands in parentheses and may itself hold spaces and parentheses.
  const open = text.indexOf("(");
  const close = text.lastIndexOf(")");
  const fields = text.slice(close + 2).split(" ");
  const [state, ppid] = fields;
  const started = fields[19];
  if (open < 0 || state === undefined || ppid === undefined || started === undefined) return null;
  return { pid, ppid: Number(ppid), comm: text.slice(open + 1, close), state, started };
}

/** True while this very process runs; false for a zombie and for another process with its number. */
export async function isAlive(pid: number, started: string): Promise<boolean> {
  const status = await processStatus(pid);
  return status !== null && status.started === started && !hasEnded(status);
}

const hasEnded = (status: ProcessStatus) => status.state === "Z" || status.state === "X";

/** The process's arguments; empty for a kernel thread, a zombie or a process that is gone. */
export async function commandLine(pid: number): Promise<string[]> {
  const text = await readProc(pid, "cmdline");
  if (!text) return [];
  return text.replace(/\0$/, "").split("\0");
}

/** The environment it was started with; null when another user's process hides it. */
export async function initialEnvironment(pid: number): Promise<Record<string, string> | null> {
  const text = await readProc(pid, "environ");
  if (text === null) return null;
  const pairs = text.split("\0").filter((entry) => entry.indexOf("=") > 0);
  return Object.fromEntries(
    pairs.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  );
}

/** Null when another user's process hides it. A directory that was removed keeps its name here. */
export async function workingDirectory(pid: number): Promise<string | null> {
  const path = await readlink(`/proc/${pid}/cwd`).catch(() => null);
  return path?.replace(/ \(deleted\)$/, "") ?? null;
}

/** Parent, grandparent, … up to the first process of this PID namespace. */
export async function ancestors(pid: number = process.pid): Promise<ProcessStatus[]> {
  const chain: ProcessStatus[] = [];
  let status = await processStatus(pid);
  while (status !== null && status.ppid > 0) {
    status = await processStatus(status.ppid);
    if (status !== null) chain.push(status);
  }
  return chain;
}

export async function allProcesses(): Promise<ProcessStatus[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  return (await Promise.all(pids.map(processStatus))).filter((status) => status !== null);
}

/** Children, their children and so on; parents come before their children. */
export async function descendants(pid: number): Promise<ProcessStatus[]> {
  const all = await allProcesses();
  const found: ProcessStatus[] = [];
  let parents = new Set([pid]);
  while (parents.size > 0) {
    const next = all.filter((status) => parents.has(status.ppid));
    found.push(...next);
    parents = new Set(next.map((status) => status.pid));
  }
  return found;
}

/** Numbers of the process's threads. */
export async function threads(pid: number): Promise<number[]> {
  const names = await readdir(`/proc/${pid}/task`).catch(() => []);
  return names.map(Number);
}

export interface ListeningSocket {
  host: string;
  port: number;
}

/** TCP sockets on which the process listens; null when another user's process hides them. */
export async function listeningSockets(pid: number): Promise<ListeningSocket[] | null> {
  const fds = await readdir(`/proc/${pid}/fd`).catch(() => null);
  if (fds === null) return null;
  const links = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")));
  const inodes = new Set(links.map((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1]));
  const tables = await Promise.all([readProc(pid, "net/tcp"), readProc(pid, "net/tcp6")]);
  return tables.flatMap((table) => parseListening(table ?? "", inodes));
}

const TCP_LISTEN = "0A";

function parseListening(table: string, inodes: ReadonlySet<string | undefined>): ListeningSocket[] {
  return table.split("\n").flatMap((line) => {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    const [address, port] = local?.split(":") ?? [];
    if (state !== TCP_LISTEN || !inodes.has(inode) || address === undefined || port === undefined) return [];
    return [{ host: decodeAddress(address), port: Number.parseInt(port, 16) }];
  });
}

/** /proc/net/tcp prints each 32-bit word of the address in the machine's own byte order. */
function decodeAddress(hex: string): string {
  const words = hex.match(/.{8}/g) ?? [];
  const bytes = words.flatMap((word) => (word.match(/../g) ?? []).map((byte) => Number.parseInt(byte, 16)).reverse());
  if (bytes.length === 4) return bytes.join(".");
  const groups = Array.from({ length: 8 }, (_, i) =>
    (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16),
  );
  return groups.join(":");
}

export interface Postmaster {
  pid: number;
  started: string;
}

/**
 * The postmaster that runs on a data directory, or null. The number in `postmaster.pid` proves nothing by itself: it
 * stays behind after a crash, travels with a backup, and belongs to some other program sooner or later. The proof is
 * that the process is PostgreSQL and has the directory as its working directory.
 */
export async function livePostmaster(datadir: string): Promise<Postmaster | null> {
  const all = await postgresProcesses(datadir);
  const pids = new Set(all.map(({ pid }) => pid));
  const text = await readFile(join(datadir, "postmaster.pid"), "utf8").catch(() => "");
  // A server in single-user mode writes its number negative.
  const written = Math.abs(Number.parseInt(text, 10));
  const found = all.find(({ pid }) => pid === written) ?? all.find(({ ppid }) => !pids.has(ppid));
  return found === undefined ? null : { pid: found.pid, started: found.started };
}

/** Every PostgreSQL process of a data directory: the postmaster, its children, and children that outlived it. */
export async function postgresProcesses(datadir: string): Promise<ProcessStatus[]> {
  const wanted = new Set([datadir, await realpath(datadir).catch(() => datadir)]);
  const candidates = (await allProcesses()).filter(
    (status) => (status.comm === "postgres" || status.comm === "postmaster") && !hasEnded(status),
  );
  const matches = await Promise.all(
    candidates.map(async ({ pid }) => {
      const directory = (await workingDirectory(pid)) ?? dataDirectoryArgument(await commandLine(pid));
      return directory !== null && wanted.has(directory);
    }),
  );
  return candidates.filter((_, index) => matches[index]);
}

function dataDirectoryArgument(argv: readonly string[]): string | null {
  const at = argv.findIndex((argument) => argument.startsWith("-D"));
  if (at < 0) return null;
  const value = argv[at] === "-D" ? argv[at + 1] : argv[at]?.slice(2);
  return value?.replace(/\/+$/, "") || null;
}

const POLL_MS = 50;

/** Waits for the end of this very process; false when the limit passed first. */
export async function waitUntilEnded(pid: number, started: string, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  while (await isAlive(pid, started)) {
    if (performance.now() >= deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

/** Signals a process and waits for its end; true when it has ended. Never signals another one with its number. */
export async function terminate(pid: number, signal: NodeJS.Signals, limitMs: number): Promise<boolean> {
  const status = await processStatus(pid);
  if (status === null || hasEnded(status)) return true;
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return true;
    throw error;
  }
  return waitUntilEnded(pid, status.started, limitMs);
}

async function readProc(pid: number, name: string): Promise<string | null> {
  return readFile(`/proc/${pid}/${name}`, "utf8").catch(() => null);
}
