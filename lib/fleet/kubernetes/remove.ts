/** Takes a restore test away, whoever made what of it: by its label, each object by its UID, until nothing is left. */

import { RestoreError } from "../../errors.ts";
import { type Kind, type Kubernetes, type KubernetesObject, statusOf } from "../../io/kubernetes.ts";
import { formatDuration } from "../../units.ts";

/**
 * In this order: the StatefulSet would make a new pod; the pod's Patroni would write its ConfigMaps again; and to its last
 * moment the pod shall reach nobody whom the policy does not let it reach.
 */
const STEPS: readonly (readonly Kind[])[] = [
  ["StatefulSet", "Pod"],
  ["PersistentVolumeClaim", "ConfigMap"],
  ["NetworkPolicy"],
];

export interface RemoveLimits {
  /** A pod has the template's terminationGracePeriodSeconds. */
  goneMs: number;
  pollMs: number;
}

export const REMOVE_LIMITS: RemoveLimits = { goneMs: 3 * 60_000, pollMs: 1000 };

type Api = Pick<Kubernetes, "list" | "remove">;

/** Throws UNVERIFIED with what is still there after the limit. Done at once when there is nothing. */
export async function removeAll(
  api: Api,
  namespace: string | null,
  selector: string,
  limits: RemoveLimits = REMOVE_LIMITS,
): Promise<void> {
  const until = performance.now() + limits.goneMs;
  for (const kinds of STEPS) {
    for (;;) {
      const left = await listAll(api, namespace, selector, kinds);
      if (left.length === 0) break;
      for (const { kind, object } of left) {
        // What is going already need not be told again.
        if (object.metadata.deletionTimestamp === undefined) await api.remove(kind, object);
      }
      if (performance.now() > until) throw stillThere(left, limits.goneMs);
      if ((await listAll(api, namespace, selector, kinds)).length === 0) break;
      await new Promise((resolve) => setTimeout(resolve, limits.pollMs));
    }
  }
}

interface Found {
  kind: Kind;
  object: KubernetesObject;
}

export async function listAll(
  api: Pick<Kubernetes, "list">,
  namespace: string | null,
  selector: string,
  kinds: readonly Kind[],
): Promise<Found[]> {
  const found: Found[] = [];
  for (const kind of kinds) {
    let next: string | null = null;
    do {
      const page = await api.list({ kind, namespace }, { selector, limit: 500, next });
      for (const object of page.items) found.push({ kind, object });
      next = page.next;
    } while (next !== null);
  }
  return found;
}

function stillThere(left: readonly Found[], limitMs: number): RestoreError {
  const names = left.slice(0, 5).map(({ kind, object }) => `${kind} ${object.metadata.name}`);
  return new RestoreError(
    "UNVERIFIED",
    `${names.join(", ")} ${left.length === 1 ? "is" : "are"} still there after ${formatDuration(limitMs)}`,
    { hint: "is its node alive, and does a finalizer hold it" },
  );
}

/** In the words of the role that lacks. */
export function explained(error: unknown, what: string): unknown {
  const status = statusOf(error);
  if (status === null && !(error instanceof Error && error.name === "KubernetesError")) return error;
  return new RestoreError("UNVERIFIED", `${what}: ${(error as Error).message}`, {
    hint:
      status === 403
        ? "apply patroni-templates/kubernetes/fleet-rbac.yml"
        : status === 404
          ? "is there such a namespace"
          : undefined,
    cause: error,
  });
}
