/** A story for people, told while it goes on: with a verdict at its end, evidence when it fails, and nothing left behind. */

import { chalk, echo } from "zx";
import { EXIT_CODES } from "../../lib/errors.ts";
import { assertNothingRuns, type Lab, openLab } from "./lab.ts";

const started = Date.now();
export const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => stop.abort(name));
const stopped = new Promise<never>((_, reject) =>
  stop.signal.addEventListener("abort", () => reject(stop.signal.reason)),
);
stopped.catch(() => {});

/** Ends the process. `story` returns whether all was as it should be; `words` say then what that was. */
export async function tell(name: string, words: string, story: (lab: Lab) => Promise<boolean>): Promise<never> {
  // After Ctrl-C something may still be waiting for a service that is gone.
  process.exit(await toldTo(name, words, story));
}

async function toldTo(name: string, words: string, story: (lab: Lab) => Promise<boolean>): Promise<number> {
  const lab = await openLab(name);
  try {
    const passed = await story(lab);
    await lab.close();
    assertNothingRuns(lab);
    const seconds = Math.round((Date.now() - started) / 1000);
    if (passed) say(chalk.green.bold(`\nDEMO: as it should be: ${words}, in ${seconds} s`));
    else say(chalk.red.bold(`\nDEMO: not as it should be, see above`));
    return passed ? 0 : 1;
  } catch (error) {
    if (stop.signal.aborted) {
      say(`\nDEMO: ended by ${stop.signal.reason}; removing what was started`);
      return stop.signal.reason === "SIGINT" ? EXIT_CODES.INTERRUPTED : EXIT_CODES.TERMINATED;
    }
    say(chalk.red(`\nDEMO: ${error instanceof Error ? error.stack : error}`));
    say(`logs are kept in ${await lab.keepEvidence(name)}`);
    return 1;
  } finally {
    await lab.close();
  }
}

export async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  stop.signal.throwIfAborted();
  const begun = Date.now();
  const result = await Promise.race([work(), stopped]);
  say(`  ${what} ${chalk.dim(`(${((Date.now() - begun) / 1000).toFixed(1)} s)`)}`);
  return result;
}

export function heading(text: string): void {
  say(chalk.bold(`\n${text}\n`));
}

export function say(text: string): void {
  echo(text);
}
