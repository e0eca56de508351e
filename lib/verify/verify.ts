/** Runs every check against a running instance and draws the conclusion. Changes nothing in it. */

import { type Asked, type Check, type CheckLevel, type Evidence, runChecks } from "../checks/check.ts";
import { ask, openEdge, readServerRun, type ServerRun } from "../checks/edge.ts";
import { describeFailure, isAway } from "../checks/failure.ts";
import { CHECKS } from "../checks/index.ts";
import { recoveryPointMs } from "../checks/recentness/marker.ts";
import type { Ledger } from "../checks/relations.ts";
import { RestoreError, reportError } from "../errors.ts";
import { grantedProcessors } from "../io/processors.ts";
import type { Log } from "../log.ts";
import { askRestored } from "../manifest/manifest.ts";
import { queryId } from "../manifest/queries.ts";
import type { Receipt } from "../mark/receipt.ts";
import type { Settings, UserQuery } from "../options.ts";
import { type Conninfo, describeConninfo } from "../postgres/conninfo.ts";
import { type CheckResult, judge, type Report } from "../report/report.ts";
import { coverageOf } from "./coverage.ts";

export interface VerifyInput {
  conninfo: Conninfo;
  receipt: Receipt | null;
  /** Null for an instance that `bootstrap` did not make. */
  evidence: Evidence | null;
  level: CheckLevel;
  detach: Settings["detach"];
  /** Checks, and sessions on the data, at the same time. */
  jobs: number | undefined;
  checkTimeoutMs: number;
  maxRpoMs: number;
  queries: readonly UserQuery[];
  /** At level standard: what the checks of the data may take together. */
  budgetMs: number;
  /** What earlier reports of this service proved, and when. */
  ledger: Ledger;
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
/** Unless more are asked for: a server that others use as well keeps something for them. */
const MOST_JOBS = 4;

/** Throws UNVERIFIED when there is nobody to ask; whatever else goes wrong is the result of a check. */
export async function verifyInstance(input: VerifyInput): Promise<VerifyResult> {
  const startedAt = (input.now ?? (() => new Date()))();
  const clock = performance.now();
  // More sessions than cores take turns, and each finds its memory in nobody's cache.
  const { conninfo, signal, log, jobs = Math.min(MOST_JOBS, await grantedProcessors()) } = input;
  const server = await connect(conninfo, input.checkTimeoutMs, signal);
  const asked: Asked = {
    receipt: input.receipt,
    evidence: input.evidence,
    level: input.level,
    detach: input.detach,
    maxRpoMs: input.maxRpoMs,
    startedAt: input.startedAt ?? startedAt,
    queries: input.queries,
    ledger: input.ledger,
  };
  const bytes = { done: 0, total: 0 };
  const checks = input.checks ?? CHECKS;
  log.info(PHASE, `${checks.length} checks of level ${input.level}`, { server: describeConninfo(conninfo) });
  const progress = log.progress(PHASE);
  const running = new Set<string>();
  let done = 0;
  /** Of what the running checks do on each database. */
  let askedPart = 0;
  const show = () =>
    progress.update({
      // The checks of the data share their work: how much of it is done says more than how many have finished.
      ...(bytes.total > 0
        ? { bytes: bytes.done, totalBytes: bytes.total }
        : { fraction: (done + running.size * askedPart) / checks.length }),
      note: `${done} of ${checks.length} checks${running.size > 0 ? `, now ${[...running].join(", ")}` : ""}`,
    });
  const edge = openEdge({
    onProgress: ({ doneBytes, totalBytes }) => {
      bytes.done = doneBytes;
      bytes.total = totalBytes;
      show();
    },
    onDatabase(part, whole) {
      askedPart = part / whole;
      show();
    },
    budgetMs: input.level === "standard" ? input.budgetMs : null,
    conninfo,
    asked,
    signal,
    statementTimeoutMs: input.checkTimeoutMs,
    jobs,
    binDir: input.binDir,
    serverVersion: server.versionNumber,
    maxConnections: server.maxConnections,
    templates: server.templates,
    begin: server.run,
    // The source was asked the receipt's queries, so this instance is asked the same.
    collectManifest: (options) => {
      const manifest = input.receipt?.manifest;
      const basis = {
        horizon: { xid: manifest?.horizon ?? "3" },
        seed: manifest?.seed ?? "0",
        nextXid: input.evidence?.recovered?.next_xid ?? manifest?.next_xid ?? "3",
      };
      const still = new Set(manifest?.queries.filter((query) => query.still).map(queryId));
      return askRestored(conninfo, basis, {
        ...options,
        queries: input.receipt?.queries ?? [],
        // Where the source could not tell that nothing moved, rows that are counted here prove nothing.
        mostBytes: (query) => (still.has(queryId(query)) ? null : 0),
        statementTimeoutMs: input.checkTimeoutMs,
      });
    },
  });
  const outcomes = await runChecks(checks, asked, edge, {
    jobs,
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
  }).finally(() => {
    progress.end();
    return edge.close();
  });
  const results = outcomes.map((outcome) => outcome.result);
  return {
    checks: results,
    coverage: coverageOf({
      outcomes,
      level: input.level,
      relations: input.level === "quick" ? [] : await edge.relations().catch(() => []),
      ledger: input.ledger,
      now: new Date(),
    }),
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
): Promise<{
  run: ServerRun;
  version: string;
  versionNumber: number;
  maxConnections: number;
  templates: ReadonlySet<string>;
}> {
  try {
    return await ask(conninfo, { database: null, statementTimeoutMs, signal }, async (database) => {
      const server = await database.row<{ text: string; number: string; connections: string }>(
        `SELECT current_setting('server_version') AS text, current_setting('server_version_num') AS number,
                current_setting('max_connections') AS connections`,
      );
      // A catalog that cannot be read is for the checks to find.
      const templates = await database
        .query<{ datname: string }>("SELECT datname FROM pg_database WHERE datistemplate")
        .catch(() => []);
      return {
        run: await readServerRun(database),
        templates: new Set(templates.map(({ datname }) => datname)),
        version: server.text,
        versionNumber: Number(server.number),
        maxConnections: Number(server.connections),
      };
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
