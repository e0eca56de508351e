/** When tests may start: days and times of day in a time zone. Pure. */

export const DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] as const;
export type Day = (typeof DAYS)[number];

export interface Window {
  /** Days on which it begins. */
  days: readonly Day[];
  /** Minutes since midnight; `to` before `from` is on the next day, the same is a whole day. */
  from: number;
  to: number;
  timeZone: string;
}

const PATTERN = /^(?:([a-z]{3}(?:-[a-z]{3})?(?:,[a-z]{3}(?:-[a-z]{3})?)*) )?(\d\d):(\d\d)-(\d\d):(\d\d)(?: (\S+))?$/;

/** `mon-fri 22:00-06:00 Europe/Berlin`; every day and UTC when they are left out. Throws a plain Error. */
export function parseWindow(text: string): Window {
  const match = PATTERN.exec(text.trim());
  const wrong = new Error(`"${text}" is not a window such as "mon-fri 22:00-06:00 Europe/Berlin"`);
  if (match === null) throw wrong;
  const [, days, ...rest] = match;
  const [fromHour, fromMinute, toHour, toMinute] = rest.slice(0, 4).map(Number) as [number, number, number, number];
  if (fromHour > 23 || fromMinute > 59 || toHour > 24 || toMinute > 59 || toHour * 60 + toMinute > 1440) throw wrong;
  const timeZone = rest[4] ?? "UTC";
  try {
    new Intl.DateTimeFormat("en", { timeZone });
  } catch {
    throw new Error(`"${timeZone}" is not a time zone such as Europe/Berlin`);
  }
  return {
    days: days === undefined ? DAYS : days.split(",").flatMap((part) => parseDays(part, wrong)),
    from: fromHour * 60 + fromMinute,
    to: toHour * 60 + toMinute,
    timeZone,
  };
}

function parseDays(part: string, wrong: Error): Day[] {
  const [first, last] = part.split("-") as [Day, Day | undefined];
  const [from, to] = [DAYS.indexOf(first), DAYS.indexOf(last ?? first)];
  if (from < 0 || to < 0) throw wrong;
  const count = ((to - from + 7) % 7) + 1;
  return Array.from({ length: count }, (_, n) => DAYS[(from + n) % 7] as Day);
}

/** Inside of one of them; always when there is none. */
export function isOpen(windows: readonly Window[], at: Date): boolean {
  return windows.length === 0 || windows.some((window) => contains(window, at));
}

function contains({ days, from, to, timeZone }: Window, at: Date): boolean {
  const { day, minute } = localTime(at, timeZone);
  const yesterday = DAYS[(DAYS.indexOf(day) + 6) % 7] as Day;
  if (from < to) return days.includes(day) && minute >= from && minute < to;
  return (days.includes(day) && minute >= from) || (days.includes(yesterday) && minute < to);
}

/** Making one takes longer than all else here, and each update asks. */
const formats = new Map<string, Intl.DateTimeFormat>();

function formatOf(timeZone: string): Intl.DateTimeFormat {
  const known = formats.get(timeZone);
  if (known !== undefined) return known;
  const options = { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" } as const;
  const format = new Intl.DateTimeFormat("en-US", { timeZone, ...options });
  formats.set(timeZone, format);
  return format;
}

function localTime(at: Date, timeZone: string): { day: Day; minute: number } {
  const parts = Object.fromEntries(
    formatOf(timeZone)
      .formatToParts(at)
      .map(({ type, value }) => [type, value]),
  );
  return { day: parts.weekday?.toLowerCase() as Day, minute: Number(parts.hour) * 60 + Number(parts.minute) };
}
