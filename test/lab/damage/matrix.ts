/**
 * `npm run damage`: every kind of damage done to a copy of one restored instance, and who catches it: the product at each
 * level with and without the receipt, and side by side the checks that exist already. Exits 1 when a kind that must be
 * caught is not, or when a sound instance is called damaged.
 */

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chalk, echo } from "zx";
import { inParallel } from "../../../lib/parallel.ts";
import { assertNothingRuns, openLab } from "../lab.ts";
import { useFastestPlace } from "../place.ts";
import { makeGolden } from "./golden.ts";
import { isRight, judge, PASSES, type Result, totals } from "./judge.ts";
import { ALL_KINDS, SHORT_RUN } from "./kinds/index.ts";
import { matrixMarkdown, type Run, wrongList } from "./matrix-text.ts";
import { runKind } from "./run.ts";

const EVIDENCE = fileURLToPath(new URL("../../evidence/damage", import.meta.url));

const HELP = `npm run damage -- [--all] [--only PATTERN] [--level quick|standard|full] [--every-level] [--no-rivals] [--damage-only] [--jobs N] [--minutes N] [--list]

  --all           every kind; by default only one of those that are much alike
  --only PATTERN  of all kinds those whose area or name matches this regular expression
  --level L       this level only, with and without the receipt
  --every-level   ask the higher levels too where a lower one has caught it: they run the same checks and more
  --no-rivals     without pg_dump, pg_checksums and pg_amcheck beside it
  --damage-only   without any verdict: does every kind still know how to do its damage
  --jobs N        copies at the same time (2)
  --minutes N     begin no other kind after that; in another order each time
  --list          say which kinds there are, and try none`;

const { values: options } = parseArgs({
  options: {
    all: { type: "boolean", default: false },
    only: { type: "string", default: "" },
    level: { type: "string" },
    "every-level": { type: "boolean", default: false },
    "damage-only": { type: "boolean", default: false },
    "no-rivals": { type: "boolean", default: false },
    jobs: { type: "string", default: "2" },
    minutes: { type: "string" },
    list: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

async function main(): Promise<number> {
  if (options.help) {
    echo(HELP);
    return 0;
  }
  const pattern = new RegExp(options.only, "i");
  const kinds = (options.all || options.only !== "" ? ALL_KINDS : SHORT_RUN).filter(({ area, name }) =>
    pattern.test(`${area}: ${name}`),
  );
  const passes = PASSES.filter(({ level }) => options.level === undefined || options.level === level);
  const rivals = !options["no-rivals"] && !options["damage-only"];
  if (kinds.length === 0 || passes.length === 0) {
    echo(`nothing matches\n\n${HELP}`);
    return 2;
  }
  if (options.list) {
    for (const { area, name, level, withoutReceipt } of kinds) {
      echo(`${area.padEnd(12)} ${String(level).padEnd(8)} ${String(withoutReceipt).padEnd(8)} ${name}`);
    }
    return 0;
  }
  const started = Date.now();
  const minutes = options.minutes === undefined ? Number.POSITIVE_INFINITY : Number(options.minutes);
  if (!(minutes > 0)) {
    echo(`--minutes "${options.minutes}" is not a number above 0\n\n${HELP}`);
    return 2;
  }
  await useFastestPlace();
  await using lab = await openLab("damage");
  const stop = (signal: NodeJS.Signals) => {
    echo(`\nDAMAGE: ended by ${signal}; removing what was started`);
    void lab.close().then(() => process.exit(signal === "SIGINT" ? 130 : 143));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
  const golden = await makeGolden(lab, step);
  const goldenSeconds = Math.round((Date.now() - started) / 1000);
  const jobs = Math.max(1, Number(options.jobs) || 1);
  echo(`\n${kinds.length} kinds, ${passes.length} verdicts each, ${jobs} copies at the same time\n`);
  let done = 0;
  const inOrder = options.minutes === undefined ? kinds : shuffled(kinds);
  const all = await inParallel(inOrder, jobs, async (kind) => {
    const begun = Date.now();
    if (begun > started + minutes * 60_000) return null;
    const name = `k${String(ALL_KINDS.indexOf(kind)).padStart(3, "0")}`;
    const result = await runKind(lab, golden, kind, {
      passes: options["damage-only"] ? [] : passes,
      everyLevel: options["every-level"],
      rivals,
      name,
    });
    echo(`${String(++done).padStart(3)}/${kinds.length} ${line(result)} ${chalk.dim(`${since(begun)} s`)}`);
    return result;
  });
  const results = all.filter((result) => result !== null);
  const run: Run = {
    startedAt: new Date(started).toISOString(),
    seconds: Math.round((Date.now() - started) / 1000),
    goldenBytes: golden.bytes,
    goldenSeconds,
    jobs,
    ofKinds: kinds.length,
    versions: { PostgreSQL: golden.receipt.server_version, node: process.versions.node },
  };
  await write(results, run);
  await lab.close();
  assertNothingRuns(lab);
  return conclude(results, run);
}

/** One kind on one line: a letter for each verdict, and what caught it first. */
function line({ kind, problem, verdicts, rivals }: Result): string {
  if (problem !== null)
    return `${chalk.red("LAB FAILED")} ${kind.area.padEnd(12)} ${kind.name}: ${problem.split("\n")[0]}`;
  const letters = verdicts.map((verdict) => {
    const judgement = judge(kind, verdict);
    const letter = { healthy: "·", caught: "C", broken: "B" }[verdict.outcome];
    return isRight(judgement) ? chalk.green(letter) : chalk.red.bold(verdict.outcome === "healthy" ? "M" : letter);
  });
  const theirs = rivals.map((rival) => (rival.caught ? "C" : "·")).join("");
  const by = verdicts.find(({ outcome }) => outcome !== "healthy")?.by.join(", ") ?? "";
  return `${letters.join("")} ${theirs} ${kind.area.padEnd(12)} ${kind.name} ${chalk.dim(by)}`;
}

async function write(results: readonly Result[], run: Run): Promise<void> {
  await mkdir(EVIDENCE, { recursive: true });
  const rows = results.map(({ kind, verdicts, ...rest }) => ({
    area: kind.area,
    name: kind.name,
    caughtBy: kind.caughtBy,
    level: kind.level,
    withoutReceipt: kind.withoutReceipt,
    ...rest,
    verdicts: verdicts.map((verdict) => ({ ...verdict, judgement: judge(kind, verdict) })),
  }));
  const json = { run, totals: Object.fromEntries(totals(results)), kinds: rows };
  await writeFile(join(EVIDENCE, "matrix.json"), `${JSON.stringify(json, null, 2)}\n`);
  await writeFile(join(EVIDENCE, "matrix.md"), matrixMarkdown(results, run));
}

function conclude(results: readonly Result[], run: Run): number {
  const wrong = wrongList(results);
  if (wrong !== "nothing") echo(`\n${wrong.replace(/^(.{300}).*$/gm, "$1 …")}`);
  echo("");
  for (const [name, { caught, of, falseAlarms, sound }] of totals(results)) {
    echo(`${name.padEnd(20)} ${`${caught} of ${of}`.padStart(10)} caught, ${falseAlarms} of ${sound} false alarms`);
  }
  // Of nothing, nothing is proven.
  const right = wrong === "nothing" && results.length > 0;
  const tried = `${results.length} of ${run.ofKinds} kinds`;
  echo(
    `\nDAMAGE: ${right ? "as it must be" : "NOT as it must be"}, ${tried} in ${run.seconds} s; see ${EVIDENCE}/matrix.md`,
  );
  return right ? 0 : 1;
}

async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const begun = Date.now();
  const result = await work();
  echo(`  ${what} ${chalk.dim(`(${since(begun)} s)`)}`);
  return result;
}

const shuffled = <T>(items: readonly T[]): T[] =>
  items
    .map((item) => ({ item, at: Math.random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);

const since = (begun: number) => ((Date.now() - begun) / 1000).toFixed(1);

process.exit(await main());
