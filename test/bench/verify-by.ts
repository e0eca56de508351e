/** Single checks, as `verify` runs them, in this process: nothing of a script's start is in their time. */

import type { Check, CheckLevel } from "../../lib/checks/check.ts";
import type { Log } from "../../lib/log.ts";
import type { Receipt } from "../../lib/mark/receipt.ts";
import { parseConninfo } from "../../lib/postgres/conninfo.ts";
import { verifyInstance } from "../../lib/verify/verify.ts";
import type { Source } from "../lab/source.ts";

export const SILENT: Log = { info() {}, warn() {}, error() {}, progress: () => ({ update() {}, end() {} }) };

/** Seconds. Throws unless every check of consistency that ran has passed. */
export async function secondsOf(
  source: Source,
  checks: readonly Check[],
  { signal, receipt = null, level = "full" }: { signal: AbortSignal; receipt?: Receipt | null; level?: CheckLevel },
): Promise<number> {
  const { durationMs, checks: results } = await verifyInstance({
    conninfo: parseConninfo(source.conninfo),
    receipt,
    evidence: null,
    level,
    detach: "restore-test",
    jobs: undefined,
    checkTimeoutMs: 1_800_000,
    maxRpoMs: 86_400_000,
    queries: [],
    budgetMs: 60_000,
    ledger: {},
    log: SILENT,
    signal,
    checks,
  });
  for (const { id, status, summary } of results) {
    if (status !== "pass") throw new Error(`${id} is no ${status === "skipped" ? "measurement" : "pass"}: ${summary}`);
  }
  return durationMs / 1000;
}
