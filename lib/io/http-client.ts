/** Requests to other services of ours. */

import { messageOf, RestoreError } from "../errors.ts";

const LIMIT_MS = 30_000;

export interface Answer {
  status: number;
  text: string;
}

/** Throws SOURCE_UNREACHABLE when there is no answer. */
export async function requestJson(
  url: string,
  options: { method: "GET" | "POST"; body?: object | undefined; token: string | undefined; signal: AbortSignal },
): Promise<Answer> {
  const { method, body, token } = options;
  const headers = {
    ...(body === undefined ? {} : { "Content-Type": "application/json" }),
    ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
  };
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(LIMIT_MS)]);
  try {
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await fetch(url, { method, headers, signal, ...content });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    throw new RestoreError("SOURCE_UNREACHABLE", `no answer from ${url}: ${messageOf(cause)}`, { cause: error });
  }
}

/** Throws SOURCE_UNREACHABLE with what the other side said, unless it answers with 2xx. */
export async function postJson(
  url: string,
  body: object,
  options: { token: string | undefined; signal: AbortSignal },
): Promise<void> {
  const answer = await requestJson(url, { method: "POST", body, ...options });
  if (answer.status >= 200 && answer.status < 300) return;
  const text = answer.text.trim().replace(/\s+/g, " ").slice(0, 300);
  throw new RestoreError("SOURCE_UNREACHABLE", `${url} answered ${answer.status}: ${text}`);
}
