/** The Patroni that called this process, seen from its child: which one it is, its configuration, and whether it is still there. */

import { readdir, stat } from "node:fs/promises";
import { connect } from "node:net";
import { basename, join, resolve } from "node:path";
import { isPatroniCommand } from "../patroni/command.ts";
import { readTextIfExists } from "./files.ts";
import {
  allProcesses,
  ancestors,
  commandLine,
  initialEnvironment,
  isAlive,
  type ListeningSocket,
  listeningSockets,
  threads,
  workingDirectory,
} from "./processes.ts";

export interface PatroniProcess {
  pid: number;
  /** From /proc, so that a re-used number is not mistaken for it. */
  started: string;
  /** Absolute; Patroni also takes a directory of `*.yml` files. Null when it is configured by environment alone. */
  configFile: string | null;
  /** What it was started with: Patroni itself removes its variables from what its children get. Empty when hidden. */
  environment: Readonly<Record<string, string>>;
}

/** Where a Patroni reads its settings. */
type PatroniSettings = Pick<PatroniProcess, "configFile" | "environment">;

/**
 * The nearest ancestor that is Patroni, or null when none is (run by hand, or Patroni is already gone). As PID 1 Patroni
 * forks a worker with the same command line (patroni 3.0.2 __main__.py, main) and the worker is the nearer one; shells,
 * tini and env between it and this process are passed over.
 */
export async function findPatroni(from: number = process.pid): Promise<PatroniProcess | null> {
  let worker: { pid: number; started: string } | undefined;
  for (const { pid, started } of await ancestors(from)) {
    const argv = await commandLine(pid);
    if (isMultiprocessingWorker(argv)) worker ??= { pid, started };
    else if (isPatroniCommand(argv)) {
      const environment = (await initialEnvironment(pid)) ?? {};
      return { ...(worker ?? { pid, started }), configFile: await configFileOf(pid, argv, environment), environment };
    } else worker = undefined;
  }
  return null;
}

/** A running Patroni that is configured with this data directory, by its process number; null when none is seen. */
export async function patroniOf(datadir: string): Promise<number | null> {
  for (const { pid } of await allProcesses()) {
    const argv = await commandLine(pid);
    if (!isPatroniCommand(argv)) continue;
    const environment = (await initialEnvironment(pid)) ?? {};
    const configFile = await configFileOf(pid, argv, environment);
    const configured = await configuredValue({ configFile, environment }, "PATRONI_POSTGRESQL_DATA_DIR", [
      "postgresql",
      "data_dir",
    ]);
    if (configured !== null && resolve(configured) === resolve(datadir)) return pid;
  }
  return null;
}

/** Python's `forkserver` and `spawn` start methods give a worker a command line of their own. */
function isMultiprocessingWorker(argv: readonly string[]): boolean {
  return argv.some((argument) => argument.startsWith("from multiprocessing."));
}

async function configFileOf(
  pid: number,
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<string | null> {
  const at = argv.findIndex((argument) => /^patroni(\.__main__)?$/.test(basename(argument, ".py")));
  const operand = argv.slice(at + 1).find((argument) => !argument.startsWith("-"));
  const path = operand ?? environment.PATRONICTL_CONFIG_FILE;
  if (path === undefined || (operand === undefined && environment.PATRONI_CONFIGURATION)) return null;
  return resolve((await workingDirectory(pid)) ?? "/", path);
}

/** The superuser that Patroni uses, or null when none is configured: it then connects as its operating system user. */
export async function superuserOf(patroni: PatroniSettings): Promise<string | null> {
  return configuredValue(patroni, "PATRONI_SUPERUSER_USERNAME", [
    "postgresql",
    "authentication",
    "superuser",
    "username",
  ]);
}

/** The same for a Patroni that does not run yet, with this process's environment. */
export async function configuredSuperuser(configFile: string | undefined): Promise<string | null> {
  const environment = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, value ?? ""]));
  return superuserOf({ configFile: configFile ?? environment.PATRONICTL_CONFIG_FILE ?? null, environment });
}

/** The environment outranks the file (patroni 3.0.2 config.py, _load_config_file). */
async function configuredValue(
  patroni: PatroniSettings,
  variable: string,
  keys: readonly string[],
): Promise<string | null> {
  const fromEnvironment = patroni.environment[variable];
  if (fromEnvironment) return fromEnvironment;
  const texts = await configTexts(patroni);
  const { parseDocument } = await import("yaml");
  // Patroni merges the files of a directory in alphabetical order; the last one that says it counts.
  for (const text of texts.reverse()) {
    const value = parseDocument(text, { version: "1.1", logLevel: "silent" }).getIn(keys);
    if (typeof value === "string" && value !== "") return value;
  }
  return null;
}

async function configTexts({ configFile, environment }: PatroniSettings): Promise<string[]> {
  if (configFile === null) return environment.PATRONI_CONFIGURATION ? [environment.PATRONI_CONFIGURATION] : [];
  const isDirectory = await stat(configFile).then(
    (s) => s.isDirectory(),
    () => false,
  );
  if (!isDirectory) return [(await readTextIfExists(configFile)) ?? ""];
  const names = (await readdir(configFile)).filter((name) => /\.ya?ml$/.test(name)).sort();
  return Promise.all(names.map(async (name) => (await readTextIfExists(join(configFile, name))) ?? ""));
}

export interface PatroniWatch {
  stop(): void;
}

const POLL_MS = 500;
/** So many polls in a row without any reaction, each of which waits for `REACTION_MS`. */
const SILENT_POLLS = 3;
const REACTION_MS = 1500;

/**
 * Calls `onGone` once, when Patroni has ended or has begun to shut down. Without a Patroni it never does.
 *
 * The end of the process is plain. A shutdown is not: on SIGTERM Patroni up to 4.0.4 neither cancels nor signals the
 * bootstrap command (3.0.2 ha.py, shutdown), and its process stays until the command ends because Python waits for the
 * thread that runs it (async_executor.py, run_async: not a daemon thread). What does change at once is that
 * `api.shutdown()` (__main__.py, _shutdown) ends the thread that accepts connections of the REST API, without closing
 * the socket (socketserver's shutdown() is not server_close()): it still listens, and nobody ever answers. So a
 * connection is tried when a thread that was there at the last answer is gone. As long as all of them live, the
 * accepting one lives too, and Patroni is left alone. A reload that moves the REST API to another address is seen by
 * looking up the sockets anew each time.
 */
export function watchPatroni(
  patroni: PatroniProcess | null,
  { onGone }: { onGone: (reason: string) => void },
): PatroniWatch {
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const stop = () => {
    stopped = true;
    clearTimeout(timer);
  };
  if (patroni === null) return { stop };

  const { pid, started } = patroni;
  /** Threads at the last reaction of the REST API; undefined before the first one, without which silence means nothing. */
  let known: number[] | undefined;
  let silentPolls = 0;

  const look = async (): Promise<string | undefined> => {
    if (!(await isAlive(pid, started))) return `Patroni (process ${pid}) has ended`;
    const current = await threads(pid);
    if (known?.every((thread) => current.includes(thread))) {
      silentPolls = 0;
      return undefined;
    }
    const sockets = await listeningSockets(pid);
    if (sockets === null) return undefined;
    if (await anyReacts(sockets)) {
      known = current;
      silentPolls = 0;
    } else if (known !== undefined) silentPolls++;
    return silentPolls < SILENT_POLLS ? undefined : `Patroni (process ${pid}) is shutting down`;
  };
  const poll = async () => {
    const reason = await look().catch(() => undefined);
    if (stopped) return;
    if (reason === undefined) timer = setTimeout(poll, POLL_MS).unref();
    else {
      stop();
      onGone(reason);
    }
  };
  timer = setTimeout(poll, 0).unref();
  return { stop };
}

async function anyReacts(sockets: readonly ListeningSocket[]): Promise<boolean> {
  return (await Promise.all(sockets.map(reacts))).includes(true);
}

/** Connects, says nothing, and waits for the server to close its side, which it does once somebody has accepted. */
function reacts({ host, port }: ListeningSocket): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ host: reachable(host), port, timeout: REACTION_MS });
    const finish = (result: boolean) => {
      socket.destroy();
      done(result);
    };
    socket.on("connect", () => socket.end());
    socket.on("data", () => finish(true));
    socket.on("end", () => finish(true));
    socket.on("timeout", () => finish(false));
    // Reset after it was accepted is a reaction too; refused is none.
    socket.on("error", (error: NodeJS.ErrnoException) => finish(error.code === "ECONNRESET"));
  });
}

function reachable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  return /^(0:){7}0$/.test(host) ? "::1" : host;
}

/** Patroni takes a directory with nothing but dot-files and `lost+found` for empty (3.0.2 utils.py, data_directory_is_empty). */
export function isEmptyForPatroni(names: readonly string[]): boolean {
  return names.every((name) => name.startsWith(".") || name === "lost+found");
}
