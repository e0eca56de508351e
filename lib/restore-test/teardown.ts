/** Takes a restore test down, whatever state it is in: afterwards no process, key or file of it is left. */

import { messageOf } from "../errors.ts";
import { removeKeys } from "../io/etcd.ts";
import { processesBelow, removeDirectory, type Server, signalProcess } from "../io/throwaway.ts";
import type { Log } from "../log.ts";
import { dcsPrefix, type Layout } from "./layout.ts";
import { patience } from "./wait.ts";

export interface Running {
  /** Patroni, or the hook of the direct runner that runs now. */
  main: Server | null;
  /** What --keep keeps: Patroni, or the direct runner's PostgreSQL; with the port that names its socket. */
  instance: { server: Server; port: number; superuser: string } | null;
  etcd: Server | null;
  /** The etcd that was given, once something may have been written to it. */
  givenEtcd: string | null;
}

/** main() ends this process 8 s after a signal; all steps together stay below that once `hurry` is aborted. */
const HURRIED_MS = 7000;
const LIMITS = {
  main: { usual: 2000, hurried: 2000 },
  postgres: { usual: 10_000, hurried: 1200 },
  killed: { usual: 5000, hurried: 600 },
  etcd: { usual: 5000, hurried: 800 },
  files: { usual: 10 * 60_000, hurried: HURRIED_MS },
};

const DCS_LIMIT_MS = 1000;

/** What must be known of a test to take it down. */
export type Remains = Pick<Layout, "directory" | "script" | "scope" | "namespace">;

/** Never throws: what could not be removed is logged with what is left. */
export async function tearDown(layout: Remains, running: Running, hurry: AbortSignal, log: Log): Promise<void> {
  const forFiles = patience(LIMITS.files.usual, LIMITS.files.hurried, hurry);
  forFiles(); // the clock of a hurry that has begun starts here
  const spared = () => new Set(running.etcd === null ? [] : [running.etcd.pid]);
  const others = async () => (await processesBelow(layout.directory)).filter(({ pid }) => !spared().has(pid));
  const gone = async (limit: { usual: number; hurried: number }, find: () => Promise<unknown[]>) => {
    const left = patience(limit.usual, limit.hurried, hurry);
    for (;;) {
      if ((await find()).length === 0) return true;
      if (left() <= 0) return false;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };

  // 1. The hooks, which end what they started, and Patroni, at once: it would stop PostgreSQL with a checkpoint and take
  // seconds to end itself, up to 4.0.4 not before its hooks have.
  const hooks = (await others()).filter(({ argv }) => argv.includes(layout.script));
  for (const { pid } of hooks) signalProcess(pid, "SIGTERM");
  if (running.main?.exit === null && !hooks.some(({ pid }) => pid === running.main?.pid)) {
    signalProcess(running.main.pid, "SIGKILL");
  }
  const isMainOrHook = async () => {
    const pids = new Set([...hooks.map(({ pid }) => pid), running.main?.pid]);
    return (await others()).filter(({ pid }) => pids.has(pid));
  };
  if (!(await gone(LIMITS.main, isMainOrHook))) {
    for (const { pid } of await isMainOrHook()) signalProcess(pid, "SIGKILL");
  }

  // 2. Servers that are left over. Immediate: the data is thrown away, and a checkpoint can take minutes.
  // Each frees its shared memory, which nobody does for one that is killed.
  const postgres = async () => (await others()).filter(({ comm }) => comm === "postgres");
  for (const { pid, ppid } of await postgres()) {
    if (!(await postgres()).some((other) => other.pid === ppid)) signalProcess(pid, "SIGQUIT");
  }
  await gone(LIMITS.postgres, postgres);

  // 3. Everything else that works in the directory.
  const killOthers = async () => {
    const found = await others();
    for (const { pid } of found) signalProcess(pid, "SIGKILL");
    return found;
  };
  if (!(await gone(LIMITS.killed, killOthers))) {
    const left = (await others()).map(({ pid, comm }) => `${pid} (${comm})`);
    log.warn("teardown", "processes are left that cannot be ended", { processes: left.join(" ") });
  }

  await clearDcs(layout, running, log);
  if (running.etcd?.exit === null) {
    const { etcd } = running;
    signalProcess(etcd.pid, "SIGTERM");
    const etcdRuns = async () => (etcd.exit === null ? [etcd] : []);
    if (!(await gone(LIMITS.etcd, etcdRuns))) signalProcess(etcd.pid, "SIGKILL");
  }
  if (!(await removeDirectory(layout.directory, forFiles))) {
    log.warn("teardown", `${layout.directory} is not removed yet; rm still works on it, or was refused`);
  }
}

async function clearDcs(layout: Remains, { givenEtcd }: Running, log: Log): Promise<void> {
  if (givenEtcd === null) return;
  try {
    await removeKeys(givenEtcd, dcsPrefix(layout), DCS_LIMIT_MS);
  } catch (error) {
    log.warn("teardown", `the keys of ${layout.scope} are left in etcd: ${messageOf(error)}`, {
      remove: removeKeysCommand(layout, givenEtcd),
    });
  }
}

export const removeKeysCommand = (layout: Remains, endpoint: string) =>
  `etcdctl --endpoints=${endpoint} del --prefix ${dcsPrefix(layout)}`;
