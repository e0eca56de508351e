/** A report that fits where little room is, such as an annotation: what is left out is named. Pure. */

import type { Report } from "./report.ts";

/** Beyond this a report of very many checks would not fit into the 256 KiB of an object's annotations. */
export const COMPACT_LIMIT = 128 * 1024;

type Cut = readonly [name: string, cut: (report: Report) => Report];

/** What is missed least comes first. */
const CUTS: readonly Cut[] = [
  [
    "page_checksums.pages",
    (report) =>
      report.page_checksums ? { ...report, page_checksums: { ...report.page_checksums, pages: [] } } : report,
  ],
  ["coverage.proven_at", ({ coverage: { proven_at: _, ...coverage }, ...report }) => ({ ...report, coverage })],
  ["checks.facts", (report) => ({ ...report, checks: report.checks.map((check) => ({ ...check, facts: {} })) })],
  [
    "checks",
    (report) => ({
      ...report,
      checks: report.checks
        .filter(({ status }) => status === "fail" || status === "unverified")
        .slice(0, 50)
        .map((check) => ({ ...check, summary: shortened(check.summary), hint: check.hint && shortened(check.hint) })),
    }),
  ],
  ["coverage", (report) => ({ ...report, coverage: {} })],
  [
    "error",
    (report) => ({ ...report, error: report.error && { ...report.error, message: shortened(report.error.message) } }),
  ],
  [
    "backup.page_errors",
    (report) => (report.backup ? { ...report, backup: { ...report.backup, page_errors: [] } } : report),
  ],
];

const shortened = (text: string) => (text.length <= 1000 ? text : `${text.slice(0, 1000)}…`);

/** JSON on one line, with `truncated` when something is left out. */
export function compactReport(report: Report, limit: number = COMPACT_LIMIT): string {
  let text = JSON.stringify(report);
  let rest = report;
  const truncated: string[] = [];
  for (const [name, cut] of CUTS) {
    if (Buffer.byteLength(text) <= limit) break;
    rest = cut(rest);
    truncated.push(name);
    text = JSON.stringify({ ...rest, truncated });
  }
  return text;
}
