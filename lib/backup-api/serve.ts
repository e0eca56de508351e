/** The sidecar: everything of it put together, from the first line of its log to the clean end. */

import { combineProblems, messageOf, RestoreError } from "../errors.ts";
import { createApp } from "../http/app.ts";
import { openTokens, tlsFiles } from "../http/credentials.ts";
import { formatListen, listenProblems } from "../http/listen.ts";
import { type Service, startService } from "../io/command.ts";
import { withDatabase } from "../io/database.ts";
import { postJson } from "../io/http-client.ts";
import { startHttpServer } from "../io/http-server.ts";
import { openJournal } from "../io/journal-file.ts";
import { startPgbackrest } from "../io/pgbackrest-job.ts";
import { watchFile } from "../io/watched-file.ts";
import type { Log } from "../log.ts";
import type { Schedule, Settings } from "../options.ts";
import { parseConninfo } from "../postgres/conninfo.ts";
import { answerProblems } from "./info.ts";
import { hasEnded, type Job } from "./job.ts";
import { CANCEL_LIMIT_MS, type Jobs, KEPT, openJobs } from "./jobs.ts";
import { formatEntry, newestJobs, readJournal } from "./journal.ts";
import { createMetrics } from "./metrics.ts";
import { afterLoss, isUndecided } from "./recover.ts";
import { openRepository, type Repository } from "./repository.ts";
import { about } from "./route.ts";
import { routes } from "./routes.ts";
import { startScheduler } from "./scheduler.ts";
import { setUpStanzas } from "./stanzas.ts";

export const BACKUP_API_OPTIONS = [
  "listen",
  "stanza",
  "pgbackrestConfig",
  "stateDir",
  "tokenFile",
  "tlsCertFile",
  "tlsKeyFile",
  "insecure",
  "rateLimit",
  "backupTimeout",
  "stopGrace",
  "refresh",
  "stanzaSetup",
  "setupTimeout",
  "conninfo",
  "schedules",
  "restoreTest",
] as const;

export interface ServeOptions {
  settings: Settings<(typeof BACKUP_API_OPTIONS)[number]>;
  stanzas: readonly string[];
  /** `restore-test.mjs`, beside this script. */
  restoreTestScript: string;
  version: string;
  log: Log;
  /** Aborted by SIGTERM or SIGINT. */
  signal: AbortSignal;
}

const JOURNAL = "backup-api.jsonl";
/** For those who wait for an answer when it ends. */
const CLOSE_LIMIT_MS = 2000;

/** How long the end may take: running jobs go on, are ended, and everybody gets an answer. */
export const endLimit = (stopGraceMs: number) => stopGraceMs + 2 * CANCEL_LIMIT_MS + CLOSE_LIMIT_MS + 3000;

/** Returns when the signal was aborted and everything has ended. Throws SETTINGS_INVALID. */
export async function serve(options: ServeOptions): Promise<void> {
  const { settings, stanzas, log, signal } = options;
  const tokens = openTokens(settings.tokenFile, "backup-api", log);
  const tls = tlsFiles(settings);
  const { listen, insecure } = settings;
  const problems = listenProblems(listen, { hasToken: tokens !== null, hasTls: tls !== null, isInsecure: insecure });
  for (const { stanza } of settings.schedules ?? []) {
    if (stanza !== undefined && !stanzas.includes(stanza)) {
      problems.push({ message: `schedules: stanza "${stanza}" is not served`, hint: `one of ${stanzas.join(", ")}` });
    } else if (stanza === undefined && stanzas.length > 1) {
      problems.push({ message: "schedules: stanza is missing", hint: `one of ${stanzas.join(", ")}` });
    }
  }
  if (problems.length > 0) throw combineProblems("SETTINGS_INVALID", problems);
  if (insecure && (tokens === null || tls === null)) {
    log.warn("http", "--insecure: whoever can reach this address can use the API or read its tokens");
  }

  const journal = await openJournal(settings.stateDir, JOURNAL);
  const { jobs: remembered, unreadable } = readJournal(journal.text);
  if (unreadable > 0) log.warn("journal", `${unreadable} lines cannot be read and are left out`);
  await journal.file.rewrite(newestJobs(remembered, KEPT).map(formatEntry).join(""));

  // Ends what reads and waits; jobs have an end of their own.
  const ending = new AbortController();
  const repository = openRepository(settings.pgbackrestConfig, stanzas, ending.signal);
  const jobs = await openJobs({
    remembered,
    journal: journal.file,
    launch: (job, onLine) => launch(options, job, onLine),
    timeoutMs: settings.backupTimeout,
    log,
  });
  const stanzaSetup = setUpStanzas(
    { config: settings.pgbackrestConfig, stanzas, how: settings.stanzaSetup, limitMs: settings.setupTimeout },
    log,
    ending.signal,
    () => void refresh(),
  );
  const refresh = startRefreshing(repository, jobs, stanzaSetup, settings.refresh, log, ending.signal);
  jobs.onEnd((job) => {
    if (job.command === "backup" || job.command === "expire") void refresh();
    if (job.command === "backup" && job.status === "FINISHED") void proveBackup(options, jobs, job, ending.signal);
  });
  let skipped = 0;
  startScheduler(settings.schedules ?? [], ending.signal, async (schedule) => {
    if (!(await runSchedule(options, jobs, schedule))) skipped++;
  });

  const api = {
    stanzas,
    jobs,
    repository,
    metrics: createMetrics({ stanzas, repository, jobs, skippedSchedules: () => skipped, version: options.version }),
    notReady: () => reasonsAgainst(repository, stanzaSetup.problems(), signal),
    hasRestoreTest: settings.restoreTest?.config !== undefined,
  };
  const app = createApp({
    about: about(options.version),
    routes: routes(api),
    tokens,
    rateLimit: settings.rateLimit,
    log,
  });
  const onTlsProblem = (message: string) => log.error("http", message);
  const server = await startHttpServer({ listen, tls, handle: app, onTlsProblem }).catch((error) => {
    ending.abort(error);
    throw error;
  });
  log.info(
    "http",
    `listens on ${tls === null ? "http" : "https"}://${formatListen({ ...listen, port: server.port })}`,
    {
      stanzas: stanzas.join(","),
    },
  );

  await aborted(signal);
  const running = jobs.list().filter((job) => !hasEnded(job));
  log.info("stop", running.length === 0 ? "nothing runs" : `waits for ${running.length} to end`, {
    limit: `${settings.stopGrace / 1000} s`,
  });
  await jobs.stop(settings.stopGrace);
  ending.abort(new RestoreError("TERMINATED", "backup-api is being stopped"));
  await server.close(CLOSE_LIMIT_MS);
}

const aborted = (signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

function launch(
  { settings, restoreTestScript }: ServeOptions,
  { command, type, stanza }: Job,
  onLine: (line: string, from: "stdout" | "stderr") => void,
): Service {
  if (command === "restore-test") {
    const config = settings.restoreTest?.config as string;
    return startService(process.execPath, [restoreTestScript, `--config=${config}`, `--stanza=${stanza}`], {
      onLine,
      env: environmentOf(process.env),
    });
  }
  const own = type === null ? (command === "verify" ? ["--output=text", "--verbose"] : []) : [`--type=${type}`];
  return startPgbackrest(settings.pgbackrestConfig, command, [`--stanza=${stanza}`, ...own], (line) =>
    onLine(line, "stdout"),
  );
}

/** Our own settings are not restore-test's; it has a settings file of its own. */
function environmentOf(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith("RESTORE_")));
}

function startRefreshing(
  repository: Repository,
  jobs: Jobs,
  stanzaSetup: { again(): void },
  everyMs: number,
  log: Log,
  signal: AbortSignal,
): () => Promise<void> {
  const refresh = async () => {
    const before = repository.info.failure();
    try {
      const { value } = await repository.info.read(0);
      for (const { message, hint } of value.flatMap(answerProblems)) log.warn("info", message, { hint });
      for (const job of jobs.list("backup").filter(isUndecided)) {
        const known = new Set(jobs.list("backup").map((one) => one.set));
        const all = value.find(({ stanza }) => stanza === job.stanza)?.sets ?? [];
        const sets = all.filter(({ label }) => label === job.set || !known.has(label));
        jobs.amend(job.label, afterLoss(job, sets, job.finishedAt as string));
      }
      await repository.archive.read(0);
    } catch (error) {
      if (!signal.aborted && before !== messageOf(error)) log.warn("info", messageOf(error));
    }
  };
  const timer = setInterval(() => {
    stanzaSetup.again();
    void refresh();
  }, everyMs);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  void refresh();
  return refresh;
}

function reasonsAgainst(repository: Repository, problems: readonly string[], signal: AbortSignal): string[] {
  if (signal.aborted) return ["it is being stopped"];
  const failure = repository.info.failure();
  const latest = repository.info.latest();
  const ofInfo =
    failure !== null
      ? [failure]
      : latest === null
        ? ["pgbackrest info has not been read yet"]
        : latest.value.flatMap(answerProblems).map(({ message }) => message);
  return [...problems, ...ofInfo];
}

/** False when no backup was started although there should have been one. */
async function runSchedule({ settings, stanzas, log }: ServeOptions, jobs: Jobs, schedule: Schedule): Promise<boolean> {
  const { type, cron } = schedule;
  const stanza = schedule.stanza ?? (stanzas[0] as string);
  try {
    if (settings.conninfo !== undefined && !(await isPrimary(settings.conninfo))) {
      log.info("schedule", `no ${type} backup: this instance is not the primary`, { stanza, cron });
      return true;
    }
    const { job, isNew } = jobs.start({ command: "backup", type, stanza, by: "schedule" });
    if (!isNew) log.warn("schedule", `no ${type} backup: ${job.command} ${job.label} still runs`, { stanza, cron });
    return isNew;
  } catch (error) {
    log.error("schedule", `no ${type} backup: ${messageOf(error)}`, { stanza, cron });
    return false;
  }
}

/** A server that hangs must not keep the other schedules. */
const PRIMARY_LIMIT_MS = 10_000;

const isPrimary = (conninfo: string) =>
  withDatabase(
    parseConninfo(conninfo),
    { applicationName: "backup-api", statementTimeoutMs: PRIMARY_LIMIT_MS },
    async (database) => {
      const [row] = await database.query("SELECT pg_catalog.pg_is_in_recovery() AS standby");
      return row?.standby === "f";
    },
  );

async function proveBackup(
  { settings, log }: ServeOptions,
  jobs: Jobs,
  backup: Job,
  signal: AbortSignal,
): Promise<void> {
  const wanted = settings.restoreTest;
  if (wanted === undefined || backup.type === null || !wanted.after.includes(backup.type)) return;
  const { stanza, label, set } = backup;
  try {
    if (wanted.url === undefined) {
      const { isNew } = jobs.start({ command: "restore-test", type: null, stanza, by: label });
      if (!isNew) log.warn("restore-test", "one still runs, so this backup gets none of its own", { stanza, set });
      return;
    }
    const token = wanted.token_file === undefined ? undefined : watchFile(wanted.token_file).read().trim();
    await postJson(wanted.url, { stanza, backup: set }, { token, signal });
    log.info("restore-test", "asked for", { stanza, set, host: new URL(wanted.url).host });
  } catch (error) {
    log.error("restore-test", messageOf(error), { stanza, set });
  }
}
