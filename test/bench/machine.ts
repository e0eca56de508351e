/** On what it was measured, in one line. */

import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";

export async function describeMachine(): Promise<string> {
  const [quota = "max", period = "100000"] = (await readFile("/sys/fs/cgroup/cpu.max", "utf8").catch(() => "max"))
    .trim()
    .split(" ");
  const limit = quota === "max" ? "" : `, limited to ${(Number(quota) / Number(period)).toFixed(1)} of them`;
  const gigabytes = (totalmem() / 2 ** 30).toFixed(0);
  const version = (program: string) => execFileSync(program, ["--version"], { encoding: "utf8" }).trim();
  return [
    `${availableParallelism()} cores (${cpus()[0]?.model.trim() ?? "unknown"}${limit}), ${gigabytes} GB`,
    version("psql").replace("psql (PostgreSQL)", "PostgreSQL"),
    `Node.js ${process.version}`,
    `load average at the start ${loadavg()[0]?.toFixed(1)}`,
  ].join(", ");
}
