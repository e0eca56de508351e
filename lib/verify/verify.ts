/** Runs every check against a running instance and draws the conclusion. Changes nothing in it. */

import { type Asked, type Check, type CheckLevel, type Evidence, runChecks } from "../checks/check.ts";
import { ask, openEdge, readServerRun, type ServerRun } from "../checks/edge.ts";
import { describeFailure, isAway } from "../checks/failure.ts";
import { CHECKS } from "../checks/index.ts";
import { recoveryPointMs } from "../checks/marker.ts";
import { RestoreError, reportError } from "../errors.ts";
import type { Log } from "../log.ts";
import { collectManifest } from "../mark/manifest.ts";
import type { Receipt } from "../mark/receipt.ts";
import type { Settings, UserQuery } from "../options.ts";
import { type Conninfo, describeConninfo } from "../postgres/conninfo.ts";
import { type CheckResult, judge, type Report } from "../report/report.ts";

export interface VerifyInput {
  conninfo: Conninfo;
  receipt: Receipt | null;
  /** Null for an instance that `bootstrap` did not make. */
  evidence: Evidence | null;
  level: CheckLevel;
  detach: Settings["detach"];
  jobs: number;
  checkTimeoutMs: number;
  maxRpoMs: number;
  queries: readonly UserQuery[];
  binDir?: string | undefined;
  /** Start of the restore, when it is known. */
  startedAt?: Date | undefined;
  now?: (() => Date) | undefined;
  log: Log;
  signal: AbortSignal;
  /** All of them, unless a test has its own. */
  checks?: readonly Check[] | undefined;
}

export interface VerifyResult {
  checks: CheckResult[];
  coverage: Record<string, unknown>;
  /** Null when nothing tells how recent the data is. */
  rpoMs: number | null;
  /** `server_version`. */
  serverVersion: string;
  /** The run of the server that was checked. */
  run: ServerRun;
  startedAt: Date;
  durationMs: number;
}

const PHASE = "verify";

/** Throws UNVERIFIED when there is nobody to ask; whatever else goes wrong is the result of a check. */
export async function verifyInstance(input: VerifyInput): Promise<VerifyResult> {
  const startedAt = (input.now ?? (() => new Date()))();
  const clock = performance.now();
  const { conninfo, signal, log } = input;
  const server = await connect(conninfo, input.checkTimeoutMs, signal);
  const asked: Asked = {
    receipt: input.receipt,
    evidence: input.evidence,
    level: input.level,
    detach: input.detach,
    maxRpoMs: input.maxRpoMs,
    startedAt: input.startedAt ?? startedAt,
    queries: input.queries,
  };
  const edge = openEdge({
    conninfo,
    asked,
    signal,
    statementTimeoutMs: input.checkTimeoutMs,
    jobs: input.jobs,
    binDir: input.binDir,
    serverVersion: server.versionNumber,
    begin: server.run,
    // The source was asked the receipt's queries, so this instance is asked the same.
    collectManifest: (limit) =>
      collectManifest(conninfo, {
        queries: input.receipt?.queries ?? [],
        statementTimeoutMs: input.checkTimeoutMs,
        signal: limit,
      }),
  });
  const checks = input.checks ?? CHECKS;
  log.info(PHASE, `${checks.length} checks of level ${input.level}`, { server: describeConninfo(conninfo) });
  const progress = log.progress(PHASE);
  const running = new Set<string>();
  let done = 0;
  const show = () =>
    progress.update({
      fraction: done / checks.length,
      note: `${done} of ${checks.length} checks${running.size > 0 ? `, now ${[...running].join(", ")}` : ""}`,
    });
  const outcomes = await runChecks(checks, asked, edge, {
    jobs: input.jobs,
    timeoutMs: input.checkTimeoutMs,
    onStart(check) {
      running.add(check.id);
      show();
    },
    onResult(result) {
      running.delete(result.id);
      done++;
      logResult(log, result);
      show();
    },
  }).finally(() => progress.end());
  const results = outcomes.map((outcome) => outcome.result);
  return {
    checks: results,
    coverage: coverageOf(outcomes, input.level),
    rpoMs: recoveryPointMs(asked, provenCommits(results, input.evidence)),
    serverVersion: server.version,
    run: server.run,
    startedAt,
    durationMs: Math.round(performance.now() - clock),
  };
}

/** The server that was checked, at the last moment before the verdict. Throws UNVERIFIED when it is not the same. */
export async function confirmSameRun(conninfo: Conninfo, run: ServerRun, signal: AbortSignal): Promise<void> {
  const now = await connect(conninfo, 30_000, signal);
  if (now.run.postmasterStartedAt !== run.postmasterStartedAt || now.run.checkpointer !== run.checkpointer) {
    throw new RestoreError("UNVERIFIED", "PostgreSQL was restarted after the checks, before the verdict", {
      hint: "see the server log, and Patroni's",
    });
  }
}

async function connect(
  conninfo: Conninfo,
  statementTimeoutMs: number,
  signal: AbortSignal,
): Promise<{ run: ServerRun; version: string; versionNumber: number }> {
  try {
    return await ask(conninfo, { database: null, statementTimeoutMs, signal }, async (database) => {
      const version = await database.row<{ text: string; number: string }>(
        "SELECT current_setting('server_version') AS text, current_setting('server_version_num') AS number",
      );
      return { run: await readServerRun(database), version: version.text, versionNumber: Number(version.number) };
    });
  } catch (error) {
    signal.throwIfAborted();
    throw cannotConnect(conninfo, error);
  }
}

export function cannotConnect(conninfo: Conninfo, error: unknown): RestoreError {
  const { message, hint } = describeFailure(error);
  const where = describeConninfo(conninfo) || "the default socket";
  return new RestoreError("UNVERIFIED", `cannot connect to the instance (${where}): ${message}`, {
    hint: isAway(error) ? "is PostgreSQL running there, on this host and port" : hint,
    cause: error,
  });
}

function logResult(log: Log, { status, id, summary, duration_ms }: CheckResult): void {
  const say = status === "fail" || status === "unverified" ? log.error : status === "warn" ? log.warn : log.info;
  if (status !== "skipped") say(PHASE, `${id}: ${summary}`, { status, duration_ms });
}

/** What was proven, and what was not looked at: a healthy verdict says no more than this. */
function coverageOf(outcomes: Awaited<ReturnType<typeof runChecks>>, level: CheckLevel): Record<string, unknown> {
  const merged: Record<string, unknown> = { level };
  for (const { coverage } of outcomes) Object.assign(merged, coverage);
  const count = (status: CheckResult["status"]) => outcomes.filter((o) => o.result.status === status).length;
  const notCovered = ["table rows: no check of this version reads them"];
  const moved = outcomes.flatMap((o) => (Array.isArray(o.result.facts.moved) ? o.result.facts.moved : []));
  if (moved.length > 0) notCovered.push(`in motion on the source: ${moved.join(", ")}`);
  for (const { result } of outcomes) {
    if (result.status === "skipped") notCovered.push(`${result.id}: ${result.summary}`);
  }
  return { ...merged, checks_passed: count("pass"), checks_skipped: count("skipped"), not_covered: notCovered };
}

/** Commits that are certainly in the data: the replayed ones, and the marker that was found. */
function provenCommits(results: readonly CheckResult[], evidence: Evidence | null): (string | null)[] {
  const facts = (id: string) => results.find((r) => r.id === id && r.status !== "unverified")?.facts ?? {};
  const found = [facts("marker-present").marked_at, facts("newest-marker").newest_at];
  return [
    evidence?.recovered?.last_commit_at ?? null,
    ...found.map((time) => (typeof time === "string" ? time : null)),
  ];
}

/** The report with the verdict in it. `finishedAt` ends the RTO. */
export function conclude(report: Report, result: VerifyResult, finishedAt: Date): Report {
  const concluded: Report = {
    ...report,
    finished_at: finishedAt.toISOString(),
    verdict: judge(result.checks),
    checks: result.checks,
    coverage: result.coverage,
    rto_ms: finishedAt.getTime() - new Date(report.started_at).getTime(),
    rpo_ms: result.rpoMs,
    error: null,
    versions: { ...report.versions, postgresql: result.serverVersion },
  };
  const error = verdictError(concluded);
  return error === null ? concluded : { ...concluded, error: reportError(error) };
}

/** Null when the report is healthy. A check that failed outweighs those that could not run. */
export function verdictError(report: Pick<Report, "verdict" | "checks">): RestoreError | null {
  if (report.verdict === "healthy") return null;
  const failed = report.checks.filter((c) => c.status === "fail");
  const unverified = report.checks.filter((c) => c.status === "unverified");
  const bad = failed.length > 0 ? failed : unverified;
  if (bad.length === 0) {
    const proven = new Set(report.checks.filter((c) => c.status === "pass").map((c) => c.claim));
    const missing = (["recentness", "consistency", "safety"] as const).filter((claim) => !proven.has(claim));
    return new RestoreError("UNVERIFIED", `no check proved ${missing.join(" or ") || "anything"}`, {
      hint: "a restore of which nothing was proven is not healthy: give --receipt",
    });
  }
  const asked = report.checks.filter((c) => c.status !== "skipped").length;
  const what = failed.length > 0 ? "failed" : "could not run";
  const also =
    failed.length > 0 && unverified.length > 0 ? `; could not run: ${unverified.map((c) => c.id).join(", ")}` : "";
  const list = bad.map((c) => `${c.id}: ${c.summary}`);
  const message = `${bad.length} of ${asked} checks ${what}${list.length === 1 ? `: ${list[0]}` : `\n${list.map((l) => `  - ${l}`).join("\n")}`}${also}`;
  return new RestoreError(failed.length > 0 ? "UNHEALTHY" : "UNVERIFIED", message, {
    hint: bad.find((c) => c.hint !== null)?.hint ?? undefined,
  });
}
