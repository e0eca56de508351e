import { describe, expect, test } from "vitest";
import { leaderScope, overridesOf, serviceOf } from "../../../../lib/fleet/kubernetes/leader.ts";
import type { KubernetesObject } from "../../../../lib/io/kubernetes.ts";
import { leaderObject, WATCH } from "../../../lab/kubernetes/samples.ts";
import { captured } from "./captured.ts";

const endpoints = { ...WATCH, watch: "endpoints" } as const;

describe("Patroni's own objects", () => {
  const objects = captured("endpoints");

  test("the leader's alone is a service", () => {
    const scopes = objects.map((object) => [object.metadata.name, leaderScope(object, endpoints)]);
    expect(Object.fromEntries(scopes)).toEqual({
      "shop-source": "shop-source",
      "shop-source-config": null,
    });
  });

  test("with ConfigMaps the leader's has another name", () => {
    const configMaps = captured("healthy-configmaps").map((object) => {
      // As they would be of a service: without the labels of a restore test.
      const text = JSON.stringify(object).replaceAll(/-rt-[0-9a-f]{8}/g, "");
      const { metadata } = JSON.parse(text) as KubernetesObject;
      delete metadata.labels?.["patroni-restore/test"];
      return { metadata };
    });
    const scopes = configMaps.map((object) => leaderScope(object, WATCH)).filter((scope) => scope !== null);
    expect(scopes).toEqual(["shop-source"]);
  });

  test("those of a restore test are never one", () => {
    for (const object of captured("healthy-configmaps")) expect(leaderScope(object, WATCH)).toBeNull();
  });
});

describe("a leader object is known by label and annotations", () => {
  const named = (name: string, scope: string, annotations: Record<string, string>): KubernetesObject => ({
    metadata: { name, namespace: "n", labels: { "cluster-name": scope }, annotations },
  });
  const leads = { leader: "x-0", acquireTime: "t", renewTime: "t", ttl: "30" };

  test.each([
    ["a service whose name ends with -config", named("shop-config", "shop-config", leads), "shop-config"],
    ["a service whose name ends with -sync", named("a-sync", "a-sync", leads), "a-sync"],
    ["the configuration of shop", named("shop-config", "shop", { config: "{}", initialize: "7" }), null],
    ["its synchronous standbys", named("shop-sync", "shop", { leader: "shop-0", sync_standby: "shop-1" }), null],
    ["its switchover", named("shop-failover", "shop", { leader: "shop-0", member: "shop-1" }), null],
    ["Endpoints of a Service that never had a leader", named("shop", "shop", {}), null],
    ["a service that has no leader just now", named("shop", "shop", { renewTime: "t", ttl: "30" }), "shop"],
    ["somebody else's Endpoints", named("shop-pooler", "shop", {}), null],
    ["a restore test by its scope alone", named("shop-rt-0a1b2c3d", "shop-rt-0a1b2c3d", leads), null],
    ["without the label", { metadata: { name: "shop", annotations: leads } }, null],
  ])("%s", (_, object, scope) => {
    expect(leaderScope(object, endpoints)).toBe(scope);
  });

  test("of Citus each group is a service", () => {
    const object = named("shop-1", "shop", leads);
    object.metadata.labels = { ...object.metadata.labels, "citus-group": "1" };
    expect(leaderScope(object, endpoints)).toBe("shop-1");
  });
});

const service = (annotations: Record<string, string> = {}, settings: Partial<typeof WATCH> = {}) => {
  const said = Object.fromEntries(Object.entries(annotations).map(([key, value]) => [`patroni-restore/${key}`, value]));
  const object = leaderObject("databases", "shop", { annotations: said });
  return serviceOf("databases", "shop", overridesOf(object), { ...WATCH, ...settings });
};

describe("a service", () => {
  test("that says nothing has what the settings say", () => {
    expect(service()).toEqual({
      id: "databases/shop",
      namespace: "databases",
      scope: "shop",
      stanza: "shop",
      source: "host=shop.databases.svc user=mark dbname=postgres",
      groups: {},
      policy: WATCH.policy,
      settings: {},
      wanted: null,
      problem: null,
    });
  });

  test.each([
    ["interval", "12h", { policy: { intervalMs: 43_200_000 } }],
    ["jitter", "1h", { policy: { jitterMs: 3_600_000 } }],
    ["weight", "5", { policy: { weight: 5 } }],
    ["after-backups", "3", { policy: { afterBackups: 3 } }],
    ["after-backups", "never", { policy: { afterBackups: null } }],
    ["paused", "true", { policy: { isPaused: true } }],
    ["test-now", "2026-11-23", { wanted: "2026-11-23" }],
    ["stanza", "main", { stanza: "main" }],
    ["source", "host={scope}-ro port=5433", { source: "host=shop-ro port=5433" }],
    ["source", "none", { source: null }],
    ["groups", "storage_class: fast", { groups: { storage_class: "fast" } }],
    ["settings", "level: full\nprocess_max: 8", { settings: { level: "full", process_max: 8 } }],
    ["settings", '{"level": "quick"}', { settings: { level: "quick" } }],
    ["storage", "200Gi", { resources: { storage: "200Gi" } }],
    ["memory", "4Gi", { resources: { memory: "4Gi" } }],
  ])("%s: %s", (name, value, expected) => {
    expect(service({ [name]: value })).toMatchObject({ ...expected, problem: null });
  });

  test("windows: several, with their days and zone", () => {
    const { policy, problem } = service({ windows: "mon-fri 22:00-06:00 Europe/Berlin; sat,sun 00:00-24:00" });
    expect(problem).toBeNull();
    expect(policy.windows).toMatchObject([
      { days: ["mon", "tue", "wed", "thu", "fri"], from: 1320, to: 360, timeZone: "Europe/Berlin" },
      { days: ["sat", "sun"], from: 0, to: 1440, timeZone: "UTC" },
    ]);
  });

  test.each([
    ["interval", "often", '"often" is not a duration'],
    ["interval", "0", '"0" is less than a second'],
    ["windows", "at night", '"at night" is not a window'],
    ["weight", "-1", '"-1" is not a whole number from 0'],
    ["paused", "maybe", '"maybe" is neither true nor false'],
    ["intervall", "1d", 'patroni-restore/intervall is not known; did you mean "interval"'],
    ["stanza", "", "is empty"],
    ["source", "host=x pasword=y", '"pasword" is not a connection parameter of libpq'],
    ["source", "host={service}", "{service} is none of {scope}, {namespace} and {stanza}"],
    ["groups", "fast", '"fast" is not a mapping'],
    ["settings", "levl: full", "levl is not a setting"],
    ["settings", "level: deep", '"deep" is not one of quick, standard, full'],
    ["settings", "stanza: other", "stanza is not a setting of a restore test's hooks"],
    ["settings", "receipt: /x", "receipt is not a setting of a restore test's hooks"],
    ["storage", "much", '"much" is not a quantity'],
  ])("%s: %s is a problem that is told in words", (name, value, words) => {
    expect(service({ [name]: value }).problem).toContain(words);
  });

  test("a password is refused, and not repeated", () => {
    const { problem, source } = service({ source: "host=x password=geheim" });
    expect([problem, source]).toEqual([expect.stringContaining("holds a password"), null]);
    expect(problem).not.toContain("geheim");
  });

  test("all that is wrong is told at once, and the rest still holds", () => {
    const { problem, policy } = service({ interval: "x", weight: "y", paused: "true" });
    expect(problem).toContain("patroni-restore/interval:");
    expect(problem).toContain("patroni-restore/weight:");
    expect(policy.isPaused).toBe(true);
  });

  test("a label says it too; the annotation is heard first", () => {
    const object = leaderObject("databases", "shop", {
      labels: { "patroni-restore/interval": "1h", "patroni-restore/weight": "3" },
      annotations: { "patroni-restore/interval": "2h" },
    });
    const { policy } = serviceOf("databases", "shop", overridesOf(object), WATCH);
    expect(policy).toMatchObject({ intervalMs: 7_200_000, weight: 3 });
  });

  test("without a template for sources nobody is asked", () => {
    expect(service({}, { sourceTemplate: null }).source).toBeNull();
  });
});
