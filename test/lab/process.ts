/**
 * Starting, watching and ending real processes. Separate from lib/io/command.ts on purpose: what tests the product does
 * not stand on it.
 */

import { spawn } from "node:child_process";
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";

export interface RunOptions {
  env?: Readonly<Record<string, string | undefined>>;
  cwd?: string;
  input?: string;
  timeoutMs?: number;
  /** Ends the command with this signal's reason in mind: SIGINT, as Ctrl-C would. */
  signal?: AbortSignal | undefined;
  /** As root: run as `postgres` (default) or as root. */
  asRoot?: boolean;
  /** Sees every piece of output as it comes. */
  onOutput?: (text: string, from: "stdout" | "stderr") => void;
}

export interface RunResult {
  /** Null when a signal ended it. */
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  durationMs: number;
  timedOut: boolean;
}

/** A program that is running and whose output is collected. */
export interface RunningCommand {
  pid: number;
  /** Never rejects because of an exit code. */
  result: Promise<RunResult>;
  /** What it printed until now. */
  output(): { stdout: string; stderr: string };
  kill(signal?: NodeJS.Signals): void;
}

/** A program that runs until it is told to end; its output goes to a file. */
export interface Service {
  name: string;
  pid: number;
  logFile: string;
  ended: Promise<{ exitCode: number | null; signal: NodeJS.Signals | null }>;
  isRunning(): boolean;
  log(): Promise<string>;
  /** Throws with the end of the log when it ends first or the limit passes. */
  waitForLog(pattern: RegExp, limitMs?: number): Promise<RegExpExecArray>;
  kill(signal?: NodeJS.Signals): void;
  /** SIGTERM (or the signal given), then SIGKILL after the limit. */
  stop(signal?: NodeJS.Signals, limitMs?: number): Promise<void>;
}

const IS_ROOT = process.getuid?.() === 0;

/**
 * The command as user postgres when this is root (PostgreSQL refuses root), and so that the kernel signals it when this
 * process dies, even by SIGKILL.
 */
function prepared(file: string, args: readonly string[], asRoot: boolean, deathSignal: string): [string, string[]] {
  const user = IS_ROOT && !asRoot ? ["--reuid=postgres", "--regid=postgres", "--init-groups"] : [];
  return ["setpriv", [...user, "--pdeathsig", deathSignal, "--", file, ...args]];
}

export function startCommand(file: string, args: readonly string[], options: RunOptions = {}): RunningCommand {
  const started = Date.now();
  const [program, argv] = prepared(file, args, options.asRoot ?? false, "TERM");
  // A session of its own: Ctrl-C reaches the one who started it, who then ends its children in order.
  const child = spawn(program, argv, { env: options.env, cwd: options.cwd, detached: true, stdio: "pipe" });
  const output = { stdout: "", stderr: "" };
  let timedOut = false;
  const result = new Promise<RunResult>((resolve, reject) => {
    const timer =
      options.timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            timedOut = true;
            child.kill("SIGKILL");
          }, options.timeoutMs);
    const onAbort = () => child.kill("SIGINT");
    options.signal?.addEventListener("abort", onAbort);
    for (const from of ["stdout", "stderr"] as const) {
      child[from].setEncoding("utf8").on("data", (text: string) => {
        output[from] += text;
        options.onOutput?.(text, from);
      });
    }
    child.once("error", reject);
    child.once("close", (exitCode, signal) => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", onAbort);
      resolve({ exitCode, signal, ...output, durationMs: Date.now() - started, timedOut });
    });
  });
  // A program that ends before it has read its input is no failure of the harness.
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  return {
    pid: child.pid ?? 0,
    result,
    output: () => ({ ...output }),
    kill: (signal = "SIGTERM") => void child.kill(signal),
  };
}

export function startService(
  name: string,
  file: string,
  args: readonly string[],
  options: {
    env: Readonly<Record<string, string | undefined>>;
    cwd: string;
    logFile: string;
    asRoot?: boolean;
    /** What it gets when this process dies. */
    deathSignal?: "INT" | "TERM" | "QUIT" | "KILL";
  },
): Service {
  const [program, argv] = prepared(file, args, options.asRoot ?? false, options.deathSignal ?? "TERM");
  const logFd = openSync(options.logFile, "a", 0o644);
  const child = spawn(program, argv, {
    env: options.env,
    cwd: options.cwd,
    detached: true,
    stdio: ["ignore", logFd, logFd],
  });
  closeSync(logFd);
  let running = true;
  const ended: Service["ended"] = new Promise((resolve) => {
    const end = (exitCode: number | null, signal: NodeJS.Signals | null) => {
      running = false;
      resolve({ exitCode, signal });
    };
    child.once("error", () => end(null, null));
    child.once("exit", end);
  });
  const log = () => readFile(options.logFile, "utf8");
  return {
    name,
    pid: child.pid ?? 0,
    logFile: options.logFile,
    ended,
    isRunning: () => running,
    log,
    kill: (signal = "SIGKILL") => void child.kill(signal),
    async waitForLog(pattern, limitMs = 60_000) {
      const probe = async () => {
        const match = pattern.exec(await log());
        if (!match && !running) throw new Error(`${name} ended before it logged ${pattern}:\n${await logTail(log)}`);
        return match ?? undefined;
      };
      return waitFor(`${name} to log ${pattern}`, probe, limitMs, () => logTail(log));
    },
    async stop(signal = "SIGTERM", limitMs = 20_000) {
      if (!running) return;
      child.kill(signal);
      const timer = setTimeout(() => child.kill("SIGKILL"), limitMs);
      await ended;
      clearTimeout(timer);
    },
  };
}

async function logTail(log: () => Promise<string>): Promise<string> {
  return (await log().catch(() => "")).split("\n").slice(-30).join("\n");
}

/** Asks every 50 ms until there is an answer other than undefined or false; throws after the limit. */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  limitMs = 30_000,
  explain: () => Promise<string> | string = () => "",
  everyMs = 50,
): Promise<T> {
  const end = Date.now() + limitMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined && answer !== false) return answer;
    if (Date.now() > end) throw new Error(`waited ${limitMs / 1000} s for ${what}\n${await explain()}`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}

export interface ProcessInfo {
  pid: number;
  command: string;
}

/** Processes that name the directory in their arguments or stand in it: PostgreSQL's children show only there. */
export function processesOf(directory: string): ProcessInfo[] {
  const isInside = (path: string) => path === directory || path.startsWith(`${directory}/`);
  const found: ProcessInfo[] = [];
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const command = quietly(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim());
    const cwd = quietly(() => readlinkSync(`/proc/${pid}/cwd`));
    // A zombie has neither.
    if (command.includes(directory) || isInside(cwd.replace(/ \(deleted\)$/, ""))) found.push({ pid, command });
  }
  return found;
}

function quietly(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** False for a zombie too: it has ended and only waits to be collected. */
export function isAlive(pid: number): boolean {
  const stat = quietly(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  return stat !== "" && !/^\d+ \(.*\) [ZX] /s.test(stat);
}

/** SIGQUIT first: PostgreSQL's immediate shutdown frees its shared memory, SIGKILL would leave it behind. */
export async function endProcessesOf(directory: string): Promise<void> {
  for (const signal of ["SIGQUIT", "SIGKILL"] as const) {
    for (const { pid } of processesOf(directory)) signalProcess(pid, signal);
    const gone = () => processesOf(directory).length === 0;
    await waitFor(`the processes of ${directory} to end`, gone, 3000).catch(() => {});
  }
}
