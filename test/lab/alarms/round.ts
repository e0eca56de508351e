/** One mark in the middle of the load, one restore through the real scripts, one proof. */

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { OPTIONS } from "../../../lib/options.ts";
import type { CheckResult, Report } from "../../../lib/report/report.ts";
import type { Lab } from "../lab.ts";
import type { RunResult } from "../process.ts";
import type { Source } from "../source.ts";
import type { Random } from "./random.ts";

export interface Round {
  number: number;
  healthy: boolean;
  /** Which script ended the round, when not all was well: mark, bootstrap, guard. */
  failedIn: string | null;
  exitCode: number | null;
  settings: string[];
  timeline: number | null;
  seconds: { mark: number; restore: number; prove: number };
  /** Of the restore, by phase, in milliseconds. */
  phases: Record<string, number>;
  segments: number | null;
  /** Of the report: everything there that is a number. */
  coverage: Record<string, number>;
  warnings: string[];
  findings: string[];
  evidence: string | null;
}

export interface Marked {
  number: number;
  receipt: string;
  settings: string[];
  run: RunResult;
}

const LIMIT_MS = 240_000;

/** Settings of the manifest that mark knows, with values that a person might give. */
const MANIFEST_VALUES: Readonly<Record<string, readonly string[]>> = {
  manifestBudget: ["256kB", "1MB", "8MB", "64MB", "1GB"],
};

function manifestSettings(random: Random): string[] {
  return Object.entries(MANIFEST_VALUES)
    .filter(([name]) => name in OPTIONS)
    .map(([name, values]) => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}=${random.pick(values)}`);
}

export async function mark(
  lab: Lab,
  source: Source,
  number: number,
  random: Random,
  signal: AbortSignal,
): Promise<Marked> {
  const receipt = lab.path("receipts", `${number}.json`);
  const settings = manifestSettings(random);
  const run = await lab.runScript("mark", ["--source", source.conninfo, "--receipt", receipt, ...settings], {
    timeoutMs: LIMIT_MS,
    signal,
  });
  return { number, receipt, settings, run };
}

export async function restoreAndProve(
  lab: Lab,
  source: Source,
  marked: Marked,
  evidenceRoot: string,
  signal: AbortSignal,
): Promise<Round> {
  const { number, receipt, settings } = marked;
  const directory = await lab.makeDirectory(`restore-${number}`, 0o700);
  const datadir = join(directory, "data");
  const report = `${datadir}.report.json`;
  const runs: [string, RunResult][] = [["mark", marked.run]];
  const run = async (script: string, args: readonly string[]) => {
    if (runs.some(([, { exitCode }]) => exitCode !== 0)) return;
    runs.push([script, await lab.runScript(script, args, { timeoutMs: LIMIT_MS, signal })]);
  };
  await run("bootstrap", [
    "--scope=alarms",
    `--datadir=${datadir}`,
    `--stanza=${source.stanza}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    `--receipt=${receipt}`,
  ]);
  await run("guard", [
    `--datadir=${datadir}`,
    "--on-unproven=prove",
    "--level=full",
    "--jobs=2",
    `--receipt=${receipt}`,
  ]);
  const written = await readFile(report, "utf8").then(
    (text) => JSON.parse(text) as Report,
    () => null,
  );
  const failed = runs.find(([, { exitCode }]) => exitCode !== 0);
  const healthy = failed === undefined && written?.verdict === "healthy";
  const seconds = (script: string) => (runs.find(([name]) => name === script)?.[1].durationMs ?? 0) / 1000;
  const round: Round = {
    number,
    healthy,
    failedIn: healthy ? null : (failed?.[0] ?? "report"),
    exitCode: failed?.[1].exitCode ?? null,
    settings,
    timeline: written?.recovered?.parent_timeline ?? null,
    seconds: { mark: seconds("mark"), restore: seconds("bootstrap"), prove: seconds("guard") },
    phases: Object.fromEntries(written?.phases.map((p) => [p.name, p.duration_ms]) ?? []),
    segments: written?.recovered?.segments ?? null,
    coverage: numbersOf(written?.coverage ?? {}),
    warnings: written?.checks.filter((c) => c.status === "warn").map(sentence) ?? [],
    findings: healthy ? [] : findingsOf(written, failed),
    evidence: null,
  };
  if (!healthy && !signal.aborted)
    round.evidence = await keep(round, runs, [receipt, report, `${datadir}.recovery.log`], evidenceRoot);
  await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  return round;
}

const sentence = (check: CheckResult) => `${check.id}: ${check.summary}`;

function findingsOf(report: Report | null, failed: [string, RunResult] | undefined): string[] {
  const checks = report?.checks.filter((c) => c.status === "fail" || c.status === "unverified") ?? [];
  if (checks.length > 0) return checks.map((c) => `${c.status} ${sentence(c)}`);
  if (failed === undefined) return [`the report's verdict is ${report?.verdict ?? "missing"}`];
  const [script, { stderr, timedOut }] = failed;
  const error = stderr.match(/^ERROR[\s\S]*/m)?.[0] ?? stderr.slice(-500);
  return [`${script}: ${timedOut ? "did not end in time" : error.trim()}`];
}

async function keep(
  round: Round,
  runs: readonly [string, RunResult][],
  files: readonly string[],
  root: string,
): Promise<string> {
  const directory = join(root, `round-${round.number}`);
  await mkdir(directory, { recursive: true });
  for (const file of files) {
    const name = file.endsWith("recovery.log")
      ? "recovery.log"
      : file.endsWith("report.json")
        ? "report.json"
        : "receipt.json";
    await copyFile(file, join(directory, name)).catch(() => {});
  }
  for (const [script, run] of runs) {
    await writeFile(join(directory, `${script}.log`), `exit code ${run.exitCode}\n\n${run.stdout}\n${run.stderr}`);
  }
  return directory;
}

/** Nested numbers by dotted names. */
export function numbersOf(value: unknown, prefix = ""): Record<string, number> {
  if (typeof value === "number") return { [prefix]: value };
  if (typeof value !== "object" || value === null || Array.isArray(value)) return {};
  return Object.assign(
    {},
    ...Object.entries(value).map(([key, item]) => numbersOf(item, prefix === "" ? key : `${prefix}.${key}`)),
  );
}
