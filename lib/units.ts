/** Durations and sizes in PostgreSQL's own unit words: https://www.postgresql.org/docs/15/config-setting.html */

const DURATION_MS = new Map([
  ["ms", 1],
  ["s", 1000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
]);
const SIZE_BYTES = new Map([
  ["B", 1],
  ["kB", 1024],
  ["MB", 1024 ** 2],
  ["GB", 1024 ** 3],
  ["TB", 1024 ** 4],
]);

/** `10min` → 600000. A bare number means seconds. Throws a plain Error with the sentence to show. */
export function parseDuration(text: string): number {
  return parseWithUnit(text, DURATION_MS, "s", "a duration such as 500ms, 30s, 10min, 2h or 1d");
}

/** `64MB` → 67108864. A bare number means bytes. */
export function parseSize(text: string): number {
  return parseWithUnit(text, SIZE_BYTES, "B", "a size such as 512kB, 64MB or 2GB");
}

function parseWithUnit(text: string, units: ReadonlyMap<string, number>, defaultUnit: string, wanted: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-zA-Z]*)$/.exec(text.trim());
  const factor = match ? units.get(match[2] || defaultUnit) : undefined;
  const value = match && factor !== undefined ? Math.round(Number(match[1]) * factor) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new Error(`"${text}" is not ${wanted}`);
  return value;
}

/** 83400 → `1min 23s`; below a minute with one decimal: `2.4s`. */
export function formatDuration(ms: number): string {
  if (Math.round(ms) < 1000) return `${Math.round(ms)}ms`;
  // 59.96 s would read 60.0s.
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)}s`;
  const seconds = Math.round(ms / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor((seconds % 86_400) / 3600), "h"],
    [Math.floor((seconds % 3600) / 60), "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  return parts
    .slice(first, first + 2)
    .filter(([n]) => n > 0)
    .map(([n, unit]) => `${n}${unit}`)
    .join(" ");
}

/** 67108864 → `64.0 MB`, in powers of 1024 as PostgreSQL counts. */
export function formatSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = Math.round(bytes);
  let unit = 0;
  // 1023.95 would read 1024.0.
  while (Math.abs(value) >= (unit === 0 ? 1024 : 1023.95) && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
