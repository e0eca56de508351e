/** `verify`: what it is asked, where its evidence comes from, and the report it makes up for an instance that has none. */

import { type Evidence, evidenceOf } from "../checks/check.ts";
import { ask } from "../checks/edge.ts";
import { messageOf, RestoreError } from "../errors.ts";
import { readTextIfExists, readTextOrExplain } from "../io/files.ts";
import type { Log } from "../log.ts";
import { parseReceipt } from "../mark/receipt.ts";
import type { Settings } from "../options.ts";
import { type Conninfo, describeConninfo, parseConninfo } from "../postgres/conninfo.ts";
import { newReport, type Report } from "../report/report.ts";
import { pathsOf } from "../restore/state.ts";
import { ledgerOf } from "./coverage.ts";
import type { VERIFY_OPTIONS } from "./options.ts";
import { looksLikeReport } from "./post-bootstrap.ts";
import { cannotConnect, conclude, verifyInstance } from "./verify.ts";

export interface VerifyByHandInput {
  settings: Settings<(typeof VERIFY_OPTIONS)[number]>;
  operands: readonly string[];
  log: Log;
  signal: AbortSignal;
}

/** The report of this verification. Its verdict may be any; only what kept the checks from being run is thrown. */
export async function verifyByHand({ settings, operands, log, signal }: VerifyByHandInput): Promise<Report> {
  const startedAt = new Date();
  const conninfo = connectionOf(settings.conninfo, operands);
  const receipt =
    settings.receipt === undefined
      ? null
      : parseReceipt(await readTextOrExplain(settings.receipt, "receipt"), settings.receipt);
  const restored = await findReport(conninfo, settings, log, signal);
  // The pages were looked at before this server ran, perhaps long ago: that proves nothing now.
  const evidence: Evidence | null = restored === null ? null : { ...evidenceOf(restored), pageChecksums: null };
  const result = await verifyInstance({
    conninfo,
    receipt,
    evidence,
    level: settings.level,
    detach: settings.detach,
    jobs: settings.jobs,
    checkTimeoutMs: settings.checkTimeout,
    maxRpoMs: settings.maxRpo,
    queries: settings.queries ?? [],
    budgetMs: settings.verifyBudget,
    ledger: ledgerOf(await previousReport(settings.previousReport, restored)),
    binDir: settings.binDir,
    startedAt: restored === null ? undefined : new Date(restored.started_at),
    log,
    signal,
  });
  const id = `verify-${startedAt.toISOString().replace(/[-:]|\.\d+/g, "")}`;
  const report: Report = {
    ...newReport({ id, scope: restored?.scope ?? null, stanza: restored?.stanza ?? null, startedAt }),
    target: restored?.target ?? null,
    receipt_id: receipt?.id ?? null,
    backup: restored?.backup ?? null,
    recovered: restored?.recovered ?? null,
    phases: [{ name: "verify", started_at: result.startedAt.toISOString(), duration_ms: result.durationMs }],
    versions: restored?.versions ?? {},
  };
  // Nothing was restored here, so there is no recovery time to report.
  return { ...conclude(report, result, new Date()), rto_ms: null };
}

/** Throws SETTINGS_INVALID, without any value of the connection string. */
function connectionOf(flag: string | undefined, operands: readonly string[]): Conninfo {
  const [operand] = operands;
  if (operands.length > 1 || (operand !== undefined && flag !== undefined)) {
    throw new RestoreError("SETTINGS_INVALID", "give one connection string, as --conninfo or as the only operand");
  }
  const text = flag ?? operand;
  if (text === undefined) {
    throw new RestoreError("SETTINGS_INVALID", "--conninfo is missing", {
      hint: "give --conninfo CONNINFO, RESTORE_CONNINFO or conninfo in the settings file",
    });
  }
  let conninfo: Conninfo;
  try {
    conninfo = parseConninfo(text);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `the connection string cannot be read: ${messageOf(error)}`);
  }
  if (operand !== undefined && conninfo.password !== undefined) {
    throw new RestoreError("SETTINGS_INVALID", "the connection string holds a password, which is visible in ps", {
      hint: "use PGPASSFILE, PGPASSWORD or the environment variable RESTORE_CONNINFO",
    });
  }
  return conninfo;
}

async function previousReport(path: string | undefined, restored: Report | null): Promise<Report | null> {
  if (path === undefined) return restored;
  const report = toReport(await readTextOrExplain(path, "report"));
  if (report !== null) return report;
  throw new RestoreError("SETTINGS_INVALID", `${path} is not a report of this version`);
}

/** The report of the restore, when this machine has one for the instance; null leaves its checks out. */
async function findReport(
  conninfo: Conninfo,
  settings: VerifyByHandInput["settings"],
  log: Log,
  signal: AbortSignal,
): Promise<Report | null> {
  if (settings.report !== undefined) {
    const report = toReport(await readTextOrExplain(settings.report, "report"));
    if (report !== null) return report;
    throw new RestoreError("SETTINGS_INVALID", `${settings.report} is not a report of this version`);
  }
  const datadir = settings.datadir ?? (isLocal(conninfo) ? await dataDirectoryOf(conninfo, signal) : null);
  if (datadir === null) return null;
  const path = pathsOf(datadir).report;
  const report = await readTextIfExists(path).then(
    (text) => (text === undefined ? null : toReport(text)),
    () => null,
  );
  const given = settings.datadir !== undefined;
  if (report !== null)
    log.info("verify", `the restore's own report is ${path}`, { server: describeConninfo(conninfo) });
  else if (given) log.warn("verify", `there is no readable report in ${path}: checks that need it are skipped`);
  return report;
}

function toReport(text: string): Report | null {
  try {
    const value: unknown = JSON.parse(text);
    return looksLikeReport(value) ? value : null;
  } catch {
    return null;
  }
}

/** A path of another machine means nothing here. */
export function isLocal(conninfo: Conninfo): boolean {
  const host = conninfo.hostaddr ?? conninfo.host ?? process.env.PGHOST ?? "/";
  return host.startsWith("/") || /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);
}

async function dataDirectoryOf(conninfo: Conninfo, signal: AbortSignal): Promise<string | null> {
  try {
    return await ask(conninfo, { database: null, statementTimeoutMs: 30_000, signal }, async (database) => {
      // Null for a role that may not see it.
      const row = await database.row<{ datadir: string | null }>(
        "SELECT (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS datadir",
      );
      return row.datadir;
    });
  } catch (error) {
    signal.throwIfAborted();
    throw cannotConnect(conninfo, error);
  }
}
