/**
 * Patroni's `post_bootstrap`: judges what the bootstrap restored. Only here can a report become healthy, and only here is
 * the "not yet proven" file removed; whatever happens before leaves both as they were.
 */

import { evidenceOf } from "../checks/check.ts";
import { ask } from "../checks/edge.ts";
import { messageOf, RestoreError, reportError } from "../errors.ts";
import { readTextIfExists, readTextOrExplain, removeTree, syncDirectory, writeAtomically } from "../io/files.ts";
import type { Log } from "../log.ts";
import { parseReceipt, type Receipt } from "../mark/receipt.ts";
import type { Settings } from "../options.ts";
import { type Conninfo, describeConninfo, parseConninfo } from "../postgres/conninfo.ts";
import { type PageChecksums, type Phase, REPORT_SCHEMA_VERSION, type Report } from "../report/report.ts";
import { pathsOf, type Unproven } from "../restore/state.ts";
import { readUnproven, writeUnproven } from "../restore/unproven.ts";
import { formatDuration } from "../units.ts";
import { ledgerOf } from "./coverage.ts";
import type { POST_BOOTSTRAP_OPTIONS } from "./options.ts";
import { cannotConnect, conclude, confirmSameRun, verdictError, verifyInstance } from "./verify.ts";

export interface PostBootstrapInput {
  /** The last argument that Patroni gives. */
  conninfo: Conninfo;
  settings: Settings<(typeof POST_BOOTSTRAP_OPTIONS)[number]>;
  /** To tell a flag from a default: what the bootstrap did decides otherwise. */
  flags: Readonly<Record<string, unknown>>;
  log: Log;
  signal: AbortSignal;
  now?: () => Date;
  /** False when the Patroni that called is gone or is leaving: nobody would take the instance over. */
  stillWanted?: () => Promise<boolean>;
  /** Sees the report whenever it was written. */
  publish?: (report: Report) => void;
  /** Of the instance as it was stopped just now, instead of what bootstrap saw. */
  pageChecksums?: PageChecksums | undefined;
}

/** The only operand. Throws SETTINGS_INVALID, without any of its values. */
export function parseOperand(operands: readonly string[]): Conninfo {
  const [text] = operands;
  if (text === undefined || operands.length > 1) {
    throw new RestoreError("SETTINGS_INVALID", `expected one connection string, got ${operands.length}`, {
      hint: "Patroni appends it as the last argument; by hand: post-bootstrap 'host=/run/postgresql user=postgres'",
    });
  }
  let conninfo: Conninfo;
  try {
    conninfo = parseConninfo(text);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `the connection string cannot be read: ${messageOf(error)}`);
  }
  if (conninfo.password !== undefined) {
    throw new RestoreError("SETTINGS_INVALID", "the connection string holds a password, which is visible in ps", {
      hint: "use PGPASSFILE, as Patroni does",
    });
  }
  return conninfo;
}

/** Returns the healthy report. Every other end is thrown, and is in the report as far as there is one. */
export async function postBootstrap(input: PostBootstrapInput): Promise<Report> {
  const { conninfo, settings, flags, log, signal } = input;
  const now = input.now ?? (() => new Date());
  const datadir = await dataDirectoryOf(conninfo, settings.checkTimeout, signal);
  const unproven = await requireUnproven(datadir);
  const reportPath = settings.report ?? unproven.report;
  const read = await readReport(reportPath, unproven);
  const found = { ...read, page_checksums: input.pageChecksums ?? read.page_checksums ?? null };
  log.info("verify", `checking ${datadir}`, { server: describeConninfo(conninfo), report: reportPath });

  // An earlier run may have been interrupted between its verdict and the end.
  let report: Report = withPhase({ ...found, verdict: "error", error: null }, handover(found, now()));
  const write = async (next: Report) => {
    await writeAtomically(reportPath, `${JSON.stringify(next, null, 2)}\n`);
    input.publish?.(next);
  };
  await write(report);
  await writeUnproven(datadir, { ...unproven, phase: "verify" });
  try {
    requireRecovered(found);
    const receipt = await readReceipt(settings.receipt ?? unproven.receipt, found);
    const result = await verifyInstance({
      conninfo,
      receipt,
      evidence: { ...evidenceOf(found), stanza: found.stanza ?? unproven.stanza },
      level: settings.level,
      detach: flags.detach === undefined ? unproven.detach : settings.detach,
      jobs: settings.jobs,
      checkTimeoutMs: settings.checkTimeout,
      maxRpoMs: settings.maxRpo,
      queries: settings.queries ?? [],
      budgetMs: settings.verifyBudget,
      ledger: ledgerOf(found),
      binDir: settings.binDir,
      startedAt: new Date(found.started_at),
      now,
      log,
      signal,
    });
    const verify: Phase = {
      name: "verify",
      started_at: result.startedAt.toISOString(),
      duration_ms: result.durationMs,
    };
    const concluded = conclude(withPhase(report, verify), result, now());
    const verdict = verdictError(concluded);
    // What was found stays in the report, whatever comes between here and the verdict.
    report = { ...concluded, verdict: verdict === null ? "error" : concluded.verdict };
    if (verdict !== null) throw verdict;
    await confirmSameRun(conninfo, result.run, signal);
    if (input.stillWanted !== undefined && !(await input.stillWanted())) {
      throw new RestoreError("TERMINATED", "the Patroni that asked for these checks is gone or is leaving", {
        hint: "every check passed; guard decides about the instance before the next start",
      });
    }
    signal.throwIfAborted();
    await write(concluded);
    report = concluded;
  } catch (error) {
    await write({
      ...report,
      finished_at: report.finished_at ?? now().toISOString(),
      error: reportError(error),
    }).catch((failure) => log.error("verify", `the report could not be written: ${messageOf(failure)}`));
    throw error;
  }
  await removeUnproven(datadir);
  log.info("verify", `healthy after ${formatDuration(report.rto_ms ?? 0)}`, { report: reportPath });
  return report;
}

/** Retries while the server is starting: Patroni may call before crash recovery is over. */
async function dataDirectoryOf(conninfo: Conninfo, limitMs: number, signal: AbortSignal): Promise<string> {
  const startedAt = performance.now();
  for (;;) {
    try {
      return await ask(conninfo, { database: null, statementTimeoutMs: limitMs, signal }, async (database) => {
        const { datadir } = await database.row<{ datadir: string }>(
          "SELECT current_setting('data_directory') AS datadir",
        );
        return datadir;
      });
    } catch (error) {
      signal.throwIfAborted();
      const starting = (error as { code?: unknown }).code === "57P03";
      if (!starting || performance.now() - startedAt > Math.min(limitMs, STARTING_LIMIT_MS)) {
        throw cannotConnect(conninfo, error);
      }
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

const STARTING_LIMIT_MS = 60_000;

async function requireUnproven(datadir: string): Promise<Unproven> {
  const found = await readUnproven(datadir);
  const path = pathsOf(datadir).unproven;
  if (found === undefined) {
    throw new RestoreError("UNVERIFIED", `${datadir} was not restored by bootstrap: ${path} does not exist`, {
      hint: "is bootstrap.method spelt as its section (Patroni runs initdb otherwise), and is its command bootstrap",
    });
  }
  if (found.state === null) {
    throw new RestoreError("UNVERIFIED", found.reason, { hint: "bootstrap writes it; restore again" });
  }
  return found.state;
}

async function readReport(path: string, unproven: Unproven): Promise<Report> {
  let text: string | undefined;
  try {
    text = await readTextIfExists(path);
  } catch (error) {
    throw unreadable(path, messageOf(error));
  }
  if (text === undefined) throw unreadable(path, "it does not exist");
  let report: Report;
  try {
    report = JSON.parse(text);
  } catch {
    throw unreadable(path, "it is not JSON");
  }
  if (!looksLikeReport(report)) throw unreadable(path, "it is not a report of this version");
  if (report.id !== unproven.id) {
    throw unreadable(path, `it is of restore ${report.id}, and this is restore ${unproven.id}`);
  }
  return report;
}

function unreadable(path: string, why: string): RestoreError {
  return new RestoreError("UNVERIFIED", `the report of the bootstrap, ${path}, cannot be used: ${why}`, {
    hint: "post-bootstrap finishes the report that bootstrap began: give both the same --report, or none",
  });
}

/** The part that everything here relies on; the rest is passed on as it is. */
export function looksLikeReport(value: unknown): value is Report {
  const report = value as Partial<Report> | null;
  return (
    typeof report === "object" &&
    report !== null &&
    report.schema_version === REPORT_SCHEMA_VERSION &&
    typeof report.id === "string" &&
    typeof report.started_at === "string" &&
    !Number.isNaN(Date.parse(report.started_at)) &&
    Array.isArray(report.phases) &&
    typeof report.versions === "object" &&
    report.versions !== null
  );
}

/** Ends of an earlier post-bootstrap: the restore itself was complete, so the checks may be run again. */
const JUDGED = ["UNHEALTHY", "UNVERIFIED", "SETTINGS_INVALID", "INTERRUPTED", "TERMINATED", "INTERNAL"];

function requireRecovered(report: Report): void {
  const { error, recovered } = report;
  if (recovered && (error === null || JUDGED.includes(error.name))) return;
  const why = error === null ? "its report does not say what was recovered" : `${error.name}: ${error.message}`;
  throw new RestoreError("UNVERIFIED", `the bootstrap did not finish: ${why}`, {
    hint: "Patroni adopted a data directory that bootstrap did not hand over: start it behind guard",
  });
}

async function readReceipt(path: string | null | undefined, report: Report): Promise<Receipt | null> {
  if (path === null || path === undefined) {
    if (report.receipt_id === null) return null;
    throw new RestoreError("UNVERIFIED", `receipt ${report.receipt_id} was used for the restore and is not given`, {
      hint: "give --receipt",
    });
  }
  const receipt = parseReceipt(await readTextOrExplain(path, "receipt"), path);
  if (report.receipt_id !== null && report.receipt_id !== receipt.id) {
    throw new RestoreError(
      "UNVERIFIED",
      `the receipt ${path} is of mark ${receipt.id}, and the restore was made for ${report.receipt_id}`,
      { hint: "give both hooks the same --receipt" },
    );
  }
  return receipt;
}

/** From the end of the bootstrap to now: Patroni's configuration, the start of PostgreSQL, the call. */
function handover(report: Report, now: Date): Phase {
  const last = report.phases.filter((phase) => phase.name !== "handover" && phase.name !== "verify").at(-1);
  const from = last === undefined ? Date.parse(report.started_at) : Date.parse(last.started_at) + last.duration_ms;
  return {
    name: "handover",
    started_at: new Date(from).toISOString(),
    duration_ms: Math.max(0, Math.round(now.getTime() - from)),
  };
}

/** Replaces a phase of the same name: the checks may run more than once. */
function withPhase(report: Report, phase: Phase): Report {
  return { ...report, phases: [...report.phases.filter((p) => p.name !== phase.name), phase] };
}

async function removeUnproven(datadir: string): Promise<void> {
  const path = pathsOf(datadir).unproven;
  await removeTree(path);
  await syncDirectory(path.slice(0, path.lastIndexOf("/")) || "/");
}
