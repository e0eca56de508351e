/** `fleet status` and `fleet explain` for people, from the JSON of the API. At most so many columns wide as is asked for. */

import { breakable, type Color, lines, type Paint, painter, plainTable } from "../../report/plain-table.ts";
import { formatDuration } from "../../units.ts";
import type { FleetJson, Group, ServiceDetailsJson, ServiceJson } from "./present.ts";

export interface TextOptions {
  /** True on a terminal. */
  color: boolean;
  /** Columns, 110 or more; lines are wrapped by the terminal when it is narrower. */
  width?: number;
}

const WIDTH = 110;

const WORDS: Readonly<Record<ServiceJson["verdict"], string>> = {
  healthy: "healthy",
  unhealthy: "unhealthy",
  restore: "not restored",
  source: "no source",
  infra: "not tested",
  cancelled: "cancelled",
  never: "never tested",
};

const COLORS: Readonly<Record<Group, Color>> = { failing: "red", error: "yellow", never: "yellow", healthy: "green" };

/** The worst first. */
const RANKS: readonly Group[] = ["failing", "error", "never", "healthy"];

export const byUrgency = (a: ServiceJson, b: ServiceJson): number =>
  RANKS.indexOf(a.group) - RANKS.indexOf(b.group) || b.age_seconds - a.age_seconds || (a.id < b.id ? -1 : 1);

export function describeStatus(fleet: FleetJson, { color, width = WIDTH }: TextOptions): string {
  const paint = painter(color);
  const limit = Math.max(WIDTH, width);
  const sections = [
    headline(fleet),
    troubles(fleet, limit, paint),
    fleet.services.length === 0 ? null : services(fleet, limit, paint),
  ];
  return `${sections.filter((section) => section !== null).join("\n\n")}\n`;
}

function headline({ counts, leads }: FleetJson): string {
  const parts = [
    `${counts.total} ${counts.total === 1 ? "service" : "services"}`,
    `${counts.healthy} healthy`,
    `${counts.failing} failing`,
    `${counts.error} inconclusive`,
    `${counts.never} never tested`,
    `${counts.due} due`,
    `${counts.in_progress} in progress`,
  ];
  return `${parts.join(", ")}${leads ? "" : " (told by a standby)"}`;
}

function troubles({ problems, paused, pending }: FleetJson, width: number, paint: Paint): string | null {
  const sentences = [
    ...problems,
    ...(paused ? ["the fleet is paused: no test starts"] : []),
    ...(pending > 0 ? [`${pending} changes of status wait for the record`] : []),
  ];
  if (sentences.length === 0) return null;
  return sentences.map((sentence) => paint(breakable(`! ${sentence}`, width), "red")).join("\n");
}

const HEAD = ["service", "verdict", "proven", "restore", "next", "why"] as const;
const VERDICT = HEAD.indexOf("verdict");
const RIGHT = [HEAD.indexOf("proven"), HEAD.indexOf("restore")];

function services(fleet: FleetJson, width: number, paint: Paint): string {
  const now = Date.parse(fleet.now);
  const rows = fleet.services.toSorted(byUrgency).map((one) => ({
    group: one.group,
    cells: [one.id, WORDS[one.verdict], provenOf(one), rtoOf(one), nextOf(one, now), whyOf(one)].map(harmless),
  }));
  const texts = [HEAD, ...rows.map(({ cells }) => cells)];
  const widths = [30, 14, 14, 10, 18].map((most, n) =>
    Math.min(most, Math.max(...texts.map((cells) => (cells[n] ?? "").length))),
  );
  const last = width - widths.reduce((sum, one) => sum + one + 2, 0);
  const colWidths = [...widths, last];
  const shown = rows.map(({ cells, group }) => row(cells, colWidths, (text) => paint(text, COLORS[group])));
  return [row(HEAD, colWidths, (text) => text), ...shown].join("\n");
}

/** Names and errors come from elsewhere, and a terminal obeys some characters. */
const harmless = (text: string) => text.replace(/\p{Cc}+/gu, " ");

/** As cli-table3 would, in a hundredth of its time: a fleet has thousands of rows. `emphasize` is for the verdict. */
function row(cells: readonly string[], widths: readonly number[], emphasize: (text: string) => string): string {
  const broken = cells.map((text, n) => breakable(text, widths[n] ?? WIDTH).split("\n"));
  const height = Math.max(...broken.map(({ length }) => length));
  return Array.from({ length: height }, (_, line) =>
    broken
      .map((lines, n) => {
        const text = lines[line] ?? "";
        const padded = RIGHT.includes(n) ? text.padStart(widths[n] ?? 0) : text.padEnd(widths[n] ?? 0);
        return n === VERDICT && text !== "" ? padded.replace(text, emphasize) : padded;
      })
      .join("  ")
      .trimEnd(),
  ).join("\n");
}

const ago = (ms: number) => `${formatWhole(ms)} ago`;

/** Parts of a second are of no interest here. */
const formatWhole = (ms: number) => (ms < 60_000 ? `${Math.max(0, Math.round(ms / 1000))}s` : formatDuration(ms));

const provenOf = ({ last_healthy_at, age_seconds }: ServiceJson) =>
  last_healthy_at === null ? "never" : ago(age_seconds * 1000);

function rtoOf({ last_test }: ServiceJson): string {
  const ms = last_test?.rto_ms ?? null;
  return ms === null ? "-" : formatDuration(ms);
}

function nextOf({ running, problem, next }: ServiceJson, now: number): string {
  if (running !== null) return `${running.status} ${formatWhole(now - Date.parse(running.since))}`;
  if (problem !== null) return "not possible";
  if (next.due) return "due";
  if (next.at === null) return "waits";
  return `in ${formatWhole(Date.parse(next.at) - now)}`;
}

/** What failed, and for the others why they wait. */
function whyOf({ group, problem, last_test, next }: ServiceJson): string {
  if (problem !== null) return problem;
  if (group === "failing" || group === "error") {
    const times = (last_test?.attempts ?? 1) > 1 ? ` (${last_test?.attempts} times in a row)` : "";
    return `${last_test?.error?.message ?? next.reason}${times}`;
  }
  return next.reason;
}

/** Why it is tested, or not. */
export function describeExplanation(service: ServiceDetailsJson, { color, width = WIDTH }: TextOptions): string {
  const paint = painter(color);
  const limit = Math.max(WIDTH, width);
  const now = Date.parse(service.now);
  const { policy, last_test: last } = service;
  const rows: [string, string | null][] = [
    ["decision", decisionOf(service, now)],
    ["because", (service.explanation.length > 0 ? service.explanation : [service.next.reason]).join("\n")],
    ["in progress", service.running && `${service.running.test}: ${nextOf(service, now)}`],
    ["wanted", service.wanted_at && ago(now - Date.parse(service.wanted_at))],
    ["proven", provenOf(service)],
    ["first seen", ago(now - Date.parse(service.first_seen_at))],
    ["last test", last && `${WORDS[service.verdict]}, ${ago(now - Date.parse(last.ended_at))} (${last.id})`],
    ["in a row", last && String(last.attempts)],
    ["error", last?.error ? `${last.error.name}: ${last.error.message}` : null],
    ["hint", last?.error?.hint ?? null],
    ["interval", formatDuration(service.interval_seconds * 1000)],
    ["jitter", policy.jitter_seconds > 0 ? formatDuration(policy.jitter_seconds * 1000) : null],
    [
      "backups",
      policy.after_backups === null
        ? null
        : `${service.backups_since_test} of ${policy.after_backups} since the last test`,
    ],
    ["weight", String(policy.weight)],
    ["stanza", service.stanza],
    ...Object.entries(service.groups),
  ];
  const shown = rows.filter((row): row is [string, string] => row[1] !== null);
  const label = Math.max(...shown.map(([name]) => name.length));
  const grid = plainTable({ colWidths: [label, limit - label - 2] });
  for (const [name, value] of shown)
    grid.push([name, breakable(value.split("\n").map(harmless).join("\n"), limit - label - 2)]);
  return `${harmless(service.id)}: ${paint(WORDS[service.verdict], COLORS[service.group])}\n\n${lines(grid)}\n`;
}

function decisionOf({ next: { due, at } }: ServiceJson, now: number): string {
  const ms = at === null ? null : Date.parse(at) - now;
  if (due) return ms === null ? "due" : `due for ${formatWhole(-ms)}`;
  return ms === null || ms <= 0 ? "not due" : `not due for another ${formatWhole(ms)}`;
}
