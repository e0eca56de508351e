/** PostgreSQL's programs: where they are, control data, and a postmaster of our own that nothing can reach. */

import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { messageOf, RestoreError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Conninfo } from "../postgres/conninfo.ts";
import { type ControlData, parseControlData } from "../restore/control-data.ts";
import { LOG_LINE_PREFIX, newRecoveryLog, type RecoveryLog, readServerLine } from "../restore/server-log.ts";
import { formatDuration } from "../units.ts";
import { runCommand, type Service, startService } from "./command.ts";
import { exists, list, removeTree } from "./files.ts";
import { KEPT_MEMORY } from "./memory.ts";
import { makeTemporaryDirectory } from "./temporary.ts";

const DEBIAN_LIB = "/usr/lib/postgresql";

/** Directory with `postgres` of this major version. Throws PREFLIGHT_FAILED that says which versions there are. */
export async function findBinDir(majorVersion: string, given?: string): Promise<string> {
  const places =
    given === undefined
      ? [`${DEBIAN_LIB}/${majorVersion}/bin`, `/usr/pgsql-${majorVersion}/bin`, ...pathDirectories()]
      : [given];
  const found: string[] = [];
  for (const directory of places) {
    const version = await serverVersion(directory);
    if (version === undefined) continue;
    if (version.split(".")[0] === majorVersion) return directory;
    found.push(`${version} in ${directory}`);
  }
  if (given !== undefined && found.length === 0) {
    throw new RestoreError("PREFLIGHT_FAILED", `there is no PostgreSQL in ${given}`, {
      about: "host",
      hint: "correct --bin-dir",
    });
  }
  for (const version of await list(DEBIAN_LIB)) found.push(`${version} in ${DEBIAN_LIB}/${version}/bin`);
  throw new RestoreError(
    "PREFLIGHT_FAILED",
    `the backup is PostgreSQL ${majorVersion}, and here is only ${[...new Set(found)].join(", ") || "none"}`,
    {
      hint: `install PostgreSQL ${majorVersion} or give --bin-dir`,
      // What no version is known of may be at fault itself.
      about: majorVersion === "" ? undefined : "host",
    },
  );
}

const pathDirectories = () => (process.env.PATH ?? "").split(":").filter((d) => d.startsWith("/"));

/** `15.18`, or undefined when there is no server there. */
async function serverVersion(binDir: string): Promise<string | undefined> {
  if (!(await exists(join(binDir, "postgres")))) return undefined;
  const { stdout } = await runCommand(join(binDir, "postgres"), ["--version"], { timeoutMs: 10_000 });
  return /PostgreSQL\) (\d+(?:\.\d+)?)/.exec(stdout)?.[1];
}

/** Throws RECOVERY_FAILED when the data directory has no readable control file. */
export async function readControlData(binDir: string, datadir: string): Promise<ControlData> {
  const result = await runCommand(join(binDir, "pg_controldata"), ["-D", datadir], {
    env: { ...process.env, LC_ALL: "C" },
    timeoutMs: 30_000,
  });
  if (result.exitCode !== 0) {
    throw new RestoreError("RECOVERY_FAILED", `pg_controldata failed on ${datadir}: ${result.stderr.trim()}`);
  }
  return parseControlData(result.stdout);
}

/**
 * Flushes the files of a stopped data directory to disk, those in pg_wal and the tablespaces too. Throws RECOVERY_FAILED:
 * since PostgreSQL 12 initdb exits with 1 at the first file that cannot be flushed.
 * https://www.postgresql.org/docs/15/app-initdb.html
 */
export async function syncDataDirectory(
  binDir: string,
  datadir: string,
  limits: { timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  const result = await runCommand(join(binDir, "initdb"), ["--sync-only", "-D", datadir], {
    env: { ...process.env, LC_ALL: "C" },
    ...limits,
  });
  if (result.timedOut) {
    const limit = formatDuration(limits.timeoutMs);
    throw new RestoreError("TIMED_OUT", `the files of ${datadir} were not flushed to disk within ${limit}`, {
      hint: "raise --stop-timeout",
    });
  }
  if (result.exitCode !== 0) {
    const why = result.stderr.trim().split("\n").at(-1) || `initdb ended with ${result.signal ?? result.exitCode}`;
    throw new RestoreError("RECOVERY_FAILED", `the files of ${datadir} could not be flushed to disk: ${why}`, {
      hint: "look at the volume: the kernel's log names the device",
    });
  }
}

/** A setting as the data directory's own configuration files give it (`postgres -C`); undefined when they cannot be read. */
export async function configuredSetting(binDir: string, datadir: string, name: string): Promise<string | undefined> {
  const result = await runCommand(join(binDir, "postgres"), ["-D", datadir, "-C", name], { timeoutMs: 30_000 });
  return result.exitCode === 0 ? result.stdout.trim() : undefined;
}

export interface PostmasterOptions {
  binDir: string;
  datadir: string;
  /** The whole log of the server goes there, appended. */
  logFile: string;
  /** A superuser of the cluster. */
  superuser: string;
  /** On top of what keeps the instance private; by setting name. */
  settings?: Readonly<Record<string, string>>;
  env?: NodeJS.ProcessEnv | undefined;
  signal: AbortSignal;
  log: Log;
}

export interface Postmaster {
  conninfo: Conninfo;
  pid: number;
  /** What it has said so far; changes as it speaks. */
  said: RecoveryLog;
  /** Its last lines, for a failure's cause. */
  lines: readonly string[];
  ended: Service["ended"];
  /** Resolves at the next line it says, or when it has ended, or after the limit. */
  nextLine(limitMs: number): Promise<void>;
  /** Throws TIMED_OUT when it does not end in time; it is killed then. Does nothing when it has ended. */
  stop(mode: "fast" | "immediate", timeoutMs: number): Promise<void>;
}

/** Any port will do: it only names the socket file. */
const SOCKET_PORT = "5432";

/** These win over every configuration file of the restored directory, because nothing of the source may act here. */
const PRIVATE_SETTINGS = {
  listen_addresses: "",
  port: SOCKET_PORT,
  ssl: "off",
  archive_mode: "off",
  archive_command: "false -- a restore never archives",
  primary_conninfo: "",
  primary_slot_name: "",
  synchronous_standby_names: "",
  // Workers would start before any SQL can stop them: a live subscription takes rows from the real subscriber at once.
  max_logical_replication_workers: "0",
  "cron.launch_active_jobs": "off",
  "timescaledb.max_background_workers": "0",
  autovacuum: "off",
  logging_collector: "off",
  log_destination: "stderr",
  log_line_prefix: LOG_LINE_PREFIX,
  log_timezone: "UTC",
  TimeZone: "UTC",
  lc_messages: "C",
  log_min_messages: "warning",
  log_statement: "none",
  log_min_duration_statement: "-1",
  shared_buffers: "128MB",
  huge_pages: "off",
  // Files in the data directory: a container's /dev/shm may be tiny or not writable.
  dynamic_shared_memory_type: "mmap",
  max_wal_size: "1GB",
  restart_after_crash: "off",
  data_sync_retry: "off",
} satisfies Record<string, string>;

/**
 * Starts `postgres` as a child with a configuration of its own: the restored `postgresql.conf` may include files, listen,
 * demand certificates or memory that are not here. Its socket is in a directory that only this user can enter.
 */
export async function startPostmaster(options: PostmasterOptions): Promise<Postmaster> {
  const { binDir, datadir, logFile, superuser, signal } = options;
  signal.throwIfAborted();
  const directory = await makeTemporaryDirectory();
  await writeFile(join(directory, "postgresql.conf"), "");
  await writeFile(join(directory, "pg_hba.conf"), "local all all trust\n");
  await writeFile(join(directory, "pg_ident.conf"), "");
  const settings: Record<string, string> = {
    config_file: join(directory, "postgresql.conf"),
    hba_file: join(directory, "pg_hba.conf"),
    ident_file: join(directory, "pg_ident.conf"),
    data_directory: datadir,
    unix_socket_directories: directory,
    external_pid_file: join(directory, "postmaster.pid"),
    ...PRIVATE_SETTINGS,
    ...options.settings,
  };
  const said = newRecoveryLog();
  const lines: string[] = [];
  const logStream = createWriteStream(logFile, { flags: "a", mode: 0o600 });
  logStream.on("error", (error) => options.log.warn("recovery", `cannot write ${logFile}: ${messageOf(error)}`));
  let wake = () => {};
  const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const service = startService(join(binDir, "postgres"), ["-D", datadir, ...args], {
    env: { ...(options.env ?? process.env), ...KEPT_MEMORY },
    cwd: directory,
    // An immediate shutdown, should this process be killed: the directory is then thrown away.
    deathSignal: "QUIT",
    onLine(line) {
      logStream.write(`${line}\n`);
      lines.push(line);
      if (lines.length > 500) lines.shift();
      readServerLine(said, line);
      wake();
    },
  });
  let hasEnded = false;
  const ended = service.ended.then(async (result) => {
    hasEnded = true;
    wake();
    await new Promise((resolve) => logStream.end(resolve));
    await removeTree(directory);
    return result;
  });
  return {
    conninfo: { host: directory, port: SOCKET_PORT, user: superuser, dbname: "postgres" },
    pid: service.pid,
    said,
    lines,
    ended,
    nextLine: async (limitMs) => {
      if (hasEnded) return void (await ended);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, limitMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    },
    async stop(mode, timeoutMs) {
      if (hasEnded) return;
      // https://www.postgresql.org/docs/15/server-shutdown.html
      service.kill(mode === "fast" ? "SIGINT" : "SIGQUIT");
      const timer = new Promise<"late">((resolve) => setTimeout(() => resolve("late"), timeoutMs).unref());
      if ((await Promise.race([ended, timer])) !== "late") return;
      service.kill("SIGQUIT");
      const grace = new Promise<"late">((resolve) => setTimeout(() => resolve("late"), 2000).unref());
      if ((await Promise.race([ended, grace])) === "late") service.kill("SIGKILL");
      await ended;
      throw new RestoreError("TIMED_OUT", `PostgreSQL did not stop within ${formatDuration(timeoutMs)}`, {
        hint: "raise --stop-timeout",
      });
    },
  };
}

/** An ordinary start of a data directory that needs no recovery, private as above; ready when it returns. */
export async function startPrivatePostmaster(options: PostmasterOptions & { timeoutMs?: number }): Promise<Postmaster> {
  const postmaster = await startPostmaster(options);
  const deadline = Date.now() + (options.timeoutMs ?? 300_000);
  try {
    while (postmaster.said.acceptsConnections !== "all") {
      await postmaster.nextLine(500);
      options.signal.throwIfAborted();
      const end = await Promise.race([postmaster.ended, Promise.resolve("running" as const)]);
      if (end !== "running") {
        const reason = postmaster.said.errors.at(-1)?.message ?? postmaster.lines.at(-1) ?? "it said nothing";
        throw new RestoreError("RECOVERY_FAILED", `PostgreSQL did not start on ${options.datadir}: ${reason}`);
      }
      if (Date.now() > deadline) {
        throw new RestoreError("TIMED_OUT", `PostgreSQL on ${options.datadir} was not ready in time`);
      }
    }
  } catch (error) {
    await postmaster.stop("immediate", 5000);
    throw error;
  }
  return postmaster;
}
