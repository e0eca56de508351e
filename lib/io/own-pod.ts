/**
 * Annotations of the pod in which this process runs. With Node's own HTTPS: the hooks must stay small and start fast. The
 * service account of the pod, or what `$KUBECONFIG` names: a token or a certificate.
 */

import { request as httpRequest } from "node:http";
import { request as httpsRequest, type RequestOptions } from "node:https";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { messageOf } from "../errors.ts";
import type { Log } from "../log.ts";
import { readTextIfExists } from "./files.ts";

const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface PodAnnotator {
  /** Returns at once; the newest value is written, however many come while the API is slow or away. */
  set(value: string): void;
  /** Returns when the newest is written, or after the limit with a warning. Never throws. */
  finish(limitMs: number): Promise<void>;
}

const REQUEST_LIMIT_MS = 10_000;
const RETRY_MS = 1000;

/** Never throws: a report that cannot be handed out changes no verdict, but the log says so. */
export function annotateOwnPod(key: string, environment: NodeJS.ProcessEnv, log: Log): PodAnnotator {
  let wanted: string | undefined;
  let written: string | undefined;
  let worker: Promise<void> | undefined;
  let problem = "";
  const end = new AbortController();

  async function work(): Promise<void> {
    while (wanted !== written && !end.signal.aborted) {
      const value = wanted as string;
      try {
        await patchOwnPod(environment, { [key]: value }, end.signal);
        written = value;
        if (problem !== "") log.info("report", "the pod has its report now");
        problem = "";
      } catch (error) {
        if (end.signal.aborted) return;
        const text = messageOf(error);
        if (text !== problem) log.warn("report", `the pod cannot be given its report: ${text}; trying again`);
        problem = text;
        await pause(RETRY_MS, end.signal);
      }
    }
  }
  const start = () => {
    worker ??= work().finally(() => {
      worker = undefined;
      // It came in the last moment.
      if (wanted !== written && !end.signal.aborted) start();
    });
  };
  return {
    set(value) {
      wanted = value;
      start();
    },
    async finish(limitMs) {
      const limit = setTimeout(() => end.abort(), limitMs);
      while (worker !== undefined) await worker;
      clearTimeout(limit);
      if (wanted === written) return;
      const why = problem === "" ? `no answer within ${limitMs / 1000} s` : problem;
      log.warn("report", `the pod was not given its report: ${why}. The verdict stays as it is in the file`);
    },
  };
}

function pause(limitMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = setTimeout(done, limitMs);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      done();
    });
  });
}

interface Access {
  server: string;
  namespace: string;
  options: RequestOptions;
}

async function patchOwnPod(
  environment: NodeJS.ProcessEnv,
  annotations: Record<string, string>,
  signal: AbortSignal,
): Promise<void> {
  // Patroni takes its own variables away from its hooks.
  const name = environment.POD_NAME;
  if (name === undefined || name === "") throw new Error("POD_NAME is not set (metadata.name, by the downward API)");
  const access = await accessOf(environment);
  const namespace = environment.POD_NAMESPACE || access.namespace;
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
  const body = Buffer.from(JSON.stringify({ metadata: { annotations } }));
  const { status, text } = await send(new URL(`${access.server}${path}`), access.options, body, signal);
  if (status >= 200 && status < 300) return;
  throw new Error(`pod ${namespace}/${name}: ${saidIn(text) ?? `the API server answered ${status}`}`);
}

function saidIn(text: string): string | undefined {
  try {
    return (JSON.parse(text) as { message?: string }).message;
  } catch {
    return undefined;
  }
}

function send(
  url: URL,
  options: RequestOptions,
  body: Buffer,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  const headers = {
    ...options.headers,
    Accept: "application/json",
    "Content-Type": "application/merge-patch+json",
    "Content-Length": body.length,
  };
  const either = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_LIMIT_MS)]);
  return new Promise((done, fail) => {
    const start = url.protocol === "http:" ? httpRequest : httpsRequest;
    const call = start(url, { ...options, method: "PATCH", headers, signal: either, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", fail);
      response.on("end", () =>
        done({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString("utf8") }),
      );
    });
    call.on("error", (error) => fail(new Error(`no answer from ${url.origin}: ${messageOf(error)}`)));
    call.end(body);
  });
}

/** Read anew each time: the kubelet renews the token. */
async function accessOf(environment: NodeJS.ProcessEnv): Promise<Access> {
  const file = environment.KUBECONFIG;
  if (file) return accessIn(file);
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = environment;
  const token = await readTextIfExists(`${ACCOUNT}/token`);
  if (host === undefined || token === undefined) {
    throw new Error("this is no pod with a service account, and KUBECONFIG is not set");
  }
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    namespace: (await readTextIfExists(`${ACCOUNT}/namespace`))?.trim() ?? "default",
    options: { ca: await readTextIfExists(`${ACCOUNT}/ca.crt`), headers: { Authorization: `Bearer ${token.trim()}` } },
  };
}

interface KubeConfigFile {
  "current-context"?: string;
  contexts?: { name: string; context: { cluster: string; user: string; namespace?: string } }[];
  clusters?: { name: string; cluster: Record<string, unknown> }[];
  users?: { name: string; user: Record<string, unknown> }[];
}

async function accessIn(path: string): Promise<Access> {
  const text = await readTextIfExists(path);
  if (text === undefined) throw new Error(`the kubeconfig ${path} does not exist`);
  const file = parse(text) as KubeConfigFile;
  const context = file.contexts?.find(({ name }) => name === file["current-context"])?.context;
  const cluster = file.clusters?.find(({ name }) => name === context?.cluster)?.cluster;
  const user = file.users?.find(({ name }) => name === context?.user)?.user ?? {};
  if (context === undefined || typeof cluster?.server !== "string") {
    throw new Error(`the kubeconfig ${path} has no current-context with a cluster`);
  }
  const from = (place: Record<string, unknown>, name: string) => contentOf(place, name, dirname(path));
  const token = user.token ?? (await fileOf(user.tokenFile, dirname(path)));
  return {
    server: cluster.server.replace(/\/+$/, ""),
    namespace: context.namespace ?? "default",
    options: {
      ca: await from(cluster, "certificate-authority"),
      cert: await from(user, "client-certificate"),
      key: await from(user, "client-key"),
      ...(cluster["insecure-skip-tls-verify"] === true ? { rejectUnauthorized: false } : {}),
      ...(typeof token === "string" ? { headers: { Authorization: `Bearer ${token.trim()}` } } : {}),
    },
  };
}

/** `name` is a file, `name-data` is the content in base64. */
async function contentOf(
  place: Readonly<Record<string, unknown>>,
  name: string,
  directory: string,
): Promise<string | undefined> {
  const data = place[`${name}-data`];
  return typeof data === "string" ? Buffer.from(data, "base64").toString("utf8") : fileOf(place[name], directory);
}

const fileOf = async (path: unknown, directory: string) =>
  typeof path === "string" ? readTextIfExists(resolve(directory, path)) : undefined;
