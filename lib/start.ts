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
  const { main } = await import("./cli.ts");
  const { script } = await load();
  await main(script);
}
