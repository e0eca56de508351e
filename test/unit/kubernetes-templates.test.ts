/** patroni-templates/kubernetes/: objects that an API server takes, that fit together, and that keep secrets secret. */

import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { BACKUP_API_OPTIONS } from "../../lib/backup-api/serve.ts";
import { listenProblems } from "../../lib/http/listen.ts";
import { parseTokens } from "../../lib/http/tokens.ts";
import { placeholdersOf } from "../../lib/patroni/templates.ts";
import { loadSettings } from "../../lib/settings.ts";
import { parseSettingsFile } from "../../lib/settings-file.ts";
import { type KubernetesObject, patched, problemsOf } from "../fixtures/kubernetes.ts";
import { readTemplate, renderFile, renderObject, TEMPLATES, VALUES } from "../fixtures/kubernetes-templates.ts";

/** The least that a StatefulSet of a database is, with the odds and ends that the patch must leave alone. */
const DATABASE = {
  apiVersion: "apps/v1",
  kind: "StatefulSet",
  metadata: { name: "shop", namespace: "databases" },
  spec: {
    serviceName: "shop",
    replicas: 3,
    selector: { matchLabels: { "cluster-name": "shop" } },
    template: {
      metadata: { labels: { "cluster-name": "shop" } },
      spec: {
        terminationGracePeriodSeconds: 30,
        containers: [
          {
            name: "postgres",
            image: "postgres-patroni:1",
            env: [{ name: "PGDATA", value: "/var/lib/postgresql/pgroot/data" }],
            ports: [{ containerPort: 5432 }, { containerPort: 8008 }],
            volumeMounts: [{ name: "data", mountPath: "/var/lib/postgresql" }],
          },
        ],
      },
    },
    volumeClaimTemplates: [
      {
        metadata: { name: "data" },
        spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "10Gi" } } },
      },
    ],
  },
};

/** As it arrives at the API server: a patch is nothing by itself. */
const complete = (object: KubernetesObject): KubernetesObject =>
  object.kind === "StatefulSet" ? patched(DATABASE, object) : object;

const named = (list: KubernetesObject[], name: string): KubernetesObject => {
  const found = list.find((entry) => entry.name === name);
  expect(found, `an entry with the name ${name}`).toBeDefined();
  return found;
};

const pod = complete(renderObject("backup-sidecar.yml")).spec.template.spec;
const sidecar = named(pod.containers, "backup-api");
const cronJob = renderObject("backup-cronjob.yml");
const job = cronJob.spec.jobTemplate.spec;
const jobPod = job.template.spec;
const jobContainer = jobPod.containers[0];
const settings = parse(renderObject("backup-configmap.yml").data["backup-api.yml"]);

describe.each(TEMPLATES)("%s", (file) => {
  const object = renderObject(file);

  test("is an object that Kubernetes takes", () => {
    expect(problemsOf(complete(object))).toEqual([]);
    expect(object.metadata.namespace).toBe("databases");
  });

  test("says what it is and where it goes, in lines that fit", () => {
    expect(readTemplate(file)).toMatch(new RegExp(`^# .*${object.kind}\\b`));
    expect(
      readTemplate(file)
        .split("\n")
        .filter((line) => line.length > 120),
    ).toEqual([]);
  });

  test("means the same in YAML 1.1, which kubectl reads, and in 1.2", () => {
    expect(parse(renderFile(file), { version: "1.2" })).toEqual(object);
  });

  test("has its secrets in Secrets alone", () => {
    const secrets = placeholdersOf(readTemplate(file)).filter((name) => /token|_key\b|_key_secret|pass/.test(name));
    if (object.kind === "Secret") expect(secrets).not.toEqual([]);
    else expect(secrets).toEqual([]);
  });
});

test("every value is used by some template", () => {
  const used = new Set(TEMPLATES.flatMap((file) => placeholdersOf(readTemplate(file))));
  expect(Object.keys(VALUES).filter((name) => !used.has(name))).toEqual([]);
});

describe("the schemas refuse", () => {
  const objects: Record<string, KubernetesObject> = Object.fromEntries(
    TEMPLATES.map((file) => [file, complete(renderObject(file))]),
  );

  test.each([
    ["backup-cronjob.yml", ["spec"], "concurencyPolicy"],
    ["backup-cronjob.yml", ["spec", "jobTemplate", "spec"], "backofLimit"],
    ["backup-cronjob.yml", ["spec", "jobTemplate", "spec", "template", "spec", "containers", 0], "volumeMount"],
    ["backup-sidecar.yml", ["spec", "template", "spec", "containers", 1, "livenessProbe", "httpGet"], "schema"],
    ["backup-sidecar.yml", ["spec", "template", "spec", "volumes", 0, "emptyDir"], "sizelimit"],
    ["backup-service.yml", ["spec", "ports", 0], "targetport"],
    ["backup-networkpolicy.yml", ["spec", "ingress", 0], "port"],
    ["backup-podmonitor.yml", ["spec", "podMetricsEndpoints", 0, "tlsConfig"], "servername"],
    ["backup-secret.yml", [], "stringdata"],
    ["backup-configmap.yml", ["metadata"], "nam"],
  ] as const)("%s with an unknown field in %j: %s", (file, path, field) => {
    const object = structuredClone(objects[file]);
    const place = path.reduce((inner: KubernetesObject, key) => inner[key], object);
    place[field] = "x";
    expect(problemsOf(object)).toEqual([`unknown field ${["", ...path, field].join("/")}`]);
  });

  test.each([
    ["a string for a number", { spec: { jobTemplate: { spec: { backoffLimit: "0" } } } }, "backoffLimit"],
    ["a value that is not in the list", { spec: { concurrencyPolicy: "Never" } }, "concurrencyPolicy"],
    ["null for what must be there", { spec: { schedule: null } }, "schedule"],
    ["another version", { apiVersion: "batch/v2" }, "no schema for batch/v2 CronJob"],
  ])("%s", (_, damage, problem) => {
    expect(problemsOf(patched(objects["backup-cronjob.yml"], damage)).join()).toContain(problem);
  });
});

describe("backup-sidecar.yml", () => {
  test("leaves the database as it is, but for what it shares", () => {
    const [before] = DATABASE.spec.template.spec.containers;
    const database = named(pod.containers, "postgres");
    expect(database).toMatchObject({ image: before?.image, ports: before?.ports });
    expect(database.env).toEqual(expect.arrayContaining(before?.env ?? []));
    expect(database.volumeMounts).toEqual(expect.arrayContaining(before?.volumeMounts ?? []));
    const order = renderObject("backup-sidecar.yml").spec.template.spec.containers;
    expect(order.map(({ name }: KubernetesObject) => name)).toEqual(["postgres", "backup-api"]);
  });

  test("the kubelet asks by HTTPS whether it lives; a repository that is away leaves the pod ready", () => {
    expect(sidecar.livenessProbe.httpGet).toEqual({ path: "/healthz", port: "backup-api", scheme: "HTTPS" });
    expect(sidecar).not.toHaveProperty("readinessProbe");
  });

  test("may do nothing that a backup does not need", () => {
    expect(sidecar.securityContext).toEqual({
      runAsNonRoot: true,
      runAsUser: 999,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
    });
    const data = named(sidecar.volumeMounts, "data");
    expect(data).toEqual({ name: "data", mountPath: "/var/lib/postgresql", readOnly: true });
  });

  test("keeps the pod's QoS class: requests equal limits", () => {
    expect(sidecar.resources.limits).toEqual(sidecar.resources.requests);
    expect(Object.keys(sidecar.resources.limits)).toEqual(["cpu", "memory"]);
  });

  test("cannot have the database's pod evicted", () => {
    for (const volume of pod.volumes) expect(volume.emptyDir ?? {}).toEqual({});
  });

  test("every mount has a volume, and every volume a mount", () => {
    const volumes = [...pod.volumes, { name: "data" }].map(({ name }: KubernetesObject) => name).sort();
    const mounts = pod.containers.flatMap((container: KubernetesObject) => container.volumeMounts);
    expect([...new Set(mounts.map(({ name }: KubernetesObject) => name))].sort()).toEqual(volumes);
  });

  test("socket, lock and configuration are the database's; state, token and key are not", () => {
    const mountsOf = (container: KubernetesObject) => container.volumeMounts.map(({ name }: KubernetesObject) => name);
    const database = mountsOf(named(pod.containers, "postgres"));
    const shared = mountsOf(sidecar).filter((name: string) => database.includes(name));
    expect(shared.sort()).toEqual([
      "data",
      "pgbackrest-config",
      "pgbackrest-lock",
      "pgbackrest-log",
      "pgbackrest-spool",
      "postgresql-socket",
    ]);
  });

  test("the pod ends after a backup could", () => {
    expect(settings.stop_grace).toBe("20s");
    expect(pod.terminationGracePeriodSeconds).toBe(300);
  });
});

describe("the files that the sidecar reads", () => {
  /** Path in the container → the text, for the projected volumes. */
  const files = Object.fromEntries(
    sidecar.volumeMounts.flatMap((mount: KubernetesObject) => {
      const volume = pod.volumes.find(({ name }: KubernetesObject) => name === mount.name);
      return (volume?.projected?.sources ?? []).flatMap(({ configMap, secret }: KubernetesObject) => {
        const source = configMap ?? secret;
        const found = TEMPLATES.map((file) => renderObject(file)).find(
          ({ kind, metadata }) => kind === (configMap ? "ConfigMap" : "Secret") && metadata.name === source.name,
        );
        const data = found?.data ?? found?.stringData ?? {};
        const items = source.items ?? Object.keys(data).map((key) => ({ key, path: key }));
        return items.map(({ key, path }: KubernetesObject) => [`${mount.mountPath}/${path}`, data[key]]);
      });
    }),
  );

  test("are all there", () => {
    expect(Object.keys(files).sort()).toEqual([
      "/etc/patroni-restore/backup-api.yml",
      "/etc/patroni-restore/tokens",
      "/etc/pgbackrest/conf.d/keys.conf",
      "/etc/pgbackrest/conf.d/repository.conf",
      "/etc/pgbackrest/pgbackrest.conf",
      "/etc/pgbackrest/storage-ca.crt",
    ]);
    expect(Object.values(files)).not.toContain(undefined);
  });

  test("are where the settings look for them", () => {
    expect(sidecar.command.slice(2)).toEqual(["--config", "/etc/patroni-restore/backup-api.yml"]);
    expect(files).toHaveProperty([settings.token_file], "5f1b8c0d2e7a49f6b3c1");
    expect(files).toHaveProperty([settings.pgbackrest_config]);
    const mountPath = (name: string) => named(sidecar.volumeMounts, name).mountPath;
    expect(settings.tls_cert_file).toBe(`${mountPath("backup-api-tls")}/tls.crt`);
    expect(settings.tls_key_file).toBe(`${mountPath("backup-api-tls")}/tls.key`);
    expect(settings.state_dir).toBe(mountPath("backup-api-state"));
  });

  test("the settings are known ones, and secure", () => {
    const text = renderObject("backup-configmap.yml").data["backup-api.yml"];
    const file = parseSettingsFile("backup-api.yml", text);
    const loaded = loadSettings([...BACKUP_API_OPTIONS, "logFormat"], [], { flags: {}, environment: {}, file });
    expect(listenProblems(loaded.listen, { hasToken: true, hasTls: true, isInsecure: loaded.insecure })).toEqual([]);
    expect(loaded).toMatchObject({ insecure: false, logFormat: "json", stopGrace: 20_000 });
    expect(parseTokens(files["/etc/patroni-restore/tokens"])).toHaveLength(1);
  });

  test.each(["s3", "azure"])(
    "pgBackRest's for %s: encrypted, over TLS that is checked, and no key in the ConfigMap",
    (store) => {
      const { data } = renderObject(`pgbackrest-configmap-${store}.yml`);
      const lines = `${data["pgbackrest.conf"]}${data["repository.conf"]}`.split("\n");
      expect(lines).toEqual(
        expect.arrayContaining([
          `repo1-type=${store}`,
          "repo1-cipher-type=aes-256-cbc",
          "repo1-storage-verify-tls=y",
          "repo1-storage-ca-file=/etc/pgbackrest/storage-ca.crt",
          "[main]",
          "pg1-path=/var/lib/postgresql/pgroot/data",
          "pg1-socket-path=/var/run/postgresql",
        ]),
      );
      expect(lines.filter((line) => /^repo1-((s3|azure)-(key|account)|cipher-pass)/.test(line))).toEqual([]);
      const written = lines.filter((line) => /^(lock|log|spool)-path=/.test(line)).map((line) => line.split("=")[1]);
      const mounts = sidecar.volumeMounts.filter(({ readOnly }: KubernetesObject) => !readOnly);
      expect(mounts.map(({ mountPath }: KubernetesObject) => mountPath)).toEqual(expect.arrayContaining(written));
      expect(renderObject(`pgbackrest-secret-${store}.yml`).stringData["keys.conf"]).toContain(
        "repo1-cipher-pass=the cipher pass\n",
      );
    },
  );

  test("the two stores' templates are the same objects, so only one of them is applied", () => {
    for (const kind of ["configmap", "secret"]) {
      const [s3, azure] = ["s3", "azure"].map((store) => renderObject(`pgbackrest-${kind}-${store}.yml`));
      expect(azure.metadata).toEqual(s3.metadata);
    }
  });
});

describe("backup-cronjob.yml", () => {
  test.each(["full", "diff", "incr"])("is one object for each type: %s", (type) => {
    const object = renderObject("backup-cronjob.yml", { type });
    expect(object.metadata.name).toBe(`shop-backup-${type}`);
    expect(object.spec.jobTemplate.spec.template.spec.containers[0].env).toContainEqual({
      name: "BACKUP_TYPE",
      value: type,
    });
  });

  test("makes one backup at a time, once, and leaves the result to be seen", () => {
    expect(cronJob.spec).toMatchObject({
      schedule: "0 1 * * 0",
      timeZone: "Europe/Berlin",
      concurrencyPolicy: "Forbid",
      startingDeadlineSeconds: 3600,
      successfulJobsHistoryLimit: 3,
      failedJobsHistoryLimit: 3,
    });
    expect(job.backoffLimit).toBe(0);
    expect(jobPod.restartPolicy).toBe("Never");
  });

  test("the script's limit ends before the Job's, with time for its last answer", () => {
    const seconds = Number(named(jobContainer.env, "DEADLINE_SECONDS").value);
    expect(seconds).toBeLessThan(24 * 3600);
    expect(job.activeDeadlineSeconds).toBeGreaterThanOrEqual(seconds + 60);
  });

  test("may do nothing but talk to the API", () => {
    expect(jobPod).toMatchObject({ automountServiceAccountToken: false, securityContext: { runAsNonRoot: true } });
    expect(jobPod.securityContext.runAsUser).toBeGreaterThan(0);
    expect(jobContainer.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
  });

  test("the script and its files are where the Job looks for them", () => {
    const script = renderObject("backup-scripts.yml");
    const volumes = (name: string) => named(jobPod.volumes, name);
    const mount = (name: string) => named(jobContainer.volumeMounts, name).mountPath;
    expect(volumes("scripts").configMap.name).toBe(script.metadata.name);
    expect(jobContainer.command).toEqual(["/bin/sh", `${mount("scripts")}/${Object.keys(script.data)[0]}`]);
    expect(named(jobContainer.env, "TOKEN_FILE").value).toBe(`${mount("token")}/token`);
    expect(named(jobContainer.env, "CA_FILE").value).toBe(`${mount("ca")}/ca.crt`);
    expect(volumes("token").secret.items).toEqual([{ key: "token", path: "token" }]);
    expect(volumes("ca").secret.items).toEqual([{ key: "ca.crt", path: "ca.crt" }]);
  });

  test("sets only variables that the script reads", () => {
    const script = renderObject("backup-scripts.yml").data["backup-job.sh"];
    for (const { name } of jobContainer.env) expect(script).toContain(`\${${name}:`);
  });
});

test("no token in the arguments or the environment of any container", () => {
  for (const container of [...pod.containers, ...jobPod.containers]) {
    const { command, args, env, envFrom } = container;
    expect(JSON.stringify([command, args, env])).not.toMatch(/5f1b8c0d2e|secretKeyRef/);
    expect(envFrom).toBeUndefined();
  }
});

describe("port 8081", () => {
  const service = renderObject("backup-service.yml");
  const policy = renderObject("backup-networkpolicy.yml").spec;
  const monitor = renderObject("backup-podmonitor.yml").spec;

  test("is the same for settings, container, Service, Job and NetworkPolicy", () => {
    expect(sidecar.ports).toEqual([{ name: "backup-api", containerPort: 8081 }]);
    expect(settings.listen).toBe("0.0.0.0:8081");
    expect(service.spec.ports).toEqual([{ name: "https", port: 8081, targetPort: "backup-api" }]);
    expect(named(jobContainer.env, "BACKUP_API").value).toBe(`https://${service.metadata.name}.databases.svc:8081`);
    expect(policy.ingress[0].ports).toEqual([{ protocol: "TCP", port: 8081 }]);
  });

  test.each(["primary", "master"])("the Service leads to the pod with the role %s alone", (primary_role) => {
    const { spec } = renderObject("backup-service.yml", { primary_role });
    expect(spec.selector).toEqual({ "cluster-name": "shop", role: primary_role });
  });

  test("the NetworkPolicy lets the Jobs in, and every other port open", () => {
    const labels = job.template.metadata.labels;
    expect(labels).toMatchObject(policy.ingress[0].from[0].podSelector.matchLabels);
    expect(labels, "the policy must not select the Jobs themselves").not.toHaveProperty("cluster-name");
    expect(policy.podSelector.matchLabels).toEqual({ "cluster-name": "shop" });
    for (const from of policy.ingress[0].from) expect(from.podSelector.matchLabels).toBeDefined();

    const [, everybody] = policy.ingress;
    expect(everybody).not.toHaveProperty("from");
    const isOpen = (port: number) =>
      everybody.ports.some((it: KubernetesObject) => it.protocol === "TCP" && it.port <= port && port <= it.endPort);
    const closed = Array.from({ length: 65_535 }, (_, index) => index + 1).filter((port) => !isOpen(port));
    expect(closed).toEqual([8081]);
  });

  test("Prometheus scrapes it by its name, over HTTPS that is checked, with the token of the Secret", () => {
    const [endpoint] = monitor.podMetricsEndpoints;
    const secret = renderObject("backup-secret.yml");
    expect(endpoint).toMatchObject({ port: sidecar.ports[0].name, path: "/metrics", scheme: "https" });
    expect(endpoint.authorization).toEqual({
      type: "Bearer",
      credentials: { name: secret.metadata.name, key: "token" },
    });
    expect(secret.stringData).toHaveProperty("token");
    expect(endpoint.tlsConfig).toEqual({
      ca: { secret: { name: "shop-backup-tls", key: "ca.crt" } },
      serverName: `${service.metadata.name}.databases.svc`,
    });
    expect(named(pod.volumes, "backup-api-tls").secret.secretName).toBe("shop-backup-tls");
  });
});
