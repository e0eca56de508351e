/** The most memory that each Node process held, as it says itself at its end; its children are not in it. */

import { readFile } from "node:fs/promises";
import type { Lab } from "../lab/lab.ts";

export interface Peaks {
  /** For every script that is to be watched, and those that it starts. */
  nodeOptions: string;
  /** Megabytes by script, the most of all its runs since the last call. */
  read(): Promise<Map<string, number>>;
}

export async function watchPeaks(lab: Lab): Promise<Peaks> {
  await lab.makeDirectory("memory", 0o777);
  const file = await lab.writeFile("memory/peaks", "", 0o666);
  const hook = await lab.writeFile(
    "memory/hook.cjs",
    `process.on("exit", () => {
       const fs = require("fs");
       const peak = /VmHWM:\\s+(\\d+) kB/.exec(fs.readFileSync("/proc/self/status", "utf8"))[1];
       const words = process.argv.slice(1, 3).map((word) => word.replace(/^.*\\//, "").replace(/\\.mjs$/, ""));
       const name = ["bootstrap", "post-bootstrap"].includes(words[1]) ? words[1] : words[0];
       fs.appendFileSync("${file}", name + " " + peak + "\\n");
     });`,
  );
  return {
    nodeOptions: `--require=${hook}`,
    async read() {
      const peaks = new Map<string, number>();
      for (const line of (await readFile(file, "utf8")).trim().split("\n")) {
        const [script = "", kilobytes] = line.split(" ");
        if (script !== "") peaks.set(script, Math.max(peaks.get(script) ?? 0, Number(kilobytes) / 1024));
      }
      await lab.writeFile("memory/peaks", "", 0o666);
      return peaks;
    },
  };
}
