/** The annotation of the own pod, on a small API server: what comes late, and what never comes. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { connectKubernetes, type Kubernetes } from "../../lib/io/kubernetes.ts";
import { annotateOwnPod } from "../../lib/io/own-pod.ts";
import type { Log } from "../../lib/log.ts";
import { type FakeKubernetes, startFakeKubernetes } from "../lab/kubernetes/fake.ts";
import { writeKubeconfig } from "../lab/kubernetes/kubeconfig.ts";

let directory: string;
let fake: FakeKubernetes;
let api: Kubernetes;
let environment: NodeJS.ProcessEnv;
let warnings: string[];

const log: Log = {
  info() {},
  warn: (_, message) => void warnings.push(message),
  error() {},
  progress: () => ({ update() {}, end() {} }),
};

beforeEach(async () => {
  warnings = [];
  directory = await mkdtemp(join(tmpdir(), "own-pod-"));
  fake = await startFakeKubernetes();
  const kubeconfig = await writeKubeconfig(directory, fake.url, { token: "secret" });
  api = await connectKubernetes("tests", kubeconfig);
  const metadata = { name: "p-0", namespace: "default", annotations: { status: "theirs" } };
  await api.create({ apiVersion: "v1", kind: "Pod", metadata });
  environment = { KUBECONFIG: kubeconfig, POD_NAME: "p-0" };
});
afterEach(async () => {
  api.close();
  await fake.close();
  await rm(directory, { recursive: true, force: true });
});

const annotations = async () => (await api.get({ kind: "Pod", namespace: "default" }, "p-0"))?.metadata.annotations;
const patches = () => fake.requests.filter((request) => request.startsWith("PATCH")).length;

test("is written beside those of others; what is overtaken is left out", async () => {
  const pod = annotateOwnPod("report", environment, log);
  for (const value of ["1", "2", "3", "4"]) pod.set(value);
  await pod.finish(5000);
  expect(await annotations()).toEqual({ status: "theirs", report: "4" });
  expect(patches()).toBeLessThan(4);
  expect(warnings).toEqual([]);
});

test("is tried again while the API server fails or is away", async () => {
  const pod = annotateOwnPod("report", environment, log);
  fake.faults.push({ method: "PATCH", path: /pods/, status: 500 }, { method: "PATCH", path: /pods/, status: null });
  pod.set("1");
  await pod.finish(10_000);
  expect(await annotations()).toMatchObject({ report: "1" });
  expect(warnings.join()).toContain("trying again");
});

test("is given up after the limit, which the log says, and nothing is thrown", async () => {
  await fake.pause();
  const pod = annotateOwnPod("report", environment, log);
  pod.set("1");
  await pod.finish(300);
  expect(warnings.at(-1)).toMatch(/the pod was not given its report: .*ECONNREFUSED.* The verdict stays/);
  await fake.resume();
});

test.each([
  ["without the pod's name", { POD_NAME: undefined }, "POD_NAME is not set"],
  ["without any access", { KUBECONFIG: undefined }, "no pod with a service account"],
  ["of a pod that is not there", { POD_NAME: "other" }, 'pods "other" not found'],
  ["in a namespace that is not there", { POD_NAMESPACE: "other" }, "pod other/p-0: "],
  ["with a kubeconfig that is not there", { KUBECONFIG: "/nonexistent" }, "/nonexistent does not exist"],
])("%s: the log says why", async (_, change, words) => {
  const pod = annotateOwnPod("report", { ...environment, ...change }, log);
  pod.set("1");
  await pod.finish(200);
  expect(warnings[0]).toContain(words);
});
