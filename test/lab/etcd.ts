/** A single etcd, and a look into it: what Patroni keeps there is part of the truth. */

import type { Lab } from "./lab.ts";
import { type Service, waitFor } from "./process.ts";

export interface Etcd {
  service: Service;
  port: number;
  /** `127.0.0.1:PORT`, as Patroni's `etcd3.hosts` and `--etcd` take it. */
  endpoint: string;
  /** Keys and values below a prefix, such as `/service/demo/`. */
  get(prefix: string): Promise<Record<string, string>>;
  delete(prefix: string): Promise<void>;
  /** Stops answering without closing connections, as a store that hangs does. */
  pause(): void;
  resume(): void;
}

export async function startEtcd(lab: Lab, name = "etcd"): Promise<Etcd> {
  const port = await lab.freePort();
  const client = `http://127.0.0.1:${port}`;
  const peer = `http://127.0.0.1:${await lab.freePort()}`;
  const service = lab.startService(name, "etcd", [
    `--name=${name}`,
    `--data-dir=${lab.path(`${name}-data`)}`,
    `--listen-client-urls=${client}`,
    `--advertise-client-urls=${client}`,
    `--listen-peer-urls=${peer}`,
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=${name}=${peer}`,
    "--logger=zap",
    "--log-level=warn",
  ]);
  const isHealthy = async () => {
    if (!service.isRunning()) throw new Error(`etcd ended:\n${await service.log()}`);
    const response = await fetch(`${client}/health`).catch(() => undefined);
    return response?.ok === true && /"true"/.test(await response.text());
  };
  await waitFor("etcd to be healthy", isHealthy, 30_000, () => service.log());

  const call = async (method: string, body: object) => {
    const response = await fetch(`${client}/v3/kv/${method}`, { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`etcd ${method}: ${response.status} ${await response.text()}`);
    return (await response.json()) as { kvs?: { key: string; value?: string }[] };
  };
  return {
    service,
    port,
    endpoint: `127.0.0.1:${port}`,
    async get(prefix) {
      const { kvs = [] } = await call("range", rangeOf(prefix));
      return Object.fromEntries(kvs.map(({ key, value = "" }) => [decode(key), decode(value)]));
    },
    async delete(prefix) {
      await call("deleterange", rangeOf(prefix));
    },
    pause: () => service.kill("SIGSTOP"),
    resume: () => service.kill("SIGCONT"),
  };
}

const decode = (base64: string) => Buffer.from(base64, "base64").toString();

/** etcd's own form of "everything with this prefix": up to the prefix with its last byte raised by one. */
function rangeOf(prefix: string): { key: string; range_end: string } {
  const end = Buffer.from(prefix);
  end[end.length - 1] = (end.at(-1) ?? 0) + 1;
  return { key: Buffer.from(prefix).toString("base64"), range_end: end.toString("base64") };
}
