// Plots of a service's tests, drawn as SVG as wide as there is room.

import { h, svg } from "./dom.js";
import { clock, duration, groupOf, PHASES, VERDICTS, wholeDuration } from "./words.js";

const HEIGHT = 200;
const EDGE = { left: 64, right: 12, top: 12, bottom: 28 };
const STEPS_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500]
  .concat([1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map((seconds) => seconds * 1000))
  .concat([1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760].map((hours) => hours * 3600000));

/** Some four lines across, at round values. */
function axis(most) {
  const step = STEPS_MS.find((one) => most / one <= 4.5) ?? most / 4;
  const top = Math.max(step, Math.ceil(most / step) * step);
  return { top, ticks: Array.from({ length: Math.round(top / step) + 1 }, (_, n) => n * step) };
}

function frame(title, label, width, most, draw) {
  const { top, ticks } = axis(most);
  const y = (value) => EDGE.top + (HEIGHT - EDGE.top - EDGE.bottom) * (1 - value / top);
  const grid = ticks.map((value) => [
    svg("line", { class: "grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
    svg(
      "text",
      { class: "tick", x: EDGE.left - 8, y: y(value) + 4, "text-anchor": "end" },
      value === 0 ? "0" : wholeOr(value),
    ),
  ]);
  return h(
    "figure",
    {},
    h("figcaption", {}, title),
    svg(
      "svg",
      { role: "img", "aria-label": label, width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` },
      grid,
      draw(y),
    ),
  );
}

const wholeOr = (ms) => (ms < 1000 ? `${ms}ms` : wholeDuration(ms));

const day = (ms) => new Date(ms).toLocaleDateString(undefined, { month: "short", day: "numeric" });
const minute = (ms) => new Date(ms).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });

/** Dates below: times of day when it is all of a day or two. */
function below(places, x, span) {
  const text = span < 2 * 86400000 ? minute : day;
  return places.map((at, n) =>
    svg(
      "text",
      {
        class: "tick",
        x: x(at),
        y: HEIGHT - 8,
        "text-anchor": n === 0 ? "start" : n === places.length - 1 ? "end" : "middle",
      },
      text(at),
    ),
  );
}

const endOf = ({ end }) => Date.parse(end.ended_at);

/** How long each restore took, a bar for each test, stacked by phase. What was not restored has a mark instead. */
export function restorePlot(tests, width) {
  const stacks = tests.map(({ end }) => end.figures?.phases ?? {});
  const sum = (stack) => PHASES.reduce((total, name) => total + (stack[name] ?? 0), 0);
  const sums = stacks.map((stack, n) => Math.max(sum(stack), tests[n].end.figures?.rto_ms ?? 0));
  const used = PHASES.filter((name) => stacks.some((stack) => stack[name] > 0));
  const slot = (width - EDGE.left - EDGE.right) / tests.length;
  const bar = Math.min(28, slot * 0.7);
  const middle = (n) => EDGE.left + slot * (n + 0.5);
  const taken = sums.filter((ms) => ms > 0);
  const label =
    taken.length === 0
      ? "No test restored anything."
      : `Of the last ${tests.length} tests ${taken.length} restored: the newest took ${duration(taken.at(-1))}, the longest ${duration(Math.max(...taken))}.`;
  const figure = frame("How long a restore takes", label, width, Math.max(1000, ...sums), (y) =>
    tests
      .map((test, n) => {
        const { outcome } = test.end;
        const parts = used.filter((name) => stacks[n][name] > 0).map((name) => `${name} ${duration(stacks[n][name])}`);
        const title = svg(
          "title",
          {},
          [clock(test.end.ended_at), VERDICTS[outcome], sums[n] > 0 ? duration(sums[n]) : null, ...parts]
            .filter(Boolean)
            .join("\n"),
        );
        if (sums[n] === 0) return svg("g", { class: "bar" }, title, mark(outcome, middle(n), y(0) - 7));
        let below = 0;
        const pieces = used.map((name) => {
          const value = stacks[n][name] ?? 0;
          const piece = svg("rect", {
            class: `phase ${name}`,
            x: middle(n) - bar / 2,
            width: bar,
            y: y(below + value),
            height: y(below) - y(below + value),
          });
          below += value;
          return piece;
        });
        const rest = sums[n] - below;
        if (rest > 0)
          pieces.push(
            svg("rect", {
              class: "phase rest",
              x: middle(n) - bar / 2,
              width: bar,
              y: y(sums[n]),
              height: y(below) - y(sums[n]),
            }),
          );
        const failed = outcome === "healthy" ? null : mark(outcome, middle(n), y(sums[n]) - 7);
        return svg("g", { class: "bar" }, title, pieces, failed);
      })
      .concat(below(...ordinal(tests, middle))),
  );
  figure.append(legend(used.map((name) => [name, `phase ${name}`])));
  return figure;
}

/** At most four dates below bars that are evenly apart. */
function ordinal(tests, middle) {
  const last = tests.length - 1;
  const count = Math.min(4, tests.length);
  const places = [...new Set(Array.from({ length: count }, (_, n) => Math.round((n * last) / Math.max(1, count - 1))))];
  const at = new Map(places.map((n) => [endOf(tests[n]), n]));
  return [[...at.keys()], (time) => middle(at.get(time)), endOf(tests[last]) - endOf(tests[0])];
}

/** A shape for each kind of outcome: colours are not all that tells them apart. */
function mark(outcome, x, y) {
  const group = groupOf(outcome);
  if (group === "healthy") return svg("circle", { class: `mark ${group}`, cx: x, cy: y, r: 4 });
  if (group === "error") return svg("path", { class: `mark ${group}`, d: `M${x} ${y - 4.5}l4.5 8h-9z` });
  return svg("path", { class: `mark ${group}`, d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` });
}

/** How old the proof was at every moment: it grows until the next healthy test. */
export function agePlot(service, tests, now, width) {
  const until = Date.parse(now);
  const healthy = tests.filter(({ end }) => end.outcome === "healthy").map(endOf);
  const from = Math.min(endOf(tests[0]), until - 60000);
  const x = (at) => EDGE.left + ((width - EDGE.left - EDGE.right) * (at - from)) / (until - from);
  // What was before the first of them is not known.
  const teeth = healthy.map((start, n) => [start, healthy[n + 1] ?? until]);
  const interval = service.interval_seconds * 1000;
  const oldest = Math.max(0, ...teeth.map(([start, end]) => end - start));
  const label =
    healthy.length === 0
      ? `None of the last ${tests.length} tests was healthy.`
      : `The proof is ${wholeDuration(until - healthy.at(-1))} old; it was ${wholeDuration(oldest)} old at most, and the interval is ${wholeDuration(interval)}.`;
  const figure = frame("How old the proof was", label, width, Math.max(interval * 1.1, oldest, 1000), (y) => [
    svg("line", { class: "limit", x1: EDGE.left, x2: width - EDGE.right, y1: y(interval), y2: y(interval) }),
    teeth.map(([start, end]) =>
      svg("path", { class: "age", d: `M${x(start)} ${y(0)}L${x(end)} ${y(end - start)}V${y(0)}Z` }),
    ),
    tests.map((test) =>
      svg(
        "g",
        {},
        svg("title", {}, `${clock(test.end.ended_at)}\n${VERDICTS[test.end.outcome]}`),
        mark(test.end.outcome, x(endOf(test)), y(0)),
      ),
    ),
    below([from, until], x, until - from),
  ]);
  const groups = [...new Set(tests.map(({ end }) => groupOf(end.outcome)))];
  const names = { healthy: "healthy test", failing: "failed test", error: "inconclusive" };
  figure.append(
    legend([
      ["age of the proof", "age"],
      ["interval", "limit"],
      ...groups.map((group) => [names[group], `dot ${group}`]),
    ]),
  );
  return figure;
}

const legend = (entries) =>
  h(
    "ul",
    { class: "legend" },
    entries.map(([name, kind]) => h("li", {}, h("span", { class: `swatch ${kind}` }), name)),
  );
