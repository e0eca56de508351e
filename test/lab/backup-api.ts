/** backup-api as a lab's service, and its clients. */

import type { Lab } from "./lab.ts";
import { type Service, waitFor } from "./process.ts";

export interface BackupApi {
  service: Service;
  url: string;
  get(path: string): Promise<ApiAnswer>;
  post(path: string, body?: object | string): Promise<ApiAnswer>;
  delete(path: string): Promise<ApiAnswer>;
}

export interface ApiAnswer {
  status: number;
  location: string | null;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at what they expect.
  json: any;
}

/** Returns when it answers. Its journal and log stay, so that it can be started again under the same name. */
export async function startBackupApi(
  lab: Lab,
  options: { name?: string; args: readonly string[]; env?: Readonly<Record<string, string>>; port?: number },
): Promise<BackupApi> {
  const port = options.port ?? (await lab.freePort());
  const name = options.name ?? "backup-api";
  const args = [
    await lab.script("backup-api"),
    `--listen=127.0.0.1:${port}`,
    `--state-dir=${lab.path(`${name}-state`)}`,
    ...options.args,
  ];
  await lab.makeDirectory(`${name}-state`);
  const service = lab.startService(name, process.execPath, args, {
    // As in patroni-templates/kubernetes/backup-sidecar.yml: what is garbage, Node leaves lying about otherwise.
    env: { NODE_OPTIONS: "--max-old-space-size=64", ...options.env },
  });
  const url = `http://127.0.0.1:${port}`;
  const client = clientOf(url);
  const answers = async () => {
    if (!service.isRunning()) throw new Error(`${name} ended:\n${await service.log()}`);
    return (await client.get("/healthz").catch(() => null))?.status === 200;
  };
  await waitFor(`${name} to answer`, answers, 30_000, () => service.log());
  return { service, ...client };
}

/** The same calls to whatever listens there. */
export function clientOf(url: string): Omit<BackupApi, "service"> {
  return {
    url,
    get: (path) => request(`${url}${path}`, { method: "GET" }),
    post: (path, body = "") =>
      request(`${url}${path}`, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) }),
    delete: (path) => request(`${url}${path}`, { method: "DELETE" }),
  };
}

async function request(url: string, init: RequestInit): Promise<ApiAnswer> {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(120_000) });
  const text = await response.text();
  return { status: response.status, location: response.headers.get("location"), text, json: parsed(text) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export interface RequestKind {
  /** The status that it must get. */
  status: number;
  ask(): Promise<ApiAnswer>;
}

/** What clients ask while a backup (`path`) runs: right, wrong and malformed. */
export function mixedRequests(api: Omit<BackupApi, "service">, path: string): RequestKind[] {
  return [
    { status: 200, ask: () => api.get("/backups") },
    { status: 200, ask: () => api.get(path) },
    { status: 200, ask: () => api.get("/metrics") },
    { status: 200, ask: () => api.get("/healthz") },
    { status: 409, ask: () => api.post("/backups", { type: "full" }) },
    { status: 400, ask: () => api.post("/backups", '{"type": "full"') },
    { status: 400, ask: () => api.post("/backups", { type: "huge" }) },
    { status: 400, ask: () => api.get("/backups?wait=1") },
    { status: 404, ask: () => api.get("/backups/backup/20200101-000000F") },
    { status: 404, ask: () => api.get("/wp-login.php") },
    { status: 405, ask: () => api.delete("/backups") },
    { status: 413, ask: () => api.post("/backups", "x".repeat(20_000)) },
  ];
}

/** So many requests by 20 clients at a time; what each of them took in milliseconds, and answers that were wrong. */
export async function flood(
  kinds: readonly RequestKind[],
  count: number,
): Promise<{ latenciesMs: number[]; wrong: string[] }> {
  let next = 0;
  const latenciesMs: number[] = [];
  const wrong: string[] = [];
  const client = async () => {
    for (let n = next++; n < count; n = next++) {
      const { status, ask } = kinds[n % kinds.length] as RequestKind;
      const startedAt = performance.now();
      const answer = await ask();
      latenciesMs.push(performance.now() - startedAt);
      if (answer.status !== status) wrong.push(`kind ${n % kinds.length}: ${answer.status} ${answer.text}`);
    }
  };
  await Promise.all(Array.from({ length: 20 }, client));
  return { latenciesMs, wrong };
}

/** Resident memory in bytes, as the API itself says. */
export async function memoryOf(api: BackupApi): Promise<number> {
  return Number(/^process_resident_memory_bytes (\d+)/m.exec((await api.get("/metrics")).text)?.[1]);
}
