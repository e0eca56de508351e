/** The objects of one restore test, from the template: pure. What the fleet relies on is set here, whatever the template says. */

import { parse, stringify } from "yaml";
import { RestoreError } from "../../errors.ts";
import type { KubernetesObject } from "../../io/kubernetes.ts";
import { formatSize } from "../../units.ts";
import type { TestInput } from "../runner.ts";
import type { Service } from "../service.ts";
import type { Test } from "../test.ts";
import {
  APPLICATION,
  DEADLINE_ANNOTATION,
  EXPECTED_ANNOTATION,
  hashOf,
  REASON_ANNOTATION,
  SERVICE_ANNOTATION,
  SERVICE_LABEL,
  TEST_LABEL,
  testScope,
} from "./names.ts";
import { HOOKS_FILE, PATRONI_FILE, type PatroniFile, PREVIOUS_FILE, RECEIPT_FILE, readTemplate } from "./template.ts";

export interface RenderInput extends TestInput {
  /** Null for the built-in template. */
  template: string | null;
  test: Test;
  service: Service;
  /** Where the test runs. */
  namespace: string;
  /** Patroni's kubernetes.scope_label. */
  scopeLabel: string;
}

/** A ConfigMap holds 1 MiB; the other files in it are small. */
const RECEIPT_LIMIT = 1000 * 1024;

/** In the order in which they are made: the StatefulSet is the last, so where it is, everything is. */
export function renderTest(input: RenderInput): KubernetesObject[] {
  const { test, service, namespace, receipt } = input;
  const scope = testScope(test.scope, test.id);
  const labels = {
    "app.kubernetes.io/name": "patroni-restore",
    "app.kubernetes.io/component": "restore-test",
    [TEST_LABEL]: test.id,
    [SERVICE_LABEL]: hashOf(test.service),
  };
  const objects = readTemplate(input.template, {
    scope: service.scope,
    namespace: service.namespace,
    stanza: test.stanza,
  });
  const renamed = (name: string) => name.replace(/^restore-test/, scope);
  const configMaps = new Set(objects.filter(({ kind }) => kind === "ConfigMap").map(({ metadata }) => metadata.name));
  const rendered = objects.map((object): KubernetesObject => {
    const common = {
      ...object,
      metadata: {
        ...object.metadata,
        name: renamed(object.metadata.name),
        namespace,
        labels: { ...object.metadata.labels, ...labels },
        annotations: { ...object.metadata.annotations, [SERVICE_ANNOTATION]: test.service },
      },
    };
    if (object.kind === "NetworkPolicy") return withSelector(common, test.id);
    if (object.kind === "ConfigMap") {
      return object.metadata.name === "restore-test" ? withFiles(common, input, objects, scope, labels) : common;
    }
    return withPod(common, { input, scope, labels, configMaps, renamed, receipt });
  });
  const order = ["NetworkPolicy", "ConfigMap", "StatefulSet"];
  return rendered.sort((a, b) => order.indexOf(a.kind ?? "") - order.indexOf(b.kind ?? ""));
}

const withSelector = (policy: KubernetesObject, test: string): KubernetesObject => ({
  ...policy,
  spec: { ...(policy.spec as object), podSelector: { matchLabels: { [TEST_LABEL]: test } } },
});

function withFiles(
  configMap: KubernetesObject,
  { service, test, receipt, previousReport, namespace, scopeLabel }: RenderInput,
  objects: readonly KubernetesObject[],
  scope: string,
  labels: Record<string, string>,
): KubernetesObject {
  const data = configMap.data as Record<string, string>;
  const hooks = {
    ...(parse(data[HOOKS_FILE] ?? "", { version: "1.1" }) as object),
    ...(receipt === null ? { target_type: "latest" } : {}),
    ...service.settings,
    stanza: test.stanza,
    annotate_pod: true,
    ...(receipt === null ? {} : { receipt: `${mountPathOf(objects)}/${RECEIPT_FILE}` }),
    ...(previousReport === null ? {} : { previous_report: `${mountPathOf(objects)}/${PREVIOUS_FILE}` }),
  };
  const patroni = parse(data[PATRONI_FILE] ?? "", { version: "1.1" }) as PatroniFile;
  const { name: _, ...rest } = patroni;
  const changed = {
    ...rest,
    scope,
    kubernetes: {
      ...patroni.kubernetes,
      namespace,
      scope_label: scopeLabel,
      labels: { application: APPLICATION, ...labels },
      use_endpoints: false,
    },
    postgresql: { ...patroni.postgresql, ...postgresqlOf(patroni, service) },
  };
  if (receipt !== null && Buffer.byteLength(receipt) > RECEIPT_LIMIT) {
    throw new RestoreError(
      "SETTINGS_INVALID",
      `the receipt has ${formatSize(Buffer.byteLength(receipt))}, and a ConfigMap holds ${formatSize(RECEIPT_LIMIT)}`,
      { hint: "give mark a smaller manifest_budget" },
    );
  }
  return {
    ...configMap,
    data: {
      ...data,
      [HOOKS_FILE]: stringify(hooks, { lineWidth: 0 }),
      // Patroni reads YAML 1.1, where a plain `off` is no text.
      [PATRONI_FILE]: stringify(changed, { lineWidth: 0, version: "1.1" }),
      ...(previousReport === null ? {} : { [PREVIOUS_FILE]: previousReport }),
    },
    ...(receipt === null ? {} : { binaryData: { [RECEIPT_FILE]: Buffer.from(receipt).toString("base64") } }),
  };
}

/** What the service's own settings mean to Patroni. */
function postgresqlOf({ postgresql }: PatroniFile, { settings }: Service): Partial<PatroniFile["postgresql"]> {
  const { superuser, shared_preload_libraries: libraries } = settings;
  const user = superuser === undefined ? {} : { username: String(superuser) };
  const authentication = postgresql?.authentication ?? {};
  return {
    authentication: {
      ...authentication,
      superuser: { ...authentication.superuser, ...user },
      replication: { ...authentication.replication, ...user },
    },
    parameters: {
      ...postgresql?.parameters,
      ...(libraries === undefined ? {} : { shared_preload_libraries: String(libraries) }),
    },
  };
}

interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: {
    containers: Container[];
    volumes?: Volume[];
    [field: string]: unknown;
  };
}

interface Container {
  name: string;
  env?: { name: string; [field: string]: unknown }[];
  volumeMounts?: { name: string; mountPath: string }[];
  resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
  [field: string]: unknown;
}

interface Volume {
  name: string;
  configMap?: { name?: string };
  projected?: { sources?: { configMap?: { name?: string } }[] };
  [field: string]: unknown;
}

interface ClaimTemplate {
  metadata: { name: string; labels?: Record<string, string> };
  spec: { resources?: { requests?: Record<string, string> }; [field: string]: unknown };
}

interface SetSpec {
  template: PodTemplate;
  volumeClaimTemplates?: ClaimTemplate[];
  [field: string]: unknown;
}

function podOf(objects: readonly KubernetesObject[]): PodTemplate["spec"] | undefined {
  const set = objects.find(({ kind }) => kind === "StatefulSet");
  return (set?.spec as SetSpec | undefined)?.template.spec;
}

/** The container of Patroni is called so, or it is the first. */
const patroniIn = (containers: readonly Container[]): Container | undefined =>
  containers.find(({ name }) => name === "patroni") ?? containers[0];

/** Where Patroni's container has the ConfigMap. */
function mountPathOf(objects: readonly KubernetesObject[]): string {
  const { containers = [], volumes = [] } = podOf(objects) ?? {};
  const holds = ({ configMap, projected }: Volume) =>
    configMap?.name === "restore-test" || projected?.sources?.some((it) => it.configMap?.name === "restore-test");
  const names = volumes.filter(holds).map(({ name }) => name);
  const mount = patroniIn(containers)?.volumeMounts?.find(({ name }) => names.includes(name));
  if (mount !== undefined) return mount.mountPath.replace(/\/+$/, "");
  throw new RestoreError(
    "SETTINGS_INVALID",
    `the template of the restore test mounts its ConfigMap "restore-test" nowhere`,
    { hint: "start from a copy of patroni-templates/kubernetes/fleet-restore-test.yml" },
  );
}

function withPod(
  set: KubernetesObject,
  parts: {
    input: RenderInput;
    scope: string;
    labels: Record<string, string>;
    configMaps: ReadonlySet<string>;
    renamed(name: string): string;
    receipt: string | null;
  },
): KubernetesObject {
  const { input, scope, labels, configMaps, renamed, receipt } = parts;
  const spec = set.spec as SetSpec;
  const pod = spec.template;
  const { resources = {} } = input.service;
  const main = patroniIn(pod.spec.containers);
  const expected =
    receipt === null ? undefined : (JSON.parse(receipt) as { system_identifier?: string }).system_identifier;
  const named = <T extends { name?: string }>(source: T): T =>
    source.name !== undefined && configMaps.has(source.name) ? { ...source, name: renamed(source.name) } : source;
  return {
    ...set,
    metadata: {
      ...set.metadata,
      annotations: {
        ...set.metadata.annotations,
        ...(expected === undefined ? {} : { [EXPECTED_ANNOTATION]: expected }),
        // For people.
        [REASON_ANNOTATION]: input.test.reason,
        [DEADLINE_ANNOTATION]: input.test.deadlineAt.toISOString(),
      },
    },
    spec: {
      ...spec,
      replicas: 1,
      serviceName: scope,
      selector: { matchLabels: { [TEST_LABEL]: input.test.id } },
      template: {
        ...pod,
        metadata: {
          ...pod.metadata,
          labels: {
            ...pod.metadata?.labels,
            ...labels,
            application: APPLICATION,
            [input.scopeLabel]: scope,
          },
          annotations: { ...pod.metadata?.annotations, [SERVICE_ANNOTATION]: input.test.service },
        },
        spec: {
          ...pod.spec,
          containers: pod.spec.containers.map((container) =>
            container === main ? withResources(withEnvironment(container), resources) : container,
          ),
          volumes: (pod.spec.volumes ?? []).map((volume) => ({
            ...volume,
            ...(volume.configMap === undefined ? {} : { configMap: named(volume.configMap) }),
            ...(volume.projected === undefined
              ? {}
              : {
                  projected: {
                    ...volume.projected,
                    sources: volume.projected.sources?.map((source) =>
                      source.configMap === undefined ? source : { ...source, configMap: named(source.configMap) },
                    ),
                  },
                }),
          })),
        },
      },
      ...(spec.volumeClaimTemplates === undefined
        ? {}
        : {
            volumeClaimTemplates: spec.volumeClaimTemplates.map((claim) => withSize(claim, labels, resources.storage)),
          }),
    },
  };
}

const ENVIRONMENT: Readonly<Record<string, string>> = {
  POD_NAME: "metadata.name",
  POD_NAMESPACE: "metadata.namespace",
  PATRONI_NAME: "metadata.name",
};

function withEnvironment(container: Container): Container {
  const kept = (container.env ?? []).filter(({ name }) => !(name in ENVIRONMENT));
  const own = Object.entries(ENVIRONMENT).map(([name, fieldPath]) => ({
    name,
    valueFrom: { fieldRef: { fieldPath } },
  }));
  return { ...container, env: [...own, ...kept] };
}

function withResources(container: Container, { cpu, memory }: { cpu?: string; memory?: string }): Container {
  const requests = { ...(cpu === undefined ? {} : { cpu }), ...(memory === undefined ? {} : { memory }) };
  const { resources } = container;
  if (Object.keys(requests).length === 0) return container;
  return {
    ...container,
    resources: {
      requests: { ...resources?.requests, ...requests },
      // A limit below the request would be refused.
      limits: {
        ...resources?.limits,
        ...(memory === undefined ? {} : { memory }),
        ...cpuLimit(resources?.limits, cpu),
      },
    },
  };
}

const cpuLimit = (limits: Record<string, string> | undefined, cpu: string | undefined) =>
  cpu === undefined || limits?.cpu === undefined ? {} : { cpu };

const withSize = (
  claim: ClaimTemplate,
  labels: Record<string, string>,
  storage: string | undefined,
): ClaimTemplate => ({
  ...claim,
  metadata: { ...claim.metadata, labels: { ...claim.metadata.labels, ...labels } },
  spec: {
    ...claim.spec,
    ...(storage === undefined
      ? {}
      : { resources: { ...claim.spec.resources, requests: { ...claim.spec.resources?.requests, storage } } }),
  },
});
