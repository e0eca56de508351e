/** What a person or a log collector reads while the work goes on. Pure: `lib/io/terminal.ts` writes it. */

import { messageOf } from "./errors.ts";
import { formatDuration, formatSize } from "./units.ts";

export type Level = "info" | "warn" | "error";

export interface LogEvent {
  at: Date;
  level: Level;
  phase: string;
  message: string;
  /** Values for machines; in text form they follow the message. */
  fields: Readonly<Record<string, unknown>>;
}

/** How far long work has come. Everything is optional: what is not known is not shown. */
export interface Progress {
  /** 0 to 1. */
  fraction?: number | undefined;
  bytes?: number | undefined;
  totalBytes?: number | undefined;
  /** Of recovery: how far the WAL is replayed. */
  lsn?: string | undefined;
  /** Of recovery: commit time of the last replayed transaction, as PostgreSQL prints it. */
  lastCommit?: string | undefined;
  note?: string | undefined;
}

export interface ProgressReporter {
  update(progress: Progress): void;
  /** Removes the bar; must be called. */
  end(): void;
}

export interface Log {
  info(phase: string, message: string, fields?: Record<string, unknown>): void;
  warn(phase: string, message: string, fields?: Record<string, unknown>): void;
  error(phase: string, message: string, fields?: Record<string, unknown>): void;
  progress(phase: string): ProgressReporter;
}

export function formatEvent(event: LogEvent, format: "text" | "json"): string {
  const { at, level, phase, message, fields } = event;
  if (format === "json") return toJson({ at: at.toISOString(), level, phase, message }, fields);
  const time = at.toISOString().replace("T", " ").replace("Z", "+00");
  const tail = Object.entries(fields)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => ` ${key}=${formatValue(value)}`)
    .join("");
  return `${time} ${level.toUpperCase().padEnd(5)} ${phase}: ${onOneLine(message)}${tail}`;
}

/** What JSON has no word for must not end the script that only wanted to log it. */
const plain = (_key: string, value: unknown) =>
  typeof value === "bigint" ? String(value) : value instanceof Error ? messageOf(value) : value;

/** A field never hides the event's own members: a setting called `level` is written as `level_`. */
function toJson(event: Readonly<Record<string, unknown>>, fields: LogEvent["fields"]): string {
  const renamed = Object.entries(fields).map(([key, value]) => [key in event ? `${key}_` : key, value]);
  return JSON.stringify({ ...event, ...Object.fromEntries(renamed) }, plain);
}

function formatValue(value: unknown): string {
  const simple = plain("", value);
  const text = typeof simple === "string" ? simple : (JSON.stringify(simple, plain) ?? String(simple));
  return /\s|^$/.test(text) ? JSON.stringify(text) : text;
}

function onOneLine(text: string): string {
  return text.trim().replace(/\s*[\r\n]+\s*/g, " | ");
}

/** `42 %, 310.2 MB of 777.0 MB, 120.5 MB/s, 4s left, at 0/5A000028, last commit 2026-…`. */
export function describeProgress(progress: Progress, elapsedMs: number): string {
  const { fraction, bytes, totalBytes, lsn, lastCommit, note } = progress;
  const share = fraction ?? (bytes !== undefined && totalBytes ? bytes / totalBytes : undefined);
  const parts: string[] = [];
  if (share !== undefined) parts.push(`${Math.floor(Math.min(share, 1) * 100)} %`);
  if (bytes !== undefined) parts.push(formatSize(bytes) + (totalBytes ? ` of ${formatSize(totalBytes)}` : ""));
  if (bytes && elapsedMs > 0) parts.push(`${formatSize((bytes / elapsedMs) * 1000)}/s`);
  if (share && elapsedMs > 0 && share < 1) parts.push(`${formatDuration((elapsedMs / share) * (1 - share))} left`);
  if (lsn) parts.push(`at ${lsn}`);
  if (lastCommit) parts.push(`last commit ${lastCommit}`);
  if (note) parts.push(note);
  return parts.length > 0 ? parts.join(", ") : formatDuration(elapsedMs);
}
