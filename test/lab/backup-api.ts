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
  const service = lab.startService(name, process.execPath, args, { env: options.env ?? {} });
  const url = `http://127.0.0.1:${port}`;
  const answers = async () => {
    if (!service.isRunning()) throw new Error(`${name} ended:\n${await service.log()}`);
    return (await fetch(`${url}/healthz`).catch(() => null))?.ok;
  };
  await waitFor(`${name} to answer`, answers, 30_000, () => service.log());
  return {
    service,
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
