// How the fleet's values read.

import { h } from "./dom.js";

export const VERDICTS = {
  healthy: "healthy",
  unhealthy: "unhealthy",
  restore: "restore failed",
  source: "source unreachable",
  infra: "could not be tested",
  cancelled: "cancelled",
  never: "never tested",
};

/** The worst first. */
export const GROUPS = ["failing", "error", "never", "healthy"];

const GROUP_OF = { healthy: "healthy", unhealthy: "failing", restore: "failing", never: "never" };
export const groupOf = (verdict) => GROUP_OF[verdict] ?? "error";

export const badge = (verdict) => h("span", { class: `badge ${groupOf(verdict)}` }, VERDICTS[verdict] ?? verdict);

export const STEPS = ["requested", "marking", "restoring", "recovering", "verifying"];

export const PHASES = ["preflight", "restore", "recovery", "promote", "detach", "stop", "handover", "verify"];

/** 83400 is "1min 23s", as PostgreSQL spells its units. */
export function duration(ms) {
  if (Math.round(ms) < 1000) return `${Math.max(0, Math.round(ms))}ms`;
  if (ms < 59950) return `${(ms / 1000).toFixed(1)}s`;
  return wholeDuration(ms);
}

/** Without parts of a second: for what is only looked at every few. */
export function wholeDuration(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const parts = [
    [Math.floor(seconds / 86400), "d"],
    [Math.floor((seconds % 86400) / 3600), "h"],
    [Math.floor((seconds % 3600) / 60), "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0s";
  return parts
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count}${unit}`)
    .join(" ");
}

export const clock = (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });

const RELATIVE = {
  ago: (ms) => `${wholeDuration(ms)} ago`,
  for: (ms) => `for ${wholeDuration(ms)}`,
  in: (ms) => (ms >= 0 ? "now" : `in ${wholeDuration(-ms)}`),
};

/** "5min ago", "for 12s", "in 3h": kept true by `keepTime`. */
export const relative = (how, iso) =>
  h("time", { datetime: iso, title: clock(iso), "data-how": how }, RELATIVE[how](serverNow - Date.parse(iso)));

/** By the server's clock; this machine's may be wrong. */
let serverNow = Date.now();

export function keepTime(iso) {
  serverNow = Date.parse(iso);
  for (const element of document.querySelectorAll("time[data-how]")) {
    const text = RELATIVE[element.dataset.how](serverNow - Date.parse(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}
