/** Requests to other services of ours. */

import { messageOf, RestoreError } from "../errors.ts";

const LIMIT_MS = 30_000;

/** Throws SOURCE_UNREACHABLE with what the other side said, unless it answers with 2xx. */
export async function postJson(
  url: string,
  body: object,
  options: { token: string | undefined; signal: AbortSignal },
): Promise<void> {
  const headers = {
    "Content-Type": "application/json",
    ...(options.token === undefined ? {} : { Authorization: `Bearer ${options.token}` }),
  };
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(LIMIT_MS)]);
  let answer: { status: number; text: string };
  try {
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal });
    answer = { status: response.status, text: await response.text() };
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new RestoreError("SOURCE_UNREACHABLE", `no answer from ${url}: ${messageOf(cause)}`, { cause: error });
  }
  if (answer.status < 200 || answer.status > 299) {
    const text = answer.text.trim().replace(/\s+/g, " ").slice(0, 300);
    throw new RestoreError("SOURCE_UNREACHABLE", `${url} answered ${answer.status}: ${text}`);
  }
}
