/**
 * A lab: a directory of its own with real services in it, and the promise that nothing of it is left afterwards. Lab tests
 * and the demo build on it; `source.ts`, `etcd.ts` and `patroni.ts` start the services.
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { chmod, chown, copyFile, cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { DISK } from "./place.ts";
import { freePort } from "./ports.ts";
import {
  endProcessesOf,
  type ProcessInfo,
  processesOf,
  type RunningCommand,
  type RunOptions,
  type RunResult,
  type Service,
  startCommand,
  startService,
} from "./process.ts";

const REPOSITORY = fileURLToPath(new URL("../..", import.meta.url));
const REAPER = fileURLToPath(new URL("reaper.sh", import.meta.url));

export interface Lab {
  name: string;
  /** Owned by postgres, mode 0755, short because of the limit for Unix sockets (107 bytes). */
  dir: string;
  /** Directory of PostgreSQL's programs. */
  binDir: string;
  /** A small, clean environment for everything that is started here. */
  env: Readonly<Record<string, string>>;
  freePort(): Promise<number>;
  /** Path in the lab; nothing is created. */
  path(...parts: string[]): string;
  /** A directory in the lab that belongs to postgres. */
  makeDirectory(name: string, mode?: number): Promise<string>;
  /** A file in the lab that belongs to postgres. */
  writeFile(name: string, text: string, mode?: number): Promise<string>;
  /** Runs a program of this machine to its end, as postgres unless `asRoot`. */
  run(file: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** The same, and throws with its output unless it exits 0. */
  mustRun(file: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Starts a service whose output goes to `log/<name>.log`; `close()` ends it. */
  startService(
    name: string,
    file: string,
    args: readonly string[],
    options?: {
      env?: Readonly<Record<string, string | undefined>>;
      asRoot?: boolean;
      deathSignal?: "INT" | "TERM" | "QUIT" | "KILL";
    },
  ): Service;
  /** Runs `node dist/<name>.mjs` to its end, as Patroni and people would: as postgres, from a copy of dist. */
  runScript(name: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Starts it only, to disturb it while it runs. */
  startScript(name: string, args: readonly string[], options?: RunOptions): Promise<RunningCommand>;
  /** Path of the copy of `dist/<name>.mjs`, for a Patroni configuration. */
  script(name: string): Promise<string>;
  /** Every process of this lab that is alive. */
  processes(): ProcessInfo[];
  /** Copies logs, reports and configuration (never data) to `test/evidence/<title>`; returns that path. */
  keepEvidence(title: string): Promise<string>;
  /** Ends everything that was started in this lab, whoever started it, and removes the directory. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** `name`: short, becomes part of the directory's name. */
export async function openLab(name: string): Promise<Lab> {
  const dir = await mkdtemp(join(process.env.LAB_ROOT ?? DISK, `lab-${name.slice(0, 12)}-`));
  const reaper = startReaper(dir);
  const owner = postgresUser();
  const own = (path: string) => (owner === undefined ? Promise.resolve() : chown(path, owner.uid, owner.gid));
  await chmod(dir, 0o755);
  await own(dir);
  const binDir = findBinDir();
  const env = {
    PATH: `${binDir}:${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    HOME: dir,
    LANG: "C.UTF-8",
    // Patroni is Python: without it a log line shows only when 8 kB are full.
    PYTHONUNBUFFERED: "1",
  };
  let scripts: Promise<string> | undefined;
  let runs = 0;
  let closing: Promise<void> | undefined;

  const mustBeOpen = () => {
    if (closing) throw new Error(`the lab ${name} is closed`);
  };

  const lab: Lab = {
    name,
    dir,
    binDir,
    env,
    freePort,
    path: (...parts) => join(dir, ...parts),
    async makeDirectory(directory, mode = 0o755) {
      const path = join(dir, directory);
      await mkdir(path, { recursive: true });
      await chmod(path, mode);
      await own(path);
      return path;
    },
    async writeFile(file, text, mode = 0o644) {
      const path = join(dir, file);
      await writeFile(path, text, { mode });
      await chmod(path, mode);
      await own(path);
      return path;
    },
    async run(file, args, options = {}) {
      mustBeOpen();
      return startCommand(file, args, { cwd: dir, ...options, env: { ...env, ...options.env } }).result;
    },
    async mustRun(file, args, options) {
      const result = await lab.run(file, args, options);
      if (result.exitCode === 0) return result;
      const end = result.timedOut ? `timed out after ${result.durationMs} ms` : `exit code ${result.exitCode}`;
      throw new Error(`${file} ${args.join(" ")}: ${end}\n${result.stdout}${result.stderr}`);
    },
    startService(service, file, args, options = {}) {
      mustBeOpen();
      const logFile = join(dir, "log", `${service}.log`);
      return startService(service, file, args, { ...options, cwd: dir, env: { ...env, ...options.env }, logFile });
    },
    async script(script) {
      scripts ??= copyScripts();
      const path = join(await scripts, `${script}.mjs`);
      if (!existsSync(path)) throw new Error(`dist/${script}.mjs does not exist; run "npm run build" first`);
      return path;
    },
    async runScript(script, args, options) {
      return (await lab.startScript(script, args, options)).result;
    },
    async startScript(script, args, options = {}) {
      const path = await lab.script(script);
      mustBeOpen();
      const command = startCommand(process.execPath, [path, ...args], {
        cwd: dir,
        ...options,
        env: { ...env, ...options.env },
      });
      const record = join(dir, "log", `run-${String(++runs).padStart(2, "0")}-${script}.log`);
      const result = command.result.then(async (ended) => {
        const { exitCode, signal, stdout, stderr } = ended;
        const head = `${script} ${args.join(" ")}\nexit code ${exitCode}, signal ${signal}`;
        await writeFile(record, `${head}\n\n${stdout}\n${stderr}`).catch(() => {});
        return ended;
      });
      return { ...command, result };
    },
    processes: () => processesOf(dir),
    async keepEvidence(title) {
      const target = join(REPOSITORY, "test", "evidence", fileName(title));
      await rm(target, { recursive: true, force: true });
      await copyEvidence(dir, target);
      return target;
    },
    close() {
      closing ??= (async () => {
        await endProcessesOf(dir);
        await rm(dir, { recursive: true, force: true, maxRetries: 3 });
        await reaper.end();
      })();
      return closing;
    },
    [Symbol.asyncDispose]: () => lab.close(),
  };

  async function copyScripts(): Promise<string> {
    const from = join(REPOSITORY, "dist");
    const to = join(dir, "dist");
    // The tree may lie where postgres cannot read, such as /root.
    if (existsSync(from)) await cp(from, to, { recursive: true });
    return to;
  }

  await lab.makeDirectory("log");
  return lab;
}

/** Throws with the list when a process of the lab is alive, except those whose pid or command is expected. */
export function assertNothingRuns(lab: Lab, expected: (process: ProcessInfo) => boolean = () => false): void {
  const left = lab.processes().filter((process) => !expected(process));
  if (left.length === 0) return;
  throw new Error(`processes of the lab are left:\n${left.map((p) => `  ${p.pid} ${p.command}`).join("\n")}`);
}

/** Does what `close()` does when this process dies without it. */
function startReaper(dir: string): { end(): Promise<void> } {
  const child = spawn("bash", [REAPER], {
    cwd: "/",
    env: { PATH: process.env.PATH, LAB_DIR: dir },
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()));
  child.stdin.on("error", () => {});
  // It alone must not keep this process alive: its end is what the reaper waits for.
  child.unref();
  (child.stdin as unknown as { unref?(): void }).unref?.();
  return {
    async end() {
      child.ref();
      child.stdin.end("closed\n");
      await ended;
    },
  };
}

/** Undefined when this is not root: everything then runs as the present user. */
export function postgresUser(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

/** The newest PostgreSQL of this machine, or the one that PG_BIN names. */
function findBinDir(): string {
  if (process.env.PG_BIN) return process.env.PG_BIN;
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root) : [];
  const newest = versions
    .filter((version) => existsSync(join(root, version, "bin", "postgres")))
    .sort((a, b) => Number(b) - Number(a))[0];
  if (newest === undefined) throw new Error(`there is no PostgreSQL in ${root}; run .ci/install`);
  return join(root, newest, "bin");
}

const EVIDENCE = new Set([".log", ".json", ".yml", ".yaml", ".conf", ".txt", ".signal", ".unproven"]);

async function copyEvidence(from: string, to: string, root = from): Promise<void> {
  const entries = await readdir(from, { withFileTypes: true }).catch(() => []);
  const isDataDirectory = entries.some((entry) => entry.name === "PG_VERSION");
  for (const entry of entries) {
    const path = join(from, entry.name);
    if (entry.isDirectory() && !isDataDirectory) {
      const skipped = ["dist", "repo", "etcd-data"].includes(entry.name) && from === root;
      if (!skipped) await copyEvidence(path, join(to, entry.name), root);
    } else if (entry.isFile() && EVIDENCE.has(extname(entry.name))) {
      await mkdir(to, { recursive: true });
      await copyFile(path, join(to, entry.name));
    }
  }
}

const fileName = (title: string) => title.replace(/[^\w.-]+/g, "-").slice(0, 100);
