// One service: what is decided, what its tests found, how long they took, and a test at once.

import { askForTest } from "./api.js";
import { find, h, redraw, setText } from "./dom.js";
import { linkTo } from "./overview.js";
import { agePlot, restorePlot } from "./plots.js";
import { drawTest } from "./test.js";
import { badge, clock, duration, relative, STEPS, wholeDuration } from "./words.js";

let current = null;
let parts;

/** Draws what there is without an answer. Another test of the same service leaves the rest as it is. */
export function startService({ service, test }) {
  if (current?.service !== service) build(service);
  if (current?.test !== test) {
    parts.test.hidden = true;
    // It was another one's; this one is drawn in any case.
    parts.test.stamp = undefined;
  }
  current = { service, test };
}

function build(id) {
  const part = (name) => h("div", { class: name, hidden: true });
  const said = h("p", { class: "said", role: "status" });
  const button = h("button", { type: "button", class: "primary", disabled: true, onclick: () => ask(id) }, "Test now");
  parts = {
    said,
    button,
    ...Object.fromEntries(
      ["verdict", "steps", "trouble", "facts", "plots", "test", "history"].map((n) => [n, part(n)]),
    ),
  };
  find("service").replaceChildren(
    h("p", {}, h("a", { href: "#/" }, "← all services")),
    h("div", { class: "title" }, h("h2", { id: "service-name", tabindex: "-1" }, id), parts.verdict, button),
    said,
    parts.steps,
    parts.trouble,
    parts.facts,
    parts.test,
    parts.plots,
    parts.history,
  );
}

async function ask(id) {
  parts.button.disabled = true;
  const { said } = parts;
  try {
    await askForTest(id);
    setText(said, "It is asked for, and starts as soon as the limits let it.");
    said.classList.remove("bad");
  } catch (error) {
    setText(said, `No test was asked for: ${error.message}.`);
    said.classList.add("bad");
  }
  document.dispatchEvent(new Event("fleet-changed"));
}

export function showService({ service, test, now }) {
  if (current?.service !== service.id) return;
  const { running, problem, wanted_at: wantedAt } = service;
  parts.button.disabled = running !== null || problem !== null || wantedAt !== null;
  parts.button.title =
    running !== null
      ? "a test is in progress"
      : problem !== null
        ? "it can't be tested"
        : wantedAt !== null
          ? "a test was asked for already"
          : "";
  redraw(parts.verdict, service.verdict, () => badge(service.verdict));
  redraw(parts.steps, running, () => (running === null ? [] : drawSteps(running)));
  redraw(parts.trouble, [problem, service.last_test?.error, service.group, service.tests_problem], () =>
    drawTrouble(service),
  );
  redraw(parts.facts, factsOf(service), () => drawFacts(service));
  const old = (service.tests ?? []).toReversed().filter(({ end }) => end !== null);
  redraw(parts.plots, [old, width(), Math.floor(Date.parse(now) / 60000)], () => drawPlots(service, old, now));
  redraw(parts.history, [service.tests, current.test], () => drawHistory(service));
  if (current.test !== null) redraw(parts.test, test, () => drawTest(test));
}

const width = () => Math.max(300, find("service").clientWidth);

/** As wide as there is room. */
window.addEventListener("resize", () => {
  if (current !== null && !find("service").hidden) document.dispatchEvent(new Event("fleet-changed"));
});

function drawSteps({ test, status, since }) {
  const reached = STEPS.indexOf(status);
  return [
    h(
      "h3",
      {},
      "In progress: ",
      h("a", { href: linkTo(current.service, test), "data-key": "running" }, `test ${test}`),
    ),
    h(
      "ol",
      { class: "progress" },
      STEPS.map((step, n) =>
        h(
          "li",
          { class: n < reached ? "done" : n === reached ? "now" : "", "aria-current": n === reached && "step" },
          step,
          n === reached ? [" ", relative("for", since)] : null,
        ),
      ),
    ),
  ];
}

function drawTrouble({ problem, group, last_test: last, tests_problem: away }) {
  const box = (title, text, hint) =>
    h("div", { class: "banner bad" }, h("b", {}, title), h("p", {}, text), hint ? h("p", {}, `Hint: ${hint}.`) : null);
  const error = group === "failing" || group === "error" ? last?.error : null;
  return [
    problem === null ? null : box("It can't be tested", problem),
    error ? box(`${error.name} (${error.code})`, error.message, error.hint) : null,
    away === null ? null : box("The record of its tests cannot be asked", away),
  ];
}

const factsOf = ({ now, age_seconds, tests, running, ...rest }) => rest;

function drawFacts(service) {
  const { next, policy, figures, explanation } = service;
  // What there is to say beyond the reason.
  const why = explanation.filter((sentence) => sentence !== next.reason);
  const every = `every ${wholeDuration(service.interval_seconds * 1000)}`;
  const jitter = policy.jitter_seconds > 0 ? `, spread over ${wholeDuration(policy.jitter_seconds * 1000)}` : "";
  const after = policy.after_backups === null ? "" : `, and after ${policy.after_backups} new backups`;
  const rows = [
    [
      "Proven",
      service.last_healthy_at === null
        ? ["never; first seen ", relative("ago", service.first_seen_at)]
        : relative("ago", service.last_healthy_at),
    ],
    ["Last test", service.last_test === null ? "none yet" : relative("ago", service.last_test.ended_at)],
    [
      "Next test",
      [next.due ? "due" : next.at === null ? "not by itself" : relative("in", next.at), `: ${next.reason}`],
    ],
    [
      "It waits for",
      why.length === 0
        ? null
        : h(
            "ul",
            {},
            why.map((sentence) => h("li", {}, sentence)),
          ),
    ],
    ["Tested", `${every}${jitter}${after}${service.paused ? "; paused" : ""}`],
    ["Stanza", service.stanza],
    ["Namespace", service.namespace || null],
    ["Compared with", service.compares_with_source ? "the source" : "nothing: no source is configured"],
    ["Restore takes", typeof figures?.rto_ms === "number" ? `${duration(figures.rto_ms)} (RTO)` : null],
    ["Would lose", typeof figures?.rpo_ms === "number" ? `${duration(figures.rpo_ms)} of work at most (RPO)` : null],
    [
      "Compared",
      typeof figures?.coverage === "number" ? `${(figures.coverage * 100).toFixed(1)} % of the tables' blocks` : null,
    ],
    ["Database", typeof figures?.size_bytes === "number" ? size(figures.size_bytes) : null],
    ...Object.entries(service.groups).map(([name, value]) => [name, value]),
  ];
  return h(
    "dl",
    {},
    rows
      .filter(([, value]) => value !== null)
      .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  const unit = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** unit).toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`;
}

function drawPlots(service, tests, now) {
  if (tests.length === 0) return [];
  return [restorePlot(tests, width()), agePlot(service, tests, now, width())];
}

function drawHistory({ id, tests }) {
  if (tests === null) return [];
  if (tests.length === 0) return [h("h3", {}, "Tests"), h("p", {}, "No test was made yet.")];
  const number = (value) => (typeof value === "number" ? duration(value) : "–");
  const titles = ["Requested", "Ended as", "Took", "RTO", "RPO", "Why", "What failed"];
  return [
    h("h3", {}, "Tests"),
    h(
      "table",
      { role: "table" },
      h("caption", { class: "unseen" }, "Tests of this service, the newest first"),
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          titles.map((title) => h("th", { scope: "col", role: "columnheader" }, title)),
        ),
      ),
      h(
        "tbody",
        { role: "rowgroup" },
        tests.map((test) => {
          const cells = [
            test.end === null ? h("span", { class: "badge busy" }, test.status) : badge(test.end.outcome),
            number(test.duration_ms),
            number(test.end?.figures?.rto_ms),
            number(test.end?.figures?.rpo_ms),
            test.reason,
            h("span", { class: "why", title: test.end?.error?.message }, test.end?.error?.message ?? ""),
          ];
          const isChosen = test.id === current.test;
          const link = h(
            "a",
            { href: linkTo(id, test.id), "data-key": test.id, "aria-current": isChosen && "true" },
            clock(test.requested_at),
          );
          return h(
            "tr",
            { role: "row", class: isChosen ? "chosen" : "" },
            h("th", { scope: "row", role: "rowheader" }, link),
            cells.map((cell, n) =>
              h("td", { role: "cell", class: n < 4 && "short", "data-label": titles[n + 1] }, cell),
            ),
          );
        }),
      ),
    ),
  ];
}
