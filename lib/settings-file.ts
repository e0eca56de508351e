/** A settings file (YAML). Apart from the rest of the settings: most starts have none, and need no YAML. */

import { LineCounter, parseDocument } from "yaml";
import { messageOf } from "./errors.ts";
import { snake } from "./options.ts";
import { didYouMean, NAMES, type Problem, type SettingsFile } from "./settings.ts";

export function parseSettingsFile(path: string, text: string): SettingsFile {
  const problems: Problem[] = [];
  return { values: valuesOf(path, text, problems), problems };
}

function valuesOf(path: string, text: string, problems: Problem[]): SettingsFile["values"] {
  const result = new Map<string, { value: unknown; where: string }>();
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const place = (offset: number | undefined) => {
    const { line, col } = lineCounter.linePos(offset ?? 0);
    return `${path}:${line}:${col}`;
  };
  for (const error of document.errors) problems.push({ message: `${place(error.pos[0])}: ${error.message}` });
  if (document.errors.length > 0 || document.contents === null) return result;
  const byKey = new Map(NAMES.map((name) => [snake(name), name]));
  const items = (document.contents as { items?: { key: { value: unknown; range?: [number] }; value: unknown }[] })
    .items;
  let values: unknown;
  try {
    values = document.toJS();
  } catch (error) {
    // An alias without its anchor, or too many of them.
    problems.push({ message: `${path}: ${messageOf(error)}` });
    return result;
  }
  if (!Array.isArray(items) || typeof values !== "object" || values === null || Array.isArray(values)) {
    problems.push({ message: `${path}:1:1: the settings file is not a mapping of keys to values` });
    return result;
  }
  for (const { key, value: node } of items) {
    const word = String(key.value);
    const where = `${place(key.range?.[0])}: ${word}`;
    const name = byKey.get(word);
    if (name === undefined) {
      problems.push({ message: `${where} is not a setting`, hint: didYouMean(word, [...byKey.keys()]) });
      continue;
    }
    const value = (values as Record<string, unknown>)[word];
    if (value !== null) result.set(name, { value: asWritten(node, value), where });
  }
  return result;
}

/** A restore point called 0123 or 1e3 is no number; YAML would change it. */
function asWritten(node: unknown, value: unknown): unknown {
  const { source } = (node ?? {}) as { source?: unknown };
  return typeof value === "number" && typeof source === "string" ? source : value;
}
