/** One kind of damage: a copy, the damage, the verdicts of the product at each level, and those of its rivals. */

import { readFile } from "node:fs/promises";
import type { CheckLevel } from "../../../lib/checks/check.ts";
import { EXIT_CODES } from "../../../lib/errors.ts";
import type { Report } from "../../../lib/report/report.ts";
import { pathsOf } from "../../../lib/restore/state.ts";
import type { Lab } from "../lab.ts";
import type { Golden } from "./golden.ts";
import { copyGolden, type Instance } from "./instance.ts";
import { cheapestFirst, impliedBy, type Pass, type Result, type Verdict } from "./judge.ts";
import type { Kind } from "./kind.ts";
import { askRivals } from "./rivals.ts";

const LIMIT_MS = 240_000;

export interface RunOptions {
  passes: readonly Pass[];
  /** Also those that a lower level has answered. */
  everyLevel: boolean;
  rivals: boolean;
  /** Of the copy. */
  name: string;
}

export async function runKind(lab: Lab, golden: Golden, kind: Kind, options: RunOptions): Promise<Result> {
  const started = performance.now();
  const result: Result = { kind, problem: null, damageMs: 0, verdicts: [], rivals: [] };
  const instance = await copyGolden(lab, golden, options.name);
  try {
    await kind.damage(instance);
    await instance.stop();
    result.damageMs = Math.round(performance.now() - started);
    for (const pass of cheapestFirst(options.passes)) {
      const implied = options.everyLevel ? undefined : impliedBy(result.verdicts, pass);
      result.verdicts.push(implied ?? (await verify(instance, pass)));
    }
    result.verdicts.sort((a, b) => options.passes.indexOf(a.pass) - options.passes.indexOf(b.pass));
    if (options.rivals) result.rivals = await askRivals(instance);
  } catch (error) {
    result.problem = error instanceof Error ? error.message : String(error);
  } finally {
    await instance.remove();
  }
  return result;
}

/** As after an interruption: the real guard proves the copy, on a server of its own, or does not. */
async function verify(instance: Instance, pass: Pass): Promise<Verdict> {
  await instance.writeBeside({ receipt: pass.receipt });
  const ended = await instance.lab.runScript(
    "guard",
    [`--datadir=${instance.datadir}`, "--on-unproven=prove", `--level=${pass.level satisfies CheckLevel}`],
    { timeoutMs: LIMIT_MS },
  );
  const report = await readReport(instance);
  const bad = report?.checks.filter(({ status }) => status === "fail" || status === "unverified") ?? [];
  const refused = /server|PostgreSQL|postgres|recover/i.test(ended.stderr) ? "start" : "guard";
  const caught = ended.exitCode !== 0 && report?.verdict !== "healthy";
  return {
    pass,
    exitCode: ended.exitCode,
    outcome:
      ended.exitCode === 0 ? "healthy" : caught && isVerdict(ended.exitCode) && !ended.timedOut ? "caught" : "broken",
    by: bad.length > 0 ? bad.map((check) => check.id) : ended.exitCode === 0 ? [] : [refused],
    findings: bad.map((check) => `${check.id} (${check.status}): ${check.summary}`.slice(0, 600)),
    message: ended.exitCode === 0 ? "" : ended.stderr.slice(-1200),
    ms: Math.round(ended.durationMs),
  };
}

/** A bug, a wrong flag and a signal are no verdict. */
function isVerdict(exitCode: number | null): boolean {
  return exitCode !== null && exitCode >= EXIT_CODES.PREFLIGHT_FAILED && exitCode <= EXIT_CODES.UNVERIFIED;
}

async function readReport(instance: Instance): Promise<Report | null> {
  try {
    return JSON.parse(await readFile(pathsOf(instance.datadir).report, "utf8"));
  } catch {
    return null;
  }
}
