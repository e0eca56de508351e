/** What monitoring asks of a report. Pure; old and half-written reports lack much of it. */

import { PHASES, type PhaseName, type Report } from "../report/report.ts";
import type { Figures } from "./test.ts";

export function figuresOf(report: Report): Figures {
  return {
    rto_ms: numberOrNull(report.rto_ms),
    rpo_ms: numberOrNull(report.rpo_ms),
    phases: phasesOf(report),
    size_bytes: numberOrNull(report.backup?.size_bytes),
    coverage: comparedShare(report),
  };
}

const numberOrNull = (value: unknown) => (typeof value === "number" && Number.isFinite(value) ? value : null);

/** A phase that was done twice, such as a restore from a second backup set, counts both times. */
function phasesOf({ phases }: Report): Figures["phases"] {
  const durations: Partial<Record<PhaseName, number>> = {};
  for (const { name, duration_ms } of phases) {
    if (PHASES.includes(name)) durations[name] = (durations[name] ?? 0) + duration_ms;
  }
  return durations;
}

function comparedShare({ receipt_id, coverage }: Report): number | null {
  const data = coverage["table-data"] as { compared_blocks?: unknown; of_blocks?: unknown } | undefined;
  const [compared, all] = [numberOrNull(data?.compared_blocks), numberOrNull(data?.of_blocks)];
  if (receipt_id === null || compared === null || all === null) return null;
  return all === 0 ? 1 : Math.min(1, compared / all);
}
