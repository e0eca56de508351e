/** The table of contents of a restore: plan, restore, recover, promote, detach, stop, hand over. */

import { dirname } from "node:path";
import { RestoreError, reportError } from "../errors.ts";
import { freeSpace, list, makePrivateDirectory, readTextIfExists, removeTree, writeAtomically } from "../io/files.ts";
import { createMissingFiles, detachFiles, putInPlace } from "../io/handover.ts";
import { grantedMemory } from "../io/memory.ts";
import { checkPageChecksums } from "../io/page-checksums.ts";
import { findPatroni, superuserOf, watchPatroni } from "../io/patroni.ts";
import { commonOptions, type PgBackRest, runRestore } from "../io/pgbackrest.ts";
import { type Postmaster, readControlData, syncDataDirectory } from "../io/postgres.ts";
import { processStatus } from "../io/processes.ts";
import { makeTemporaryDirectory } from "../io/temporary.ts";
import { startWalAhead, type WalAhead } from "../io/wal-ahead.ts";
import type { Log } from "../log.ts";
import { inParallel } from "../parallel.ts";
import { describeTarget } from "../postgres/target.ts";
import { newReport, type PhaseName, type Report } from "../report/report.ts";
import { formatSize } from "../units.ts";
import { countAttempt, describeRequest, removeLeftovers, removeRestore } from "./attempts.ts";
import { detach } from "./detach.ts";
import { explainFullVolume } from "./full-volume.ts";
import type { BootstrapSettings } from "./options.ts";
import { linkedDirectories, restoreArguments } from "./plan.ts";
import { type Preflight, preflight, readRequest } from "./preflight.ts";
import { confirmPromotion, type RecoveryInput, startRecovery, waitForPromotion } from "./recovery.ts";
import { recoverySettings } from "./recovery-settings.ts";
import { type Paths, pathsOf, type Unproven } from "./state.ts";
import { openAsSuperuser } from "./superuser.ts";
import { writeUnproven } from "./unproven.ts";

export interface BootstrapContext {
  settings: BootstrapSettings;
  version: string;
  log: Log;
  signal: AbortSignal;
  /** Sees the report whenever it is written. */
  publish?: (report: Report) => void;
}

/**
 * Leaves a cleanly stopped, promoted, detached data directory in place, or none at all. The report then says `error` until
 * it is proven. Every failure is thrown as a RestoreError and stands in the report too.
 */
export async function bootstrap(context: BootstrapContext): Promise<Report> {
  const stopped = new AbortController();
  const patroni = await findPatroni();
  const watch = watchPatroni(patroni, {
    onGone: (reason) =>
      stopped.abort(
        new RestoreError("TERMINATED", `Patroni is gone (${reason}); nobody would ever prove this restore`, {
          hint: "start Patroni again behind guard",
        }),
      ),
  });
  const workDir = await makeTemporaryDirectory();
  try {
    const superuser = context.settings.superuser ?? (patroni && (await superuserOf(patroni))) ?? undefined;
    return await new Bootstrap(
      { ...context, signal: AbortSignal.any([context.signal, stopped.signal]) },
      superuser,
      workDir,
    ).run();
  } finally {
    watch.stop();
    await removeTree(workDir);
  }
}

class Bootstrap {
  private readonly settings: BootstrapSettings;
  private readonly log: Log;
  private readonly signal: AbortSignal;
  private readonly superuser: string | undefined;
  private readonly workDir: string;
  private readonly paths: Paths;
  private readonly report: Report;
  private readonly reportPath: string;
  private readonly publish: (report: Report) => void;
  private state: Unproven | undefined;
  private postmaster: Postmaster | undefined;
  private walAhead: WalAhead | undefined;
  private inPlace = false;

  constructor(context: BootstrapContext, superuser: string | undefined, workDir: string) {
    const { settings } = context;
    this.settings = settings;
    this.log = context.log;
    this.signal = context.signal;
    this.publish = context.publish ?? (() => {});
    this.superuser = superuser;
    this.workDir = workDir;
    this.paths = pathsOf(settings.datadir ?? "/nonexistent");
    this.reportPath = settings.report ?? this.paths.report;
    const startedAt = new Date();
    const id = `${startedAt.toISOString().replace(/[-:]|\.\d+/g, "")}-${process.pid}`;
    this.report = newReport({ id, scope: settings.scope ?? null, stanza: settings.stanza ?? null, startedAt });
    this.report.versions = { "patroni-restore": context.version, node: process.versions.node };
  }

  async run(): Promise<Report> {
    const request = await readRequest(this.settings);
    this.report.target = request.target;
    this.report.receipt_id = request.receipt?.id ?? null;
    const requestText = describeRequest(this.settings, request.target);
    this.report.coverage = await carriedCoverage(this.settings.previousReport ?? this.reportPath);
    const attempts = await countAttempt(this.paths, requestText, this.settings.maxAttempts, this.log);
    const mayReport = this.settings.report !== undefined || (await list(this.paths.datadir)).length === 0;
    try {
      const found = await this.phase("preflight", () =>
        preflight(this.settings, request, { workDir: this.workDir, signal: this.signal }),
      );
      this.report.backup = found.plan.backup;
      this.report.versions.pgbackrest = found.plan.pgbackrestVersion;
      await this.begin(found, attempts, requestText);
      await this.restore(found);
      const libraries = await this.recoverAndDetach(found);
      await this.phase("handover", () => this.handOver(found, libraries));
      this.report.error = {
        ...reportError(new RestoreError("UNVERIFIED", "restored, not yet proven")),
        hint: "post-bootstrap finishes this report",
      };
      await this.writeReport();
      this.log.info("handover", `${this.paths.datadir} is in place, stopped and promoted; not yet proven`);
      return this.report;
    } catch (error) {
      const explained = explainFullVolume(error, await this.volumes());
      await this.undo(explained, mayReport);
      throw explained;
    }
  }

  private async volumes() {
    const paths = [dirname(this.paths.datadir), ...(this.state?.linked ?? [])];
    return Promise.all(
      paths.map(async (path) => ({ path, freeBytes: await freeSpace(path).catch(() => Number.POSITIVE_INFINITY) })),
    );
  }

  /** From here on there is something on the disk, and the file that says so comes first. */
  private async begin({ plan, receipt }: Preflight, attempts: number, request: string): Promise<void> {
    for (const warning of plan.warnings) this.log.warn("preflight", warning);
    this.log.info(
      "preflight",
      `restoring ${plan.backup.label} (${plan.backup.why}) to ${describeTarget(plan.target)}`,
      {
        attempt: attempts > 1 ? attempts : undefined,
      },
    );
    const linked = linkedDirectories(plan);
    await removeLeftovers(this.paths, linked, this.log);
    this.state = {
      schema_version: 1,
      id: this.report.id,
      scope: plan.scope,
      stanza: plan.stanza,
      started_at: this.report.started_at,
      phase: "restore",
      pid: process.pid,
      pid_started: (await processStatus(process.pid))?.started ?? "",
      attempts,
      request,
      receipt: receipt === undefined ? null : (this.settings.receipt ?? null),
      report: this.reportPath,
      detach: this.settings.detach,
      linked,
    };
    await writeUnproven(this.paths.datadir, this.state);
    await this.writeReport();
  }

  private async restore({ plan }: Preflight): Promise<void> {
    const pgbackrest = this.pgbackrest();
    const args = restoreArguments(plan, commonOptions(pgbackrest), this.paths.restoring);
    await makePrivateDirectory(`${this.workDir}/lock`);
    await makePrivateDirectory(`${this.workDir}/spool`);
    for (const [, path] of plan.tablespaces) await makePrivateDirectory(path);
    if (plan.walAheadBytes > 0) {
      this.walAhead = startWalAhead({ plan, directory: this.paths.walAhead, pgbackrest, log: this.log });
    }
    await this.phase("restore", async (phase) => {
      const progress = this.log.progress("restore");
      const total = plan.backup.size_bytes;
      try {
        const done = await runRestore([...args, "--log-level-console=detail", "--log-level-stderr=off"], this.workDir, {
          signal: this.signal,
          timeoutMs: this.settings.restoreTimeout,
          onProgress: ({ fraction }) => progress.update({ bytes: Math.round(fraction * total), totalBytes: total }),
          onLine: () => {},
        });
        phase.bytes = total;
        this.log.info("restore", `${formatSize(total)} restored`, { seconds: (done.durationMs / 1000).toFixed(1) });
      } finally {
        progress.end();
      }
    });
  }

  /** Resolves to the libraries that its own configuration preloads. */
  private async recoverAndDetach({ plan, receipt }: Preflight): Promise<string> {
    await writeAtomically(this.paths.recoveryLog, "");
    await createMissingFiles(this.paths.restoring);
    const wanted = this.superuser;
    const candidates = [
      ...new Set([wanted, ...(receipt?.superusers ?? []), "postgres"].filter((u) => u !== undefined)),
    ];
    const input: RecoveryInput = {
      plan,
      receipt,
      directory: this.paths.restoring,
      pgbackrest: this.pgbackrest(),
      walAhead: this.walAhead ?? null,
      logFile: this.paths.recoveryLog,
      superusers: candidates,
      settings: recoverySettings(plan, { memoryBytes: await grantedMemory(), sync: this.settings.sync === "sync" }),
      sharedPreloadLibraries: this.settings.sharedPreloadLibraries,
      timeoutMs: this.settings.recoveryTimeout,
      stallTimeoutMs: this.settings.recoveryStallTimeout,
      signal: this.signal,
      log: this.log,
    };
    const { postmaster, libraries } = await this.phase("recovery", () => startRecovery(input));
    this.postmaster = postmaster;
    // Replay is over: no WAL is asked for any more.
    const takenAhead = this.walAhead?.stop();
    const { recovered, version, superuser } = await this.phase("promote", async () => {
      await waitForPromotion(postmaster, input);
      const { db, user } = await openAsSuperuser(postmaster.conninfo, candidates, wanted);
      try {
        return { ...(await confirmPromotion(db, postmaster, input)), superuser: user };
      } finally {
        await db.close();
      }
    });
    recovered.segments_ahead = (await takenAhead) ?? 0;
    this.report.recovered = recovered;
    this.report.versions.postgresql = version;
    this.log.info(
      "promote",
      `promoted to timeline ${recovered.timeline}: ${recovered.stop_reason ?? "end of the archive"}`,
      {
        last_commit: recovered.last_commit_at,
        segments: recovered.segments,
        ahead: recovered.segments_ahead,
      },
    );
    await this.phase("detach", async () => {
      const found = await detach({ ...postmaster.conninfo, user: superuser }, this.signal);
      if (found.subscriptions.length > 0)
        this.log.info("detach", `subscriptions disabled: ${found.subscriptions.join(", ")}`);
      if (found.slots.length > 0) this.log.info("detach", `replication slots dropped: ${found.slots.join(", ")}`);
    });
    await this.phase("stop", async () => {
      await postmaster.stop("fast", this.settings.stopTimeout);
      this.postmaster = undefined;
      await this.syncAndCheckPages(plan.binDir);
    });
    return libraries;
  }

  /**
   * At the same time: neither changes a byte, and both look at what the kernel holds, whether it is on the disk yet or not.
   * What the disk refuses ends the restore, whatever the pages were.
   */
  private async syncAndCheckPages(binDir: string): Promise<void> {
    const failed = new AbortController();
    const signal = AbortSignal.any([this.signal, failed.signal]);
    await inParallel([() => this.sync(binDir, signal), () => this.checkPages(binDir, signal)], 2, (work) =>
      work().catch((error) => {
        failed.abort(error);
        throw error;
      }),
    );
  }

  /** What replay and the detaching wrote is only in memory so far; pgBackRest flushed its own files. */
  private async sync(binDir: string, signal: AbortSignal): Promise<void> {
    if (this.settings.sync === "sync") {
      const { stopTimeout: timeoutMs } = this.settings;
      await syncDataDirectory(binDir, this.paths.restoring, { timeoutMs, signal });
      this.log.info("stop", "every file is flushed to disk");
    }
    this.report.synced = this.settings.sync === "sync";
  }

  /** While nothing can change them. What is wrong is for post-bootstrap to judge. */
  private async checkPages(binDir: string, signal: AbortSignal): Promise<void> {
    if (this.settings.pageChecksums === "skip") return;
    const { log } = this;
    const datadir = this.paths.restoring;
    const checked = await checkPageChecksums({
      binDir,
      datadir,
      timeoutMs: this.settings.recoveryTimeout,
      signal,
      log,
    });
    this.report.page_checksums = checked;
    if (checked.bad > 0) log.error("stop", `${checked.bad} of ${checked.blocks} pages have a wrong checksum`);
    else if (checked.status === "checked") log.info("stop", `${checked.blocks} pages have right checksums`);
    else log.warn("stop", `page checksums were not checked: ${checked.why}`);
  }

  private async handOver({ plan }: Preflight, libraries: string): Promise<void> {
    const { restoring } = this.paths;
    const { state } = await readControlData(plan.binDir, restoring);
    if (state !== "shut down") {
      throw new RestoreError(
        "DETACH_FAILED",
        `the restored instance did not stop cleanly: its control file says "${state}"`,
      );
    }
    await detachFiles(restoring, this.settings.detach, libraries);
    this.signal.throwIfAborted();
    await putInPlace(this.paths);
    this.inPlace = true;
  }

  private pgbackrest(): PgBackRest {
    return { config: this.settings.pgbackrestConfig, stanza: this.settings.stanza as string, workDir: this.workDir };
  }

  private async phase<T>(name: PhaseName, work: (phase: { bytes?: number }) => Promise<T>): Promise<T> {
    this.signal.throwIfAborted();
    const phase: Report["phases"][number] = { name, started_at: new Date().toISOString(), duration_ms: 0 };
    const startedAt = performance.now();
    this.report.phases.push(phase);
    if (this.state) {
      const state = this.state;
      state.phase = name;
      const { datadir } = this.paths;
      await inParallel([() => writeUnproven(datadir, state), () => this.writeReport()], 2, (write) => write());
    }
    try {
      return await work(phase);
    } finally {
      phase.duration_ms = Math.round(performance.now() - startedAt);
    }
  }

  private async writeReport(): Promise<void> {
    // First: a disk that is full must not keep it from those who can still be told.
    this.publish(this.report);
    await writeAtomically(this.reportPath, `${JSON.stringify(this.report, null, 2)}\n`);
  }

  /** The data directory is absent afterwards, or complete; the report and the recovery log say why. */
  private async undo(error: unknown, mayReport: boolean): Promise<void> {
    await this.postmaster?.stop("immediate", 5000).catch(() => {});
    await this.walAhead?.stop();
    this.report.error = reportError(error);
    this.report.finished_at = new Date().toISOString();
    if (!mayReport) this.publish(this.report);
    const write = () => (mayReport ? this.writeReport() : Promise.resolve());
    const isWritten = await write().then(
      () => true,
      () => false,
    );
    // Once in place it is complete, and Patroni moves it away together with its tablespaces.
    if (this.state !== undefined && !this.inPlace) await removeRestore(this.paths, this.state.linked);
    // A full disk has room again now.
    if (!isWritten) {
      await write().catch((reason) => this.log.warn("preflight", `the report could not be written: ${reason.message}`));
    }
  }
}

/** What earlier restores of this service proved goes from report to report. It only decides what is looked at first. */
async function carriedCoverage(path: string): Promise<Report["coverage"]> {
  try {
    const earlier = JSON.parse((await readTextIfExists(path)) ?? "{}") as Partial<Report>;
    const provenAt = earlier.coverage?.proven_at;
    return provenAt === undefined ? {} : { proven_at: provenAt };
  } catch {
    return {};
  }
}
