/** Watches the services file: read again when it changes, and left as it was while it can't be understood. */

import { messageOf, RestoreError } from "../../errors.ts";
import { describeFileError } from "../../io/files.ts";
import { watchFile } from "../../io/watched-file.ts";
import type { Log } from "../../log.ts";
import type { Watch } from "../runner.ts";
import type { Policy, Service } from "../service.ts";
import { parseServices } from "./services-file.ts";

const LOOK_EVERY_MS = 2000;

/** Throws SETTINGS_INVALID when the file can't be read or understood at the start. */
export function watchServicesFile(path: string, policy: Policy, log: Log): Watch {
  const file = watchFile(path);
  const read = () => {
    try {
      return file.read();
    } catch (error) {
      throw new RestoreError("SETTINGS_INVALID", `cannot read the services file ${path}: ${describeFileError(error)}`);
    }
  };
  const parse = (from: string) => new Map(parseServices(from, path, policy).map((service) => [service.id, service]));
  let text = read();
  let services: ReadonlyMap<string, Service> = parse(text);
  let problem: string | null = null;

  const look = (on: Parameters<Watch["start"]>[0]) => {
    const now = read();
    if (now === text) return;
    const before = services;
    services = parse(now);
    log.info("watch", `${path} has changed: ${services.size} services`);
    text = now;
    for (const id of before.keys()) if (!services.has(id)) on.remove(id);
    for (const service of services.values()) on.update(service);
  };

  return {
    async start(on, signal) {
      for (const service of services.values()) on.update(service);
      const timer = setInterval(() => {
        try {
          look(on);
          problem = null;
        } catch (error) {
          problem = `the services file is not used as it is now: ${messageOf(error)}`;
        }
      }, LOOK_EVERY_MS);
      signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    },
    problem: () => problem,
  };
}
