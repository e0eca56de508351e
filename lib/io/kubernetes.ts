/**
 * The Kubernetes API as the fleet needs it: objects by kind and name, lists in pages, watches. The library behind it knows
 * how to log in (`kubeconfig.ts`); its informer is not used: that asks for neither bookmarks nor pages nor timeouts, and
 * stays silent for ever after most errors.
 */

import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { Agent, request as httpsRequest, type RequestOptions } from "node:https";
import { messageOf } from "../errors.ts";

/** What the fleet touches. */
const KINDS = {
  ConfigMap: ["v1", "configmaps"],
  Endpoints: ["v1", "endpoints"],
  PersistentVolumeClaim: ["v1", "persistentvolumeclaims"],
  Pod: ["v1", "pods"],
  StatefulSet: ["apps/v1", "statefulsets"],
  NetworkPolicy: ["networking.k8s.io/v1", "networkpolicies"],
} as const;
export type Kind = keyof typeof KINDS;

export const isKind = (kind: unknown): kind is Kind => typeof kind === "string" && Object.hasOwn(KINDS, kind);
export const apiVersionOf = (kind: Kind): string => KINDS[kind][0];

export interface ObjectMeta {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  creationTimestamp?: string;
  deletionTimestamp?: string;
}

export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
}

/** All objects of a kind, in one namespace or (null) in all. */
export interface Place {
  kind: Kind;
  namespace: string | null;
}

export interface Page {
  items: KubernetesObject[];
  resourceVersion: string;
  /** Null on the last page. */
  next: string | null;
}

export type WatchEvent =
  | { type: "ADDED" | "MODIFIED" | "DELETED"; object: KubernetesObject }
  /** Nothing happened up to this version. */
  | { type: "BOOKMARK"; object: { metadata: { resourceVersion: string } } };

export interface WatchRequest {
  selector: string;
  resourceVersion: string;
  /** The server ends it then. */
  timeoutSeconds: number;
  /** Without any data for so long it counts as broken. */
  idleMs: number;
  onOpen(): void;
  onEvent(event: WatchEvent): void;
}

export interface Kubernetes {
  readonly namespace: string;
  /** Null when there is none. */
  get(place: Place, name: string): Promise<KubernetesObject | null>;
  create(object: KubernetesObject): Promise<KubernetesObject>;
  /** A merge patch; with `metadata.resourceVersion` in it only when that is still the newest. */
  patch(place: Place, name: string, body: object): Promise<KubernetesObject>;
  /** Only this very object, by its UID; done when there is none. */
  remove(kind: Kind, object: KubernetesObject): Promise<void>;
  list(place: Place, options: { selector: string; limit: number; next?: string | null }): Promise<Page>;
  /** Returns when the server ended it; throws when it broke. */
  watch(place: Place, request: WatchRequest, signal: AbortSignal): Promise<void>;
  close(): void;
}

/** An answer other than success; `status` is null when there was none. */
export class KubernetesError extends Error {
  override readonly name = "KubernetesError";
  readonly status: number | null;
  /** Kubernetes' own word: `Conflict`, `AlreadyExists`, `Forbidden`, `Expired`. */
  readonly reason: string;

  constructor(status: number | null, reason: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = status;
    this.reason = reason;
  }
}

export const statusOf = (error: unknown): number | null => (error instanceof KubernetesError ? error.status : null);

const LIMIT_MS = 30_000;

/** `kubeconfig`: instead of what is found by itself. Throws SETTINGS_INVALID when there is no cluster to be found. */
export async function connectKubernetes(userAgent: string, kubeconfig?: string): Promise<Kubernetes> {
  const { loadAccess } = await import("./kubeconfig.ts");
  const access = loadAccess(kubeconfig);
  let agent: { key: string; agent: Agent } | undefined;

  /** The library makes a new agent for every request; connections are to be kept. */
  async function optionsOf(): Promise<RequestOptions> {
    const { agent: own, ...options } = await access.authorise();
    if (access.hasProxy) return own === undefined ? options : { ...options, agent: own };
    if (access.server.startsWith("http://")) return options;
    const tls = {
      ca: options.ca,
      cert: options.cert,
      key: options.key,
      pfx: options.pfx,
      passphrase: options.passphrase,
      servername: options.servername,
      rejectUnauthorized: options.rejectUnauthorized ?? true,
    };
    const given = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
    const key = JSON.stringify(given);
    if (agent?.key !== key) {
      agent?.agent.destroy();
      agent = { key, agent: new Agent({ ...given, keepAlive: true }) };
    }
    return { ...options, agent: agent.agent };
  }

  async function send(
    method: string,
    path: string,
    body: { type: string; content: object } | null,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const options = await optionsOf();
    const content = body === null ? null : Buffer.from(JSON.stringify(body.content));
    const headers = {
      ...options.headers,
      Accept: "application/json",
      "User-Agent": userAgent,
      ...(content === null ? {} : { "Content-Type": body?.type, "Content-Length": content.length }),
    };
    const url = new URL(`${access.server}${path}`);
    return new Promise((resolve, reject) => {
      const start = url.protocol === "http:" ? httpRequest : httpsRequest;
      const call: ClientRequest = start(url, { ...options, method, headers, signal }, resolve);
      call.on("error", (error) => {
        // The server closed a kept connection in this very moment. What is asked here may be asked twice.
        const isStale = call.reusedSocket && (error as NodeJS.ErrnoException).code === "ECONNRESET";
        if (isStale && !signal.aborted) resolve(send(method, path, body, signal));
        else reject(unreachable(access.server, signal.aborted ? signal.reason : error));
      });
      call.on("socket", (socket) => socket.setKeepAlive(true, 15_000));
      call.end(content);
    });
  }

  async function ask(
    method: string,
    path: string,
    body: { type: string; content: object } | null = null,
  ): Promise<unknown> {
    const signal = AbortSignal.timeout(LIMIT_MS);
    const response = await send(method, path, body, signal);
    const text = await readAll(response, access.server);
    if (isSuccess(response)) return text === "" ? {} : JSON.parse(text);
    throw failure(response.statusCode ?? 0, text);
  }

  return {
    namespace: access.namespace,

    async get(place, name) {
      try {
        return (await ask("GET", pathOf(place, name))) as KubernetesObject;
      } catch (error) {
        if (statusOf(error) === 404) return null;
        throw error;
      }
    },

    async create(object) {
      const kind = object.kind;
      if (!isKind(kind)) throw new Error(`the fleet makes no ${kind}`);
      const place = { kind, namespace: object.metadata.namespace ?? access.namespace };
      return (await ask("POST", pathOf(place), { type: "application/json", content: object })) as KubernetesObject;
    },

    async patch(place, name, content) {
      const type = "application/merge-patch+json";
      return (await ask("PATCH", pathOf(place, name), { type, content })) as KubernetesObject;
    },

    async remove(kind, { metadata }) {
      const path = pathOf({ kind, namespace: metadata.namespace ?? access.namespace }, metadata.name);
      const preconditions = metadata.uid === undefined ? {} : { preconditions: { uid: metadata.uid } };
      try {
        const content = { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Background", ...preconditions };
        await ask("DELETE", path, { type: "application/json", content });
      } catch (error) {
        // 409: another one of that name is there by now.
        if (statusOf(error) !== 404 && statusOf(error) !== 409) throw error;
      }
    },

    async list(place, { selector, limit, next }) {
      const query = new URLSearchParams({ labelSelector: selector, limit: String(limit) });
      if (next) query.set("continue", next);
      const answer = (await ask("GET", `${pathOf(place)}?${query}`)) as {
        metadata: { resourceVersion: string; continue?: string };
        items: KubernetesObject[] | null;
      };
      return {
        items: answer.items ?? [],
        resourceVersion: answer.metadata.resourceVersion,
        next: answer.metadata.continue || null,
      };
    },

    async watch(place, { selector, resourceVersion, timeoutSeconds, idleMs, onOpen, onEvent }, signal) {
      const query = new URLSearchParams({
        watch: "true",
        labelSelector: selector,
        resourceVersion,
        timeoutSeconds: String(timeoutSeconds),
        allowWatchBookmarks: "true",
      });
      const broken = new AbortController();
      const silence = () => broken.abort(new Error(`no data for ${idleMs / 1000} s`));
      let timer = setTimeout(silence, idleMs);
      const either = AbortSignal.any([signal, broken.signal]);
      try {
        const response = await send("GET", `${pathOf(place)}?${query}`, null, either);
        if (!isSuccess(response)) {
          throw failure(response.statusCode ?? 0, await readAll(response, access.server));
        }
        onOpen();
        await readLines(response, access.server, either, (line) => {
          clearTimeout(timer);
          timer = setTimeout(silence, idleMs);
          const event = JSON.parse(line) as WatchEvent | { type: "ERROR"; object: Status };
          if (event.type === "ERROR") throw statusError(event.object);
          onEvent(event);
        });
      } finally {
        clearTimeout(timer);
      }
    },

    close() {
      agent?.agent.destroy();
    },
  };
}

function pathOf({ kind, namespace }: Place, name?: string): string {
  const [version, plural] = KINDS[kind];
  const root = version === "v1" ? "/api/v1" : `/apis/${version}`;
  const inNamespace = namespace === null ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${inNamespace}/${plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

const isSuccess = ({ statusCode = 0 }: IncomingMessage) => statusCode >= 200 && statusCode < 300;

interface Status {
  code?: number;
  reason?: string;
  message?: string;
}

const statusError = ({ code, reason, message }: Status) =>
  new KubernetesError(code ?? 500, reason ?? "Unknown", message ?? "an error without a message");

/** The answer's own Status, or what a proxy in between said. */
function failure(status: number, text: string): KubernetesError {
  try {
    return statusError({ code: status, ...(JSON.parse(text) as Status) });
  } catch {
    const said = text.trim().replace(/\s+/g, " ").slice(0, 300);
    return new KubernetesError(status, "Unknown", `the API server answered ${status}: ${said}`);
  }
}

const unreachable = (server: string, error: unknown) =>
  error instanceof KubernetesError
    ? error
    : new KubernetesError(null, "Unreachable", `no answer from ${server}: ${messageOf(error)}`, error);

async function readAll(response: IncomingMessage, server: string): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (error) {
    throw unreachable(server, error);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function readLines(
  response: IncomingMessage,
  server: string,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> {
  response.setEncoding("utf8");
  let rest = "";
  try {
    for await (const chunk of response) {
      const lines = `${rest}${chunk}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") onLine(line);
    }
  } catch (error) {
    throw unreachable(server, signal.aborted ? signal.reason : error);
  } finally {
    response.destroy();
  }
}
