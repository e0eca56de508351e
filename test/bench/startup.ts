/** What a script costs before and beside its work: its start against that of Node alone, and the most memory it ever held. */

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { backup, query } from "../lab/source.ts";
import { type Bench, type BenchCase, type BenchResult, DATABASE, median, startService } from "./case.ts";

/** For each unit of --scale; what they are called is long, so that the receipt is. */
const TABLES_EACH = 40;
const MEMORY_LIMIT_MB = 150;

export const startupCase: BenchCase = {
  name: "startup",
  title: "Start and memory of the scripts",
  runs: 21,
  run,
};

async function run(bench: Bench): Promise<BenchResult> {
  const { lab, runs, say } = bench;
  const names = readdirSync(new URL("../../dist", import.meta.url))
    .filter((file) => file.endsWith(".mjs"))
    .map((file) => file.replace(/\.mjs$/, ""));
  const node = ["-e", "0"];
  const commands = new Map<string, string[]>([["node -e 0", node]]);
  for (const name of names) commands.set(`${name} --version`, [await lab.script(name), "--version"]);
  commands.set("bootstrap --help", [await lab.script("bootstrap"), "--help"]);
  commands.set("bootstrap without its settings", [await lab.script("bootstrap")]);
  const times = new Map<string, number[]>([...commands.keys()].map((what) => [what, []]));
  // Interleaved: whatever else the machine does meanwhile meets all of them.
  for (let n = 0; n < runs; n++) {
    for (const [what, args] of commands) {
      const startedAt = performance.now();
      spawnSync(process.execPath, args, { stdio: "ignore", env: { ...lab.env } });
      times.get(what)?.push(performance.now() - startedAt);
    }
  }
  const ms = (what: string) => median(times.get(what) ?? []);
  const floor = ms("node -e 0");
  say(`bootstrap --version ${ms("bootstrap --version").toFixed(0)} ms, node -e 0 ${floor.toFixed(0)} ms`);

  const memory = await memoryOfWork(bench);
  const most = Math.max(...memory.map(({ megabytes }) => megabytes));
  return {
    ratios: [
      { what: "`bootstrap --version` : `node -e 0`", value: ms("bootstrap --version") / floor, limit: 1.6 },
      { what: `most memory of a script : ${MEMORY_LIMIT_MB} MB`, value: most / MEMORY_LIMIT_MB, limit: 1 },
    ],
    tables: [
      {
        head: ["start", "median, ms", ": node -e 0"],
        rows: [...commands.keys()].map((what) => [what, ms(what).toFixed(0), (ms(what) / floor).toFixed(2)]),
      },
      {
        head: ["most resident memory", "MB"],
        rows: memory.map(({ script, megabytes }) => [script, megabytes.toFixed(0)]),
      },
    ],
    notes: [
      `${runs} interleaved runs; memory of a restore test with ${bench.scale * TABLES_EACH} tables and a receipt of every block`,
    ],
    raw: { times: Object.fromEntries(times), memory },
  };
}

/** Every Node process of a whole restore test says at its end how much it held. */
async function memoryOfWork(bench: Bench): Promise<{ script: string; megabytes: number }[]> {
  const { lab, say, scale, signal } = bench;
  const source = await startService(bench, { max_locks_per_transaction: "1024" });
  say(`making ${scale * TABLES_EACH} tables`);
  for (let from = 0; from < scale * TABLES_EACH; from += 500) {
    await query(
      source,
      `DO $$ BEGIN FOR i IN ${from}..${Math.min(from + 500, scale * TABLES_EACH) - 1} LOOP
         EXECUTE format('CREATE TABLE %I (id int PRIMARY KEY, name text NOT NULL DEFAULT %L, at timestamptz)',
                        'a_table_with_a_long_name_' || i, 'nobody');
         EXECUTE format('INSERT INTO %I SELECT g FROM generate_series(1, 100) AS g', 'a_table_with_a_long_name_' || i);
       END LOOP; END $$`,
      { database: DATABASE },
    );
  }
  await backup(lab, source, "full");
  await lab.makeDirectory("memory", 0o777);
  const hook = await lab.writeFile(
    "memory/hook.cjs",
    `process.on("exit", () => {
       const fs = require("fs");
       const peak = /VmHWM:\\s+(\\d+) kB/.exec(fs.readFileSync("/proc/self/status", "utf8"))[1];
       const words = process.argv.slice(1, 3).map((word) => word.replace(/^.*\\//, "").replace(/\\.mjs$/, ""));
       const name = ["bootstrap", "post-bootstrap"].includes(words[1]) ? words[1] : words[0];
       fs.appendFileSync("${lab.path("memory", "peaks")}", name + " " + peak + "\\n");
     });`,
  );
  await lab.writeFile("memory/peaks", "", 0o666);
  const env = {
    NODE_OPTIONS: `--require=${hook}`,
    RESTORE_MANIFEST_BUDGET: "full",
    RESTORE_MANIFEST_TIMEOUT: "10min",
  };
  const receipt = lab.path("receipt.json");
  const repository = [`--stanza=${source.stanza}`, `--pgbackrest-config=${source.pgbackrestConfig}`];
  const must = async (script: string, args: string[]) => {
    say(`${script}…`);
    const result = await lab.runScript(script, args, { env, signal });
    if (result.exitCode !== 0) throw new Error(`${script}: exit code ${result.exitCode}\n${result.stderr}`);
  };
  await must("mark", ["--source", source.conninfo, "--receipt", receipt]);
  await must("restore-test", [
    ...["--receipt", receipt, ...repository, "--runner=direct", "--level=full"],
    `--work-dir=${await lab.makeDirectory("work")}`,
  ]);
  await must("preflight", [
    ...["--receipt", receipt, ...repository, `--datadir=${lab.path("work", "nowhere")}`, "--scope=nowhere"],
  ]);
  const peaks = new Map<string, number>();
  for (const line of (await readFile(lab.path("memory", "peaks"), "utf8")).trim().split("\n")) {
    const [script = "", kilobytes] = line.split(" ");
    peaks.set(script, Math.max(peaks.get(script) ?? 0, Number(kilobytes) / 1024));
  }
  return [...peaks].map(([script, megabytes]) => ({ script, megabytes }));
}
