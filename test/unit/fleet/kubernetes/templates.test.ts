/** patroni-templates/kubernetes/fleet-*.yml: objects that an API server takes, that fit together, and that may do little. */

import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { FLEET_RUN_OPTIONS } from "../../../../lib/fleet/serve.ts";
import { listenProblems } from "../../../../lib/http/listen.ts";
import { renderTemplate } from "../../../../lib/patroni/templates.ts";
import { loadSettings } from "../../../../lib/settings.ts";
import { parseSettingsFile } from "../../../../lib/settings-file.ts";
import { type KubernetesObject, problemsOf } from "../../../fixtures/kubernetes.ts";
import { FLEET_TEMPLATES, FLEET_VALUES, readTemplate } from "../../../fixtures/kubernetes-templates.ts";

function objectsOf(file: string, version: "1.1" | "1.2" = "1.1"): KubernetesObject[] {
  return parseAllDocuments(readTemplate(file)).map((document) => {
    const [filled] = parseAllDocuments(renderTemplate(document.toString(), FLEET_VALUES, { unusedAllowed: true }), {
      version,
    });
    return filled?.toJS();
  });
}

const find = (file: string, kind: string, name: string): KubernetesObject => {
  const found = objectsOf(file).find((object) => object.kind === kind && object.metadata.name === name);
  expect(found, `${kind} ${name} in ${file}`).toBeDefined();
  return found;
};

describe.each(FLEET_TEMPLATES)("%s", (file) => {
  test("is made of objects that Kubernetes takes", () => {
    for (const object of objectsOf(file)) expect(problemsOf(object)).toEqual([]);
  });

  test("says what it is, in lines that fit, and means the same in YAML 1.1 and 1.2", () => {
    expect(readTemplate(file)).toMatch(new RegExp(`^# .*${objectsOf(file)[0].kind}`));
    expect(
      readTemplate(file)
        .split("\n")
        .filter((line) => line.length > 120),
    ).toEqual([]);
    expect(objectsOf(file, "1.2")).toEqual(objectsOf(file));
  });
});

describe("fleet-rbac.yml", () => {
  const objects = objectsOf("fleet-rbac.yml");
  const rules = objects.flatMap(({ rules = [] }) => rules);

  test("nobody may read a Secret, enter a pod, or do whatever there is", () => {
    const named = rules.flatMap(({ resources, verbs, apiGroups }: KubernetesObject) => [
      ...resources,
      ...verbs,
      ...apiGroups,
    ]);
    for (const word of ["secrets", "*", "pods/exec", "pods/log", "escalate", "bind", "impersonate"]) {
      expect(named).not.toContain(word);
    }
  });

  test("in all namespaces leader objects alone are read", () => {
    const roles = objects.filter(({ kind }) => kind === "ClusterRole");
    expect(roles.flatMap(({ rules: own }) => own)).toEqual([
      { apiGroups: [""], resources: ["endpoints"], verbs: ["list", "watch"] },
    ]);
  });

  test("each binding leads from an account that is there to a role that is there", () => {
    for (const { kind, metadata, roleRef, subjects } of objects) {
      if (!/Binding$/.test(kind)) continue;
      const role = objects.find((it) => it.kind === roleRef.kind && it.metadata.name === roleRef.name);
      expect(role?.metadata.namespace, metadata.name).toBe(metadata.namespace);
      for (const subject of subjects) {
        const account = objects.find(
          ({ kind, metadata: { name } }) => kind === "ServiceAccount" && name === subject.name,
        );
        expect(account?.metadata.namespace).toBe(subject.namespace);
      }
    }
  });
});

describe("fleet-deployment.yml", () => {
  const { spec } = find("fleet-deployment.yml", "Deployment", "fleet");
  const pod = spec.template.spec;
  const [container] = pod.containers;

  test("two schedulers with the account of fleet-rbac.yml", () => {
    expect(spec.replicas).toBe(2);
    find("fleet-rbac.yml", "ServiceAccount", pod.serviceAccountName);
    expect(spec.selector.matchLabels).toEqual(spec.template.metadata.labels);
  });

  test("may do nothing that it does not need", () => {
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: "RuntimeDefault" } });
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
  });

  test("its settings are where it looks for them, and the policy selects it", () => {
    const config = pod.volumes.find(({ name }: KubernetesObject) => name === "config");
    const { data } = find("fleet-configmap.yml", "ConfigMap", config.configMap.name);
    const path = container.command.at(-1);
    const mount = container.volumeMounts.find(({ name }: KubernetesObject) => name === "config");
    expect(Object.keys(data).map((file) => `${mount.mountPath}/${file}`)).toContain(path);
    const policy = find("fleet-networkpolicy.yml", "NetworkPolicy", "fleet").spec;
    expect(spec.template.metadata.labels).toMatchObject(policy.podSelector.matchLabels);
    expect(policy.ingress[0].ports).toEqual([{ protocol: "TCP", port: container.ports[0].containerPort }]);
  });

  test("the settings are settings of fleet run, their files are mounted, and it may listen where others reach it", () => {
    const { data } = find("fleet-configmap.yml", "ConfigMap", "fleet");
    const text = data["fleet.yml"];
    const settings = loadSettings([...FLEET_RUN_OPTIONS, "logFormat"], ["record"], {
      ...{ flags: {}, environment: {}, file: parseSettingsFile("fleet.yml", text) },
    });
    expect(settings.listen.port).toBe(container.ports[0].containerPort);
    expect(listenProblems(settings.listen, { hasToken: true, hasTls: true, isInsecure: settings.insecure })).toEqual(
      [],
    );
    expect(settings.testNamespace).toBe(find("fleet-rbac.yml", "Role", "restore-test").metadata.namespace);
    expect(settings.record).not.toMatch(/password/);
    const mounts = container.volumeMounts.map(({ mountPath }: KubernetesObject) => mountPath);
    for (const file of [settings.tokenFile, settings.tlsCertFile, settings.tlsKeyFile, settings.testTemplate]) {
      expect(mounts).toContain(dirname(file as string));
    }
  });

  test("the Service leads to it, and Prometheus finds the Service", () => {
    const service = find("fleet-service.yml", "Service", "fleet");
    expect(spec.template.metadata.labels).toMatchObject(service.spec.selector);
    expect(service.spec.ports[0].targetPort).toBe(container.ports[0].name);
    const [monitor] = objectsOf("fleet-servicemonitor.yml");
    expect(service.metadata.labels).toMatchObject(monitor?.spec.selector.matchLabels);
    const [endpoint] = monitor?.spec.endpoints ?? [];
    expect(endpoint).toMatchObject({ port: service.spec.ports[0].name, scheme: "https", honorLabels: true });
    const secrets = pod.volumes.map(({ secret }: KubernetesObject) => secret?.secretName);
    expect(secrets).toContain(endpoint.tlsConfig.ca.secret.name);
    expect(endpoint.tlsConfig.serverName).toBe(`${service.metadata.name}.${service.metadata.namespace}.svc`);
  });

  test("every mount has a volume, and every volume a mount", () => {
    const names = (list: KubernetesObject[]) => list.map(({ name }) => name).sort();
    expect(names(container.volumeMounts)).toEqual(names(pod.volumes));
  });
});

describe("fleet-restore-test.yml", () => {
  const set = find("fleet-restore-test.yml", "StatefulSet", "restore-test");
  const pod = set.spec.template.spec;

  test("its account is the one that may do what Patroni needs", () => {
    expect(find("fleet-rbac.yml", "ServiceAccount", pod.serviceAccountName).metadata.namespace).toBe("restore-tests");
  });

  test("nothing unproven starts after an interruption, and nobody is reached but the repository and the API", () => {
    expect(pod.containers[0].env).toContainEqual({ name: "RESTORE_ON_UNPROVEN", value: "refuse" });
    const { ingress, egress } = find("fleet-restore-test.yml", "NetworkPolicy", "restore-test").spec;
    expect(ingress).toEqual([]);
    const ports = egress.flatMap((rule: KubernetesObject) => rule.ports.map(({ port }: KubernetesObject) => port));
    expect([...new Set(ports)].sort()).toEqual([443, 53, 6443]);
  });
});
