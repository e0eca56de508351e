/** The services of Kubernetes: Patroni's leader objects, followed in all namespaces or in some. */

import type { Kubernetes } from "../../io/kubernetes.ts";
import type { Watch } from "../runner.ts";
import type { Service } from "../service.ts";
import { type FollowLimits, follow } from "./follow.ts";
import { type LeaderSettings, leaderScope, overridesOf, serviceOf } from "./leader.ts";

export interface WatchSettings extends LeaderSettings {
  /** Null: all of them. */
  namespaces: readonly string[] | null;
  /** Label selector of Patroni's objects. */
  selector: string;
  limits?: Partial<FollowLimits>;
}

export function createKubernetesWatch(api: Pick<Kubernetes, "list" | "watch">, settings: WatchSettings): Watch {
  const places = settings.namespaces ?? [null];
  const problems = new Map<string | null, string>();
  const kind = settings.watch === "endpoints" ? "Endpoints" : "ConfigMap";
  /** By ID, with all that was said about it: Patroni touches each object every few seconds, and says nothing new. */
  const services = new Map<string, { said: string; service: Service }>();

  function remember(namespace: string, scope: string, overrides: ReadonlyMap<string, string>): Service {
    const id = `${namespace}/${scope}`;
    const said = overrides.size === 0 ? "" : JSON.stringify([...overrides]);
    const before = services.get(id);
    if (before?.said === said) return before.service;
    const service = serviceOf(namespace, scope, overrides, settings);
    services.set(id, { said, service });
    return service;
  }

  return {
    async start(on, signal) {
      await Promise.all(
        places.map((namespace) =>
          follow<Service>(
            {
              api,
              place: { kind, namespace },
              selector: settings.selector,
              pick(object) {
                const scope = leaderScope(object, settings);
                if (scope === null) return null;
                return remember(object.metadata.namespace ?? "", scope, overridesOf(object));
              },
              update: (_, service) => on.update(service),
              remove(_, { id }) {
                services.delete(id);
                on.remove(id);
              },
              problem(text) {
                if (text === null) problems.delete(namespace);
                else problems.set(namespace, namespace === null ? text : `namespace ${namespace}: ${text}`);
              },
              ...(settings.limits === undefined ? {} : { limits: settings.limits }),
            },
            signal,
          ),
        ),
      );
    },
    problem: () => (problems.size === 0 ? null : [...problems.values()].join("; ")),
  };
}
