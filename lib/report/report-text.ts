/** A report for people, at most 110 columns wide. */

import Table from "cli-table3";
import { describeTarget } from "../postgres/target.ts";
import { formatDuration, formatSize } from "../units.ts";
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

type Paint = (text: string, color: "green" | "red" | "yellow" | "dim") => string;

const CODES = { green: 32, red: 31, yellow: 33, dim: 2 };

const painter =
  (color: boolean): Paint =>
  (text, name) =>
    color ? `\u001b[${CODES[name]}m${text}\u001b[0m` : text;

const VERDICT_COLOR: Record<Verdict, "green" | "red" | "yellow"> = {
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

const NO_LINES = Object.fromEntries(
  ["top", "top-mid", "top-left", "top-right", "bottom", "bottom-mid", "bottom-left", "bottom-right", "left", "left-mid",
   "mid", "mid-mid", "right", "right-mid"].map((name) => [name, ""]),
); // biome-ignore format: a list

const PLAIN = {
  chars: { ...NO_LINES, middle: "  " },
  style: { "padding-left": 0, "padding-right": 0, head: [], border: [] },
  wordWrap: true,
};

/** Two columns without lines. */
function table(rows: readonly [string, string][]): string {
  const label = Math.max(...rows.map(([name]) => name.length));
  const grid = new Table({ ...PLAIN, colWidths: [label, WIDTH - label - 2] });
  for (const row of rows) grid.push([row[0], breakable(row[1], WIDTH - label - 2)]);
  return lines(grid);
}

function phases(report: Report): string {
  const grid = new Table({ ...PLAIN, head: ["phase", "took", "bytes"], colAligns: ["left", "right", "right"] });
  for (const phase of report.phases) {
    grid.push([
      phase.name,
      formatDuration(phase.duration_ms),
      phase.bytes === undefined ? "" : formatSize(phase.bytes),
    ]);
  }
  return lines(grid);
}

const STATUS_COLOR: Record<CheckStatus, "green" | "red" | "yellow" | "dim"> = {
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
  const grid = new Table({
    ...PLAIN,
    head: ["status", "check", "took", "finding"],
    colWidths: [status, id, took, summary],
    colAligns: ["left", "left", "right", "left"],
  });
  for (const result of results) {
    const hint = result.hint !== null && /fail|unverified|warn/.test(result.status) ? `\nHINT: ${result.hint}.` : "";
    grid.push([
      paint(result.status, STATUS_COLOR[result.status]),
      result.id,
      formatDuration(result.duration_ms),
      breakable(result.summary + hint, summary),
    ]);
  }
  return lines(grid);
}

function coverage(covered: Readonly<Record<string, unknown>>): string {
  const rows = Object.entries(covered).map(([name, value]): [string, string] => [
    name.replaceAll("_", " "),
    Array.isArray(value)
      ? value.map(String).join("\n")
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value),
  ]);
  return `coverage\n${table(rows)}`;
}

function errorText(error: NonNullable<Report["error"]>): string {
  const code = String(error.code).padStart(3, "0");
  const hint = error.hint === null ? "" : `\nHINT: ${error.hint}.`;
  return `ERROR: [${code}]: ${error.name}: ${error.message}${hint}`
    .split("\n")
    .map((line) => breakable(line, WIDTH))
    .join("\n");
}

const lines = (grid: InstanceType<typeof Table>) =>
  grid
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");

/** Wraps at spaces, and breaks words that are longer than a line: cli-table3 would cut them off. */
export function breakable(text: string, width: number): string {
  return text
    .split("\n")
    .flatMap((indented) => {
      const line = indented.trimStart();
      const indent = indented.slice(0, indented.length - line.length);
      const limit = width - indent.length;
      const out: string[] = [];
      let current = "";
      for (const word of line.split(" ")) {
        for (let rest = word, first = true; first || rest.length > 0; first = false) {
          const room = current === "" ? limit : limit - current.length - 1;
          if (rest.length <= room) {
            current = current === "" ? rest : `${current} ${rest}`;
            rest = "";
          } else if (current !== "") {
            out.push(current);
            current = "";
          } else {
            out.push(rest.slice(0, limit));
            rest = rest.slice(limit);
          }
        }
      }
      out.push(current);
      return out.map((part) => (indent + part).trimEnd());
    })
    .join("\n");
}
