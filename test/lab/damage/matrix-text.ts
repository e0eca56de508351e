/** The matrix for people: Markdown. Pure. */

import { byTheRightOne, expected, isRight, judge, PASSES, type Pass, passName, type Result, totals } from "./judge.ts";
import { RIVALS } from "./rivals.ts";

export interface Run {
  startedAt: string;
  seconds: number;
  goldenBytes: number;
  goldenSeconds: number;
  jobs: number;
  /** Those that were to be tried; where time was short, not all of them were. */
  ofKinds: number;
  versions: Readonly<Record<string, string>>;
}

export function matrixMarkdown(results: readonly Result[], run: Run): string {
  const passes = PASSES.filter((pass) => results.some((r) => r.verdicts.some((v) => samePass(v.pass, pass))));
  return [
    "# The damage laboratory",
    "",
    `${run.startedAt}, ${results.length} of ${run.ofKinds} kinds, ${run.seconds} s with ${run.jobs} at a time; golden instance ` +
      `${(run.goldenBytes / 1e6).toFixed(0)} MB, made in ${run.goldenSeconds} s; ` +
      Object.entries(run.versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
    "",
    "## Totals",
    "",
    totalsTable(results),
    "",
    "## Not as it must be",
    "",
    wrongList(results),
    "",
    "## All kinds",
    "",
    "`must`: lowest level that must catch it with the receipt / without. In the cells: what caught it and the seconds it took; " +
      "**MISSED** where it had to be caught, *·* where nobody asked; (as below) where a " +
      "lower level caught it, whose checks the higher one runs too.",
    "",
    matrixTable(results, passes),
    "",
  ].join("\n");
}

const samePass = (a: Pass, b: Pass) => a.level === b.level && a.receipt === b.receipt;

export function totalsTable(results: readonly Result[]): string {
  const rows = [...totals(results)].map(([name, t]) => [
    name,
    `${t.caught} of ${t.of}`,
    t.of === 0 ? "" : `${Math.round((100 * t.caught) / t.of)} %`,
    `${t.falseAlarms} of ${t.sound}`,
  ]);
  return table(["", "caught", "", "false alarms"], rows);
}

export function wrongList(results: readonly Result[]): string {
  const lines = results.flatMap(({ kind, problem, verdicts }) => [
    ...(problem === null ? [] : [`- ${kind.area}, ${kind.name}: the laboratory failed: ${problem}`]),
    ...verdicts
      .filter((verdict) => !isRight(judge(kind, verdict)))
      .map((verdict) => {
        const why = verdict.outcome === "healthy" ? "" : `: ${[...verdict.findings, verdict.message][0] ?? ""}`;
        return `- ${kind.area}, ${kind.name}: ${judge(kind, verdict)} at ${passName(verdict.pass)}${why}`;
      }),
  ]);
  return lines.length === 0 ? "nothing" : lines.map((line) => line.replace(/\s*\n\s*/g, " ")).join("\n");
}

function matrixTable(results: readonly Result[], passes: readonly Pass[]): string {
  const withRivals = results.some(({ rivals }) => rivals.length > 0);
  const head = ["area", "kind", "must", ...passes.map(passName), ...(withRivals ? RIVALS : [])];
  const rows = results.map(({ kind, problem, verdicts, rivals }) => [
    kind.area,
    kind.name,
    kind.area === "sound" ? "healthy" : `${kind.level ?? "–"} / ${kind.withoutReceipt ?? "–"}`,
    ...passes.map((pass) => {
      const verdict = verdicts.find((v) => samePass(v.pass, pass));
      if (verdict === undefined) return problem === null ? "" : "laboratory failed";
      const seconds = verdict.implied ? "(as below)" : `${(verdict.ms / 1000).toFixed(1)} s`;
      const judgement = judge(kind, verdict);
      if (judgement === "missed") return `**MISSED** ${seconds}`;
      if (judgement === "false alarm" || judgement === "broken") {
        return `**${judgement.toUpperCase()}** ${verdict.by.join(", ")} ${seconds}`;
      }
      if (verdict.outcome === "healthy") return `${expected(kind, pass) === "healthy" ? "healthy" : "*·*"} ${seconds}`;
      return `${verdict.by.join(", ")}${byTheRightOne(kind, verdict) ? "" : " (by chance)"} ${seconds}`;
    }),
    ...(withRivals
      ? RIVALS.map((name) => {
          const rival = rivals.find((r) => r.rival === name);
          return rival === undefined
            ? ""
            : `${rival.caught ? rival.by.join(", ") : "–"} ${(rival.ms / 1000).toFixed(1)} s`;
        })
      : []),
  ]);
  return table(head, rows);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}
