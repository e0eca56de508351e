/** What the two hooks of the throwaway Patroni are told, and the environment they run in. */

import { stringify } from "yaml";
import { OPTIONS, type Option, type OptionName, type Settings, snake } from "../options.ts";
import { HOOK_OPTIONS, type HookOption } from "./options.ts";

/**
 * The settings file of both hooks. By a file, because flags show in `ps` and Patroni splits them like a shell. `own` are
 * the settings of this test and win.
 */
export function hooksConfig(settings: Settings<HookOption>, own: Partial<Record<OptionName, string>>): string {
  const entries = HOOK_OPTIONS.filter((name) => settings[name] !== undefined).map((name) => [
    snake(name),
    inWords(name, settings[name]),
  ]);
  const ownEntries = Object.entries(own).map(([name, value]) => [snake(name), value]);
  return stringify({ ...Object.fromEntries(entries), ...Object.fromEntries(ownEntries) }, { lineWidth: 0 });
}

/** Validated settings hold milliseconds and bytes; in a file a bare number would mean seconds. */
function inWords(name: OptionName, value: unknown): unknown {
  const { placeholder }: Option = OPTIONS[name];
  if (placeholder === "DURATION") return `${value}ms`;
  if (placeholder === "SIZE") return `${value}B`;
  return value;
}

/**
 * Nothing of another Patroni (in its pod they are all set, and outrank the configuration file), of the source's connection
 * or of this script's settings reaches the throwaway; pgBackRest's own variables do, they hold the repository.
 */
export function throwawayEnvironment(
  environment: NodeJS.ProcessEnv,
  own: { home: string | undefined; temporary: string },
): NodeJS.ProcessEnv {
  const kept = Object.entries(environment).filter(
    ([name]) => !/^(PATRONI_|RESTORE_|ETCD_|KUBERNETES_|PG(?!BACKREST_)|NOTIFY_SOCKET$|NODE_OPTIONS$)/.test(name),
  );
  return {
    ...Object.fromEntries(kept),
    ...(own.home === undefined ? {} : { HOME: own.home }),
    TMPDIR: own.temporary,
  };
}
