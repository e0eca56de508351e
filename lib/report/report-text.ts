/** A report for people, at most 110 columns wide. */

import { describeTarget } from "../postgres/target.ts";
import { formatDuration, formatSize } from "../units.ts";
import { breakable, type Color, lines, type Paint, painter, plainTable } from "./plain-table.ts";
import type { CheckResult, CheckStatus, Report, Verdict } from "./report.ts";

export interface TextOptions {
  /** True on a terminal. */
  color: boolean;
}

const WIDTH = 110;

export function describeReport(report: Report, { color }: TextOptions): string {
  const paint = painter(color);
  const sections = [
    headline(report, paint),
    table(recentRows(report)),
    report.phases.length > 0 ? phases(report) : null,
    report.checks.length > 0 ? checks(report.checks, paint) : null,
    Object.keys(report.coverage).length > 0 ? coverage(report.coverage) : null,
    report.error === null ? null : errorText(report.error),
  ];
  return `${sections.filter((section) => section !== null).join("\n\n")}\n`;
}

const VERDICT_COLOR: Record<Verdict, Color> = {
  healthy: "green",
  unhealthy: "red",
  error: "yellow",
};

const VERDICT_MEANS: Record<Verdict, string> = {
  healthy: "recent and consistent, and it can hurt nobody",
  unhealthy: "restored, and at least one check failed",
  error: "could not be judged",
};

function headline(report: Report, paint: Paint): string {
  return `verdict  ${paint(report.verdict, VERDICT_COLOR[report.verdict])}: ${VERDICT_MEANS[report.verdict]}`;
}

function recentRows(report: Report): [string, string][] {
  const { target, recovered, backup } = report;
  const marker =
    factOf(report.checks, "marker-present", "marked_at") ?? factOf(report.checks, "newest-marker", "newest_at");
  const rows: [string, string | null][] = [
    [
      "service",
      [report.scope && `scope ${report.scope}`, report.stanza && `stanza ${report.stanza}`]
        .filter(Boolean)
        .join(", ") || null,
    ],
    ["id", report.id],
    ["backup", backup && `${backup.label} (${backup.type}, ${formatSize(backup.size_bytes)}): ${backup.why}`],
    ["target", target && describeTarget(target)],
    [
      "recovered",
      recovered &&
        `to ${recovered.lsn} on timeline ${recovered.parent_timeline}, promoted to timeline ${recovered.timeline}`,
    ],
    ["last commit", recovered && (recovered.last_commit_at ?? "none was replayed")],
    ["stopped", recovered?.stop_reason ?? null],
    ["marker", marker],
    ["receipt", report.receipt_id],
    ["RPO", report.rpo_ms === null ? null : `${formatDuration(report.rpo_ms)} of work lost at most`],
    ["RTO", report.rto_ms === null ? null : `${formatDuration(report.rto_ms)} from start to verdict`],
    [
      "versions",
      Object.entries(report.versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", ") || null,
    ],
  ];
  return rows.filter((row): row is [string, string] => Boolean(row[1]));
}

function factOf(checks: readonly CheckResult[], id: string, fact: string): string | null {
  const value = checks.find((c) => c.id === id)?.facts[fact];
  return typeof value === "string" ? value : null;
}

/** Two columns without lines. */
function table(rows: readonly [string, string][]): string {
  const label = Math.max(...rows.map(([name]) => name.length));
  const grid = plainTable({ colWidths: [label, WIDTH - label - 2] });
  for (const row of rows) grid.push(...rowsOf([row[0]], breakable(row[1], WIDTH - label - 2)));
  return lines(grid);
}

/** A row for each line of the last cell: what cli-table3 does to a cell of n lines takes n^3 steps. */
function rowsOf(first: readonly string[], last: string): string[][] {
  return last.split("\n").map((line, i) => [...(i === 0 ? first : first.map(() => "")), line]);
}

function phases(report: Report): string {
  const grid = plainTable({ head: ["phase", "took", "bytes"], colAligns: ["left", "right", "right"] });
  for (const phase of report.phases) {
    grid.push([
      phase.name,
      formatDuration(phase.duration_ms),
      phase.bytes === undefined ? "" : formatSize(phase.bytes),
    ]);
  }
  return lines(grid);
}

const STATUS_COLOR: Record<CheckStatus, Color> = {
  pass: "green",
  fail: "red",
  unverified: "red",
  warn: "yellow",
  skipped: "dim",
};

function checks(results: readonly CheckResult[], paint: Paint): string {
  const status = "unverified".length;
  const id = Math.max(...results.map((r) => r.id.length), "check".length);
  const took = Math.max(...results.map((r) => formatDuration(r.duration_ms).length), "took".length);
  const summary = WIDTH - status - id - took - 6;
  const grid = plainTable({
    head: ["status", "check", "took", "finding"],
    colWidths: [status, id, took, summary],
    colAligns: ["left", "left", "right", "left"],
  });
  for (const result of results) {
    const hint = result.hint !== null && /fail|unverified|warn/.test(result.status) ? `\nHINT: ${result.hint}.` : "";
    const first = [paint(result.status, STATUS_COLOR[result.status]), result.id, formatDuration(result.duration_ms)];
    grid.push(...rowsOf(first, breakable(result.summary + hint, summary)));
  }
  return lines(grid);
}

function coverage(covered: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(covered).map(([name, value]): [string, string] => [
    name.replaceAll("_", " "),
    name === "proven_at" ? provenAt(value as object) : inWords(value),
  ]);
  return `coverage\n${table(rows)}`;
}

/** For the next verification, and as long as there are tables. */
function provenAt(databases: object): string {
  const count = Object.values(databases).reduce((sum, tables) => sum + Object.keys(tables ?? {}).length, 0);
  return `of ${count} tables, see the report`;
}

function inWords(value: unknown): string {
  if (Array.isArray(value)) return value.map(String).join("\n");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function errorText(error: NonNullable<Report["error"]>): string {
  const code = String(error.code).padStart(3, "0");
  const hint = error.hint === null ? "" : `\nHINT: ${error.hint}.`;
  return `ERROR: [${code}]: ${error.name}: ${error.message}${hint}`
    .split("\n")
    .map((line) => breakable(line, WIDTH))
    .join("\n");
}
