/**
 * What the StatefulSet's controller and the kubelet would do: a StatefulSet becomes a claim and a pod, the pod becomes a
 * process of this machine, and its status is kept true until the object is gone.
 */

import { parse, stringify } from "yaml";
import type { Kubernetes, KubernetesObject } from "../../../lib/io/kubernetes.ts";
import type { Lab } from "../lab.ts";
import { startPatroni } from "../patroni.ts";
import { endProcessesOf, type Service, waitFor } from "../process.ts";
import type { Source } from "../source.ts";
import type { RealApiServer } from "./api-server.ts";

export interface RunningPod {
  name: string;
  service: Service;
  /** Its Pod object is gone, and so are its processes. */
  ended: Promise<void>;
}

interface PodTemplate {
  metadata: object;
  spec: { volumes?: object[] };
}

export interface PodOptions {
  source: Source;
  kubeconfig: string;
  /** Instead of the template's bootstrap command. */
  command?: string;
}

const IN = "restore-tests";

/** Makes the pod of the StatefulSet of this name, and runs its Patroni with the configuration that the fleet rendered. */
export async function runPod(
  lab: Lab,
  server: RealApiServer,
  api: Kubernetes,
  scope: string,
  options: PodOptions,
): Promise<RunningPod> {
  const name = `${scope}-0`;
  const set = (await api.get({ kind: "StatefulSet", namespace: IN }, scope)) as KubernetesObject;
  const files = (await api.get({ kind: "ConfigMap", namespace: IN }, scope)) as KubernetesObject;
  const { template, volumeClaimTemplates } = set.spec as {
    template: PodTemplate;
    volumeClaimTemplates: KubernetesObject[];
  };
  const claims = volumeClaimTemplates.map((claim) => ({ ...claim, claimName: `${claim.metadata.name}-${name}` }));
  for (const { claimName, ...claim } of claims) {
    const metadata = { ...claim.metadata, name: claimName, namespace: IN };
    await api.create({ ...claim, apiVersion: "v1", kind: "PersistentVolumeClaim", metadata });
  }
  const volumes = claims.map(({ metadata, claimName }) => ({
    name: metadata.name,
    persistentVolumeClaim: { claimName },
  }));
  await api.create({
    apiVersion: "v1",
    kind: "Pod",
    metadata: { ...template.metadata, name, namespace: IN },
    // On a node it stays until the kubelet says that its processes have ended.
    spec: { ...template.spec, nodeName: "here", volumes: [...(template.spec.volumes ?? []), ...volumes] },
  });
  const directory = await writeFiles(lab, scope, files, options);
  const service = startPatroni(lab, `${directory}/patroni.yml`, {
    name: scope,
    env: { KUBECONFIG: options.kubeconfig, POD_NAME: name, POD_NAMESPACE: IN, PATRONI_NAME: name, TMPDIR: directory },
  });
  const tell = (state: object) =>
    server
      .ask("PATCH", `/api/v1/namespaces/${IN}/pods/${name}/status`, {
        status: {
          phase: "Running",
          containerStatuses: [{ name: "patroni", restartCount: 0, image: "x", imageID: "x", ready: false, ...state }],
        },
      })
      .catch(() => undefined);
  await tell({ state: { running: { startedAt: new Date().toISOString().replace(/\.\d+/, "") } } });
  void service.ended.then(({ exitCode }) => tell({ state: { terminated: { exitCode: exitCode ?? 137 } } }));
  return { name, service, ended: untilGone(server, name, service, directory) };
}

/** The kubelet ends what shall go, and says when it is gone. */
async function untilGone(server: RealApiServer, name: string, service: Service, directory: string): Promise<void> {
  const path = `/api/v1/namespaces/${IN}/pods/${name}`;
  const isLeaving = async () => {
    const answer = await server.ask("GET", path).catch(() => undefined);
    return answer?.status === 200 && "deletionTimestamp" in JSON.parse(answer.text).metadata;
  };
  await waitFor(`pod ${name} to be deleted`, isLeaving, 170_000, () => service.log(), 300);
  await service.stop("SIGTERM", 5000);
  await endProcessesOf(directory);
  await server.ask("DELETE", path, { kind: "DeleteOptions", apiVersion: "v1", gracePeriodSeconds: 0 });
}

/** The files of the pod's ConfigMap, with the ports and paths of this machine. */
async function writeFiles(
  lab: Lab,
  scope: string,
  files: KubernetesObject,
  { source, command }: PodOptions,
): Promise<string> {
  const directory = await lab.makeDirectory(scope, 0o700);
  const data = files.data as Record<string, string>;
  const binary = (files.binaryData ?? {}) as Record<string, string>;
  const receipt = binary["receipt.json"];
  if (receipt !== undefined) await lab.writeFile(`${scope}/receipt.json`, Buffer.from(receipt, "base64").toString());
  const hooks = parse(data["hooks.yml"] ?? "");
  await lab.writeFile(
    `${scope}/hooks.yml`,
    stringify({
      ...hooks,
      pgbackrest_config: source.pgbackrestConfig,
      ...(receipt === undefined ? {} : { receipt: `${directory}/receipt.json` }),
    }),
  );
  const patroni = parse(data["patroni.yml"] ?? "", { version: "1.1" });
  const [rest, port] = [`127.0.0.1:${await lab.freePort()}`, `127.0.0.1:${await lab.freePort()}`];
  const hook = async (script: string) =>
    `${process.execPath} ${await lab.script(script)} --config=${directory}/hooks.yml`;
  patroni.restapi = { listen: rest, connect_address: rest };
  patroni.kubernetes.context = "test";
  patroni.bootstrap.dcs.loop_wait = 2;
  patroni.bootstrap.patroni_restore.command = command ?? (await hook("bootstrap"));
  patroni.bootstrap.post_bootstrap = await hook("post-bootstrap");
  Object.assign(patroni.postgresql, {
    listen: port,
    connect_address: port,
    data_dir: `${directory}/pgroot/data`,
    bin_dir: lab.binDir,
    pgpass: `${directory}/pgpass`,
  });
  await lab.makeDirectory(`${scope}/pgroot`, 0o700);
  const socketDir = await lab.makeDirectory(`${scope}/s`, 0o700);
  Object.assign(patroni.postgresql.parameters, {
    unix_socket_directories: socketDir,
    external_pid_file: `${socketDir}/external.pid`,
    shared_buffers: "32MB",
  });
  await lab.writeFile(`${scope}/patroni.yml`, stringify(patroni, { version: "1.1" }));
  return directory;
}
