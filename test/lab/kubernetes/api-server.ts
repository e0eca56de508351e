/** A real kube-apiserver with its etcd, on loopback. No controllers, no kubelet: what they would do the tests do. */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { connect, createServer, type Socket } from "node:net";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Etcd } from "../etcd.ts";
import { startEtcd } from "../etcd.ts";
import type { Lab } from "../lab.ts";
import { type Service, waitFor } from "../process.ts";
import { type ApiServer, writeKubeconfig } from "./kubeconfig.ts";

export interface RealApiServer extends ApiServer {
  /** A kubeconfig of another user: `system:serviceaccount:NAMESPACE:NAME`. */
  kubeconfigOf(user: string): Promise<string>;
  /** By HTTP, as administrator or as that user: for what the fleet's own client has no words for. */
  ask(method: string, path: string, object?: object, user?: string): Promise<{ status: number; text: string }>;
  etcd: Etcd;
}

/** `.ci/install kubernetes` builds it there. */
export function apiServerBinary(): string {
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
  const path = join(cache, "patroni-restore", "kube-apiserver-1.20.2");
  if (!existsSync(path)) throw new Error(`${path} does not exist; run ".ci/install kubernetes"`);
  return path;
}

/** Users of the token file: what they may do is for RBAC to say. */
const USERS = ["admin", "system:serviceaccount:fleet:fleet", "system:serviceaccount:restore-tests:restore-test"];

export async function startApiServer(lab: Lab): Promise<RealApiServer> {
  const binary = apiServerBinary();
  const directory = await lab.makeDirectory("kubernetes");
  const etcd = await startEtcd(lab, "kubernetes-etcd");
  await makeCertificates(lab, directory);
  const tokens = USERS.map(
    (user, n) => `token-${n},${user},${n},${n === 0 ? "system:masters" : "system:serviceaccounts"}`,
  );
  await lab.writeFile("kubernetes/tokens.csv", `${tokens.join("\n")}\n`);
  const port = await lab.freePort();
  let service: Service | undefined;
  let starts = 0;
  const args = [
    `--etcd-servers=http://${etcd.endpoint}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--secure-port=${port}`,
    `--tls-cert-file=${directory}/server.crt`,
    `--tls-private-key-file=${directory}/server.key`,
    `--cert-dir=${directory}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-signing-key-file=${directory}/account.key`,
    `--service-account-key-file=${directory}/account.key`,
    `--token-auth-file=${directory}/tokens.csv`,
    "--authorization-mode=RBAC",
    // Both wait for controllers that are not here.
    "--disable-admission-plugins=ServiceAccount,StorageObjectInUseProtection",
    "--service-cluster-ip-range=10.96.0.0/16",
  ];
  const start = async () => {
    // The cache is in the home directory of whoever runs the tests.
    service = lab.startService(`kube-apiserver-${++starts}`, binary, args, { asRoot: true });
    const isReady = async () => {
      if (!service?.isRunning()) throw new Error(`kube-apiserver ended:\n${(await service?.log())?.slice(-2000)}`);
      return (await ask(port, ca, "GET", "/readyz").catch(() => undefined))?.status === 200;
    };
    await waitFor("kube-apiserver to be ready", isReady, 60_000, () => service?.log() ?? "");
  };
  const ca = await readFile(join(directory, "ca.crt"), "utf8");
  await start();
  const proxy = await startProxy(port);
  const server = `https://127.0.0.1:${proxy.port}`;
  const caFile = join(directory, "ca.crt");
  const restart = async (while_: () => Promise<void>) => {
    await service?.stop("SIGKILL");
    await while_();
    await start();
  };
  return {
    etcd,
    kubeconfig: await writeKubeconfig(directory, server, { token: "token-0", caFile }),
    kubeconfigOf: (user) =>
      writeKubeconfig(directory, server, {
        token: `token-${USERS.indexOf(user)}`,
        caFile,
        name: user.split(":").at(-1) as string,
      }),
    ask: (method, path, object, user = "admin") => ask(port, ca, method, path, object, USERS.indexOf(user)),
    async compact() {
      const { header } = (await gateway(etcd, "kv/range", { key: btoa("x") })) as { header: { revision: string } };
      await gateway(etcd, "kv/compaction", { revision: header.revision });
      // It holds the newest changes in memory, and would still tell them.
      await restart(async () => {});
    },
    dropWatches: async () => proxy.drop(),
    restart,
    async close() {
      await proxy.close();
      await service?.stop("SIGKILL");
      await etcd.service.stop("SIGKILL");
    },
  };
}

async function gateway(etcd: Etcd, method: string, body: object): Promise<unknown> {
  const response = await fetch(`http://${etcd.endpoint}/v3/${method}`, { method: "POST", body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`etcd ${method}: ${response.status} ${await response.text()}`);
  return response.json();
}

function ask(
  port: number,
  ca: string,
  method: string,
  path: string,
  object?: object,
  user = 0,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const type = method === "PATCH" ? "application/merge-patch+json" : "application/json";
    const body = object === undefined ? "" : JSON.stringify(object);
    // With its length: Node sends the body of a DELETE without any, and nobody reads it.
    const length = { "Content-Length": Buffer.byteLength(body) };
    const headers = { Authorization: `Bearer token-${user}`, "Content-Type": type, ...length };
    const options = { host: "127.0.0.1", port, path, method, headers, ca, timeout: 10_000, agent: false };
    const call = request(options, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    call.on("error", reject).on("timeout", () => call.destroy(new Error("timeout")));
    call.end(body);
  });
}

async function makeCertificates(lab: Lab, directory: string): Promise<void> {
  const openssl = (...args: string[]) => lab.mustRun("openssl", args, { cwd: directory });
  const fresh = ["-newkey", "rsa:2048", "-nodes"];
  await openssl("genrsa", "-out", "account.key", "2048");
  await openssl("req", "-x509", ...fresh, "-days", "2", "-subj", "/CN=lab", "-keyout", "ca.key", "-out", "ca.crt");
  await openssl("req", ...fresh, "-subj", "/CN=kube-apiserver", "-keyout", "server.key", "-out", "server.csr");
  await lab.writeFile("kubernetes/names", "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
  const signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"];
  await openssl("x509", "-req", "-in", "server.csr", ...signed, "-out", "server.crt");
}

/** So that connections can break while the server is well. */
async function startProxy(target: number): Promise<{ port: number; drop(): void; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target, "127.0.0.1");
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      from.on("error", () => {});
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const drop = () => {
    for (const socket of sockets) socket.destroy();
  };
  const { port } = server.address() as { port: number };
  return {
    port,
    drop,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        drop();
      }),
  };
}
