/** Flags > environment > settings file > defaults, all problems at once, unknown names refused with the nearest right one. */

import { combineProblems, RestoreError } from "./errors.ts";
import { environmentName, kebab, OPTIONS, type Option, type OptionName, type Settings, snake } from "./options.ts";

export interface SettingsSources {
  /** Flags as given, by option name; values are text, or lists of text for repeatable flags. */
  flags: Readonly<Record<string, unknown>>;
  environment: Readonly<Record<string, string | undefined>>;
  /** The settings file, when there is one. */
  file?: SettingsFile;
}

/** As `settings-file.ts` reads it. */
export interface SettingsFile {
  values: ReadonlyMap<string, { value: unknown; where: string }>;
  problems: readonly Problem[];
}

export interface Problem {
  message: string;
  hint?: string | undefined;
}

export const NAMES = Object.keys(OPTIONS) as OptionName[];

/** Throws SETTINGS_INVALID with every problem of every source. */
export function loadSettings<N extends OptionName>(
  names: readonly N[],
  required: readonly N[],
  sources: SettingsSources,
): Settings<N> {
  const problems: Problem[] = [...(sources.file?.problems ?? [])];
  const file = sources.file?.values;
  const environment = readEnvironment(sources.environment, problems);
  const settings: Record<string, unknown> = {};
  for (const name of names) {
    const option: Option = OPTIONS[name];
    const given =
      sources.flags[name] !== undefined
        ? { value: sources.flags[name], where: `--${kebab(name)}` }
        : environment.has(name)
          ? { value: environment.get(name), where: environmentName(name) }
          : (file?.get(name) ?? { value: option.fallback, where: "default" });
    if (given.value === undefined) {
      if (required.includes(name)) {
        problems.push({
          message: `--${kebab(name)} is missing`,
          hint: `give --${kebab(name)} ${option.placeholder ?? ""}, ${environmentName(name)} or ${snake(name)} in the settings file`,
        });
      }
      continue;
    }
    const parsed = option.schema.safeParse(given.value);
    if (parsed.success) settings[name] = parsed.data;
    else {
      for (const issue of parsed.error.issues) {
        const path = issue.path.length > 0 ? ` (${issue.path.join(".")})` : "";
        problems.push({ message: `${given.where}${path}: ${issue.message}` });
      }
    }
  }
  if (problems.length > 0) throw combineProblems("SETTINGS_INVALID", problems);
  return Object.freeze(settings) as Settings<N>;
}

/** Kubernetes adds these for a Service whose name starts with "restore"; they are nobody's typing error. */
const SERVICE_LINK = /_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$/;

function readEnvironment(environment: SettingsSources["environment"], problems: Problem[]): Map<string, unknown> {
  const byName = new Map(NAMES.filter((n) => !isFileOnly(n)).map((name) => [environmentName(name), name]));
  const result = new Map<string, unknown>();
  for (const [key, value] of Object.entries(environment)) {
    if (!key.startsWith("RESTORE_") || value === undefined || key === "RESTORE_CONFIG") continue;
    const name = byName.get(key);
    if (name !== undefined) result.set(name, isList(name) ? splitList(value) : value);
    else if (!SERVICE_LINK.test(key)) {
      problems.push({
        message: `environment variable ${key} is not a setting`,
        hint: didYouMean(key, [...byName.keys()]),
      });
    }
  }
  return result;
}

export function isFileOnly(name: OptionName): boolean {
  return (OPTIONS[name] as Option).fileOnly === true;
}

export function isList(name: OptionName): boolean {
  return name === "tablespaceMap" || name === "linkMap";
}

const splitList = (value: string) => value.split(",").map((item) => item.trim());

/** `did you mean "x"`, or undefined when nothing is near; a beginning of a name counts as near. */
export function didYouMean(text: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(text.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(text, candidate);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  if (text.length > 3) best ??= candidates.find((candidate) => candidate.startsWith(text));
  return best === undefined ? undefined : `did you mean "${best}"`;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitution));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** A password in argv shows in `ps`; the other sources are fine. */
export function refuseSecretFlag(flags: Readonly<Record<string, unknown>>, name: OptionName): void {
  const value = flags[name];
  if (typeof value !== "string") return;
  if (/password\s*=/.test(value) || /^postgres(ql)?:\/\/[^@/]*:[^@/]+@/.test(value)) {
    throw new RestoreError("SETTINGS_INVALID", `--${kebab(name)} holds a password, which is visible in ps`, {
      hint: `use PGPASSFILE, PGPASSWORD or the environment variable ${environmentName(name)}`,
    });
  }
}
