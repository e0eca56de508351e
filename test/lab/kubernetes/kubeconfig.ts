/** How tests reach an API server, and what they may do to it. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";

export interface ApiServer {
  kubeconfig: string;
  /** Watches from before get 410 from now on. */
  compact(): Promise<void>;
  /** The connections of every watch break. */
  dropWatches(): Promise<void>;
  /** Away for a moment, with all that it knows. */
  restart(while_: () => Promise<void>): Promise<void>;
  close(): Promise<void>;
}

/** A kubeconfig as people have one. */
export async function writeKubeconfig(
  directory: string,
  server: string,
  options: { token?: string; caFile?: string; name?: string } = {},
): Promise<string> {
  const path = join(directory, `kubeconfig${options.name === undefined ? "" : `-${options.name}`}`);
  const cluster =
    options.caFile === undefined ? { "insecure-skip-tls-verify": true } : { "certificate-authority": options.caFile };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    clusters: [{ name: "test", cluster: { server, ...cluster } }],
    users: [{ name: "test", user: options.token === undefined ? {} : { token: options.token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "test", namespace: "default" } }],
  };
  await writeFile(path, stringify(config), { mode: 0o644 });
  return path;
}
