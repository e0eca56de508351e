/** Hands the report of a hook out of its pod, whenever it is written: nobody can look into a pod that has ended. */

import { REPORT_ANNOTATION } from "../fleet/kubernetes/names.ts";
import { annotateOwnPod } from "../io/own-pod.ts";
import type { Log } from "../log.ts";
import { compactReport } from "./compact.ts";
import type { Report } from "./report.ts";

/** For the last word; the API server may be restarting just now. */
const LIMIT_MS = 20_000;
/** After a signal Patroni kills within ten seconds. */
const HURRIED_LIMIT_MS = 3000;

export async function withReportOnPod(
  isWanted: boolean,
  { log, signal }: { log: Log; signal: AbortSignal },
  work: (publish: { publish?: (report: Report) => void }) => Promise<void>,
): Promise<void> {
  if (!isWanted) return work({});
  const pod = annotateOwnPod(REPORT_ANNOTATION, process.env, log);
  try {
    await work({ publish: (report) => pod.set(compactReport(report)) });
  } finally {
    await pod.finish(signal.aborted ? HURRIED_LIMIT_MS : LIMIT_MS);
  }
}
