// The fleet at a glance: counters, what is wrong with the fleet itself, and the table of services.

import { find, h, redraw, setText } from "./dom.js";
import { badge, duration, GROUPS, relative, wholeDuration } from "./words.js";

/** A browser can hold more, nobody can read more. */
const MOST_ROWS = 1000;

const COUNTS = [
  { key: "total", label: "services", matches: () => true },
  { key: "failing", label: "failing", matches: (one) => one.group === "failing" },
  { key: "error", label: "inconclusive", matches: (one) => one.group === "error" },
  { key: "never", label: "never tested", matches: (one) => one.group === "never" },
  { key: "healthy", label: "healthy", matches: (one) => one.group === "healthy" },
  { key: "due", label: "due", matches: (one) => one.next.due && one.running === null },
  { key: "in_progress", label: "in progress", matches: (one) => one.running !== null },
  { key: "paused", label: "paused", matches: (one) => one.paused },
  { key: "problem", label: "misconfigured", matches: (one) => one.problem !== null },
];
/** Of no interest while there are none. */
const RARE = ["paused", "problem"];

const byText = (of) => (a, b) => of(a).localeCompare(of(b), undefined, { numeric: true });
/** What has no value comes last, whichever way. */
const byNumber = (of) => (a, b, direction) => {
  const [first, second] = [of(a), of(b)];
  if (first === null || second === null) return (first === null ? 1 : 0) - (second === null ? 1 : 0);
  return direction * (first - second);
};
const time = (iso) => (iso === null || iso === undefined ? null : Date.parse(iso));

const COLUMNS = [
  {
    key: "service",
    label: "Service",
    compare: byText((one) => one.id),
    stamp: (one) => [one.id, one.stanza],
    draw: (one) => [
      h("a", { href: linkTo(one.id), "data-key": one.id }, one.id),
      h("span", { class: "more" }, one.stanza),
    ],
  },
  {
    key: "verdict",
    label: "Last verdict",
    compare: (a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group),
    stamp: (one) => [one.verdict, one.last_test?.attempts],
    draw: (one) => [
      badge(one.verdict),
      one.group !== "healthy" && (one.last_test?.attempts ?? 0) > 1
        ? h("span", { class: "more" }, `${one.last_test.attempts} times in a row`)
        : null,
    ],
  },
  {
    key: "proven",
    label: "Proven",
    // The oldest proof first, and before it what has none.
    compare: (a, b) =>
      Number(a.last_healthy_at !== null) - Number(b.last_healthy_at !== null) || b.age_seconds - a.age_seconds,
    stamp: (one) => [one.last_healthy_at, isOld(one), one.interval_seconds],
    draw: (one) => [
      one.last_healthy_at === null ? "never" : relative("ago", one.last_healthy_at),
      isOld(one)
        ? h("span", { class: "more old" }, `should be every ${wholeDuration(one.interval_seconds * 1000)}`)
        : null,
    ],
  },
  {
    key: "last",
    label: "Last test",
    compare: byNumber((one) => time(one.last_test?.ended_at)),
    hasOwnDirection: true,
    stamp: (one) => [one.last_test?.ended_at],
    draw: (one) => [one.last_test === null ? "–" : relative("ago", one.last_test.ended_at)],
  },
  {
    key: "rto",
    label: "Restore takes",
    compare: byNumber((one) => one.last_test?.rto_ms ?? null),
    hasOwnDirection: true,
    stamp: (one) => [one.last_test?.rto_ms],
    draw: (one) => [typeof one.last_test?.rto_ms === "number" ? duration(one.last_test.rto_ms) : "–"],
  },
  {
    key: "next",
    label: "Next test",
    compare: byNumber(nextAt),
    hasOwnDirection: true,
    stamp: (one) => [one.running, one.next, one.problem],
    draw: drawNext,
  },
  {
    key: "error",
    label: "What failed",
    compare: byText((one) => whyOf(one) || "\uffff"),
    stamp: (one) => [whyOf(one), one.last_test?.error?.hint],
    draw: (one) => [h("span", { class: "why", title: whyOf(one) }, whyOf(one))],
  },
];

/** Some delay is normal: limits, windows, one test that could not be made. */
const isOld = (one) => one.age_seconds > 2 * one.interval_seconds;

const SHORT = ["rto", "last", "proven"];

/** In progress, then due, then by time. */
function nextAt(one) {
  if (one.running !== null) return -2;
  if (one.problem !== null) return null;
  return one.next.due ? -1 : time(one.next.at);
}

function drawNext({ running, next, problem }) {
  const more = (text) => h("span", { class: "more" }, text);
  if (running !== null)
    return [h("span", { class: "badge busy" }, running.status), " ", relative("for", running.since)];
  if (problem !== null) return ["not before it is put right"];
  if (next.due) return [h("span", { class: "badge due" }, "due"), more(next.reason)];
  return next.at === null ? [next.reason] : [relative("in", next.at), more(next.reason)];
}

function whyOf({ group, problem, last_test: last }) {
  if (problem !== null) return problem;
  return group === "healthy" || group === "never" ? "" : (last?.error?.message ?? "");
}

export const linkTo = (id, test) =>
  `#/service/${encodeURIComponent(id)}${test === undefined ? "" : `/test/${encodeURIComponent(test)}`}`;

const state = { fleet: null, only: "total", text: "", column: "verdict", direction: 1 };
const rows = new Map();

/** Said aloud, so that they stay when a narrow window shows each row as a card. */
function nameRoles(table) {
  table.setAttribute("role", "table");
  for (const group of [table.tHead, ...table.tBodies]) group.setAttribute("role", "rowgroup");
  for (const row of table.rows) row.setAttribute("role", "row");
}

export function startOverview() {
  nameRoles(find("services"));
  const head = find("services").tHead.rows[0];
  for (const { key, label } of COLUMNS) {
    const button = h("button", { type: "button", class: "sort", onclick: () => sortBy(key) }, label);
    head.append(h("th", { scope: "col", role: "columnheader", "data-column": key }, button));
  }
  find("filter").addEventListener("input", ({ target }) => {
    state.text = target.value.trim().toLowerCase();
    draw();
  });
  for (const { key, label } of COUNTS) {
    const button = h(
      "button",
      { type: "button", class: "count", "data-count": key, onclick: () => showOnly(key) },
      h("b"),
      ` ${label}`,
    );
    find("counts").append(button);
  }
  markSorted();
}

export function showFleet(fleet) {
  state.fleet = fleet;
  draw();
}

function sortBy(key) {
  state.direction = state.column === key ? -state.direction : 1;
  state.column = key;
  markSorted();
  draw();
}

function markSorted() {
  for (const th of document.querySelectorAll("#services th[data-column]")) {
    const isSorted = th.dataset.column === state.column;
    if (isSorted) th.setAttribute("aria-sort", state.direction > 0 ? "ascending" : "descending");
    else th.removeAttribute("aria-sort");
  }
}

/** Once more shows all again. */
function showOnly(key) {
  state.only = state.only === key ? "total" : key;
  draw();
}

function draw() {
  const { fleet } = state;
  if (fleet === null) return;
  drawProblems(fleet);
  for (const { key } of COUNTS) {
    const button = document.querySelector(`[data-count="${key}"]`);
    setText(button.querySelector("b"), fleet.counts[key].toLocaleString());
    button.classList.toggle("none", fleet.counts[key] === 0);
    button.hidden = RARE.includes(key) && fleet.counts[key] === 0 && state.only !== key;
    button.setAttribute("aria-pressed", String(state.only === key));
  }
  const chosen = chosenServices(fleet);
  drawRows(chosen.slice(0, MOST_ROWS));
  const count = chosen.length.toLocaleString();
  const shown = Math.min(chosen.length, MOST_ROWS).toLocaleString();
  setText(
    find("shown"),
    chosen.length > MOST_ROWS
      ? `the first ${shown} of ${count} services`
      : `${count} of ${fleet.counts.total.toLocaleString()}`,
  );
  find("services").hidden = chosen.length === 0;
  find("nothing").hidden = chosen.length > 0;
  setText(
    find("nothing"),
    fleet.counts.total === 0
      ? "The watch knows no service yet."
      : "No service is like that. Take the filter away to see all.",
  );
}

function drawProblems({ problems, paused, leads, pending }) {
  const sentences = [
    ...problems,
    ...(paused ? ["the fleet is paused: no test starts"] : []),
    ...(pending > 0 ? [`${pending} changes of status wait for the record`] : []),
  ];
  redraw(find("problems"), sentences, () => sentences.map((sentence) => h("li", {}, sentence)));
  document.body.classList.toggle("standby", !leads);
  if (!leads) find("state").textContent += " · by a standby";
}

const words = (one) =>
  [one.id, one.stanza, one.namespace, one.verdict, one.running?.status, one.next.reason, whyOf(one)]
    .join(" ")
    .toLowerCase();

function chosenServices({ services }) {
  const { matches } = COUNTS.find(({ key }) => key === state.only);
  const wanted = state.text.split(/\s+/).filter(Boolean);
  const { compare, hasOwnDirection } = COLUMNS.find(({ key }) => key === state.column);
  const compared = hasOwnDirection
    ? (a, b) => compare(a, b, state.direction)
    : (a, b) => state.direction * compare(a, b);
  return services
    .filter(matches)
    .filter((one) => wanted.length === 0 || wanted.every((word) => words(one).includes(word)))
    .sort((a, b) => compared(a, b) || b.age_seconds - a.age_seconds || (a.id < b.id ? -1 : 1));
}

/** Rows stay the same elements: nothing jumps, and the focus stays where it is. */
function drawRows(services) {
  const body = document.querySelector("#services tbody");
  const wanted = services.map((one) => {
    const row = rows.get(one.id) ?? newRow();
    rows.set(one.id, row);
    COLUMNS.forEach((column, n) => {
      redraw(row.children[n], column.stamp(one), () => column.draw(one));
      row.children[n].hidden = false;
    });
    row.className = one.group === "failing" || one.problem !== null ? "trouble" : "";
    return row;
  });
  const focused = body.contains(document.activeElement) ? document.activeElement : null;
  const isSame = wanted.length === body.children.length && wanted.every((row, n) => row === body.children[n]);
  if (!isSame) body.replaceChildren(...wanted);
  if (focused?.isConnected) focused.focus({ preventScroll: true });
  const known = new Set(state.fleet.services.map(({ id }) => id));
  for (const id of rows.keys()) if (!known.has(id)) rows.delete(id);
}

function newRow() {
  const cells = COLUMNS.map(({ key, label }, n) =>
    n === 0
      ? h("th", { scope: "row", role: "rowheader", "data-column": key })
      : h("td", { role: "cell", "data-column": key, "data-label": label, class: SHORT.includes(key) && "short" }),
  );
  return h("tr", { role: "row" }, cells);
}
