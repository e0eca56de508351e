/**
 * Where recovery stops. The target stays text from flag to argv: a JavaScript Date cuts PostgreSQL's microseconds, and a
 * marker committed in the same millisecond would be lost.
 */

export const TARGET_TYPES = ["time", "lsn", "xid", "name", "immediate", "latest"] as const;
export type TargetType = (typeof TARGET_TYPES)[number];

/** `timeline` is `latest`, `current` or a number; null leaves PostgreSQL's default (`latest`). */
export interface Target {
  type: TargetType;
  /** Null for `immediate` and `latest`; a time always reads `YYYY-MM-DD HH:MM:SS[.ffffff]+HH[:MM]`. */
  value: string | null;
  timeline: string | null;
  exclusive: boolean;
}

const TIME =
  /^(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$/i;

/**
 * Normalises to the only form pgBackRest accepts (pgbackrest 2.45 `[029] automatic backup set selection cannot be
 * performed`): ISO 8601's `T` and `Z` are understood. Throws a plain Error with the sentence to show.
 */
export function normaliseTargetTime(text: string): string {
  const match = TIME.exec(text.trim());
  if (!match) {
    throw new Error(`target time "${text}" is not a time; write it as "2026-11-22 10:00:00.123456+00"`);
  }
  const [, year, month, day, hour, minute, second = "00", fraction, zone] = match;
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  const isDate = date.getUTCMonth() + 1 === Number(month) && date.getUTCDate() === Number(day);
  if (!isDate || Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) {
    throw new Error(`target time "${text}" is not a valid date`);
  }
  const time = `${year}-${month}-${day} ${hour}:${minute}:${second}${fraction === undefined ? "" : `.${fraction}`}`;
  if (zone === undefined) {
    throw new Error(
      `target time "${time}" has no UTC offset. pgBackRest would use the system zone to choose the backup and PostgreSQL ` +
        `its own zone to stop. Write "${time}+00"`,
    );
  }
  if (fraction !== undefined && fraction.length > 6) {
    throw new Error(`target time "${text}" is finer than PostgreSQL's microseconds; give at most six decimals`);
  }
  const offset = /^[A-Z]/i.test(zone) ? "+00" : normaliseOffset(zone, text);
  return time + offset;
}

function normaliseOffset(zone: string, text: string): string {
  const hours = zone.slice(0, 3);
  const minutes = zone.slice(3).replace(":", "");
  if (Math.abs(Number(hours)) > 15 || Number(minutes || 0) > 59) {
    throw new Error(`target time "${text}" is not a valid date: its UTC offset is beyond 15:59`);
  }
  return minutes && minutes !== "00" ? `${hours}:${minutes}` : hours;
}

/** Microseconds since the epoch, to compare two times without losing digits. */
export function timeToMicros(time: string): bigint {
  const match = TIME.exec(normaliseTargetTime(time));
  if (!match) throw new Error(`"${time}" is not a time`);
  const [, year, month, day, hour, minute, second, fraction = "", zone = "+00"] = match;
  const ms = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minute), Number(second));
  const [zoneHours = "0", zoneMinutes = "0"] = zone.slice(1).split(":");
  const offsetMs = (Number(zoneHours) * 60 + Number(zoneMinutes)) * 60_000 * (zone.startsWith("-") ? -1 : 1);
  return BigInt(ms - offsetMs) * 1000n + BigInt(fraction.padEnd(6, "0"));
}

/** Validates a value for its type; returns the text to use. Throws a plain Error with the sentence to show. */
export function parseTargetValue(type: TargetType, value: string | undefined): string | null {
  if (type === "immediate" || type === "latest") {
    if (value !== undefined) throw new Error(`target type "${type}" takes no --target; got "${value}"`);
    return null;
  }
  if (value === undefined || value === "") throw new Error(`target type "${type}" needs --target`);
  switch (type) {
    case "time":
      return normaliseTargetTime(value);
    case "lsn":
      if (!/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/.test(value)) {
        throw new Error(`target LSN "${value}" is not of the form X/Y, such as 0/3000028`);
      }
      return value;
    case "xid":
      return parseXid(value);
    case "name":
      return parseRestorePoint(value);
  }
}

function parseXid(value: string): string {
  if (!/^\d+$/.test(value)) throw new Error(`target xid "${value}" is not a transaction ID`);
  const xid = BigInt(value);
  if (xid > 0xffff_ffffn) {
    throw new Error(`xid ${value} includes an epoch; recovery_target_xid needs the 32-bit value ${xid & 0xffff_ffffn}`);
  }
  // PostgreSQL would read a leading zero as octal (strtoul with base 0).
  return String(xid);
}

function parseRestorePoint(value: string): string {
  const bytes = Buffer.byteLength(value);
  if (bytes > 63) {
    throw new Error(`restore point name is ${bytes} bytes long; PostgreSQL allows 63`);
  }
  // pgBackRest 2.45 does not escape the value it writes into postgresql.auto.conf.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  if (/['\\\u0000-\u001f\u007f]/.test(value)) {
    throw new Error(`restore point name "${value}" holds a quote, backslash or control character`);
  }
  return value;
}

export function parseTimeline(value: string): string {
  if (value === "latest" || value === "current") return value;
  // A leading zero is refused: decimal, PostgreSQL's octal and the hexadecimal of WAL names would each read it otherwise.
  if (!/^([1-9]\d*|0x[0-9a-f]+)$/i.test(value) || Number(value) < 1 || Number(value) > 0xffff_ffff) {
    throw new Error(`target timeline "${value}" is neither latest, current nor a number from 1`);
  }
  return String(Number(value));
}

/** The options of `pgbackrest restore` for this target. */
export function targetOptions(target: Target): string[] {
  const options: string[] = [`--type=${target.type === "latest" ? "default" : target.type}`];
  if (target.value !== null) options.push(`--target=${target.value}`);
  if (target.exclusive) options.push("--target-exclusive");
  // Refused for immediate, which ends on the backup's own timeline anyway (pgbackrest 2.45 `[031]`).
  if (target.timeline !== null && target.type !== "immediate") options.push(`--target-timeline=${target.timeline}`);
  // pgBackRest's default is pause: the instance would never leave recovery. It is not valid without a target.
  if (target.type !== "latest") options.push("--target-action=promote");
  return options;
}

/** `time 2026-11-22 10:00:00+00 on timeline 3`, for people. */
export function describeTarget(target: Target): string {
  const value = target.value === null ? "" : ` ${target.value}`;
  const timeline = target.timeline === null ? "" : ` on timeline ${target.timeline}`;
  return `${target.type === "latest" ? "end of the WAL archive" : target.type + value}${target.exclusive ? " (exclusive)" : ""}${timeline}`;
}
