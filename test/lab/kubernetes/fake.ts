/**
 * A small Kubernetes API that keeps the promises a client stands on: one version for everything, lists in pages, watches
 * that miss nothing, and the ways in which all of it fails. `conformance.ts` holds it against a real kube-apiserver. Not in it:
 * admission, validation, defaults, roles, finalizers and everything that controllers do.
 */

import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

// biome-ignore lint/suspicious/noExplicitAny: an object of any kind
type Any = any;

const KINDS: Record<string, { version: string; kind: string; isNamespaced: boolean }> = {
  namespaces: { version: "v1", kind: "Namespace", isNamespaced: false },
  configmaps: { version: "v1", kind: "ConfigMap", isNamespaced: true },
  endpoints: { version: "v1", kind: "Endpoints", isNamespaced: true },
  secrets: { version: "v1", kind: "Secret", isNamespaced: true },
  services: { version: "v1", kind: "Service", isNamespaced: true },
  pods: { version: "v1", kind: "Pod", isNamespaced: true },
  persistentvolumeclaims: { version: "v1", kind: "PersistentVolumeClaim", isNamespaced: true },
  statefulsets: { version: "apps/v1", kind: "StatefulSet", isNamespaced: true },
  networkpolicies: { version: "networking.k8s.io/v1", kind: "NetworkPolicy", isNamespaced: true },
};

interface Change {
  version: number;
  plural: string;
  type: "ADDED" | "MODIFIED" | "DELETED";
  object: Any;
  /** As it was before; a selector may have chosen only that. */
  before: Any;
}

interface Watcher {
  plural: string;
  namespace: string | null;
  selector: Selector;
  response: ServerResponse;
}

export interface Fault {
  method: string;
  path: RegExp;
  /** Null: the connection breaks. */
  status: number | null;
}

export interface FakeKubernetes {
  url: string;
  /** Requests so far, as `METHOD /path?query`. */
  requests: string[];
  /** Answers to come, each given once. */
  faults: Fault[];
  /** Forgets every change up to now: watches from before get 410. */
  compact(): void;
  /** Ends every watch in the middle, as a proxy does. */
  dropWatches(): void;
  /** Not reachable until `resume`; what there is stays. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  watches(): number;
  close(): Promise<void>;
}

class Failure extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
  body() {
    const { status: code, reason, message } = this;
    return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, code };
  }
}

export async function startFakeKubernetes(options: { bookmarkMs?: number } = {}): Promise<FakeKubernetes> {
  const bookmarkMs = options.bookmarkMs ?? 1000;
  const objects = new Map<string, Any>();
  const sockets = new Set<Socket>();
  const watchers = new Set<Watcher>();
  const requests: string[] = [];
  const faults: Fault[] = [];
  let changes: Change[] = [];
  let version = 0;
  let floor = 0;

  const keyOf = (plural: string, namespace: string, name: string) => `${plural} ${namespace} ${name}`;

  function store(plural: string, type: Change["type"], object: Any, before: Any): Any {
    version++;
    const stored = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } };
    const key = keyOf(plural, stored.metadata.namespace ?? "", stored.metadata.name);
    if (type === "DELETED") objects.delete(key);
    else objects.set(key, stored);
    const change = { version, plural, type, object: stored, before };
    changes.push(change);
    for (const watcher of watchers) feed(watcher, change);
    return stored;
  }

  function feed({ plural, namespace, selector, response }: Watcher, change: Change): void {
    if (change.plural !== plural) return;
    if (namespace !== null && change.object.metadata.namespace !== namespace) return;
    const is = change.type !== "DELETED" && selector(change.object);
    const was = change.before !== null && selector(change.before);
    const { resourceVersion } = change.object.metadata;
    if (is) send(response, was ? "MODIFIED" : "ADDED", change.object);
    else if (was) send(response, "DELETED", withMeta(change.before, { resourceVersion }));
  }

  const send = (response: ServerResponse, type: string, object: Any) =>
    void response.write(`${JSON.stringify({ type, object })}\n`);

  function watch(plural: string, namespace: string | null, query: URLSearchParams, response: ServerResponse): void {
    const from = query.get("resourceVersion") ?? "0";
    const watcher = { plural, namespace, selector: selectorOf(query.get("labelSelector")), response };
    response.writeHead(200, { "Content-Type": "application/json" });
    response.flushHeaders();
    if (from !== "0" && Number(from) < floor) {
      send(response, "ERROR", new Failure(410, "Expired", `too old resource version: ${from} (${floor})`).body());
      response.end();
      return;
    }
    if (from === "0") {
      for (const object of listed(plural, namespace)) if (watcher.selector(object)) send(response, "ADDED", object);
    } else {
      for (const change of changes) if (change.version > Number(from)) feed(watcher, change);
    }
    watchers.add(watcher);
    const { kind, version: apiVersion } = KINDS[plural] as (typeof KINDS)[string];
    const bookmark = () =>
      send(response, "BOOKMARK", { kind, apiVersion, metadata: { resourceVersion: String(version) } });
    const bookmarks = query.get("allowWatchBookmarks") === "true" ? setInterval(bookmark, bookmarkMs) : undefined;
    const end = setTimeout(() => response.end(), Number(query.get("timeoutSeconds") ?? 1800) * 1000);
    response.on("close", () => {
      watchers.delete(watcher);
      clearInterval(bookmarks);
      clearTimeout(end);
    });
  }

  const listed = (plural: string, namespace: string | null): Any[] =>
    [...objects]
      .filter(([key]) => key.startsWith(`${plural} ${namespace === null ? "" : `${namespace} `}`))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, object]) => object);

  function list(plural: string, namespace: string | null, query: URLSearchParams): Any {
    const { kind, version: apiVersion } = KINDS[plural] as (typeof KINDS)[string];
    const token = query.get("continue");
    const [from, at] = token === null ? [0, version] : (JSON.parse(atob(token)) as [number, number]);
    if (at < floor) throw new Failure(410, "Expired", "The provided continue parameter is too old");
    const all = listed(plural, namespace).filter(selectorOf(query.get("labelSelector")));
    const limit = Number(query.get("limit") ?? 0) || all.length;
    const items = all.slice(from, from + limit);
    const rest = all.length - from - items.length;
    const more = rest > 0 ? { continue: btoa(JSON.stringify([from + limit, at])), remainingItemCount: rest } : {};
    return { kind: `${kind}List`, apiVersion, metadata: { resourceVersion: String(at), ...more }, items };
  }

  function create(plural: string, namespace: string, body: Any): Any {
    const { kind, version: apiVersion } = KINDS[plural] as (typeof KINDS)[string];
    const { name = "" } = body.metadata ?? {};
    if (!/^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/.test(name)) {
      throw new Failure(422, "Invalid", `${kind} "${name}" is invalid: metadata.name: Invalid value: "${name}"`);
    }
    if (namespace !== "" && !objects.has(keyOf("namespaces", "", namespace))) {
      throw new Failure(404, "NotFound", `namespaces "${namespace}" not found`);
    }
    if (objects.has(keyOf(plural, namespace, name))) {
      throw new Failure(409, "AlreadyExists", `${plural} "${name}" already exists`);
    }
    const metadata = {
      ...body.metadata,
      ...(namespace === "" ? {} : { namespace }),
      uid: randomUUID(),
      creationTimestamp: new Date().toISOString().replace(/\.\d+/, ""),
    };
    return store(plural, "ADDED", { ...body, kind, apiVersion, metadata }, null);
  }

  function patch(plural: string, before: Any, part: string | undefined, body: Any): Any {
    const asked = body.metadata?.resourceVersion;
    if (asked !== undefined && asked !== before.metadata.resourceVersion) {
      const what = `Operation cannot be fulfilled on ${plural} "${before.metadata.name}"`;
      throw new Failure(
        409,
        "Conflict",
        `${what}: the object has been modified; please apply your changes to the latest version`,
      );
    }
    const merged = merge(before, body);
    const { uid, name, namespace, creationTimestamp, resourceVersion } = before.metadata;
    const next = withMeta(
      // The two halves of an object are written by different hands.
      part === "status"
        ? { ...before, status: merged.status }
        : { ...merged, ...("status" in before ? { status: before.status } : {}) },
      { uid, name, creationTimestamp, resourceVersion, ...(namespace === undefined ? {} : { namespace }) },
    );
    if (part === "status") next.metadata = before.metadata;
    // What changes nothing is no event.
    return JSON.stringify(sorted(next)) === JSON.stringify(sorted(before))
      ? before
      : store(plural, "MODIFIED", next, before);
  }

  function remove(plural: string, before: Any, body: Any): Any {
    const { uid } = body?.preconditions ?? {};
    const { name } = before.metadata;
    if (uid !== undefined && uid !== before.metadata.uid) {
      throw new Failure(
        409,
        "Conflict",
        `Operation cannot be fulfilled on ${plural} "${name}": the UID does not match`,
      );
    }
    store(plural, "DELETED", before, before);
    return { kind: "Status", apiVersion: "v1", status: "Success", details: { name, kind: plural } };
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://fake");
    const method = request.method ?? "GET";
    requests.push(`${method} ${request.url}`);
    const reply = (status: number, body: unknown) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(body));
    };
    try {
      const text = await textOf(request);
      const fault = faults.findIndex((it) => it.method === method && it.path.test(request.url ?? ""));
      if (fault >= 0) {
        const [{ status } = { status: null }] = faults.splice(fault, 1);
        if (status === null) return void request.socket.destroy();
        throw new Failure(status, "InternalError", "a fault of the test");
      }
      const place = placeOf(url.pathname);
      if (place === null) throw new Failure(404, "NotFound", "the server could not find the requested resource");
      const { plural, namespace, name, part } = place;
      const body = text === "" ? null : JSON.parse(text);
      if (name === undefined) {
        if (method === "POST") return reply(201, create(plural, namespace ?? "", body));
        if (method !== "GET") throw new Failure(405, "MethodNotAllowed", "the server does not allow this method");
        // Patroni, as every Python client, writes True.
        const isWatch = /^(1|t|true)$/i.test(url.searchParams.get("watch") ?? "");
        if (isWatch) return watch(plural, namespace, url.searchParams, response);
        return reply(200, list(plural, namespace, url.searchParams));
      }
      const object = objects.get(keyOf(plural, namespace ?? "", name));
      if (object === undefined) throw new Failure(404, "NotFound", `${plural} "${name}" not found`);
      if (method === "GET") return reply(200, object);
      if (method === "DELETE") return reply(200, remove(plural, object, body));
      const type = (request.headers["content-type"] ?? "").split(";")[0] ?? "";
      if (method === "PATCH" && /^application\/(strategic-)?merge-patch\+json$/.test(type)) {
        return reply(200, patch(plural, object, part, body));
      }
      throw new Failure(415, "UnsupportedMediaType", `the body of the request was in an unknown format: ${type}`);
    } catch (error) {
      const failure = error instanceof Failure ? error : new Failure(500, "InternalError", String(error));
      reply(failure.status, failure.body());
    }
  }

  const server = createServer((request, response) => void answer(request, response));
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("close", () => sockets.delete(socket));
  });
  const listen = (port: number) => new Promise<void>((done) => server.listen(port, "127.0.0.1", done));
  const stop = () =>
    new Promise<void>((done) => {
      server.close(() => done());
      for (const socket of sockets) socket.destroy();
    });
  await listen(0);
  const { port } = server.address() as AddressInfo;
  create("namespaces", "", { metadata: { name: "default" } });
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    faults,
    compact() {
      changes = [];
      // A change that nobody sees, as they happen all the time: versions of before are then too old.
      version++;
      floor = version;
    },
    dropWatches() {
      for (const { response } of watchers) response.destroy();
    },
    pause: stop,
    resume: () => listen(port),
    watches: () => watchers.size,
    close: stop,
  };
}

interface Found {
  plural: string;
  namespace: string | null;
  name: string | undefined;
  part: string | undefined;
}

function placeOf(path: string): Found | null {
  const match =
    /^\/(?:api\/(v1)|apis\/([^/]+\/[^/]+))\/(?:namespaces\/([^/]+)\/([^/]+)|([^/]+))(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(
      path,
    );
  if (match === null) return null;
  const [, core, group, namespace, inNamespace, plain, name, part] = match;
  const isNamespace = namespace !== undefined && inNamespace !== undefined && KINDS[inNamespace] === undefined;
  const plural = inNamespace ?? plain ?? "";
  const kind = KINDS[plural];
  if (isNamespace || kind === undefined || kind.version !== (core ?? group)) {
    // /api/v1/namespaces/NAME is an object itself.
    const own = /^\/api\/v1\/namespaces\/([^/]+)$/.exec(path);
    return own === null ? null : { plural: "namespaces", namespace: null, name: own[1], part: undefined };
  }
  return { plural, namespace: namespace ?? null, name, part };
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text;
}

const withMeta = (object: Any, metadata: object): Any => ({ ...object, metadata: { ...object.metadata, ...metadata } });

/** RFC 7386; what a strategic merge does otherwise concerns lists alone. */
function merge(target: Any, patch: Any): Any {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const base = typeof target === "object" && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete base[key];
    else base[key] = merge(base[key], value);
  }
  return base;
}

function sorted(value: Any): Any {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}

type Selector = (object: Any) => boolean;

/** `a=b`, `a!=b`, `a`, `!a`, `a in (b,c)`, `a notin (b)`. */
function selectorOf(text: string | null): Selector {
  const parts = (text ?? "").split(/,(?![^(]*\))/).map((part) => part.trim());
  const tests = parts.filter((part) => part !== "").map(requirementOf);
  return (object) => tests.every((test) => test(object.metadata.labels ?? {}));
}

function requirementOf(part: string): (labels: Record<string, string>) => boolean {
  const set = /^(\S+) (in|notin) \(([^)]*)\)$/.exec(part);
  if (set !== null) {
    const [, key = "", word, list = ""] = set;
    const values = list.split(",").map((value) => value.trim());
    return (labels) => values.includes(labels[key] ?? "\0") === (word === "in");
  }
  const pair = /^([^=!]+)(==?|!=)(.*)$/.exec(part);
  if (pair !== null) {
    const [, key = "", word, value] = pair;
    return (labels) => (labels[key] === value) === (word !== "!=");
  }
  return part.startsWith("!") ? (labels) => !(part.slice(1) in labels) : (labels) => part in labels;
}
