/** Shows what the hooks and Patroni say while the test goes on, and keeps the newest lines for the moment it fails. */

import { followLines } from "../io/throwaway.ts";
import type { Log } from "../log.ts";
import { complaintText, fieldsNotShown, isComplaint, isPatronis, parseHookEvent } from "./relay.ts";

const KEPT_LINES = 400;

export interface LogFollower {
  /** Relays what has come since the last time; true when Patroni said something. */
  update(): Promise<boolean>;
  /** The newest lines, oldest first. */
  readonly lastLines: readonly string[];
}

export function followLog(path: string, log: Log, format: "text" | "json"): LogFollower {
  const read = followLines(path);
  const lastLines: string[] = [];
  return {
    lastLines,
    async update() {
      let isFromPatroni = false;
      for (const line of await read()) {
        const event = parseHookEvent(line);
        if (event !== null) {
          log[event.level](event.phase, event.message, format === "json" ? event.fields : fieldsNotShown(event));
          continue;
        }
        isFromPatroni ||= isPatronis(line);
        lastLines.push(line);
        if (lastLines.length > KEPT_LINES) lastLines.shift();
        if (isComplaint(line)) log.warn(isPatronis(line) ? "patroni" : "postgresql", complaintText(line));
      }
      return isFromPatroni;
    },
  };
}
