/**
 * The restore test without Patroni and without etcd, for a debugging pod: this process calls both hooks exactly as Patroni
 * would, and starts PostgreSQL between them with the settings of the same template.
 */

import { join } from "node:path";
import { RestoreError } from "../errors.ts";
import { runCommand } from "../io/command.ts";
import { exists } from "../io/files.ts";
import { KEPT_MEMORY } from "../io/memory.ts";
import { addFile, type Server, startServer, watchFile } from "../io/throwaway.ts";
import { formatConninfo } from "../postgres/conninfo.ts";
import { formatDuration } from "../units.ts";
import { type Ending, judgeEnding } from "./judge.ts";
import { renderPatroniConfig, serverSettings } from "./patroni-config.ts";
import { followLog, type LogFollower } from "./progress.ts";
import { complaintText, isComplaint } from "./relay.ts";
import { type Run, readReport } from "./run.ts";
import { makeBell, pause } from "./wait.ts";

/** Where nothing tells that the log has grown. */
const LOOK_EVERY_MS = 100;
const WAKE_EVERY_MS = 1000;
/** PostgreSQL tells nobody when it is ready; it takes some tens of milliseconds after a clean stop. */
const ASK_EVERY_MS = 20;
const START_LIMIT_MS = 10 * 60_000;
/** It only names the socket: the server does not listen on TCP. */
const DIRECT_PORT = 5432;

/** Returns when the restore is proven; every other ending is thrown. The server is left running. */
export async function runDirectly(run: Run): Promise<void> {
  const { layout } = run.preparation;
  const follower = followLog(layout.log, run.log, run.logFormat);
  const scope = [`--scope=${layout.scope}`, `--datadir=${layout.datadir}`];
  const restored = await callHook(run, follower, ["bootstrap", `--config=${layout.hooksConfig}`, ...scope]);
  if (restored.exit?.exitCode !== 0) throw explain(restored);

  const server = await startPostgres(run);
  run.running.instance = { server, port: DIRECT_PORT, superuser: run.config.superuser };
  const conninfo = {
    dbname: "postgres",
    user: run.config.superuser,
    host: layout.socketDir,
    port: String(DIRECT_PORT),
  };
  await waitUntilReady(run, server, follower);
  // Patroni's post_bootstrap connects with this too: nothing must wait for a standby.
  const checked = await callHook(
    run,
    follower,
    ["post-bootstrap", `--config=${layout.hooksConfig}`, formatConninfo(conninfo)],
    { PGOPTIONS: "-c synchronous_commit=local" },
  );
  if (checked.exit?.exitCode !== 0) throw explain(checked);
  const error = judgeEnding({ ...checked, how: "done" });
  if (error !== null) throw error;
}

function explain(ending: Ending): Error {
  return judgeEnding(ending) ?? new Error(`${ending.who} failed without a reason`);
}

async function callHook(
  run: Run,
  follower: LogFollower,
  args: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<Ending> {
  const { layout, user } = run.preparation;
  run.signal.throwIfAborted();
  const bell = makeBell();
  const hook = await startServer(run.config.node, [layout.script, ...args], {
    user,
    cwd: layout.directory,
    env: { ...run.environment, ...environment },
    logFile: layout.log,
    onExit: bell.ring,
    survives: false,
  });
  run.running.main = hook;
  const watch = watchFile(layout.log, bell.ring);
  try {
    while (hook.exit === null) {
      await bell.wait(watch.isWatched ? WAKE_EVERY_MS : LOOK_EVERY_MS, run.signal);
      await follower.update();
    }
  } finally {
    watch.stop();
  }
  await follower.update();
  return {
    how: "exited",
    who: args[0] ?? "",
    exit: hook.exit,
    report: await readReport(layout.report),
    isUnproven: await exists(layout.unproven),
    initialize: null,
    systemIdentifier: run.receipt?.system_identifier ?? null,
    lastLines: follower.lastLines,
  };
}

async function startPostgres(run: Run): Promise<Server> {
  const { layout, user, binDir } = run.preparation;
  const none = "127.0.0.1:0";
  const config = renderPatroniConfig({
    ...run.config,
    etcd: none,
    restapiAddress: none,
    restapiPassword: "none",
    postgresqlAddress: none,
  });
  // The source's own rules may want passwords that nobody here knows; only this user can enter the socket's directory.
  await addFile(layout.hba, user, "local all all trust\n");
  const settings: [string, string][] = [
    ...serverSettings(config),
    ["listen_addresses", ""],
    ["port", String(DIRECT_PORT)],
    ["hba_file", layout.hba],
  ];
  run.log.info("handover", "starting PostgreSQL on a private socket");
  return startServer(
    join(binDir, "postgres"),
    ["-D", layout.datadir, ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    {
      user,
      cwd: layout.directory,
      env: { ...run.environment, ...KEPT_MEMORY },
      logFile: layout.log,
      survives: run.keep,
    },
  );
}

async function waitUntilReady(run: Run, server: Server, follower: LogFollower): Promise<void> {
  const { layout, binDir } = run.preparation;
  const until = performance.now() + START_LIMIT_MS;
  for (;;) {
    await follower.update();
    if (server.exit !== null) {
      const complaint = follower.lastLines.filter(isComplaint).map(complaintText).at(-1);
      throw new RestoreError(
        "UNVERIFIED",
        `PostgreSQL did not start on the restored data: ${complaint ?? "no reason"}`,
      );
    }
    const ready = await runCommand(
      join(binDir, "pg_isready"),
      ["-q", "-h", layout.socketDir, "-p", String(DIRECT_PORT), "-d", "postgres", "-U", run.config.superuser],
      { signal: run.signal, timeoutMs: 10_000 },
    );
    if (ready.exitCode === 0) return;
    if (performance.now() > until) {
      throw new RestoreError("TIMED_OUT", `PostgreSQL accepted no connection for ${formatDuration(START_LIMIT_MS)}`);
    }
    await pause(ASK_EVERY_MS, run.signal);
  }
}
