/** What the hooks, Patroni and PostgreSQL say in one log, told apart: the hooks log JSON, one object per line. */

import { type ErrorCode, EXIT_CODES, RestoreError } from "../errors.ts";
import type { Level } from "../log.ts";
import { formatSize } from "../units.ts";

export interface HookEvent {
  at: Date;
  level: Level;
  phase: string;
  message: string;
  fields: Record<string, unknown>;
}

/** A log line of a hook, or null for anybody else's line. */
export function parseHookEvent(line: string): HookEvent | null {
  if (!line.startsWith("{")) return null;
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    return null;
  }
  const { at, level, phase, message, ...fields } = event as Record<string, unknown>;
  const isLevel = level === "info" || level === "warn" || level === "error";
  if (typeof at !== "string" || !isLevel || typeof phase !== "string" || typeof message !== "string") return null;
  return { at: new Date(at), level, phase, message, fields };
}

/** Fields that a person does not read in the message already: progress is logged as words and as values. */
export function fieldsNotShown({ message, fields }: HookEvent): Record<string, unknown> {
  const isShown = (key: string, value: unknown) =>
    key === "fraction" || message.includes(typeof value === "number" ? formatSize(value) : String(value));
  return Object.fromEntries(Object.entries(fields).filter(([key, value]) => !isShown(key, value)));
}

/** `2026-11-22 21:30:19,123 ERROR: …` of Patroni, `… FATAL:  …` of PostgreSQL: the lines that tell why something ended. */
export function isComplaint(line: string): boolean {
  // pg_isready asks until it is up.
  if (/FATAL: {2}the database system is (starting up|not yet accepting connections)/.test(line)) return false;
  return /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d+ .*?\b(WARNING|ERROR|CRITICAL|FATAL|PANIC):/.test(line);
}

/** Lines to show when something failed; Patroni prints a stack of calls that only its developers need. */
export function worthShowing(lines: readonly string[]): string[] {
  return lines.filter((line) => line.trim() !== "" && parseHookEvent(line) === null && !/^(\s|Traceback )/.test(line));
}

/** Python's logging writes a comma before the milliseconds. */
export const isPatronis = (line: string) => /^\S+ [\d:]+,/.test(line);

/** A complaint without its time stamp and process number. */
export function complaintText(line: string): string {
  return line.replace(/^[\d-]+ [\d:,.]+ (?:[A-Z]{3,5} )?(?:\[\d+\] )?/, "").trim();
}

/** The last error that a hook printed for people (`formatError`), or null. pgBackRest's own have no name in words. */
export function printedError(lines: readonly string[]): RestoreError | null {
  for (let at = lines.length - 1; at >= 0; at--) {
    const match = /^ERROR: \[\d{3}\]: ([A-Z_]+): (.*)$/.exec(lines[at] ?? "");
    const name = match?.[1];
    if (name === undefined || !Object.hasOwn(EXIT_CODES, name)) continue;
    const message = [match?.[2] ?? ""];
    let next = at + 1;
    for (; next < lines.length && /^ {2,}/.test(lines[next] ?? ""); next++) message.push(lines[next] ?? "");
    const hint = /^HINT: (.*?)\.?$/.exec(lines[next] ?? "")?.[1];
    return new RestoreError(name as ErrorCode, message.join("\n"), { hint });
  }
  return null;
}
