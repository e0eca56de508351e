/**
 * Patroni itself on a real kube-apiserver: the objects that the fleet sees are Patroni's own and not our idea of them. The fleet
 * and the pods have the rights of fleet-rbac.yml and no others.
 */

import { readFile } from "node:fs/promises";
import { afterAll, describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { TEST_LABEL, testScope } from "../../../lib/fleet/kubernetes/names.ts";
import { createKubernetesRunner } from "../../../lib/fleet/kubernetes/runner.ts";
import { createKubernetesWatch } from "../../../lib/fleet/kubernetes/watch.ts";
import type { Observation } from "../../../lib/fleet/runner.ts";
import type { Service } from "../../../lib/fleet/service.ts";
import type { Test } from "../../../lib/fleet/test.ts";
import { connectKubernetes } from "../../../lib/io/kubernetes.ts";
import { renderTemplate } from "../../../lib/patroni/templates.ts";
import { useLab } from "../fixture.ts";
import { recordedTests, recordOf, serviceOf, slotCount, startFleet } from "../fleet/fleet.ts";
import type { Lab } from "../lab.ts";
import { waitFor } from "../process.ts";
import { APP_DATABASE, backup, createStanza, loadSchema, query, startPatroniSourceOn, startSource } from "../source.ts";
import { type RealApiServer, startApiServer } from "./api-server.ts";
import { type RunningPod, runPod } from "./kubelet.ts";
import { RUNNER, silent, testFor, WATCH } from "./samples.ts";

const FLEET = "system:serviceaccount:fleet:fleet";
const POD = "system:serviceaccount:restore-tests:restore-test";

const PATHS: Record<string, string> = {
  ServiceAccount: "/api/v1/namespaces/NS/serviceaccounts",
  ClusterRole: "/apis/rbac.authorization.k8s.io/v1/clusterroles",
  ClusterRoleBinding: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
  Role: "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles",
  RoleBinding: "/apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
};

async function applyRoles(server: RealApiServer): Promise<void> {
  const text = await readFile(new URL("../../../patroni-templates/kubernetes/fleet-rbac.yml", import.meta.url), "utf8");
  const values = { fleet_namespace: "fleet", test_namespace: "restore-tests", leader_resource: "endpoints" };
  for (const document of parseAllDocuments(text)) {
    const object = parseAllDocuments(renderTemplate(document.toString(), values, { unusedAllowed: true }))[0]?.toJS();
    const path = PATHS[object.kind]?.replace("NS", object.metadata.namespace) ?? object.kind;
    const answer = await server.ask("POST", path, object);
    if (answer.status !== 201) throw new Error(`${object.kind}: ${answer.status} ${answer.text}`);
  }
}

async function setUp(lab: Lab) {
  const server = await startApiServer(lab);
  for (const name of ["fleet", "databases", "restore-tests"]) {
    await server.ask("POST", "/api/v1/namespaces", { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  }
  await applyRoles(server);
  const admin = await connectKubernetes("tests", server.kubeconfig);
  await admin.create({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: "shop-source-0",
      namespace: "databases",
      labels: { application: "patroni", "cluster-name": "shop-source" },
    },
    spec: { containers: [{ name: "patroni", image: "x" }] },
  });
  const kubernetes = {
    context: "test",
    namespace: "databases",
    labels: { application: "patroni" },
    scope_label: "cluster-name",
    use_endpoints: true,
    pod_ip: "10.1.2.3",
    ports: [{ name: "postgresql", port: 5432 }],
  };
  const source = await startPatroniSourceOn(
    lab,
    { settings: { kubernetes }, env: { KUBECONFIG: server.kubeconfig } },
    { stanza: "shop" },
  );
  await createStanza(lab, source);
  await loadSchema(lab, source);
  await backup(lab, source, "full");
  await query(source, "UPDATE pgbench_accounts SET abalance = 2 WHERE aid % 50 = 0", { database: APP_DATABASE });
  const api = await connectKubernetes("fleet", await server.kubeconfigOf(FLEET));
  return { server, admin, source, api };
}

const lab = useLab("fleet-k8s", setUp);

describe("a fleet on Kubernetes", () => {
  const services = new Map<string, Service>();
  const seen: Observation[] = [];
  const stop = new AbortController();
  let runner: ReturnType<typeof createKubernetesRunner>;
  afterAll(async () => {
    stop.abort();
    lab().api.close();
    lab().admin.close();
    await lab().server.close();
  });

  const service = () => services.get("databases/shop-source") as Service;
  const leader = () => lab().admin.get({ kind: "Endpoints", namespace: "databases" }, "shop-source");
  const annotate = (annotations: Record<string, string | null>) =>
    lab().admin.patch({ kind: "Endpoints", namespace: "databases" }, "shop-source", { metadata: { annotations } });
  const endOf = (made: Test) =>
    seen.filter(({ test: id, end }) => id === made.id && end !== null).at(-1)?.end ?? undefined;
  const ended = (made: Test, pod: RunningPod | null) =>
    waitFor(
      "the end",
      () => endOf(made),
      120_000,
      async () => `${JSON.stringify(seen.at(-1))}\n${await pod?.service.log()}`,
    );
  const statusesOf = (made: Test) =>
    seen
      .filter(({ test: id }) => id === made.id)
      .at(-1)
      ?.changes.map(({ status }) => status) ?? [];

  async function startTest(): Promise<{ made: Test; scope: string }> {
    const made = testFor(service());
    const file = lab().path(`receipt-${made.id}.json`);
    const marked = await lab().runScript("mark", ["--source", service().source as string, "--receipt", file]);
    expect(marked.stderr + marked.exitCode).toMatch(/0$/);
    await runner.start(made, service(), { receipt: await readFile(file, "utf8"), previousReport: null });
    return { made, scope: testScope(made.scope, made.id) };
  }

  const pod = async (scope: string, options: { command?: string } = {}) =>
    runPod(lab(), lab().server, lab().admin, scope, {
      source: lab().source,
      kubeconfig: await lab().server.kubeconfigOf(POD),
      ...options,
    });

  async function expectGone(made: Test): Promise<void> {
    for (const kind of [
      "StatefulSet",
      "Pod",
      "PersistentVolumeClaim",
      "ConfigMap",
      "NetworkPolicy",
      "Endpoints",
    ] as const) {
      const page = await lab().admin.list({ kind, namespace: "restore-tests" }, { selector: TEST_LABEL, limit: 10 });
      expect([kind, page.items.map(({ metadata }) => metadata.name)]).toEqual([kind, []]);
    }
    expect(runner.present()).not.toContain(made.id);
  }

  test("sees the service that Patroni keeps in Endpoints, and none of its other objects", async () => {
    const watch = createKubernetesWatch(lab().api, { ...WATCH, watch: "endpoints" });
    await watch.start({ update: (it) => services.set(it.id, it), remove: (id) => services.delete(id) }, stop.signal);
    expect([...services.keys()]).toEqual(["databases/shop-source"]);
    const config = await lab().admin.get({ kind: "Endpoints", namespace: "databases" }, "shop-source-config");
    expect(config?.metadata.annotations).toHaveProperty("initialize");
    expect(service()).toMatchObject({ stanza: "shop-source", problem: null });
    const settings = { ...RUNNER, limits: { ...RUNNER.limits, goneMs: 60_000 } };
    runner = createKubernetesRunner(lab().api, settings, { log: silent });
    await runner.watch((observation) => void seen.push(observation), stop.signal);
  });

  test("what people write onto the leader object stays, whatever Patroni writes", async () => {
    await annotate({ "patroni-restore/stanza": "shop", "patroni-restore/source": lab().source.conninfo });
    await waitFor("the override", () => service().stanza === "shop");
    const renewals = new Set<string>();
    await waitFor("some renewals", async () => {
      renewals.add((await leader())?.metadata.annotations?.renewTime ?? "");
      return renewals.size > 3;
    });
    expect((await leader())?.metadata.annotations).toHaveProperty("patroni-restore/stanza", "shop");
    expect(service().source).toBe(lab().source.conninfo);
  });

  test("a restore test is healthy by its report and Patroni's leader, though the API server dies meanwhile", async () => {
    const { made, scope } = await startTest();
    const running = await pod(scope);
    await waitFor(
      "the restore",
      () => statusesOf(made).length > 0,
      60_000,
      () => running.service.log(),
    );
    await lab().server.restart(async () => {});
    const end = await ended(made, running);
    expect(end.error).toBeNull();
    expect(end.outcome).toBe("healthy");
    expect(statusesOf(made)).toEqual(["restoring", "recovering", "verifying"]);
    expect(end.report?.checks.filter(({ status }) => status === "pass").length).toBeGreaterThan(20);
    const config = await lab().admin.get({ kind: "ConfigMap", namespace: "restore-tests" }, `${scope}-config`);
    expect(config?.metadata.annotations?.initialize).toBe(end.report?.recovered?.system_identifier);
    // Neither does the fleet take it for a service of its own.
    expect([...services.keys()]).toEqual(["databases/shop-source"]);
    await runner.remove(made.id, { keepInstance: false });
    await running.ended;
    await expectGone(made);
  });

  test("a restore that fails never has a leader; its pod says why", async () => {
    await annotate({ "patroni-restore/settings": "set: 20200101-000000F" });
    await waitFor("the override", () => "set" in service().settings);
    const { made, scope } = await startTest();
    const running = await pod(scope);
    const end = await ended(made, running);
    expect(end).toMatchObject({ outcome: "restore", error: { name: "PREFLIGHT_FAILED" } });
    expect(end.error?.message).toContain("20200101-000000F");
    expect(await lab().admin.get({ kind: "ConfigMap", namespace: "restore-tests" }, `${scope}-leader`)).toBeNull();
    await annotate({ "patroni-restore/settings": null });
    await runner.remove(made.id, { keepInstance: false });
    await running.ended;
    await expectGone(made);
  });

  test("one that hangs is ended and taken away", async () => {
    await waitFor("no override", () => !("set" in service().settings));
    const { made, scope } = await startTest();
    // Whatever Patroni appends, it only waits.
    const running = await pod(scope, { command: `${process.execPath} -e "setTimeout(() => {}, 600000)" --` });
    await waitFor(
      "Patroni to be in it",
      () => statusesOf(made).includes("restoring"),
      60_000,
      () => running.service.log(),
    );
    expect([endOf(made), running.service.isRunning()]).toEqual([undefined, true]);
    await runner.cancel(made.id);
    const end = await ended(made, running);
    expect(end.outcome).toBe("cancelled");
    expect(end.error?.message).toContain("running custom bootstrap script");
    await runner.remove(made.id, { keepInstance: false });
    await running.ended;
    await expectGone(made);
  });

  test("two schedulers with the roles of the templates: a test that is asked for by annotation outlives the one that began it", async () => {
    const database = await startSource(lab(), { stanza: "record" });
    await query(database, "CREATE DATABASE fleet");
    const env = { KUBECONFIG: await lab().server.kubeconfigOf(FLEET) };
    const start = (name: string) =>
      startFleet(lab(), {
        ...{ name, env, record: recordOf(database) },
        args: ["--test-namespace=restore-tests", "--jitter=10d"],
      });
    const first = await start("scheduler-1");
    await first.service.waitForLog(/this scheduler leads/);
    const second = await start("scheduler-2");
    const id = "databases/shop-source";
    const isReady = async () => (await second.get("/readyz")).status === 200;
    await waitFor("the second to be ready", isReady, 30_000, () => second.service.log());
    expect((await serviceOf(second, id)).verdict).toBe("never");
    await annotate({ "patroni-restore/test-now": "please" });
    const sets = async () =>
      (await lab().admin.list({ kind: "StatefulSet", namespace: "restore-tests" }, { selector: TEST_LABEL, limit: 10 }))
        .items;
    const set = await waitFor(
      "the StatefulSet",
      async () => (await sets())[0],
      120_000,
      () => first.service.log(),
    );
    const running = await pod(set.metadata.name);
    const isRestoring = async () => (await recordedTests(database)).at(-1)?.status === "restoring";
    await waitFor("the restore", isRestoring, 120_000, () => running.service.log());
    first.service.kill("SIGKILL");
    const isDone = async () => (await slotCount(database)) === 0;
    await waitFor("its end", isDone, 180_000, () => second.service.log());
    expect((await recordedTests(database)).map(({ status, statuses }) => ({ status, statuses }))).toEqual([
      { status: "healthy", statuses: ["requested", "marking", "restoring", "recovering", "verifying", "healthy"] },
    ]);
    await running.ended;
    await waitFor("everything to be gone", async () => (await sets()).length === 0, 60_000);
    await waitFor("the verdict", async () => (await serviceOf(second, id)).verdict === "healthy");
    expect((await second.get("/readyz")).status).toBe(200);
    await second.service.stop("SIGTERM", 30_000);
    await database.service.stop();
  }, 400_000);

  test.each([
    [FLEET, "GET", "/api/v1/secrets"],
    [FLEET, "GET", "/api/v1/namespaces/restore-tests/secrets"],
    [FLEET, "GET", "/api/v1/namespaces/restore-tests/secrets/shop-pgbackrest"],
    [FLEET, "GET", "/api/v1/configmaps"],
    [FLEET, "POST", "/api/v1/namespaces/restore-tests/pods"],
    [FLEET, "POST", "/api/v1/namespaces/restore-tests/pods/x/exec"],
    [FLEET, "POST", "/apis/apps/v1/namespaces/databases/statefulsets"],
    [FLEET, "PATCH", "/api/v1/namespaces/databases/endpoints/shop-source"],
    [POD, "GET", "/api/v1/namespaces/restore-tests/secrets"],
    [POD, "GET", "/api/v1/namespaces/databases/configmaps"],
    [POD, "DELETE", "/api/v1/namespaces/restore-tests/pods/x"],
    [POD, "POST", "/apis/apps/v1/namespaces/restore-tests/statefulsets"],
  ])("%s may not: %s %s", async (user, method, path) => {
    const { status, text } = await lab().server.ask(method, path, method === "GET" ? undefined : {}, user);
    expect([status, JSON.parse(text).reason]).toEqual([403, "Forbidden"]);
  });
});
