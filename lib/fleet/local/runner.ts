/**
 * Restore tests as processes of this machine. Beside the restore test's own directory each has one that tells everything of
 * it, `fleet-<id>`, and goes on when the scheduler ends: the next one finds it there.
 */

import { basename, join } from "node:path";
import { stringify } from "yaml";
import { messageOf, RestoreError, reportError } from "../../errors.ts";
import { list, makePrivateDirectory, readTextIfExists, writeAtomically } from "../../io/files.ts";
import { isAlive, processStatus, terminate } from "../../io/processes.ts";
import { followLines, isDirectory, processesBelow, type Server, startServer } from "../../io/throwaway.ts";
import type { Log } from "../../log.ts";
import type { Report } from "../../report/report.ts";
import { makeLayout } from "../../restore-test/layout.ts";
import { parseHookEvent, printedError } from "../../restore-test/relay.ts";
import { tearDown } from "../../restore-test/teardown.ts";
import type { Observation, Runner, TestInput } from "../runner.ts";
import type { Service } from "../service.ts";
import { endOf, type Status, statusOfPhase, type Test, type TestEnd } from "../test.ts";

export interface LocalRunnerOptions {
  workDir: string;
  /** `restore-test.mjs`, beside the running script. */
  script: string;
  environment: NodeJS.ProcessEnv;
  keepFailed: boolean;
  log: Log;
}

interface Known {
  service: string;
  changes: { status: Status; at: Date }[];
  end: TestEnd | null;
  /** Null when it was not found; then it has ended, or its scheduler died before it began. */
  process: { pid: number; started: string; exit: Server | null } | null;
  firstSeenAt: number;
  readLines(): Promise<string[]>;
  lastLines: string[];
}

const DIRECTORY = /^fleet-([0-9a-f]{8})$/;
const POLL_MS = 300;
/** Between the directory of a test and its process. */
const START_LIMIT_MS = 10_000;
/** restore-test removes what it made within these. */
const STOP_LIMIT_MS = 12_000;
const KEPT_LINES = 200;

const FILES = {
  test: "test.json",
  settings: "restore-test.yml",
  receipt: "receipt.json",
  previous: "previous-report.json",
  report: "report.json",
  log: "restore-test.log",
  kept: "kept",
} as const;

export function localRunner(options: LocalRunnerOptions): Runner {
  const { workDir, log } = options;
  const known = new Map<string, Known>();
  let problem: string | null = null;
  const directoryOf = (id: string) => join(workDir, `fleet-${id}`);
  /** restore-test's own. */
  const instanceOf = (id: string) => makeLayout(workDir, "", id);
  const fileOf = (id: string, file: keyof typeof FILES) => join(directoryOf(id), FILES[file]);

  const ids = async () => (await list(workDir)).flatMap((name) => DIRECTORY.exec(name)?.[1] ?? []);
  const keptFor = (id: string) => readTextIfExists(fileOf(id, "kept"));

  /** Of directories in which no test can be read: since when. */
  const unreadable = new Map<string, number>();

  async function find(id: string): Promise<Known | null> {
    if ((await keptFor(id)) !== undefined) return null;
    const service = serviceIn(await readTextIfExists(fileOf(id, "test")));
    if (service !== null) {
      unreadable.delete(id);
      return newlyKnown(id, service, await findProcess(id));
    }
    // Another scheduler may be about to write it; one that was killed then never will.
    const since = unreadable.get(id) ?? performance.now();
    unreadable.set(id, since);
    return performance.now() - since > START_LIMIT_MS ? newlyKnown(id, "", null, since) : null;
  }

  /** By its settings file: the script may lie elsewhere since the scheduler was replaced by a newer one. */
  async function findProcess(id: string): Promise<Known["process"]> {
    const settings = `/${basename(directoryOf(id))}/${FILES.settings}`;
    const isMain = ({ argv }: { argv: string[] }) =>
      argv.some((word) => word.startsWith("--config=") && word.endsWith(settings));
    const main = (await processesBelow(directoryOf(id))).find(isMain);
    return main === undefined ? null : { pid: main.pid, started: main.started, exit: null };
  }

  const newlyKnown = (
    id: string,
    service: string,
    process: Known["process"],
    firstSeenAt = performance.now(),
  ): Known => ({
    ...{ service, process, changes: [], end: null, firstSeenAt, lastLines: [] },
    readLines: followLines(fileOf(id, "log")),
  });

  /** True when something of it has changed. */
  async function look(id: string, one: Known): Promise<boolean> {
    if (one.end !== null) return false;
    // Seen in the moment before it was started, by a scheduler that did not start it.
    one.process ??= await findProcess(id);
    // Before the log is read: what it said last is then in it.
    const runs = await isRunning(one);
    let isChanged = false;
    for (const line of await one.readLines()) {
      const event = parseHookEvent(line);
      const status = event === null ? null : statusOfPhase(event.phase);
      if (event === null) one.lastLines = [...one.lastLines, line].slice(-KEPT_LINES);
      if (event === null || status === null || one.changes.some((change) => change.status === status)) continue;
      one.changes.push({ status, at: event.at });
      isChanged = true;
    }
    if (runs) return isChanged;
    const report = await readTextIfExists(fileOf(id, "report"));
    const mayBegin = one.process === null && performance.now() - one.firstSeenAt <= START_LIMIT_MS;
    if (report === undefined && mayBegin) return isChanged;
    one.end = endOf(parseReport(report), reportError(lastWords(one)));
    return true;
  }

  return {
    async watch(tell, signal) {
      const round = async () => {
        const present = new Set(await ids());
        for (const map of [known, unreadable]) for (const id of map.keys()) if (!present.has(id)) map.delete(id);
        for (const id of present) {
          const before = known.get(id);
          const one = before ?? (await find(id));
          if (one === null) continue;
          known.set(id, known.get(id) ?? one);
          if ((await look(id, one)) || before === undefined) tell(observationOf(id, one));
        }
      };
      await round();
      const again = async () => {
        await round().then(
          () => {
            problem = null;
          },
          (error) => {
            problem = messageOf(error);
          },
        );
        if (!signal.aborted) setTimeout(again, POLL_MS);
      };
      setTimeout(again, POLL_MS);
    },

    async start(test, service, input) {
      const directory = directoryOf(test.id);
      await removeKept(service.id);
      if (!(await isDirectory(workDir))) {
        throw new RestoreError("PREFLIGHT_FAILED", `the work directory ${workDir} is there no more`, {
          hint: "make it again, or start fleet with another --work-dir",
        });
      }
      await makePrivateDirectory(directory);
      const add = (file: keyof typeof FILES, text: string) => writeAtomically(fileOf(test.id, file), text);
      if (input.receipt !== null) await add("receipt", input.receipt);
      if (input.previousReport !== null) await add("previous", input.previousReport);
      await add("settings", settingsFor(test, service, input));
      await add("test", `${JSON.stringify(test)}\n`);
      const server = await startServer(
        process.execPath,
        [options.script, `--config=${fileOf(test.id, "settings")}`, "--log-format=json"],
        { user: null, cwd: directory, env: options.environment, logFile: fileOf(test.id, "log"), survives: true },
      );
      const status = await processStatus(server.pid);
      known.set(
        test.id,
        newlyKnown(test.id, service.id, { pid: server.pid, started: status?.started ?? "", exit: server }),
      );
    },

    async cancel(id) {
      const one = known.get(id) ?? (await find(id));
      if (one !== null) await stop(one, 0);
    },

    async remove(id, { keepInstance }) {
      const service = known.get(id)?.service;
      const { directory } = instanceOf(id);
      if (keepInstance && service !== undefined && (await isDirectory(directory))) {
        await removeKept(service);
        await writeAtomically(fileOf(id, "kept"), service);
        known.delete(id);
        log.info("test", `${service}: its failed instance is kept in ${directory} until the next test of it`);
        return;
      }
      await removeAll(id);
    },

    present: () => new Set(known.keys()),

    problem: () => problem,
  };

  function settingsFor(test: Test, service: Service, input: TestInput): string {
    const { id } = test;
    const left = Math.max(1000, test.deadlineAt.getTime() - Date.now());
    return stringify(
      {
        ...service.settings,
        stanza: test.stanza,
        ...(input.receipt === null ? {} : { receipt: fileOf(id, "receipt") }),
        ...(input.previousReport === null ? {} : { previous_report: fileOf(id, "previous") }),
        report: fileOf(id, "report"),
        work_dir: workDir,
        test_id: id,
        deadline: `${left}ms`,
        keep_failed: options.keepFailed,
      },
      { lineWidth: 0 },
    );
  }

  async function stop(one: Known, limitMs: number): Promise<void> {
    if (one.process !== null && (await isRunning(one))) await terminate(one.process.pid, "SIGTERM", limitMs);
  }

  async function removeKept(service: string): Promise<void> {
    for (const id of await ids()) if ((await keptFor(id)) === service) await removeAll(id);
  }

  async function removeAll(id: string): Promise<void> {
    const one = known.get(id);
    if (one !== undefined) await stop(one, STOP_LIMIT_MS);
    const nothing = { main: null, instance: null, etcd: null, givenEtcd: null };
    for (const directory of [instanceOf(id).directory, directoryOf(id)]) {
      if (!(await isDirectory(directory))) continue;
      const remains = { ...instanceOf(id), directory };
      await tearDown(remains, nothing, new AbortController().signal, log);
      if (await isDirectory(directory)) throw new Error(`${directory} cannot be removed`);
    }
    known.delete(id);
  }
}

/** Null when it is not there, or half of it. */
function serviceIn(text: string | undefined): string | null {
  try {
    return text === undefined ? null : (JSON.parse(text) as Test).service;
  } catch {
    return null;
  }
}

const observationOf = (test: string, { service, changes, end }: Known): Observation => ({
  ...{ test, service, changes: [...changes], end },
});

async function isRunning({ process }: Known): Promise<boolean> {
  if (process === null) return false;
  return process.exit === null ? isAlive(process.pid, process.started) : process.exit.exit === null;
}

function parseReport(text: string | undefined): Report | null {
  try {
    return text === undefined ? null : (JSON.parse(text) as Report);
  } catch {
    return null;
  }
}

/** Of a restore test without report: it was killed, or could not begin. */
function lastWords({ lastLines, process }: Known): Error {
  const printed = printedError(lastLines);
  if (printed !== null) return printed;
  const { exitCode, signal } = process?.exit?.exit ?? { exitCode: null, signal: null };
  const how = signal === null ? (exitCode === null ? "" : ` with exit code ${exitCode}`) : ` by ${signal}`;
  const last = lastLines.at(-1);
  return new Error(`the restore test ended${how} without a report${last === undefined ? "" : `: ${last}`}`);
}
