/** The only place that starts processes. No shell ever: arguments go as they are. */

import { accessSync, constants, existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { execa, type Options, type ResultPromise } from "execa";
import { RestoreError } from "../errors.ts";
import { keepUntil } from "./children.ts";

export interface CommandOptions {
  /** Ends the command when aborted; the call then throws the signal's reason. */
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  /** The whole environment of the command; this process's own by default. */
  env?: NodeJS.ProcessEnv | undefined;
  cwd?: string | undefined;
  input?: string | undefined;
  /** Called for every line of stdout or stderr as it comes; the result then holds only the last lines of each. */
  onLine?: ((line: string, from: "stdout" | "stderr") => void) | undefined;
  /** False for output too long to keep: `onLine` sees it, the result's texts stay empty. */
  buffer?: boolean | undefined;
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

/** With `onLine`, this much of the end of stdout and stderr is kept for the result. */
const TAIL_LENGTH = 64 * 1024;

/** A result longer than this would be cut without a word, so it is refused. */
const MAX_OUTPUT = 100 * 1024 ** 2;

/** A process that was left behind (the server of `pg_ctl start`) may hold the pipes open for ever. */
const PIPES_AFTER_EXIT_MS = 2000;

/** The most that a timer can wait; more would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Children get this long after SIGTERM before SIGKILL; Patroni 4.x gives this process 10 s in all. */
const KILL_AFTER_MS = 5000;

/**
 * Runs a program to its end. A non-zero exit is a result, not an exception; throws PREFLIGHT_FAILED when the program
 * cannot be started, and the signal's reason when it was aborted.
 */
export async function runCommand(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { signal, timeoutMs, onLine, discardStdout } = options;
  signal?.throwIfAborted();
  requireProgram(file, options);
  const [program, argv] = withDeathSignal("TERM", file, args);
  const child = start(program, argv, {
    ...(timeoutMs === undefined ? {} : { timeout: Math.min(Math.max(timeoutMs, 1), MAX_TIMER_MS) }),
    ...(signal === undefined ? {} : { cancelSignal: signal }),
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
    ...(discardStdout ? { stdout: "ignore" as const } : {}),
    // Never kept by execa: it would quote all of it in an error's text, which ends this process for long binary output.
    buffer: false,
    forceKillAfterDelay: KILL_AFTER_MS,
    ...spawnOptions(options),
  });
  let failure: { error: unknown } | undefined;
  const attempt = (deed: () => void) => {
    if (failure !== undefined) return;
    try {
      deed();
    } catch (error) {
      failure = { error };
      child.kill("SIGTERM");
    }
  };
  const streams = discardStdout ? (["stderr"] as const) : (["stdout", "stderr"] as const);
  const isKept = options.buffer !== false;
  const kept = { stdout: newText(file, isKept, onLine), stderr: newText(file, isKept, onLine) };
  const readRest = onLine
    ? readLines(child, streams, (line, from) => {
        kept[from].add(`${line}\n`);
        attempt(() => onLine(line, from));
      })
    : readChunks(child, streams, (text, from) => attempt(() => kept[from].add(text)));
  const result = await child;
  readRest();
  if (failure !== undefined) throw failure.error;
  if (result.isCanceled) throw signal?.reason;
  if (result.exitCode === undefined && result.signal === undefined) {
    throw cannotRun(file, result.originalMessage ?? result.code ?? "unknown reason");
  }
  return {
    exitCode: result.exitCode ?? null,
    signal: result.signal ?? null,
    stdout: kept.stdout.text(),
    stderr: kept.stderr.text(),
    durationMs: result.durationMs,
    timedOut: result.timedOut,
  };
}

/** A long-running child, such as a postmaster. It dies with this process, even when that is killed. */
export interface Service {
  pid: number;
  /** Resolves when it has ended, whatever the reason. Never rejects. */
  ended: Promise<{ exitCode: number | null; signal: string | null }>;
  /** Sends just this signal; what follows is the caller's to decide. Does nothing when it has ended. */
  kill(signal: NodeJS.Signals): void;
}

/** Throws PREFLIGHT_FAILED when the program cannot be started. */
export function startService(
  file: string,
  args: readonly string[],
  options: Pick<CommandOptions, "env" | "cwd" | "onLine" | "user"> & {
    deathSignal?: "INT" | "QUIT" | "TERM" | "KILL";
  } = {},
): Service {
  requireProgram(file, options);
  const [program, argv] = withDeathSignal(options.deathSignal ?? "TERM", file, args);
  // SIGTERM is a smart shutdown to PostgreSQL, which must not become a SIGKILL some seconds later.
  const child = start(program, argv, {
    stdin: "ignore",
    buffer: false,
    forceKillAfterDelay: false,
    ...spawnOptions(options),
  });
  if (child.pid === undefined) {
    throw new RestoreError("PREFLIGHT_FAILED", `cannot start "${file}"`, {
      about: "host",
      hint: "is it installed and executable",
    });
  }
  const readRest = readLines(child, ["stdout", "stderr"], (line, from) => options.onLine?.(line, from));
  const ended = (async () => {
    const result = await child;
    readRest();
    return { exitCode: result.exitCode ?? null, signal: result.signal ?? null };
  })();
  return { pid: child.pid, ended, kill: (signal) => void child.kill(signal) };
}

function start(file: string, args: readonly string[], options: Options): ResultPromise {
  const child = execa(file, args, { reject: false, cleanup: true, ...options } as Options);
  keepUntil(child, child);
  child.once("exit", () => {
    const closePipes = () => {
      child.stdout?.destroy();
      child.stderr?.destroy();
    };
    // What the pipes hold is read before they are closed.
    const timer = setTimeout(() => setImmediate(closePipes), PIPES_AFTER_EXIT_MS);
    child.finally(() => clearTimeout(timer)).catch(() => {});
  });
  return child;
}

/** Calls back for every line as it comes; the returned function gives what stands after the last line's end. */
function readLines(
  child: ResultPromise,
  streams: readonly ("stdout" | "stderr")[],
  onLine: (line: string, from: "stdout" | "stderr") => void,
): () => void {
  const rest = { stdout: "", stderr: "" };
  // execa's own iterator takes nine times as long.
  readChunks(child, streams, (text, from) => {
    const lines = (rest[from] + text).split("\n");
    rest[from] = lines.pop() ?? "";
    for (const line of lines) onLine(line.replace(/\r$/, ""), from);
  });
  return () => {
    for (const from of streams) if (rest[from] !== "") onLine(rest[from], from);
  };
}

function readChunks(
  child: ResultPromise,
  streams: readonly ("stdout" | "stderr")[],
  onText: (text: string, from: "stdout" | "stderr") => void,
): () => void {
  for (const from of streams) child[from]?.setEncoding("utf8").on("data", (text: string) => onText(text, from));
  return () => {};
}

/** The whole text up to a limit, which throws; of a text that somebody reads by line just the end. */
function newText(file: string, isKept: boolean, onLine: CommandOptions["onLine"]) {
  let kept = "";
  return {
    add(text: string) {
      if (!isKept) return;
      kept += text;
      if (onLine !== undefined && kept.length > 2 * TAIL_LENGTH) {
        kept = kept.slice(kept.indexOf("\n", kept.length - TAIL_LENGTH) + 1);
      } else if (kept.length > MAX_OUTPUT) {
        throw new Error(`"${file}" printed more than ${MAX_OUTPUT} characters`);
      }
    },
    text: () => kept.replace(/\r?\n$/, ""),
  };
}

function spawnOptions(options: Pick<CommandOptions, "env" | "cwd" | "user">): Options {
  return {
    ...(options.env === undefined ? {} : { env: options.env as Record<string, string>, extendEnv: false }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
  };
}

function cannotRun(file: string, reason: string): RestoreError {
  return new RestoreError("PREFLIGHT_FAILED", `cannot run "${file}": ${reason}`, {
    about: "host",
    hint: "install it or name its place in the settings",
  });
}

/** Found out beforehand: setpriv stands between, and its own exit code would look like the program's. */
function requireProgram(file: string, { env, cwd }: Pick<CommandOptions, "env" | "cwd">): void {
  if (cwd !== undefined && !isDirectory(cwd)) {
    throw new RestoreError("PREFLIGHT_FAILED", `cannot run "${file}": there is no directory ${cwd}`, { about: "host" });
  }
  const directories = (env ?? process.env).PATH?.split(":") ?? ["/usr/local/bin", "/usr/bin", "/bin"];
  const places = file.includes("/")
    ? [resolve(cwd ?? "", file)]
    : directories.map((directory) => resolve(directory, file));
  const found = places.filter((place) => existsSync(place) && !isDirectory(place));
  if (found.length === 0) throw cannotRun(file, "not found");
  if (!found.some(isExecutable)) throw cannotRun(file, "no permission");
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const SETPRIV = "/usr/bin/setpriv";

/** util-linux's setpriv asks the kernel to signal the child when this process dies, SIGKILL included. */
export function withDeathSignal(signal: string, file: string, args: readonly string[]): [string, readonly string[]] {
  if (!existsSync(SETPRIV)) return [file, args];
  return [SETPRIV, ["--pdeathsig", signal, "--", file, ...args]];
}
