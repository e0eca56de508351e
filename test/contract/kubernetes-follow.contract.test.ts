/** A watch whose API server misbehaves in every way, and the library that no other script shall carry. */

import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { rolldown } from "rolldown";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { follow, keyOf } from "../../lib/fleet/kubernetes/follow.ts";
import { connectKubernetes, type Kubernetes } from "../../lib/io/kubernetes.ts";
import { type FakeKubernetes, startFakeKubernetes } from "../lab/kubernetes/fake.ts";
import { writeKubeconfig } from "../lab/kubernetes/kubeconfig.ts";
import { waitFor } from "../lab/process.ts";

let directory: string;
let fake: FakeKubernetes;
let api: Kubernetes;
let kubeconfig: string;
let stop: AbortController;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "follow-"));
  fake = await startFakeKubernetes({ bookmarkMs: 50 });
  kubeconfig = await writeKubeconfig(directory, fake.url);
  api = await connectKubernetes("tests", kubeconfig);
  stop = new AbortController();
});
afterEach(async () => {
  stop.abort();
  api.close();
  await fake.close();
  await rm(directory, { recursive: true, force: true });
});

const make = (name: string) =>
  api.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "default", labels: { app: "x" } } });
const drop = async (name: string) => {
  const object = await api.get({ kind: "ConfigMap", namespace: "default" }, name);
  if (object !== null) await api.remove("ConfigMap", object);
};

/** What is known, and every call. */
async function followed(limits: object = {}) {
  const known = new Set<string>();
  const updates: string[] = [];
  const problems: (string | null)[] = [];
  const ready = follow<string>(
    {
      api,
      place: { kind: "ConfigMap", namespace: null },
      selector: "app=x",
      pick: (object) => keyOf(object),
      update(key) {
        known.add(key);
        updates.push(key);
      },
      remove: (key) => void known.delete(key),
      problem: (text) => void problems.push(text),
      limits: { pageSize: 2, retryMs: 20, retryMaximumMs: 200, ...limits },
    },
    stop.signal,
  );
  const become = (...names: string[]) => {
    const wanted = names.map((name) => `default/${name}`).sort();
    return waitFor(
      `${names}`,
      () => [...known].sort().join() === wanted.join(),
      10_000,
      () => [...known].join(),
    );
  };
  return { ready, known, updates, problems, become };
}

const lists = () => fake.requests.filter((it) => it.startsWith("GET") && !it.includes("watch=true")).length;
const watches = () => fake.requests.filter((it) => it.includes("watch=true"));

describe("a follower", () => {
  test("asks for pages, bookmarks and an end", async () => {
    for (const name of ["a", "b", "c"]) await make(name);
    const it = await followed();
    await it.ready;
    await it.become("a", "b", "c");
    expect(lists()).toBe(2);
    await waitFor("the watch", () => watches().length === 1);
    expect(watches()[0]).toMatch(
      /labelSelector=app%3Dx&resourceVersion=\d+&timeoutSeconds=\d+&allowWatchBookmarks=true/,
    );
  });

  test("a list that fails in the middle is begun again; nobody is told it is complete before", async () => {
    for (const name of ["a", "b", "c"]) await make(name);
    fake.faults.push(
      { method: "GET", path: /continue=/, status: 500 },
      { method: "GET", path: /continue=/, status: null },
      { method: "GET", path: /continue=/, status: 410 },
    );
    const it = await followed();
    await it.ready;
    expect([...it.known]).toHaveLength(3);
    expect(it.problems.filter((text) => text !== null).join()).toContain("a fault of the test");
    expect(it.problems.at(-1)).toBeNull();
    // Each once, however often it was listed.
    expect(it.updates).toHaveLength(3);
  });

  test.each([500, 429, 403, null])("a watch that is refused with %s is tried again", async (status) => {
    for (let n = 0; n < 3; n++) fake.faults.push({ method: "GET", path: /watch=true/, status });
    const it = await followed();
    await it.ready;
    await make("a");
    await it.become("a");
    await drop("a");
    await it.become();
  });

  test("goes on from a bookmark, without a new list, where nothing of its own happened", async () => {
    const it = await followed();
    await it.ready;
    await make("a");
    await it.become("a");
    const before = lists();
    await api.create({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "other", namespace: "default" } });
    const from = () => Number(/resourceVersion=(\d+)/.exec(watches().at(-1) ?? "")?.[1]);
    const first = from();
    // A watch that is dropped before its bookmark came begins where the last one did.
    const goesOn = () => {
      fake.dropWatches();
      return from() > first + 1;
    };
    await waitFor("a watch that begins at a bookmark", goesOn, 10_000, () => watches().join("\n"), 200);
    expect(lists()).toBe(before);
  });

  test("a connection that is silent for too long is broken off", async () => {
    await fake.close();
    fake = await startFakeKubernetes({ bookmarkMs: 60_000 });
    api = await connectKubernetes("tests", await writeKubeconfig(directory, fake.url));
    const it = await followed({ idleMs: 150 });
    await it.ready;
    await waitFor("another watch", () => watches().length > 2);
    expect(it.problems.join()).toContain("no data for 0.15 s");
    expect(lists()).toBe(1);
  });

  test("lists everything again now and then, and tells nothing twice", async () => {
    await make("a");
    const it = await followed({ resyncMs: 300 });
    await it.ready;
    await waitFor("some lists", () => lists() > 2, 10_000);
    expect(it.updates).toEqual(["default/a"]);
  });

  test("ends with its signal, and asks nothing any more", async () => {
    const it = await followed();
    await it.ready;
    await waitFor("the watch", () => fake.watches() === 1);
    stop.abort();
    await waitFor("no watch", () => fake.watches() === 0);
    const count = fake.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(fake.requests.length).toBe(count);
  });
});

describe("the client library", () => {
  const MARK = "inClusterContext";
  const dist = new URL("../../dist/", import.meta.url);
  const root = new URL("../../", import.meta.url).pathname;

  test("is in no script that does not need it", async () => {
    for (const file of await readdir(dist)) {
      if (file === "fleet.mjs") continue;
      expect((await readFile(new URL(file, dist), "utf8")).includes(MARK), file).toBe(false);
    }
  });

  test("works from one file with nothing beside it", async () => {
    await make("a");
    const source = join(directory, "probe.ts");
    await writeFile(
      source,
      `import { connectKubernetes } from "${root}lib/io/kubernetes.ts";
       const api = await connectKubernetes("probe");
       const { items } = await api.list({ kind: "ConfigMap", namespace: null }, { selector: "app", limit: 9 });
       console.log(items.map(({ metadata }) => metadata.name).join());
       api.close();`,
    );
    const file = join(directory, "probe.mjs");
    const bundle = await rolldown({ input: source, platform: "node" });
    await bundle.write({ file, format: "esm", codeSplitting: false, minify: true });
    await bundle.close();
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      cwd: directory,
      env: { KUBECONFIG: kubeconfig },
    });
    expect(stdout).toBe("a\n");
  });
});
