/** An object store as pgBackRest sees it; `ceph.ts` and `azurite.ts` start real ones. */

import { readFile } from "node:fs/promises";
import { request } from "node:https";
import type { Lab } from "../lab.ts";
import { pgbackrest, type Source } from "../source.ts";

export interface Store {
  /** Where it listens, on 127.0.0.1 with a certificate for `localhost`. */
  port: number;
  caFile: string;
  /** Lines of pgbackrest.conf's [global]. `port`: of what stands before the store, such as a proxy. */
  settings(access: Access, port?: number): Readonly<Record<string, string | number>>;
  /** The same store may be started again, with all that is in it. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

/** What the credential allows. */
export type Access = "read-write" | "read-only";

/** The repository's place in the bucket or container. */
export const REPOSITORY_PATH = "/patroni-restore/test";

export const BUCKET = "pgbackrest";

/** pgBackRest's own limits, short enough to be waited for. */
export const FAULT_LIMITS = { "io-timeout": 1, "db-timeout": 10, "protocol-timeout": 20, "job-retry-interval": "1" };

/** True as soon as something there answers over TLS, whatever it says. */
export async function answers(port: number, caFile: string): Promise<boolean> {
  const ca = await readFile(caFile);
  return new Promise((resolve) => {
    const asked = request({ host: "127.0.0.1", servername: "localhost", port, ca, timeout: 2000 }, (response) => {
      response.resume();
      resolve(true);
    });
    asked.once("error", () => resolve(false)).once("timeout", () => asked.destroy());
    asked.end();
  });
}

/** pgBackRest with another configuration of the same source: another credential, another way to the store. */
export async function configure(
  lab: Lab,
  source: Source,
  name: string,
  settings: Readonly<Record<string, string | number>>,
): Promise<Source> {
  const lines = (await readFile(source.pgbackrestConfig, "utf8")).split("\n");
  const kept = lines.filter((line) => !(line.split("=")[0] ?? "") || !((line.split("=")[0] ?? "") in settings));
  const added = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  const text = kept.join("\n").replace("[global]", ["[global]", ...added].join("\n"));
  return { ...source, pgbackrestConfig: await lab.writeFile(`${source.stanza}/${name}.conf`, text) };
}

/** The bucket or container itself. */
export async function createRepository(lab: Lab, source: Source): Promise<void> {
  await lab.mustRun("pgbackrest", [`--config=${source.pgbackrestConfig}`, "--repo=1", "repo-create"]);
}

/** Every object of the repository and its size. */
export async function objectsIn(lab: Lab, source: Source): Promise<Record<string, number>> {
  const { stdout } = await pgbackrest(lab, source, "repo-ls", "--recurse", "--output=json");
  const entries = Object.entries(JSON.parse(stdout) as Record<string, { type: string; size?: number }>);
  return Object.fromEntries(
    entries.filter(([, { type }]) => type === "file").map(([name, { size }]) => [name, size ?? 0]),
  );
}
