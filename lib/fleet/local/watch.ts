/** Watches the services file: read again when it changes, and left as it was while it can't be understood. */

import { messageOf } from "../../errors.ts";
import { watchFile } from "../../io/watched-file.ts";
import type { Log } from "../../log.ts";
import type { Watch } from "../runner.ts";
import type { Policy, Service } from "../service.ts";
import { parseServices } from "./services-file.ts";

const LOOK_EVERY_MS = 2000;

/** Throws SETTINGS_INVALID when the file can't be read or understood at the start. */
export function watchServicesFile(path: string, policy: Policy, log: Log): Watch {
  const file = watchFile(path);
  let text = "";
  let services = new Map<string, Service>();
  let problem: string | null = null;

  const look = (on: Parameters<Watch["start"]>[0]) => {
    const now = file.read();
    if (now === text && problem === null) return;
    const before = services;
    services = new Map(parseServices(now, path, policy).map((service) => [service.id, service]));
    if (text !== "") log.info("watch", `${path} has changed: ${services.size} services`);
    text = now;
    for (const id of before.keys()) if (!services.has(id)) on.remove(id);
    for (const service of services.values()) on.update(service);
  };

  return {
    async start(on, signal) {
      look(on);
      const timer = setInterval(() => {
        try {
          look(on);
          if (problem !== null) log.info("watch", `${path} is understood again`);
          problem = null;
        } catch (error) {
          const message = messageOf(error);
          if (message !== problem) log.error("watch", `${path} is not used as it is now: ${message}`);
          problem = message;
        }
      }, LOOK_EVERY_MS);
      signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    },
    problem: () => problem,
  };
}
