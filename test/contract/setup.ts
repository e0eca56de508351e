/** The contract tests call the compiled scripts: compiles them when a source is newer, and the tests' own probe. */

import { execFile } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
import { PROBE, PROBE_SOURCE } from "../fixtures/run-script.ts";

const root = new URL("../..", import.meta.url).pathname;

export default async function setup(): Promise<void> {
  const sources = ["scripts", "lib", "patroni-templates", ".ci"].flatMap(filesOf).concat(join(root, "package.json"));
  const newest = Math.max(...sources.map(changedAt));
  const scripts = readdirSync(join(root, "scripts")).filter((name) => name.endsWith(".ts"));
  const compiled = scripts.map((name) => join(root, "dist", name.replace(/\.ts$/, ".mjs")));
  if (compiled.some((file) => changedAt(file) < newest)) {
    await promisify(execFile)("npx", ["rolldown", "--config", ".ci/rolldown.config.mjs"], { cwd: root });
  }
  const probe = await rolldown({ input: PROBE_SOURCE, platform: "node", external: ["pg-native"] });
  await probe.write({ file: PROBE, format: "esm", codeSplitting: false });
  await probe.close();
}

const changedAt = (file: string) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function filesOf(directory: string): string[] {
  return readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
