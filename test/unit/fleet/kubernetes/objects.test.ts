import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { isTestScope, testScope } from "../../../../lib/fleet/kubernetes/names.ts";
import { renderTest } from "../../../../lib/fleet/kubernetes/objects.ts";
import { checkTemplate } from "../../../../lib/fleet/kubernetes/template.ts";
import type { Service } from "../../../../lib/fleet/service.ts";
import { type KubernetesObject, problemsOf } from "../../../fixtures/kubernetes.ts";
import { readTemplate } from "../../../fixtures/kubernetes-templates.ts";
import { IDENTIFIER, SERVICE, testFor } from "../../../lab/kubernetes/samples.ts";

const BUILT_IN = readTemplate("fleet-restore-test.yml");
const RECEIPT = JSON.stringify({ id: "r", system_identifier: IDENTIFIER });

const rendered = (service: Partial<Service> = {}, more: { receipt?: string | null; template?: string } = {}) => {
  const whole = { ...SERVICE, ...service };
  const objects = renderTest({
    template: more.template ?? null,
    test: testFor(whole, "0a1b2c3d"),
    service: whole,
    receipt: more.receipt === undefined ? RECEIPT : more.receipt,
    previousReport: null,
    namespace: "restore-tests",
    scopeLabel: "cluster-name",
  });
  const of = (kind: string): KubernetesObject =>
    objects.find((object) => object.kind === kind && /-rt-\w+$/.test(object.metadata.name));
  const [policy, configMap, set] = [of("NetworkPolicy"), of("ConfigMap"), of("StatefulSet")];
  return {
    objects,
    policy,
    configMap,
    set,
    pod: set.spec.template.spec,
    hooks: parse(configMap.data["hooks.yml"]),
    patroni: parse(configMap.data["patroni.yml"], { version: "1.1" }),
  };
};

describe("names", () => {
  test.each([
    ["shop", "shop-rt-0a1b2c3d"],
    ["a".repeat(40), `${"a".repeat(40)}-rt-0a1b2c3d`],
  ])("%s", (scope, name) => {
    expect(testScope(scope, "0a1b2c3d")).toBe(name);
  });

  test("what is too long or odd is shortened, stays its own, and is still known", () => {
    const long = ["a".repeat(41), `${"a".repeat(60)}b`, `${"a".repeat(60)}c`, "Shop_1", "shop.1", "-"];
    const names = long.map((scope) => testScope(scope, "0a1b2c3d"));
    expect(new Set(names).size).toBe(long.length);
    for (const name of names) {
      expect(name).toMatch(/^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])$/);
      expect(isTestScope(name)).toBe(true);
    }
  });

  test("a service whose name looks much like one is none", () => {
    for (const scope of ["shop-rt", "shop-rt-1", "smart-rt-north", "shop-rt-0a1b2c3d-x"])
      expect(isTestScope(scope)).toBe(false);
  });
});

describe("the objects of a restore test", () => {
  test("Kubernetes takes them; the StatefulSet is the last to be made", () => {
    const { objects } = rendered();
    expect(objects.map(({ kind }) => kind)).toEqual(["NetworkPolicy", "ConfigMap", "StatefulSet"]);
    for (const object of objects) expect(problemsOf(object)).toEqual([]);
  });

  test("all of them are of this test and of this service, in the namespace of the tests", () => {
    for (const { metadata } of rendered().objects) {
      expect(metadata).toMatchObject({
        name: "shop-rt-0a1b2c3d",
        namespace: "restore-tests",
        labels: { "patroni-restore/test": "0a1b2c3d" },
        annotations: { "patroni-restore/service": "databases/shop" },
      });
    }
  });

  test("the pod, its volume and what Patroni makes carry the label by which they are found", () => {
    const { set, policy, patroni } = rendered();
    const own = { "patroni-restore/test": "0a1b2c3d" };
    expect(set.spec.selector.matchLabels).toEqual(own);
    expect(policy.spec.podSelector.matchLabels).toEqual(own);
    expect(set.spec.template.metadata.labels).toMatchObject({ ...own, "cluster-name": "shop-rt-0a1b2c3d" });
    expect(set.spec.volumeClaimTemplates[0].metadata.labels).toMatchObject(own);
    expect(patroni.kubernetes.labels).toMatchObject(own);
    // Patroni takes the pods with all of these labels for its members.
    expect(set.spec.template.metadata.labels).toMatchObject(patroni.kubernetes.labels);
  });

  test("Patroni has a scope of its own, ConfigMaps, and a name that is the pod's", () => {
    const { patroni, pod } = rendered();
    expect(patroni).toMatchObject({
      scope: "shop-rt-0a1b2c3d",
      kubernetes: { namespace: "restore-tests", scope_label: "cluster-name", use_endpoints: false },
      postgresql: { parameters: { archive_mode: "off" } },
    });
    expect(patroni).not.toHaveProperty("name");
    for (const [name, fieldPath] of [
      ["PATRONI_NAME", "metadata.name"],
      ["POD_NAME", "metadata.name"],
      ["POD_NAMESPACE", "metadata.namespace"],
    ]) {
      expect(pod.containers[0].env).toContainEqual({ name, valueFrom: { fieldRef: { fieldPath } } });
    }
  });

  test("the receipt is where the hooks look for it, and its system identifier is kept", () => {
    const { configMap, hooks, pod, set } = rendered();
    expect(Buffer.from(configMap.binaryData["receipt.json"], "base64").toString()).toBe(RECEIPT);
    const volume = pod.volumes.find(({ name }: { name: string }) => name === "restore-test");
    expect(volume.configMap.name).toBe(configMap.metadata.name);
    expect(hooks).toMatchObject({ stanza: "shop", receipt: "/etc/restore-test/receipt.json", annotate_pod: true });
    expect(set.metadata.annotations["patroni-restore/system-identifier"]).toBe(IDENTIFIER);
  });

  test("without a receipt the newest is restored", () => {
    const { configMap, hooks, set } = rendered({}, { receipt: null });
    expect(configMap).not.toHaveProperty("binaryData");
    expect(hooks).toMatchObject({ target_type: "latest" });
    expect(hooks).not.toHaveProperty("receipt");
    expect(set.metadata.annotations).not.toHaveProperty("patroni-restore/system-identifier");
  });

  test("a receipt that no ConfigMap holds is refused with the way out", () => {
    expect(() => rendered({}, { receipt: JSON.stringify({ x: "y".repeat(1_100_000) }) })).toThrow("a ConfigMap holds");
  });

  test("the service's own settings, superuser, libraries and resources win", () => {
    const settings = { level: "full", superuser: "admin", shared_preload_libraries: "timescaledb" };
    const { hooks, patroni, set, pod } = rendered({ settings, resources: { storage: "2Ti", memory: "8Gi", cpu: "4" } });
    expect(hooks).toMatchObject({ level: "full", superuser: "admin", stanza: "shop" });
    expect(patroni.postgresql.authentication).toMatchObject({
      superuser: { username: "admin" },
      replication: { username: "admin" },
    });
    expect(patroni.postgresql.parameters.shared_preload_libraries).toBe("timescaledb");
    expect(set.spec.volumeClaimTemplates[0].spec.resources.requests.storage).toBe("2Ti");
    expect(pod.containers[0].resources).toEqual({ requests: { cpu: "4", memory: "8Gi" }, limits: { memory: "8Gi" } });
  });

  test("the repository's keys are the service's", () => {
    const { pod } = rendered();
    const { sources } = pod.volumes.find(({ name }: { name: string }) => name === "pgbackrest-config").projected;
    expect(
      sources.map((source: { secret?: object; configMap?: object }) => source.secret ?? source.configMap),
    ).toMatchObject([{ name: "shop-pgbackrest" }, { name: "shop-pgbackrest" }]);
  });

  test("an operator's own objects come along, under names of the test", () => {
    const own = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: restore-test-extra}\ndata: {a: b}\n---\n${BUILT_IN.replace(
      "        - name: run\n          emptyDir: {}",
      "        - name: run\n          configMap: {name: restore-test-extra}",
    )}`;
    const { objects } = rendered({}, { template: own });
    expect(objects.map(({ metadata }) => metadata.name).sort()).toEqual([
      "shop-rt-0a1b2c3d",
      "shop-rt-0a1b2c3d",
      "shop-rt-0a1b2c3d",
      "shop-rt-0a1b2c3d-extra",
    ]);
    expect(JSON.stringify(objects.at(-1))).toContain('{"name":"run","configMap":{"name":"shop-rt-0a1b2c3d-extra"}}');
  });

  test("what an operator writes cannot take the test away from the fleet", () => {
    const hostile = BUILT_IN.replace("replicas: 1", "replicas: 3")
      .replace("use_endpoints: false", "use_endpoints: true")
      .replace("annotate_pod: true", "annotate_pod: false");
    const { set, patroni, hooks } = rendered({}, { template: hostile });
    expect([set.spec.replicas, patroni.kubernetes.use_endpoints, hooks.annotate_pod]).toEqual([1, false, true]);
  });
});

describe("a template that cannot work is refused at the start", () => {
  test("the built-in one is fine", () => expect(() => checkTemplate(null)).not.toThrow());

  test.each([
    [
      "no StatefulSet",
      (text: string) => text.slice(0, text.indexOf("---\napiVersion: apps/v1")),
      "must have one StatefulSet",
    ],
    [
      "another kind",
      (text: string) => text.replace("kind: NetworkPolicy", "kind: Secret"),
      "Secret restore-test is none of",
    ],
    [
      "another version",
      (text: string) => text.replace("apiVersion: apps/v1", "apiVersion: apps/v1beta1"),
      "must be of apps/v1",
    ],
    [
      "a mistyped method",
      (text: string) => text.replace("method: patroni_restore", "method: patroni-restore"),
      "must name a section",
    ],
    [
      "no post_bootstrap",
      (text: string) => text.replace("post_bootstrap:", "post_bootstrp:"),
      "post_bootstrap is missing",
    ],
    [
      "a mistyped setting",
      (text: string) => text.replace("level: standard", "levl: standard"),
      "levl is not a setting",
    ],
    ["a wrong value", (text: string) => text.replace("level: standard", "level: deep"), '"deep" is not one of'],
    ["an unknown word", (text: string) => text.replaceAll("{{scope}}", "{{service}}"), "{{service}} is none of"],
    [
      "a name of Patroni's",
      (text: string) => text.replace("name: restore-test\n", "name: restore-test-config\n"),
      "of an object of Patroni's",
    ],
    [
      "no YAML",
      (text: string) => text.replace("spec:\n  podSelector", "spec:\n podSelector:\n   - x\n  podSelector"),
      "at line ",
    ],
  ])("%s", (_, change, words) => {
    expect(() => checkTemplate(change(BUILT_IN))).toThrow(words);
  });
});
