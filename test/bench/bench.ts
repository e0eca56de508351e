/** `npm run bench`: what it costs, measured side by side with what is used otherwise. Markdown for people, JSON to keep. */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { assertNothingRuns, type Lab, openLab } from "../lab/lab.ts";
import { backupApiCase } from "./backup-api.ts";
import type { BenchCase } from "./case.ts";
import { checksCase } from "./checks.ts";
import { fleetCase } from "./fleet.ts";
import { growthCase } from "./growth.ts";
import { describeMachine } from "./machine.ts";
import { markCase } from "./mark.ts";
import { memoryCase } from "./memory.ts";
import { floorCase, latencyCase, recoveryCase, restoreCase } from "./restore.ts";
import { startupCase } from "./startup.ts";
import { verifyCase } from "./verify.ts";

/** Adding one: its file, and its line here. */
const CASES: readonly BenchCase[] = [
  restoreCase,
  recoveryCase,
  floorCase,
  latencyCase,
  verifyCase,
  checksCase,
  growthCase,
  startupCase,
  memoryCase,
  markCase,
  backupApiCase,
  fleetCase,
];

const EVIDENCE = fileURLToPath(new URL("../evidence/bench", import.meta.url));

const { values } = parseArgs({
  options: {
    only: { type: "string", multiple: true, default: [] },
    runs: { type: "string" },
    scale: { type: "string", default: "50" },
    "pgbackrest-auto": { type: "string" },
    "keep-in": { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  console.log(
    `npm run bench -- [--only ${CASES.map(({ name }) => name).join("|")}]... [--runs N] [--scale N] [--pgbackrest-auto SCRIPT] [--keep-in DIR]`,
  );
  process.exit(0);
}

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => stop.abort(new Error(name)));

const sharedLabs: Lab[] = [];
const sharedThings = new Map<string, Promise<unknown>>();

function shared<T>(name: string, make: (lab: Lab) => Promise<T>): Promise<T> {
  const made =
    sharedThings.get(name) ??
    openLab(`bench-${name}`).then((lab) => {
      sharedLabs.push(lab);
      return make(lab);
    });
  sharedThings.set(name, made);
  return made as Promise<T>;
}

async function main(): Promise<number> {
  const chosen = CASES.filter(({ name }) => values.only.length === 0 || values.only.includes(name));
  const unknown = values.only.find((name) => !CASES.some((one) => one.name === name));
  if (unknown !== undefined)
    throw new Error(`there is no benchmark "${unknown}"; there are ${CASES.map(({ name }) => name).join(", ")}`);
  await mkdir(EVIDENCE, { recursive: true });
  const machine = await describeMachine();
  console.log(`${machine}\n`);
  let asItShouldBe = true;
  for (const one of chosen) {
    const lab = await openLab(`bench-${one.name}`);
    try {
      const result = await one.run({
        lab,
        scale: Number(values.scale),
        runs: Number(values.runs ?? one.runs),
        signal: stop.signal,
        shared,
        keepIn: values["keep-in"] ?? null,
        pgbackrestAuto: values["pgbackrest-auto"] ?? null,
        say: (text) => console.error(text),
      });
      const { ratios, tables, notes } = result;
      const lines = [`## ${one.title}`, ""];
      for (const { what, value, limit } of ratios) {
        const tooMuch = limit !== undefined && value > limit;
        if (tooMuch) asItShouldBe = false;
        const judged = limit === undefined ? "" : tooMuch ? ` (NOT at most ${limit})` : ` (at most ${limit})`;
        lines.push(`* **${value.toFixed(2)}** ${what}${judged}`);
      }
      for (const { head, rows } of tables) lines.push("", ...markdown(head, rows));
      lines.push("", ...notes.map((note) => `* ${note}`), "");
      console.log(lines.join("\n"));
      await writeFile(
        join(EVIDENCE, `${one.name}.json`),
        `${JSON.stringify({ at: new Date().toISOString(), machine, ...result }, null, 2)}\n`,
      );
    } catch (error) {
      if (stop.signal.aborted) throw error;
      asItShouldBe = false;
      console.log(`## ${one.title}\n\nNOT measured: ${error instanceof Error ? error.message : error}\n`);
    } finally {
      await lab.close();
    }
    assertNothingRuns(lab);
  }
  return asItShouldBe ? 0 : 1;
}

function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), `|${head.map((_, i) => (i === 0 ? "---" : "--:")).join("|")}|`, ...rows.map(line)];
}

const exitCode = await main().catch((error) => {
  console.error(error instanceof Error ? error.stack : error);
  return 1;
});
for (const lab of sharedLabs) await lab.close();
process.exit(exitCode);
