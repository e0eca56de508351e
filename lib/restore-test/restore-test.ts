/** The whole of a restore test on one host: mark, restore and prove in a throwaway instance, report, remove. */

import { randomBytes } from "node:crypto";
import { dirname, resolve } from "node:path";
import type { Context } from "../cli.ts";
import { messageOf, RestoreError, reportError } from "../errors.ts";
import { exists, readTextIfExists, writeAtomically } from "../io/files.ts";
import { addFile, makeThrowaway, runAs } from "../io/throwaway.ts";
import { manifestInput, mark } from "../mark/mark.ts";
import { formatReceipt, type Receipt } from "../mark/receipt.ts";
import type { Settings } from "../options.ts";
import { newReport, type Report } from "../report/report.ts";
import { describeReport } from "../report/report-text.ts";
import { formatDuration } from "../units.ts";
import { VERSION } from "../version.ts";
import { runDirectly } from "./direct-runner.ts";
import { hooksConfig, throwawayEnvironment } from "./hooks.ts";
import { describeKept } from "./kept.ts";
import type { RestoreTestOption } from "./options.ts";
import { runWithPatroni, startDcs } from "./patroni-runner.ts";
import { absolute, describePreparation, type Preparation, prepare } from "./prepare.ts";
import { worthShowing } from "./relay.ts";
import { type Run, readReport } from "./run.ts";
import { type Running, tearDown } from "./teardown.ts";
import { withLimit } from "./wait.ts";

/**
 * Returns when the verdict is healthy. Everything else is thrown, after the report is stored and everything is removed;
 * a signal removes everything too, with `--keep` only an ending of its own is kept.
 */
export async function restoreTest(context: Context<RestoreTestOption>): Promise<void> {
  const { settings, log, signal, print } = context;
  const startedAt = new Date();
  const preparation = await prepare(context).catch(async (error) => {
    await reportRefusal(context, startedAt, error);
    throw error;
  });
  if (settings.dryRun) return print(describePreparation(preparation, settings));

  const { layout } = preparation;
  const running: Running = { main: null, instance: null, etcd: null, givenEtcd: null };
  let failure: unknown;
  try {
    await withLimit(
      signal,
      settings.deadline,
      () => deadlineError(settings.deadline),
      (limited) => runTest({ ...context, signal: limited }, preparation, running),
    );
  } catch (error) {
    failure = error;
  }
  const report = await finishReport(preparation, failure, startedAt);
  const isWanted = settings.keep || (settings.keepFailed && failure !== undefined);
  const kept = isWanted && !signal.aborted && (await exists(layout.directory));
  try {
    await writeAtomically(preparation.report, `${JSON.stringify(report, null, 2)}\n`);
    log.info("report", `stored in ${preparation.report}`);
    if (failure !== undefined && !signal.aborted) await showLogs(context, preparation);
  } catch (error) {
    failure ??= error;
    log.error("report", (error as Error).message);
  } finally {
    if (!kept) {
      log.info("teardown", `removing ${layout.directory}`);
      await tearDown(layout, running, signal, log);
    }
  }
  print(
    settings.json ? JSON.stringify(report, null, 2) : describeReport(report, { color: process.stdout.isTTY === true }),
  );
  if (kept) {
    const text = describeKept(preparation, running);
    if (settings.json) for (const line of text.split("\n")) log.info("keep", line);
    else print(text);
  }
  if (failure !== undefined) throw failure;
}

/** Whoever waits for the report of a test that could not begin must find one. */
async function reportRefusal({ settings, log }: Context<RestoreTestOption>, startedAt: Date, error: unknown) {
  if (settings.report === undefined || settings.dryRun) return;
  const id = settings.testId ?? randomBytes(4).toString("hex");
  const start = { id, scope: null, stanza: settings.stanza ?? null, startedAt };
  const report: Report = { ...newReport(start), finished_at: new Date().toISOString(), error: reportError(error) };
  await writeAtomically(resolve(settings.report), `${JSON.stringify(report, null, 2)}\n`).catch((problem) =>
    log.error("report", messageOf(problem)),
  );
}

function deadlineError(limitMs: number): RestoreError {
  return new RestoreError("TIMED_OUT", `the restore test was not done within ${formatDuration(limitMs)}`, {
    hint: "raise --deadline, or see in the phases of the report what took so long",
  });
}

async function runTest(context: Context<RestoreTestOption>, preparation: Preparation, running: Running): Promise<void> {
  const { settings } = context;
  const { layout, user } = preparation;
  await makeThrowaway(layout.directory, user, {
    directories: [layout.socketDir, layout.temporary],
    copies: { [layout.script]: preparation.script },
  });
  const environment = throwawayEnvironment(process.env, { home: user?.home, temporary: layout.temporary });
  const start = { running, environment, keep: settings.keep || settings.keepFailed };
  if (settings.runner === "direct") {
    await checkHooks(preparation, environment, context.signal);
    return runDirectly(await readyToRun(context, preparation, start));
  }
  // What takes its time beside all that comes before Patroni calls a hook; when it fails, that ends.
  const stop = new AbortController();
  const signal = AbortSignal.any([context.signal, stop.signal]);
  const beside = <T>(work: Promise<T>): Promise<T> => {
    work.catch((error) => stop.abort(error));
    return work;
  };
  const dcs = beside(startDcs(preparation, settings.etcd, { ...start, signal }));
  const hooks = beside(checkHooks(preparation, environment, signal));
  try {
    // A source is not marked in vain.
    if (preparation.source !== null) await hooks;
    await runWithPatroni(await readyToRun({ ...context, signal }, preparation, start), dcs);
  } catch (error) {
    // Patroni may have found out first that they cannot be run, and says it worse.
    await hooks;
    throw error;
  } finally {
    // The teardown must know of everything that was started.
    stop.abort();
    await dcs.catch(() => {});
  }
}

/** The source is marked, and all that the hooks need is in place. */
async function readyToRun(
  { settings, log, signal }: Context<RestoreTestOption>,
  preparation: Preparation,
  start: Pick<Run, "running" | "environment" | "keep">,
): Promise<Run> {
  const { layout, binDir, source } = preparation;
  const receipt =
    source === null
      ? preparation.receipt
      : await mark(
          {
            source,
            queries: settings.queries ?? [],
            timeoutMs: settings.timeout,
            archiveTimeoutMs: settings.archiveTimeout,
            keepMarkersMs: settings.keepMarkers,
            manifest: manifestInput(settings),
          },
          { log, signal },
        );
  const superuser = chooseSuperuser(settings, receipt);
  await makeHookFiles(preparation, settings, receipt, superuser);
  const libraries = settings.sharedPreloadLibraries ?? receipt?.shared_preload_libraries;
  return {
    ...start,
    preparation,
    receipt,
    config: {
      layout,
      template: preparation.template,
      node: process.execPath,
      binDir,
      superuser,
      sharedPreloadLibraries: libraries || undefined,
    },
    etcd: settings.etcd,
    log,
    logFormat: settings.logFormat,
    signal,
  };
}

/** Patroni and the checks log in as this role, so it must be one that the source has. */
function chooseSuperuser(settings: Settings<"superuser">, receipt: Receipt | null): string {
  const known = receipt?.superusers ?? [];
  return settings.superuser ?? (known.includes("postgres") ? "postgres" : (known[0] ?? "postgres"));
}

/** Node or the script may be where only root can read; better to know before the source is marked. */
async function checkHooks(
  preparation: Preparation,
  environment: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<void> {
  const { layout, user } = preparation;
  const args = [layout.script, "bootstrap", "--version"];
  const result = await runAs(user, process.execPath, args, { cwd: layout.directory, env: environment, signal });
  if (result.exitCode === 0 && result.stdout.trim() === VERSION) return;
  const who = user === null ? "this user" : `the user ${user.name}`;
  const lines = result.stderr.trim().split("\n");
  // Node ends with its version and an empty line before it.
  const reason = lines.find((line) => /^\w*Error\b/.test(line)) ?? (lines.at(-1) || `exit code ${result.exitCode}`);
  throw new RestoreError("PREFLIGHT_FAILED", `${who} cannot run ${process.execPath} ${layout.script}: ${reason}`, {
    about: "host",
    hint: "install Node.js where every user can run it, and start the compiled script (dist/restore-test.mjs)",
  });
}

async function makeHookFiles(
  { layout, user }: Preparation,
  settings: Settings<RestoreTestOption>,
  receipt: Receipt | null,
  superuser: string,
): Promise<void> {
  const paths = { pgbackrestConfig: absolute(settings.pgbackrestConfig), binDir: absolute(settings.binDir) };
  const config = hooksConfig(
    { ...settings, ...(paths as Pick<typeof settings, "pgbackrestConfig" | "binDir">) },
    {
      detach: "restore-test",
      sync: "skip",
      logFormat: "json",
      superuser,
      previousReport: layout.previousReport,
      ...(receipt === null ? {} : { receipt: layout.receipt }),
    },
  );
  await addFile(layout.hooksConfig, user, config);
  if (receipt !== null) await addFile(layout.receipt, user, formatReceipt(receipt));
  // What earlier tests proved; a file of this test's own, because that one may be readable for its owner only.
  const earlier = settings.previousReport ?? settings.report;
  const report = earlier === undefined ? null : await readReport(earlier).catch(() => null);
  if (report !== null) await addFile(layout.previousReport, user, JSON.stringify({ coverage: report.coverage }));
}

/** The hooks' report, or a new one when they wrote none. It never says more than what the whole test found. */
async function finishReport({ layout, stanza }: Preparation, failure: unknown, startedAt: Date): Promise<Report> {
  const report =
    (await readReport(layout.report).catch(() => null)) ??
    newReport({ id: layout.id, scope: layout.scope, stanza, startedAt });
  if (failure === undefined) return report;
  const error = reportError(failure);
  return {
    ...report,
    verdict: report.verdict === "healthy" ? "error" : report.verdict,
    error: report.finished_at === null || report.verdict === "healthy" ? error : (report.error ?? error),
    finished_at: report.finished_at ?? new Date().toISOString(),
  };
}

const SHOWN_LINES = 15;

/** They are removed with everything else, and are what a person asks for next. */
async function showLogs({ log }: Context<RestoreTestOption>, { layout }: Preparation): Promise<void> {
  for (const path of [layout.recoveryLog, layout.log]) {
    const text = (await readTextIfExists(path)) ?? "";
    const lines = worthShowing(text.split("\n"));
    const name = path.slice(dirname(path).length + 1);
    for (const line of lines.slice(-SHOWN_LINES)) log.info(name, line);
  }
}
