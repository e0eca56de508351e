/** The only place that starts processes. No shell ever: arguments go as they are. */

import { existsSync } from "node:fs";
import { execa, type Options, type ResultPromise } from "execa";
import { RestoreError } from "../errors.ts";

export interface CommandOptions {
  /** Ends the command when aborted; the call then throws the signal's reason. */
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  /** The whole environment of the command; this process's own by default. */
  env?: NodeJS.ProcessEnv | undefined;
  cwd?: string | undefined;
  input?: string | undefined;
  /** Called for every line of stdout or stderr as it comes. */
  onLine?: ((line: string, from: "stdout" | "stderr") => void) | undefined;
  /** Throw stdout away unread (`pg_dump` into nothing). */
  discardStdout?: boolean | undefined;
  /** Run as this user of the operating system; only possible as root. */
  user?: { uid: number; gid: number } | undefined;
}

export interface CommandResult {
  /** Null when a signal ended it. */
  exitCode: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
  durationMs: number;
  timedOut: boolean;
}

/** Children get this long after SIGTERM before SIGKILL; Patroni 4.x gives this process 10 s in all. */
const KILL_AFTER_MS = 5000;

const running = new Set<ResultPromise>();

/** Runs a program to its end. A non-zero exit is a result, not an exception; a program that is not there throws. */
export async function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  options.signal?.throwIfAborted();
  const child = start(file, args, {
    ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
    ...(options.discardStdout ? { stdout: "ignore" as const } : {}),
    ...spawnOptions(options),
  });
  const { onLine } = options;
  const readers = onLine
    ? (["stdout", "stderr"] as const).map(async (from) => {
        if (from === "stdout" && options.discardStdout) return;
        for await (const line of child.iterable({ from })) onLine(String(line), from);
      })
    : [];
  const result = await child;
  await Promise.all(readers);
  if (result.isCanceled) throw options.signal?.reason;
  if (result.code === "ENOENT" || result.code === "EACCES") {
    throw new RestoreError(
      "PREFLIGHT_FAILED",
      `cannot run "${file}": ${result.code === "ENOENT" ? "not found" : "no permission"}`,
      {
        hint: "install it or name its place in the settings",
      },
    );
  }
  return {
    exitCode: result.exitCode ?? null,
    signal: result.signal ?? null,
    stdout: typeof result.stdout === "string" ? result.stdout : "",
    stderr: typeof result.stderr === "string" ? result.stderr : "",
    durationMs: result.durationMs,
    timedOut: result.timedOut,
  };
}

/** A long-running child, such as a postmaster. It dies with this process, even when that is killed. */
export interface Service {
  pid: number;
  /** Resolves when it has ended, whatever the reason. Never rejects. */
  ended: Promise<{ exitCode: number | null; signal: string | null }>;
  kill(signal: NodeJS.Signals): void;
}

export function startService(
  file: string,
  args: readonly string[],
  options: Pick<CommandOptions, "env" | "cwd" | "onLine" | "user"> & { deathSignal?: "INT" | "TERM" | "KILL" } = {},
): Service {
  const { onLine } = options;
  const [program, argv] = withDeathSignal(options.deathSignal ?? "TERM", file, args);
  const child = start(program, argv, { stdin: "ignore", buffer: false, ...spawnOptions(options) });
  const readers = (["stdout", "stderr"] as const).map(async (from) => {
    for await (const line of child.iterable({ from })) onLine?.(String(line), from);
  });
  const ended = (async () => {
    const result = await child;
    await Promise.allSettled(readers);
    return { exitCode: result.exitCode ?? null, signal: result.signal ?? null };
  })();
  if (child.pid === undefined) {
    throw new RestoreError("PREFLIGHT_FAILED", `cannot start "${file}"`, { hint: "is it installed and executable" });
  }
  return { pid: child.pid, ended, kill: (signal) => void child.kill(signal) };
}

/** Last resort at the end of a cancelled script: nothing that was started here outlives it. */
export function killAllChildren(): void {
  for (const child of running) child.kill("SIGKILL");
}

function start(file: string, args: readonly string[], options: Options): ResultPromise {
  const child = execa(file, args, {
    reject: false,
    forceKillAfterDelay: KILL_AFTER_MS,
    cleanup: true,
    ...options,
  } as Options);
  running.add(child);
  child.catch(() => {}).finally(() => running.delete(child));
  return child;
}

function spawnOptions(options: Pick<CommandOptions, "env" | "cwd" | "user">): Options {
  return {
    ...(options.env === undefined ? {} : { env: options.env as Record<string, string>, extendEnv: false }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  };
}

const SETPRIV = "/usr/bin/setpriv";

/** util-linux's setpriv asks the kernel to signal the child when this process dies, SIGKILL included. */
export function withDeathSignal(signal: string, file: string, args: readonly string[]): [string, readonly string[]] {
  if (!existsSync(SETPRIV)) return [file, args];
  return [SETPRIV, ["--pdeathsig", signal, "--", file, ...args]];
}
