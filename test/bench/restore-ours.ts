/** Our scripts as Patroni and people call them, and where their time goes. */

import { readFile } from "node:fs/promises";
import type { Report } from "../../lib/report/report.ts";
import { type Bench, median } from "./case.ts";
import type { Restorable } from "./restorable.ts";

export interface OurRun {
  /** From the start of the program to the verdict, or to its end where it gives none. */
  seconds: number;
  /** To the end of the program. */
  wholeSeconds: number;
  /** What happened one after the other, in milliseconds; together `wholeSeconds`. */
  spans: Record<string, number>;
  checks: Pick<Report["checks"][number], "id" | "status" | "duration_ms">[];
}

const BEFORE = "start of the program to start of bootstrap";
const BETWEEN = "between phases";
const AFTER = "last phase to the end of the program";

export async function restoreTest(
  { lab, signal }: Bench,
  { source, receiptFile }: Pick<Restorable, "source" | "receiptFile">,
  runner: "patroni" | "direct",
): Promise<OurRun> {
  const report = lab.path("log", `report-${runner}.json`);
  const work = await lab.makeDirectory("ours");
  await ready(lab, "restore-test");
  const launchedAt = Date.now();
  const ended = await lab.runScript(
    "restore-test",
    [
      `--stanza=${source.stanza}`,
      `--pgbackrest-config=${source.pgbackrestConfig}`,
      `--receipt=${receiptFile}`,
      `--runner=${runner}`,
      "--level=full",
      `--work-dir=${work}`,
      `--report=${report}`,
    ],
    { signal },
  );
  if (ended.exitCode !== 0) throw new Error(`restore-test: exit code ${ended.exitCode}\n${ended.stderr}`);
  return measured(JSON.parse(await readFile(report, "utf8")), launchedAt, ended.durationMs);
}

/** `bootstrap` alone; what it made is removed. `before` sees it before that. */
export async function bootstrap(
  { lab, signal }: Bench,
  { source, receiptFile }: Pick<Restorable, "source" | "receiptFile">,
  options: { args?: readonly string[]; before?: (datadir: string) => Promise<void> } = {},
): Promise<OurRun> {
  const parent = await lab.makeDirectory("bootstrap", 0o700);
  const datadir = `${parent}/data`;
  await ready(lab, "bootstrap");
  const launchedAt = Date.now();
  const ended = await lab.runScript(
    "bootstrap",
    [
      "--scope=bench",
      `--datadir=${datadir}`,
      `--stanza=${source.stanza}`,
      `--pgbackrest-config=${source.pgbackrestConfig}`,
      `--receipt=${receiptFile}`,
      ...(options.args ?? []),
    ],
    { signal },
  );
  if (ended.exitCode !== 0) throw new Error(`bootstrap: exit code ${ended.exitCode}\n${ended.stderr}`);
  const run = measured(JSON.parse(await readFile(`${datadir}.report.json`, "utf8")), launchedAt, ended.durationMs);
  await options.before?.(datadir);
  await lab.mustRun("rm", ["-rf", parent]);
  return run;
}

/** What was written before does not slow down what is measured next. */
export const settle = (lab: Bench["lab"]) => lab.mustRun("sync", []);

/** The lab copies the scripts when the first is asked for. */
async function ready(lab: Bench["lab"], script: string): Promise<void> {
  await lab.script(script);
  await settle(lab);
}

function measured(report: Report, launchedAt: number, wholeMs: number): OurRun {
  const ofPhases = report.phases.reduce((sum, { duration_ms }) => sum + duration_ms, 0);
  const before = Date.parse(report.started_at) - launchedAt;
  const last = report.phases.at(-1);
  const phasesEnd = last === undefined ? launchedAt : Date.parse(last.started_at) + last.duration_ms;
  const after = launchedAt + wholeMs - phasesEnd;
  const verdictAt = report.finished_at === null ? launchedAt + wholeMs : Date.parse(report.finished_at);
  return {
    seconds: (verdictAt - launchedAt) / 1000,
    wholeSeconds: wholeMs / 1000,
    spans: {
      [BEFORE]: before,
      ...Object.fromEntries(report.phases.map(({ name, duration_ms }) => [name, duration_ms])),
      [BETWEEN]: wholeMs - before - after - ofPhases,
      [AFTER]: after,
    },
    checks: report.checks.map(({ id, status, duration_ms }) => ({ id, status, duration_ms })),
  };
}

/** Recovery as the issue of speed sees it: from the first look at the restored files to a promoted instance. */
export const recoverySeconds = ({ spans }: OurRun) => ((spans.recovery ?? Number.NaN) + (spans.promote ?? 0)) / 1000;

/** One row for each span, one column for each way it was run. */
export function breakdown(ways: Readonly<Record<string, readonly OurRun[]>>): { head: string[]; rows: string[][] } {
  const entries = Object.entries(ways);
  const names = [...new Set(entries.flatMap(([, runs]) => runs.flatMap(({ spans }) => Object.keys(spans))))];
  const inOrder = [...names.filter((name) => name !== BETWEEN && name !== AFTER), BETWEEN, AFTER];
  const cell = (runs: readonly OurRun[], of: (run: OurRun) => number | undefined) => {
    const values = runs.map(of).filter((value) => value !== undefined);
    return values.length === 0 ? "" : median(values).toFixed(0);
  };
  return {
    head: ["median of each phase, ms", ...entries.map(([way]) => way)],
    rows: [
      ...inOrder.map((name) => [name, ...entries.map(([, runs]) => cell(runs, ({ spans }) => spans[name]))]),
      ["**all**", ...entries.map(([, runs]) => cell(runs, ({ wholeSeconds }) => wholeSeconds * 1000))],
    ],
  };
}

/** The longest checks. */
export function slowestChecks(runs: readonly OurRun[], count = 8): { head: string[]; rows: string[][] } {
  const ids = [...new Set(runs.flatMap(({ checks }) => checks.map(({ id }) => id)))];
  const took = (id: string) =>
    median(runs.flatMap(({ checks }) => checks.filter((check) => check.id === id).map((check) => check.duration_ms)));
  const rows = ids
    .map((id): [string, number] => [id, took(id)])
    .sort(([, a], [, b]) => b - a)
    .slice(0, count);
  return { head: ["longest checks", "median, ms"], rows: rows.map(([id, ms]) => [`\`${id}\``, ms.toFixed(0)]) };
}
