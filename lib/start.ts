/**
 * The first thing of every script. It imports nothing: what a script consists of is evaluated when it is needed, and
 * `--version` needs none of it.
 */

import type { Script } from "./cli.ts";
import type { OptionName } from "./options.ts";
import { VERSION } from "./version.ts";

export async function start<N extends OptionName>(load: () => Promise<{ script: Script<N> }>): Promise<void> {
  const [argument, ...more] = process.argv.slice(2);
  if (argument === "--version" && more.length === 0) {
    process.stdout.write(`${VERSION}\n`);
    return;
  }
  rememberLittle();
  const { main } = await import("./cli.ts");
  const { script } = await load();
  await main(script);
}

/**
 * V8 lets garbage grow to as much again as is in use, and to several times that on a large machine: a script stands beside a
 * database and shall not take its memory. Whoever starts Node with limits of his own has decided otherwise.
 */
function rememberLittle(): void {
  const given = [...process.execArgv, process.env.NODE_OPTIONS ?? ""].join(" ");
  if (/--max[-_](old|semi)[-_]space[-_]size/.test(given)) return;
  process.getBuiltinModule("node:v8").setFlagsFromString("--optimize-for-size");
}
