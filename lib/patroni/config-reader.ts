/** A Patroni configuration as Patroni reads it, with the place of every key. */

import { isMap, isPair, isScalar, LineCounter, type Node, parseDocument, type YAMLMap } from "yaml";
import { parseDuration } from "../units.ts";

export interface ConfigProblem {
  message: string;
  hint?: string | undefined;
}

export type Values = Record<string, unknown>;

/** The file's values with the place of each, and what was found. */
export class ConfigReader {
  readonly problems: ConfigProblem[] = [];
  readonly warnings: string[] = [];
  readonly values: Values;
  readonly isReadable: boolean;
  private readonly path: string;
  private readonly root: Node | null;
  private readonly lines: LineCounter;

  constructor(text: string, path: string) {
    const { document, lines } = parseText(text);
    this.path = path;
    this.root = document.contents;
    this.lines = lines;
    for (const error of document.errors) this.add(error.pos[0], { message: error.message });
    const values: unknown = document.errors.length > 0 ? undefined : document.toJS();
    this.isReadable = isMap(this.root) && values !== undefined;
    if (!this.isReadable && this.problems.length === 0) {
      this.add(0, { message: "Patroni's configuration is not a mapping of keys to values" });
    }
    this.values = this.isReadable ? toObject(values) : {};
  }

  problem(keys: readonly string[], message: string, hint?: string | undefined): void {
    this.add(this.offsetOf(keys), { message, hint });
  }

  warning(keys: readonly string[], message: string): void {
    this.warnings.push(`${this.place(this.offsetOf(keys))}: ${message}`);
  }

  private add(offset: number, { message, hint }: ConfigProblem): void {
    this.problems.push({ message: `${this.place(offset)}: ${message}`, ...(hint === undefined ? {} : { hint }) });
  }

  private place(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${this.path}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  }

  /** Where the deepest of the keys that exists stands. */
  private offsetOf(keys: readonly string[]): number {
    let node: unknown = this.root;
    let offset = 0;
    for (const key of keys) {
      if (!isMap(node)) break;
      const pair = (node as YAMLMap).items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key,
      );
      if (pair === undefined) break;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    }
    return offset;
  }
}

/** Patroni reads YAML 1.1, in which `on`, `yes` and `off` are booleans and `<<` merges. */
export function parseText(text: string) {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.1", merge: true });
  return { document, lines };
}

export function toObject(value: unknown): Values {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Values) : {};
}

export function toText(value: unknown): string | null {
  if (typeof value === "string") return value === "" ? null : value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : null;
}

/** Seconds as Patroni takes them: a number, or text with a unit. */
export function toNumber(value: unknown): number | null {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return null;
  if (/^\d+$/.test(value)) return Number(value);
  try {
    return parseDuration(value) / 1000;
  } catch {
    return null;
  }
}

/** As Patroni's parse_bool reads it. */
export const isTrue = (value: unknown) =>
  value === true ||
  (typeof value === "string" && !/^(false|no|off|0|)$/i.test(value)) ||
  (typeof value === "number" && value !== 0);

export const isFalse = (value: unknown) =>
  value === false || (typeof value === "string" && /^(false|no|off)$/i.test(value));

export const withoutSlash = (path: string) => path.replace(/(.)\/+$/, "$1");

export function isAtLeast(version: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = version.split(".").map(Number);
  return a > major || (a === major && b >= minor);
}
