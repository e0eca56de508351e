/** Commands of a Patroni configuration: how Patroni splits them, and what they start. */

import { basename } from "node:path";

/** Is this argv Patroni's own? `patronictl` and `patroni_raft_controller` are not. */
export function isPatroniCommand(argv: readonly string[]): boolean {
  const [program = "", ...rest] = argv;
  if (basename(program) === "patroni") return true;
  if (!/^python[\d.]*$/.test(basename(program))) return false;
  const module = rest.indexOf("-m");
  if (module >= 0) return /^patroni(\.__main__)?$/.test(rest[module + 1] ?? "");
  const script = rest.find((argument) => !argument.startsWith("-"));
  return script !== undefined && /^patroni(\.py)?$/.test(basename(script));
}

/**
 * Splits as Python's `shlex.split` does, which is all that Patroni does with a command: nothing is expanded, no shell
 * runs. Throws when a quote is not closed, as Python does.
 */
export function splitCommand(command: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote: string | undefined;
  for (let at = 0; at < command.length; at++) {
    const character = command[at] as string;
    const next = command[at + 1];
    if (quote === "'") {
      if (character === quote) quote = undefined;
      else word += character;
    } else if (quote === '"') {
      if (character === quote) quote = undefined;
      else if (character === "\\" && (next === '"' || next === "\\")) {
        word += next;
        at++;
      } else word += character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= "";
    } else if (character === "\\") {
      if (next === undefined) throw new Error("no character follows the backslash");
      word = (word ?? "") + next;
      at++;
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + character;
  }
  if (quote !== undefined) throw new Error("a quote is not closed");
  if (word !== undefined) words.push(word);
  return words;
}

export function programsOfCommand(argv: readonly string[]): { path: string; kind: "program" | "script" }[] {
  const [program] = argv;
  if (program === undefined) return [];
  const script = isNode(program) ? argv.slice(1).find((argument) => !argument.startsWith("-")) : undefined;
  return [
    { path: program, kind: "program" as const },
    ...(script === undefined ? [] : [{ path: script, kind: "script" as const }]),
  ];
}

export const isNode = (program: string) => /^node(js)?$/.test(basename(program));

export const isShell = (program: string) => /^(ba|da|z|k)?sh$/.test(basename(program));

/** True when some word of the command is this project's script, also inside `sh -c '…'`. */
export const runsScript = (argv: readonly string[], name: "bootstrap" | "post-bootstrap") =>
  argv.some((word) =>
    word.split(/[\s;&|]+/).some((part) => part === name || new RegExp(`(^|/)${name}(\\.mjs|\\.ts)?$`).test(part)),
  );
