/**
 * Who the Kubernetes API is and who we are to it: a kubeconfig file with all that people put into one, or the service
 * account of this pod. In a file of its own that is loaded when it is needed: no other script shall pay for the library.
 */

import type { RequestOptions } from "node:https";
import { KubeConfig } from "@kubernetes/client-node";
import { messageOf, RestoreError } from "../errors.ts";

export interface Access {
  /** Without a slash at its end. */
  server: string;
  /** Of the context, or of this pod. */
  namespace: string;
  /** Headers and TLS options of a request; tokens are renewed here. */
  authorise(): Promise<RequestOptions>;
  /** Requests go through a proxy: its agent is to be used. */
  hasProxy: boolean;
}

/** The file, or else `$KUBECONFIG`, `~/.kube/config` or the pod's service account. Throws SETTINGS_INVALID. */
export function loadAccess(file: string | undefined): Access {
  const config = new KubeConfig();
  try {
    if (file === undefined) config.loadFromDefault();
    else config.loadFromFile(file);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `the kubeconfig cannot be read: ${messageOf(error)}`, {
      hint: "see KUBECONFIG; in a pod leave it unset",
      cause: error,
    });
  }
  const cluster = config.getCurrentCluster();
  // Where it finds nothing the library makes this one up.
  const isInvented = cluster?.name === "cluster" && cluster.server === "http://localhost:8080";
  if (cluster === null || isInvented) {
    throw new RestoreError("SETTINGS_INVALID", "there is no Kubernetes cluster: neither a kubeconfig nor a pod's own", {
      hint: "set KUBECONFIG, run in a pod that mounts its service account, or give --services on one machine",
    });
  }
  const context = config.getContextObject(config.getCurrentContext());
  return {
    server: cluster.server.replace(/\/+$/, ""),
    namespace: context?.namespace ?? "default",
    hasProxy: cluster.proxyUrl !== undefined,
    async authorise() {
      const options: RequestOptions = {};
      await config.applyToHTTPSOptions(options);
      return options;
    },
  };
}
