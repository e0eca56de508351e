/** What `--keep` prints: how to reach the instance, and the exact commands that remove it. */

import { shellWord } from "../patroni/templates.ts";
import type { Preparation } from "./prepare.ts";
import { type Running, removeKeysCommand } from "./teardown.ts";

/** Commands for a shell of the same user that ran the restore test. */
export function describeKept({ layout, binDir, patroni }: Preparation, running: Running): string {
  const { instance, etcd, givenEtcd } = running;
  const main = instance?.server.exit === null ? instance : null;
  const lines = [`Kept in ${layout.directory}`, ""];
  if (main === null) lines.push("The instance does not run any more; its files and logs are there.");
  else {
    const psql = ["-h", layout.socketDir, "-p", String(main.port), "-U", main.superuser, "-d", "postgres"];
    lines.push("Connect:", `  ${[`${binDir}/psql`, ...psql].map(shellWord).join(" ")}`);
    if (patroni !== null) lines.push(`  patronictl -c ${shellWord(layout.patroniConfig)} list`);
  }
  const pids = [main?.server, etcd].filter((server) => server?.exit === null).map((server) => server?.pid);
  lines.push("", "Remove:");
  // One after the other: Patroni needs etcd to give up its leadership.
  for (const pid of pids) lines.push(`  kill ${pid}; while kill -0 ${pid} 2>/dev/null; do sleep 0.2; done`);
  if (givenEtcd !== null) lines.push(`  ${removeKeysCommand(layout, givenEtcd)}`);
  lines.push(`  rm -rf ${shellWord(layout.directory)}`);
  return lines.join("\n");
}
