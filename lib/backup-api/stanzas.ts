/** At start each stanza is created or checked, until it works or the limit has passed. */

import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../errors.ts";
import { askPgbackrest } from "../io/pgbackrest-job.ts";
import type { Log } from "../log.ts";

export interface StanzaSetup {
  /** What is not done yet, by stanza. */
  problems(): string[];
  /** Tries once more what has failed. */
  again(): void;
}

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 60_000;
const AGAIN_LIMIT_MS = 120_000;

export function setUpStanzas(
  options: {
    config: string | undefined;
    stanzas: readonly string[];
    how: "create" | "check" | "skip";
    limitMs: number;
  },
  log: Log,
  signal: AbortSignal,
  /** What pgBackRest says of it is new now. */
  onDone: () => void,
): StanzaSetup {
  const { config, how } = options;
  const open = new Map<string, string>(
    how === "skip" ? [] : options.stanzas.map((stanza) => [stanza, `stanza "${stanza}" has not been checked yet`]),
  );
  const busy = new Set<string>();

  async function attempt(stanza: string, limitMs: number): Promise<void> {
    const ask = (command: string) =>
      askPgbackrest(config, command, [`--stanza=${stanza}`], { signal, timeoutMs: Math.max(1000, limitMs) });
    // It does nothing, successfully, for one that is there and belongs to this cluster.
    if (how === "create") await ask("stanza-create");
    await ask("check");
    open.delete(stanza);
    log.info("stanza", `"${stanza}" works`);
    onDone();
  }

  async function setUp(stanza: string, limitMs: number, attempts: number): Promise<void> {
    if (busy.has(stanza)) return;
    busy.add(stanza);
    const end = performance.now() + limitMs;
    try {
      for (let pause = FIRST_PAUSE_MS, n = 1; open.has(stanza); n++, pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
        try {
          await attempt(stanza, end - performance.now());
        } catch (error) {
          if (signal.aborted) return;
          const problem = `stanza "${stanza}": ${messageOf(error)}`;
          const isLast = n >= attempts || performance.now() + pause >= end;
          // A standby's stays as it is for months.
          if (open.get(stanza) !== problem) {
            log.warn("stanza", problem, { next_try: isLast ? "with the next refresh" : `in ${pause / 1000} s` });
          }
          open.set(stanza, problem);
          if (isLast) return;
          await sleep(pause, undefined, { signal }).catch(() => {});
        }
      }
    } finally {
      busy.delete(stanza);
    }
  }

  for (const stanza of open.keys()) void setUp(stanza, options.limitMs, Number.POSITIVE_INFINITY);
  return {
    problems: () => [...open.values()],
    again() {
      for (const stanza of open.keys()) void setUp(stanza, AGAIN_LIMIT_MS, 1);
    },
  };
}
