/** What a script costs before its work: its start against that of Node alone. */

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { type Bench, type BenchCase, type BenchResult, median } from "./case.ts";

export const startupCase: BenchCase = {
  name: "startup",
  title: "Start of the scripts",
  runs: 31,
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
  commands.set("post-bootstrap with a wrong conninfo", [await lab.script("post-bootstrap"), "host=/nowhere"]);
  // Before each start of Patroni.
  commands.set("guard, nothing unproven", [await lab.script("guard"), "--datadir", lab.path("none")]);
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

  return {
    ratios: [{ what: "`bootstrap --version` : `node -e 0`", value: ms("bootstrap --version") / floor, limit: 1.6 }],
    tables: [
      {
        head: ["start", "median, ms", ": node -e 0"],
        rows: [...commands.keys()].map((what) => [what, ms(what).toFixed(0), (ms(what) / floor).toFixed(2)]),
      },
    ],
    notes: [`medians of ${runs} interleaved runs`],
    raw: { times: Object.fromEntries(times) },
  };
}
