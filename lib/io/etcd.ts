/** etcd as Patroni's DCS: the HTTP gateway of its v3 API (keys and values are base64), and a throwaway server. */

import { join } from "node:path";
import { messageOf, RestoreError } from "../errors.ts";

const LIMIT_MS = 3000;

/** Keys below `prefix` with their values. Throws a plain Error when etcd does not answer. */
export async function readKeys(endpoint: string, prefix: string, signal?: AbortSignal): Promise<Map<string, string>> {
  const answer = await call(endpoint, "/v3/kv/range", rangeOf(prefix), signal);
  const kvs = (answer.kvs ?? []) as { key: string; value?: string }[];
  return new Map(kvs.map(({ key, value }) => [fromBase64(key), fromBase64(value ?? "")]));
}

/** Removes every key below `prefix`. Throws a plain Error when etcd does not answer. */
export async function removeKeys(endpoint: string, prefix: string, limitMs: number): Promise<void> {
  await call(endpoint, "/v3/kv/deleterange", rangeOf(prefix), AbortSignal.timeout(limitMs));
}

/** Throws a plain Error with the reason when etcd does not answer as a healthy member would. */
export async function checkEtcd(endpoint: string, signal?: AbortSignal): Promise<void> {
  // The smallest question that needs a quorum, as Patroni's own do.
  await call(endpoint, "/v3/kv/range", { key: toBase64("health"), limit: 1 }, signal);
}

/** The prefix and its end as etcd wants it: the same with the last byte raised by one. */
function rangeOf(prefix: string): Record<string, string> {
  const end = Buffer.from(prefix);
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return { key: toBase64(prefix), range_end: end.toString("base64") };
}

const toBase64 = (text: string) => Buffer.from(text).toString("base64");
const fromBase64 = (text: string) => Buffer.from(text, "base64").toString("utf8");

async function call(
  endpoint: string,
  path: string,
  body: object,
  signal?: AbortSignal,
): Promise<Record<string, unknown>> {
  const limit = AbortSignal.timeout(LIMIT_MS);
  let response: Response;
  try {
    response = await fetch(`http://${endpoint}${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      signal: signal === undefined ? limit : AbortSignal.any([signal, limit]),
    });
  } catch (error) {
    if (signal?.reason instanceof RestoreError) throw signal.reason;
    const cause = (error as { cause?: unknown }).cause ?? error;
    throw new Error(`etcd at ${endpoint} does not answer: ${messageOf(cause)}`);
  }
  const text = await response.text();
  if (!response.ok) throw new Error(`etcd at ${endpoint} answered ${response.status}: ${text.trim().slice(0, 200)}`);
  return JSON.parse(text) as Record<string, unknown>;
}

/** Arguments of an etcd that lives on 127.0.0.1 only, for one member and a few hours. */
export function throwawayEtcdArguments(directory: string, clientPort: number, peerPort: number): string[] {
  const client = `http://127.0.0.1:${clientPort}`;
  const peer = `http://127.0.0.1:${peerPort}`;
  return [
    "--name=restore-test",
    `--data-dir=${join(directory, "etcd")}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=restore-test=${peer}`,
    // Nobody votes against it, and it is no leader before one election timeout is over.
    "--heartbeat-interval=20",
    "--election-timeout=200",
    "--logger=zap",
    "--log-level=warn",
  ];
}

/** Waits until etcd answers. Throws PREFLIGHT_FAILED after `limitMs`. */
export async function waitForEtcd(endpoint: string, limitMs: number, signal: AbortSignal): Promise<void> {
  const until = performance.now() + limitMs;
  for (;;) {
    try {
      return await checkEtcd(endpoint, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (performance.now() > until)
        throw new RestoreError("PREFLIGHT_FAILED", messageOf(error), { about: "host", cause: error });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
