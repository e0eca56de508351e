/**
 * What the fleet relies on, asked of an API server: the fake one of the fast tests and a real kube-apiserver must answer
 * alike. And what its watch and its runner make of it.
 */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REPORT_ANNOTATION, TEST_LABEL, testScope } from "../../../lib/fleet/kubernetes/names.ts";
import { createKubernetesRunner } from "../../../lib/fleet/kubernetes/runner.ts";
import { createKubernetesWatch } from "../../../lib/fleet/kubernetes/watch.ts";
import type { Observation } from "../../../lib/fleet/runner.ts";
import type { Service } from "../../../lib/fleet/service.ts";
import { newTestId, type Test } from "../../../lib/fleet/test.ts";
import {
  connectKubernetes,
  type Kubernetes,
  KubernetesError,
  type KubernetesObject,
  type Place,
  type WatchEvent,
} from "../../../lib/io/kubernetes.ts";
import type { Report } from "../../../lib/report/report.ts";
import { waitFor } from "../process.ts";
import type { ApiServer } from "./kubeconfig.ts";
import { healthyReport, IDENTIFIER, leaderObject, RUNNER, SERVICE, silent, testFor, WATCH } from "./samples.ts";

/** `open` makes an API server; namespaces are made here. */
export function describeConformance(title: string, open: () => Promise<ApiServer>): void {
  describe(title, () => {
    let server: ApiServer;
    let api: Kubernetes;
    let ends: AbortController;
    const place = (namespace: string | null = "conformance"): Place => ({ kind: "ConfigMap", namespace });

    beforeAll(async () => {
      server = await open();
      api = await connectKubernetes("patroni-restore-tests", server.kubeconfig);
      ends = new AbortController();
      for (const name of ["conformance", "databases", "restore-tests"]) await createNamespace(server.kubeconfig, name);
    });
    afterAll(async () => {
      ends?.abort();
      api?.close();
      await server?.close();
    });

    const configMap = (name: string, metadata: object = {}, data: Record<string, string> = {}): KubernetesObject => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace: "conformance", labels: { app: name }, ...metadata },
      data,
    });
    const failing = async (work: Promise<unknown>): Promise<[number | null, string]> => {
      const error = await work.then(
        () => null,
        (thrown) => thrown,
      );
      expect(error).toBeInstanceOf(KubernetesError);
      return [error.status, error.reason];
    };

    describe("objects", () => {
      test("get a UID, a version and a time; a second one of that name is refused", async () => {
        const made = await api.create(configMap("twice"));
        expect(made.metadata).toMatchObject({ uid: expect.any(String), resourceVersion: expect.any(String) });
        expect(Date.parse(made.metadata.creationTimestamp ?? "")).toBeGreaterThan(Date.now() - 60_000);
        expect(await failing(api.create(configMap("twice")))).toEqual([409, "AlreadyExists"]);
        expect(await failing(api.create(configMap("elsewhere", { namespace: "nowhere" })))).toEqual([404, "NotFound"]);
        expect(await failing(api.create(configMap("Wrong_Name")))).toEqual([422, "Invalid"]);
      });

      test("are patched by part; null takes away; an old version is refused", async () => {
        const made = await api.create(configMap("patched", { annotations: { theirs: "1", ours: "1" } }, { a: "1" }));
        const next = await api.patch(place(), "patched", { metadata: { annotations: { ours: null, more: "2" } } });
        expect(next.metadata.annotations).toEqual({ theirs: "1", more: "2" });
        expect(next.data).toEqual({ a: "1" });
        const { resourceVersion } = made.metadata;
        expect(await failing(api.patch(place(), "patched", { metadata: { resourceVersion } }))).toEqual([
          409,
          "Conflict",
        ]);
        expect(await failing(api.patch(place(), "missing", {}))).toEqual([404, "NotFound"]);
      });

      test("a patch that changes nothing is no new version", async () => {
        const made = await api.create(configMap("same", {}, { a: "1" }));
        const next = await api.patch(place(), "same", { data: { a: "1" } });
        expect(next.metadata.resourceVersion).toBe(made.metadata.resourceVersion);
      });

      test("are removed by UID: another one of the same name stays", async () => {
        const first = await api.create(configMap("replaced"));
        await api.remove("ConfigMap", first);
        expect(await api.get(place(), "replaced")).toBeNull();
        await api.remove("ConfigMap", first);
        await api.create(configMap("replaced"));
        await api.remove("ConfigMap", first);
        expect(await api.get(place(), "replaced")).not.toBeNull();
      });

      test("a list comes in pages, chosen by label, of one namespace or of all", async () => {
        for (const n of [1, 2, 3, 4, 5]) await api.create(configMap(`page-${n}`, { labels: { page: "x", n: `${n}` } }));
        const names: string[] = [];
        let next: string | null = null;
        let pages = 0;
        do {
          const page = await api.list(place(null), { selector: "page=x,n notin (3)", limit: 2, next });
          names.push(...page.items.map(({ metadata }) => metadata.name));
          next = page.next;
          pages++;
        } while (next !== null);
        expect(names).toEqual(["page-1", "page-2", "page-4", "page-5"]);
        // The last one may be empty: a server that looks for two more does not know.
        expect(pages).toBeGreaterThan(1);
      });
    });

    /** What a watch from a version tells until `count` events came. */
    async function watched(selector: string, resourceVersion: string, work: () => Promise<void>, count: number) {
      const events: string[] = [];
      const stop = new AbortController();
      const opened = new Promise<void>((resolve) => {
        const onEvent = ({ type, object }: WatchEvent) => {
          if (type === "BOOKMARK") return;
          events.push(`${type} ${(object as KubernetesObject).metadata.name}`);
          if (events.length >= count) stop.abort();
        };
        const request = { selector, resourceVersion, timeoutSeconds: 20, idleMs: 20_000, onOpen: resolve, onEvent };
        void api
          .watch(place(), request, stop.signal)
          .catch(() => {})
          .finally(resolve);
      });
      await opened;
      await work();
      await waitFor(
        `${count} events`,
        () => events.length >= count,
        10_000,
        () => events.join(),
      );
      return events;
    }
    const versionNow = async () => (await api.list(place(), { selector: "app", limit: 1 })).resourceVersion;

    describe("watches", () => {
      test("tell what happened since the version, and what enters or leaves the selector", async () => {
        const from = await versionNow();
        await api.create(configMap("before", { labels: { app: "watched" } }));
        const events = await watched(
          "app=watched",
          from,
          async () => {
            const made = await api.create(configMap("during", { labels: { app: "other" } }));
            await api.patch(place(), "during", { metadata: { labels: { app: "watched" } } });
            await api.patch(place(), "during", { data: { a: "1" } });
            await api.patch(place(), "during", { metadata: { labels: { app: "other" } } });
            await api.remove("ConfigMap", made);
          },
          4,
        );
        expect(events).toEqual(["ADDED before", "ADDED during", "MODIFIED during", "DELETED during"]);
      });

      test("end after their time", async () => {
        const request = {
          selector: "app=none",
          resourceVersion: await versionNow(),
          timeoutSeconds: 1,
          idleMs: 20_000,
          onOpen() {},
          onEvent() {},
        };
        await api.watch(place(), request, ends.signal);
      });

      test("from before a compaction get 410", async () => {
        const from = await versionNow();
        await api.create(configMap("old"));
        await server.compact();
        const request = {
          selector: "app",
          resourceVersion: from,
          timeoutSeconds: 5,
          idleMs: 20_000,
          onOpen() {},
          onEvent() {},
        };
        const end = async () => failing(api.watch(place(), request, ends.signal));
        expect(await end()).toEqual([410, "Expired"]);
      });
    });

    describe("the watch of services", () => {
      const services = new Map<string, Service>();
      const updates: string[] = [];
      const stop = new AbortController();
      let watch: ReturnType<typeof createKubernetesWatch>;
      const shown = () => [...services.keys()].sort().join();
      const become = (ids: string) => waitFor(`services ${ids}`, () => shown() === ids, 20_000, shown);

      beforeAll(async () => {
        for (const scope of ["a", "b", "c", "d"]) await api.create(leaderObject("databases", scope));
        watch = createKubernetesWatch(api, WATCH);
        await watch.start(
          {
            update(service) {
              services.set(service.id, service);
              updates.push(service.id);
            },
            remove: (id) => void services.delete(id),
          },
          stop.signal,
        );
      });
      afterAll(() => stop.abort());

      test("returns when it knows all of them, whatever the pages", () => {
        expect(shown()).toBe("databases/a,databases/b,databases/c,databases/d");
        expect(watch.problem()).toBeNull();
      });

      test("tells every touch, with the same service as long as nobody says something new", async () => {
        const before = services.get("databases/a");
        const count = updates.length;
        const at = { kind: "ConfigMap", namespace: "databases" } as const;
        await api.patch(at, "a-leader", { metadata: { annotations: { renewTime: "2026-11-23T10:00:20+00:00" } } });
        await waitFor("the touch", () => updates.length > count);
        expect(services.get("databases/a")).toBe(before);
        await api.patch(at, "a-leader", { metadata: { annotations: { "patroni-restore/paused": "true" } } });
        await waitFor("the override", () => services.get("databases/a")?.policy.isPaused);
      });

      test("leaves out Patroni's other objects and restore tests", async () => {
        const other = (name: string, annotations: Record<string, string>, labels = {}) =>
          api.create({
            ...leaderObject("databases", "e", { name, labels }),
            metadata: {
              name,
              namespace: "databases",
              labels: { application: "patroni", "cluster-name": "e", ...labels },
              annotations,
            },
          });
        await other("e-config", { initialize: IDENTIFIER, config: "{}" });
        await other("e-sync", { leader: "e-0", sync_standby: "" });
        await api.create(leaderObject("databases", "a-rt-0a1b2c3d"));
        await api.create(leaderObject("databases", "f", { labels: { [TEST_LABEL]: "0a1b2c3d" } }));
        await api.create(leaderObject("databases", "shop-config"));
        await become("databases/a,databases/b,databases/c,databases/d,databases/shop-config");
      });

      const add = (scope: string) => api.create(leaderObject("databases", scope));
      const drop = async (scope: string) => {
        const object = await api.get({ kind: "ConfigMap", namespace: "databases" }, `${scope}-leader`);
        if (object !== null) await api.remove("ConfigMap", object);
      };

      test("misses nothing while its connection breaks", async () => {
        await server.dropWatches();
        await add("g");
        await drop("b");
        await become("databases/a,databases/c,databases/d,databases/g,databases/shop-config");
      });

      test("misses nothing while the API server is away, says so, and takes it back", async () => {
        await server.restart(async () => {
          await waitFor("the problem to be told", () => watch.problem() !== null, 10_000);
        });
        await add("h");
        await drop("g");
        await become("databases/a,databases/c,databases/d,databases/h,databases/shop-config");
        await waitFor("the problem to be over", () => watch.problem() === null, 10_000);
      });

      test("misses nothing when what happened meanwhile was compacted away", async () => {
        await server.restart(async () => {});
        await drop("c");
        await add("i");
        await server.compact();
        await server.dropWatches();
        await become("databases/a,databases/d,databases/h,databases/i,databases/shop-config");
      });
    });

    describe("the runner", () => {
      const seen: Observation[] = [];
      const stop = new AbortController();
      let runner: ReturnType<typeof createKubernetesRunner>;
      const at = (kind: Place["kind"]): Place => ({ kind, namespace: "restore-tests" });
      const endOf = (test: string) => seen.filter((it) => it.test === test && it.end !== null).at(-1)?.end;
      const ended = (test: string) =>
        waitFor(
          `the end of ${test}`,
          () => endOf(test) ?? undefined,
          15_000,
          () => JSON.stringify(seen.at(-1)),
        );
      const leftOf = async (test: string) => {
        const kinds = ["StatefulSet", "Pod", "PersistentVolumeClaim", "ConfigMap", "NetworkPolicy"] as const;
        const lists = await Promise.all(
          kinds.map((kind) => api.list(at(kind), { selector: `${TEST_LABEL}=${test}`, limit: 100 })),
        );
        return lists.flatMap(({ items }) => items.map(({ metadata }) => metadata.name)).sort();
      };
      const watchWith = async (signal: AbortSignal, into: Observation[] = seen) => {
        const made = createKubernetesRunner(api, RUNNER, { log: silent });
        await made.watch((observation) => void into.push(observation), signal);
        return made;
      };

      beforeAll(async () => {
        runner = await watchWith(stop.signal);
      });
      afterAll(() => stop.abort());

      const receipt = JSON.stringify({ system_identifier: IDENTIFIER });
      /** As the StatefulSet's controller, the kubelet and Patroni would: a pod, a claim, Patroni's first ConfigMap. */
      async function appear(made: Test): Promise<KubernetesObject> {
        const scope = testScope(made.scope, made.id);
        const set = (await api.get(at("StatefulSet"), scope)) as KubernetesObject;
        const spec = set.spec as {
          template: { metadata: object; spec: { volumes?: object[] } };
          volumeClaimTemplates: KubernetesObject[];
        };
        const claims = spec.volumeClaimTemplates.map(({ metadata: { name } }) => ({
          name,
          persistentVolumeClaim: { claimName: `${name}-${scope}-0` },
        }));
        for (const claim of spec.volumeClaimTemplates) {
          await api.create({
            apiVersion: "v1",
            kind: "PersistentVolumeClaim",
            ...claim,
            metadata: { ...claim.metadata, name: `data-${scope}-0`, namespace: "restore-tests" },
          });
        }
        const pod = await api.create({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: `${scope}-0`, namespace: "restore-tests", ...spec.template.metadata },
          spec: { ...spec.template.spec, volumes: [...(spec.template.spec.volumes ?? []), ...claims] },
        });
        await patroni(made, "config", { initialize: "" });
        return pod;
      }
      const patroni = (made: Test, object: string, annotations: Record<string, string>) =>
        api.create({
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: {
            name: `${testScope(made.scope, made.id)}-${object}`,
            namespace: "restore-tests",
            labels: { application: "patroni-restore-test", [TEST_LABEL]: made.id },
            annotations,
          },
        });
      const say = (made: Test, report: Report) =>
        api.patch(at("Pod"), `${testScope(made.scope, made.id)}-0`, {
          metadata: { annotations: { [REPORT_ANNOTATION]: JSON.stringify(report) } },
        });

      test("starts, tells each phase, and calls it healthy only with Patroni's leader", async () => {
        const made = testFor(SERVICE);
        await runner.start(made, SERVICE, { receipt, previousReport: null });
        expect(runner.present()).toContain(made.id);
        const scope = testScope("shop", made.id);
        expect(await leftOf(made.id)).toEqual([scope, scope, scope]);
        await appear(made);
        const report = healthyReport();
        await say(made, { ...report, verdict: "error", finished_at: null, phases: report.phases.slice(0, 2) });
        const statuses = () =>
          seen
            .filter((it) => it.test === made.id)
            .at(-1)
            ?.changes.map(({ status }) => status);
        await waitFor("recovering", () => statuses()?.includes("recovering"));
        await say(made, report);
        await waitFor("verifying", () => statuses()?.includes("verifying"));
        expect(endOf(made.id)).toBeUndefined();
        await patroni(made, "leader", { leader: `${scope}-0`, renewTime: "2026-11-23T10:00:10+00:00" });
        await api.patch(at("ConfigMap"), `${scope}-config`, { metadata: { annotations: { initialize: IDENTIFIER } } });
        expect(await ended(made.id)).toMatchObject({ outcome: "healthy", error: null });
        await runner.remove(made.id, { keepInstance: false });
        expect(await leftOf(made.id)).toEqual([]);
        expect(runner.present()).not.toContain(made.id);
        await runner.remove(made.id, { keepInstance: false });
      });

      test("a scheduler that comes later sees the same, and finishes it", async () => {
        const made = testFor(SERVICE);
        await runner.start(made, SERVICE, { receipt, previousReport: null });
        await appear(made);
        const later: Observation[] = [];
        const second = new AbortController();
        const other = await watchWith(second.signal, later);
        expect(other.present()).toContain(made.id);
        expect(later).toContainEqual({ test: made.id, service: SERVICE.id, changes: [], end: null });
        await other.cancel(made.id);
        expect(await ended(made.id)).toMatchObject({ outcome: "cancelled", error: { name: "TERMINATED" } });
        await other.remove(made.id, { keepInstance: false });
        await waitFor("the first to notice", () => !runner.present().has(made.id));
        second.abort();
      });

      test("a bootstrap that failed without a word, and a pod that is gone", async () => {
        const [quiet, gone] = [testFor(SERVICE), testFor(SERVICE)];
        for (const made of [quiet, gone]) {
          await runner.start(made, SERVICE, { receipt, previousReport: null });
          await appear(made);
        }
        const name = (made: Test) => testScope("shop", made.id);
        await api.patch(at("Pod"), `${name(quiet)}-0`, {
          metadata: { annotations: { status: '{"state":"stopped"}' } },
        });
        await api.patch(at("ConfigMap"), `${name(quiet)}-config`, { metadata: { annotations: { initialize: null } } });
        const end = await ended(quiet.id);
        expect(end).toMatchObject({ outcome: "infra" });
        expect(end?.error?.message).toContain("gave its bootstrap up without a report");
        const pod = await api.get(at("Pod"), `${name(gone)}-0`);
        await waitFor("its pod to be known", async () => {
          const set = await api.get(at("StatefulSet"), name(gone));
          return set?.metadata.annotations?.["patroni-restore/pod-uid"] === pod?.metadata.uid;
        });
        await api.remove("Pod", pod as KubernetesObject);
        const lost = await ended(gone.id);
        // The API server may show a pod with its time of deletion for a moment before it is gone, and both may be seen.
        expect(lost?.error?.message).toMatch(/^its pod (is gone|was deleted, or evicted from its node)$/);
        expect(lost).toMatchObject({ outcome: "infra" });
        for (const { id } of [quiet, gone]) await runner.remove(id, { keepInstance: false });
      });

      test("what a scheduler left half made is told as an error, and can be removed", async () => {
        const id = newTestId();
        await api.create({
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: {
            name: `shop-rt-${id}`,
            namespace: "restore-tests",
            labels: { [TEST_LABEL]: id },
            annotations: { "patroni-restore/service": SERVICE.id },
          },
        });
        expect(await ended(id)).toMatchObject({ outcome: "infra" });
        await runner.remove(id, { keepInstance: false });
        expect(await leftOf(id)).toEqual([]);
      });

      test("keeps an instance, and removes the one that was kept before", async () => {
        const [first, second, last] = [testFor(SERVICE), testFor(SERVICE), testFor(SERVICE)];
        await runner.start(first, SERVICE, { receipt, previousReport: null });
        await runner.remove(first.id, { keepInstance: true });
        expect(await leftOf(first.id)).toHaveLength(3);
        expect(runner.present()).not.toContain(first.id);
        await runner.start(second, SERVICE, { receipt, previousReport: null });
        await runner.remove(second.id, { keepInstance: true });
        expect([await leftOf(first.id), (await leftOf(second.id)).length]).toEqual([[], 3]);
        await runner.start(last, SERVICE, { receipt, previousReport: null });
        await runner.remove(last.id, { keepInstance: false });
        expect([await leftOf(second.id), await leftOf(last.id)]).toEqual([[], []]);
      });

      test("takes away what a Patroni that is not dead yet writes afterwards", async () => {
        const made = testFor(SERVICE);
        await runner.start(made, SERVICE, { receipt, previousReport: null });
        await runner.remove(made.id, { keepInstance: false });
        await patroni(made, "config", { initialize: "" });
        await waitFor("it to be gone", async () => (await leftOf(made.id)).length === 0);
        expect(runner.present()).not.toContain(made.id);
      });

      test("touches nothing that is not of the test", async () => {
        await api.create({
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name: "somebody-elses", namespace: "restore-tests" },
        });
        const made = testFor(SERVICE);
        await runner.start(made, SERVICE, { receipt: null, previousReport: null });
        await runner.remove(made.id, { keepInstance: false });
        expect(await api.get(at("ConfigMap"), "somebody-elses")).not.toBeNull();
      });
    });
  });
}

/** Of a kind that the fleet itself never makes. */
async function createNamespace(kubeconfig: string, name: string): Promise<void> {
  const { loadAccess } = await import("../../../lib/io/kubeconfig.ts");
  const access = loadAccess(kubeconfig);
  const { request } = access.server.startsWith("https:") ? await import("node:https") : await import("node:http");
  const options = await access.authorise();
  const body = JSON.stringify({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
  const headers = { ...options.headers, "Content-Type": "application/json" };
  await new Promise<void>((resolve, reject) => {
    const call = request(`${access.server}/api/v1/namespaces`, { ...options, method: "POST", headers }, (response) => {
      response.resume().on("end", resolve);
      if (![201, 409].includes(response.statusCode ?? 0))
        reject(new Error(`namespace ${name}: ${response.statusCode}`));
    });
    call.on("error", reject);
    call.end(body);
  });
}
