/** A real Patroni, and questions to its REST API. */

import type { Lab } from "./lab.ts";
import { type Service, waitFor } from "./process.ts";

/** Started as user postgres with this configuration file; its output (and its hooks') is the service's log. */
export function startPatroni(
  lab: Lab,
  configFile: string,
  options: { name?: string; env?: Readonly<Record<string, string | undefined>> } = {},
): Service {
  const env = options.env === undefined ? {} : { env: options.env };
  return lab.startService(options.name ?? "patroni", "patroni", [configFile], env);
}

/** Status code and JSON body of an endpoint; undefined while nobody listens. */
export async function askPatroni(
  port: number,
  path = "/patroni",
): Promise<{ status: number; body: Record<string, unknown> } | undefined> {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(5000) }).catch(
    () => undefined,
  );
  if (response === undefined) return undefined;
  const text = await response.text().catch(() => "");
  return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : {} };
}

/** Until it holds the leader key: the only success that Patroni reports (`/health` and `/readiness` are earlier). */
export async function waitForLeader(patroni: Service, restPort: number, limitMs = 60_000): Promise<void> {
  const isLeader = async () => {
    if (!patroni.isRunning()) throw new Error(`Patroni ended:\n${await tail(patroni)}`);
    return (await askPatroni(restPort, "/primary"))?.status === 200;
  };
  await waitFor("Patroni to be the leader", isLeader, limitMs, () => tail(patroni));
}

const tail = async (patroni: Service) => (await patroni.log()).split("\n").slice(-40).join("\n");
