/** JSON as PostgreSQL's jsonb takes it: it refuses NUL and half of a surrogate pair, which a log line can bring along. */

export function toJson(value: unknown): string {
  const text = JSON.stringify(value);
  // Only an escape that JSON.stringify writes can be one of the two; nearly no text has any.
  return /\\u(0000|d[89a-f])/.test(text) ? JSON.stringify(clean(value)) : text;
}

export const cleanText = (text: string): string => text.replace(/\0|\p{Surrogate}/gu, "\ufffd");

function clean(value: unknown): unknown {
  if (typeof value === "string") return cleanText(value);
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(JSON.parse(JSON.stringify(value))).map(([k, v]) => [cleanText(k), clean(v)]),
  );
}
