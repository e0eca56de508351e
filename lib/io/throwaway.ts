/** A directory that holds everything of a restore test, and servers in it that run as an ordinary user. */

import { spawn } from "node:child_process";
import { existsSync, watch } from "node:fs";
import { copyFile, lchown, mkdir, open, readdir, readFile, realpath, stat, symlink, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { RestoreError } from "../errors.ts";
import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { describeFileError } from "./files.ts";
import { allProcesses, commandLine, type ProcessStatus, workingDirectory } from "./processes.ts";

/** An ordinary user of the operating system; PostgreSQL refuses to run as root. */
export interface OsUser {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** From /etc/passwd; undefined when there is no such user there. */
export async function lookUpUser(nameOrUid: string | number): Promise<OsUser | undefined> {
  const text = await readFile("/etc/passwd", "utf8").catch(() => "");
  for (const line of text.split("\n")) {
    const [name = "", , uid = "", gid = "", , home = ""] = line.split(":");
    if (name !== "" && (name === nameOrUid || Number(uid) === nameOrUid)) {
      return { name, uid: Number(uid), gid: Number(gid), home };
    }
  }
  return undefined;
}

/** Null when nobody else is needed: only root can run servers as another user. */
export const currentUid = () => process.getuid?.() ?? -1;

/** Like `which`: the program's path, or undefined when it is not in PATH or not executable. */
export function findProgram(name: string): string | undefined {
  const directories = (process.env.PATH ?? "").split(":").filter((directory) => directory.startsWith("/"));
  return directories.map((directory) => join(directory, name)).find((path) => existsSync(path));
}

/** The file of the running script: everything is in it, so a copy of it is a whole installation. */
export async function runningScript(): Promise<string> {
  return realpath(process.argv[1] ?? "");
}

/**
 * Makes a private directory (0700) with these directories and copies of files in it, all owned by `owner`. Throws PREFLIGHT_FAILED when it exists or cannot be made.
 */
export async function makeThrowaway(
  path: string,
  owner: OsUser | null,
  content: { directories: readonly string[] /** Original by copy. */; copies: Readonly<Record<string, string>> },
): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    throw new RestoreError("PREFLIGHT_FAILED", `cannot make the directory ${path}: ${describeFileError(error)}`, {
      about: "host",
      cause: error,
      hint: "it is made in --work-dir",
    });
  }
  for (const directory of content.directories) await mkdir(directory, { mode: 0o700 });
  for (const [copy, original] of Object.entries(content.copies)) await copyFile(original, copy);
  if (owner === null) return;
  for (const made of [...content.directories, ...Object.keys(content.copies), path]) {
    await lchown(made, owner.uid, owner.gid);
  }
}

/** A further file (0600) in it. */
export async function addFile(path: string, owner: OsUser | null, text: string): Promise<void> {
  await writeFile(path, text, { mode: 0o600, flag: "wx" });
  if (owner !== null) await lchown(path, owner.uid, owner.gid);
}

/**
 * Makes a directory of links to all programs of another one; those of `own` (texts by name) stand in for their originals,
 * which are in `original/` below it: a process is known by the name of its program.
 */
export async function standInFor(
  binDir: string,
  directory: string,
  owner: OsUser | null,
  own: Readonly<Record<string, string>>,
): Promise<void> {
  const originals = join(directory, "original");
  await mkdir(originals, { mode: 0o700, recursive: true });
  for (const name of await readdir(binDir)) {
    await symlink(join(binDir, name), join(Object.hasOwn(own, name) ? originals : directory, name));
  }
  for (const [name, text] of Object.entries(own)) {
    await writeFile(join(directory, name), text, { mode: 0o700 });
    if (owner !== null) await lchown(join(directory, name), owner.uid, owner.gid);
  }
  if (owner !== null) for (const path of [originals, directory]) await lchown(path, owner.uid, owner.gid);
}

const SETPRIV = "/usr/bin/setpriv";

export const canSwitchUser = () => existsSync(SETPRIV);

const asUser = (user: OsUser | null) =>
  user === null ? [] : [`--reuid=${user.uid}`, `--regid=${user.gid}`, "--init-groups"];

/** Runs a short program to its end as this user; null is this process's own. */
export async function runAs(
  user: OsUser | null,
  program: string,
  args: readonly string[],
  options: Pick<CommandOptions, "cwd" | "env" | "signal">,
): Promise<CommandResult> {
  const limited = { ...options, timeoutMs: 30_000 };
  if (user === null) return runCommand(program, args, limited);
  return runCommand(SETPRIV, [...asUser(user), "--", program, ...args], limited);
}

export interface Server {
  pid: number;
  /** Null while it runs. */
  exit: { exitCode: number | null; signal: string | null } | null;
}

export interface ServerOptions {
  /** Runs as this user; null is this process's own. */
  user: OsUser | null;
  cwd: string;
  env: NodeJS.ProcessEnv;
  /** Everything it says is appended there, so that it can go on speaking when this process has ended. */
  logFile: string;
  /** Called when it has ended; `exit` says how by then. */
  onExit?: () => void;
  /** True: it goes on when this process has ended. False: the kernel ends it with this process, even a killed one. */
  survives: boolean;
}

/** Starts it in a session of its own: Ctrl-C in a terminal must reach this process only, which then stops things in order. */
export async function startServer(program: string, args: readonly string[], options: ServerOptions): Promise<Server> {
  const { user, survives } = options;
  const log = await open(options.logFile, "a", 0o600);
  try {
    const privileges = [...asUser(user), ...(survives ? [] : ["--pdeathsig", "TERM"])];
    const [file, argv] =
      privileges.length > 0 && canSwitchUser() ? [SETPRIV, [...privileges, "--", program, ...args]] : [program, args];
    const child = spawn(file, argv, {
      cwd: options.cwd,
      env: options.env,
      stdio: ["ignore", log.fd, log.fd],
      detached: true,
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", (error) =>
        reject(
          new RestoreError("PREFLIGHT_FAILED", `cannot start ${program}: ${error.message}`, {
            about: "host",
            cause: error,
          }),
        ),
      );
    });
    const server: Server = { pid: child.pid as number, exit: null };
    const killAtExit = () => child.kill("SIGKILL");
    if (!survives) process.once("exit", killAtExit);
    child.once("exit", (exitCode, signal) => {
      server.exit = { exitCode, signal };
      process.off("exit", killAtExit);
      options.onExit?.();
    });
    // The waits of the caller keep this process going, not the server.
    child.unref();
    return server;
  } finally {
    await log.close();
  }
}

/**
 * Calls back when a file in that directory is made or grows. False when the kernel has no watch left for it
 * (fs.inotify.max_user_instances): whoever waits must then look by himself.
 */
export function watchFile(path: string, onChange: () => void): { isWatched: boolean; stop(): void } {
  try {
    const watcher = watch(dirname(path), { persistent: false }, (_event, name) => {
      if (name === basename(path)) onChange();
    });
    watcher.on("error", () => {});
    return { isWatched: true, stop: () => watcher.close() };
  } catch {
    return { isWatched: false, stop() {} };
  }
}

/** Reads what was appended to a file since the last time, in whole lines. A file that is not there yet has none. */
export function followLines(path: string): () => Promise<string[]> {
  let offset = 0;
  let rest = Buffer.alloc(0);
  return async () => {
    const file = await open(path, "r").catch(() => undefined);
    if (file === undefined) return [];
    try {
      const chunk = Buffer.alloc(256 * 1024);
      const lines: string[] = [];
      for (;;) {
        const { bytesRead } = await file.read(chunk, 0, chunk.length, offset);
        if (bytesRead === 0) return lines;
        offset += bytesRead;
        rest = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
        const end = rest.lastIndexOf("\n");
        if (end < 0) continue;
        lines.push(...rest.subarray(0, end).toString("utf8").split("\n"));
        rest = rest.subarray(end + 1);
      }
    } finally {
      await file.close();
    }
  };
}

/** Every process that works in the directory or below it, orphans included; this process itself never. */
export async function processesBelow(directory: string): Promise<(ProcessStatus & { argv: string[] })[]> {
  const root = await realpath(directory).catch(() => directory);
  const candidates = (await allProcesses()).filter(({ pid, state }) => pid !== process.pid && state !== "Z");
  const found = await Promise.all(
    candidates.map(async (status) => {
      const cwd = await workingDirectory(status.pid);
      if (cwd !== root && !cwd?.startsWith(`${root}/`)) return [];
      return [{ ...status, argv: await commandLine(status.pid) }];
    }),
  );
  return found.flat();
}

/** Signals a process if it is still there. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/**
 * Removes a directory with everything in it by `rm`, which goes on by itself when no time is left: large files take
 * time, and a stopped test must not leave them behind. Resolves to false then.
 */
export async function removeDirectory(path: string, leftMs: () => number): Promise<boolean> {
  const child = spawn("rm", ["-rf", "--", path], { stdio: "ignore", detached: true, cwd: "/" });
  let ended = false;
  child.once("error", () => {
    ended = true;
  });
  child.once("exit", () => {
    ended = true;
  });
  child.unref();
  while (!ended) {
    if (leftMs() <= 0) return false;
    await sleep(20);
  }
  return !existsSync(path);
}

export async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (status) => status.isDirectory(),
    () => false,
  );
}
