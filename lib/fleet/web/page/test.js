// One test: its statuses with their times, and what its report found wrong.

import { h } from "./dom.js";
import { badge, clock, duration, PHASES } from "./words.js";

const SPEAKING = ["fail", "unverified", "warn"];

export function drawTest(test) {
  const title = h("h3", {}, `Test ${test.id}`);
  if (test.problem !== undefined) return [title, h("p", { class: "bad" }, `It cannot be shown: ${test.problem}.`)];
  const { end, report } = test;
  return [
    h(
      "div",
      { class: "title" },
      title,
      end === null ? h("span", { class: "badge busy" }, test.status) : badge(end.outcome),
    ),
    h("p", { class: "dim" }, `${test.reason}; started by ${test.scheduler}`),
    end?.error ? drawError(end.error) : null,
    drawStatuses(test),
    report === null ? h("p", { class: "dim" }, end === null ? null : "It left no report.") : drawReport(report),
  ];
}

const drawError = ({ name, code, message, hint }) =>
  h(
    "div",
    { class: "banner bad" },
    h("b", {}, `${name} (${code})`),
    h("p", {}, message),
    hint ? h("p", {}, `Hint: ${hint}.`) : null,
  );

function drawStatuses({ statuses }) {
  const rows = statuses.map(({ status, at }, n) => {
    const until = statuses[n + 1]?.at;
    const took = until === undefined ? "" : duration(Date.parse(until) - Date.parse(at));
    return h("tr", {}, h("th", { scope: "row" }, status), h("td", {}, clock(at)), h("td", { class: "number" }, took));
  });
  const head = ["Status", "Since", "Took"].map((name) => h("th", { scope: "col" }, name));
  return h(
    "table",
    { class: "small" },
    h("caption", {}, "Statuses"),
    h("thead", {}, h("tr", {}, head)),
    h("tbody", {}, rows),
  );
}

function drawReport(report) {
  const speaking = report.checks.filter(({ status }) => SPEAKING.includes(status));
  const passed = report.checks.filter(({ status }) => status === "pass").length;
  const skipped = report.checks.filter(({ status }) => status === "skipped").length;
  const backup = report.backup === null ? null : `Backup ${report.backup.label} (${report.backup.type}). `;
  const left = skipped > 0 ? `, ${skipped} not asked for` : "";
  return [
    h("p", {}, backup, `${passed} of ${report.checks.length} checks passed${left}.`),
    speaking.length > 0 ? h("ul", { class: "checks" }, speaking.map(drawCheck)) : null,
    drawPhases(report.phases),
  ];
}

const drawCheck = ({ id, status, summary, hint }) =>
  h(
    "li",
    { class: status },
    h("span", { class: `badge ${status === "warn" ? "due" : "failing"}` }, status),
    h("b", {}, id),
    h("p", {}, summary),
    hint === null ? null : h("p", { class: "dim" }, `Hint: ${hint}.`),
  );

function drawPhases(phases) {
  if (phases.length === 0) return null;
  const known = PHASES.flatMap((name) => phases.filter((phase) => phase.name === name));
  return h(
    "p",
    { class: "dim" },
    `Phases: ${known.map(({ name, duration_ms: ms }) => `${name} ${duration(ms)}`).join(", ")}.`,
  );
}
