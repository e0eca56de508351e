/** Objects as Patroni 3.0.2 and a kube-apiserver left them. */

import { readFileSync } from "node:fs";
import type { KubernetesObject } from "../../../../lib/io/kubernetes.ts";

type Name =
  | "endpoints"
  | "healthy-configmaps"
  | "healthy-pod"
  | "healthy-set"
  | "restoring-configmaps"
  | "restoring-pod"
  | "failed-configmaps"
  | "failed-pod";

const all = JSON.parse(readFileSync(new URL("captured.json", import.meta.url), "utf8")) as Record<
  Name,
  KubernetesObject[]
>;

export const captured = (name: Name): KubernetesObject[] => structuredClone(all[name]);
