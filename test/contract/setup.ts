/** The contract tests call the compiled scripts: compiles them when a source is newer. */

import { execFile } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const root = new URL("../..", import.meta.url).pathname;

export default async function setup(): Promise<void> {
  const sources = ["scripts", "lib", "patroni-templates", ".ci"].flatMap(filesOf).concat(join(root, "package.json"));
  const scripts = readdirSync(join(root, "scripts")).filter((name) => name.endsWith(".ts"));
  const compiled = scripts.map((name) => join(root, "dist", name.replace(/\.ts$/, ".mjs")));
  const newest = Math.max(...sources.map(changedAt));
  if (compiled.every((file) => changedAt(file) > newest)) return;
  await promisify(execFile)("npx", ["rolldown", "--config", ".ci/rolldown.config.mjs"], { cwd: root });
}

const changedAt = (file: string) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function filesOf(directory: string): string[] {
  return readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
