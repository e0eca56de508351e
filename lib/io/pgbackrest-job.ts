/** pgBackRest's commands beside a running database: its own configuration with its own lock and spool, unlike a restore's. */

import { setTimeout as sleep } from "node:timers/promises";
import { RestoreError } from "../errors.ts";
import { describeError, repositoryHint } from "../restore/repository-error.ts";
import { runCommand, type Service, startService } from "./command.ts";
import { allProcesses, commandLine, terminate } from "./processes.ts";

/** What would change a command that the API started: those belong to its arguments. */
const OVERRIDES =
  /^PGBACKREST_(TYPE|SET|STANZA|OUTPUT|VERBOSE|FORCE|REPO|DRY_RUN|LOG_LEVEL_\w+|LOG_TIMESTAMP|LOG_SUBPROCESS|TARGET(_\w+)?)$/;

function environment(): NodeJS.ProcessEnv {
  return { ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !OVERRIDES.test(name))), LC_ALL: "C" };
}

const configOption = (config: string | undefined) => (config === undefined ? [] : [`--config=${config}`]);

/** Starts it; its lines are `P00   INFO: …` on stdout. Throws PREFLIGHT_FAILED when there is no pgBackRest. */
export function startPgbackrest(
  config: string | undefined,
  command: string,
  args: readonly string[],
  onLine: (line: string) => void,
): Service {
  const options = [
    ...configOption(config),
    "--log-level-console=detail",
    "--log-level-stderr=off",
    "--no-log-timestamp",
    ...args,
  ];
  return startService("pgbackrest", [command, ...options], { env: environment(), onLine });
}

/** Runs it to its end and gives its stdout. Throws PREFLIGHT_FAILED with pgBackRest's own error. */
export async function askPgbackrest(
  config: string | undefined,
  command: string,
  args: readonly string[],
  options: { signal?: AbortSignal | undefined; timeoutMs: number },
): Promise<string> {
  const common = [
    ...configOption(config),
    "--log-level-console=off",
    "--log-level-stderr=warn",
    "--log-level-file=off",
  ];
  const result = await runCommand("pgbackrest", [command, ...common, ...args], { ...options, env: environment() });
  if (result.exitCode === 0) return result.stdout;
  const reason = result.timedOut
    ? `no answer within ${options.timeoutMs / 1000} s`
    : describeError(`${result.stdout}\n${result.stderr}`);
  throw new RestoreError("PREFLIGHT_FAILED", `pgbackrest ${command} failed: ${reason}`, {
    hint: repositoryHint(reason),
  });
}

const WORKERS_LIMIT_MS = 10_000;

/**
 * pgBackRest's worker processes copy on for a moment after their main process was ended, and the next backup would write to
 * the same files. They carry its number: `--exec-id=968-dffe02e8` (2.45).
 */
export const waitForWorkers = (pid: number, limitMs = WORKERS_LIMIT_MS): Promise<void> =>
  waitFor((argument) => argument.startsWith(`--exec-id=${pid}-`), limitMs);

/**
 * Ends whatever pgBackRest still does with this data directory. A worker whose main process was ended while it copied a file
 * sleeps for 15 s (`job-retry-interval`) and then copies it once more, into whatever has that name by then (2.45).
 */
export const endWorkOn = (datadir: string): Promise<void> =>
  waitFor((argument) => argument === `--pg1-path=${datadir}`, 0);

async function waitFor(isTheirs: (argument: string) => boolean, limitMs: number): Promise<void> {
  const end = performance.now() + limitMs;
  for (;;) {
    const workers = await processesWith(isTheirs);
    if (workers.length === 0) return;
    if (performance.now() > end) {
      await Promise.all(workers.map((worker) => terminate(worker, "SIGKILL", 5000)));
      return;
    }
    await sleep(50);
  }
}

async function processesWith(isTheirs: (argument: string) => boolean): Promise<number[]> {
  const candidates = (await allProcesses()).filter(({ comm, state }) => comm === "pgbackrest" && state !== "Z");
  const isWorker = await Promise.all(candidates.map(async (one) => (await commandLine(one.pid)).some(isTheirs)));
  return candidates.filter((_, index) => isWorker[index]).map((one) => one.pid);
}
