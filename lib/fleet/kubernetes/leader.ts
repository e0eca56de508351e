/**
 * A service, from the object in which Patroni keeps its leader: Endpoints `<scope>`, or ConfigMap `<scope>-leader`. Pure.
 * People say in annotations (or labels) of that very object what is special about the service: Patroni changes its own
 * annotations only, and leaves the rest alone.
 */

import { parse } from "yaml";
import { messageOf } from "../../errors.ts";
import type { KubernetesObject } from "../../io/kubernetes.ts";
import { snake } from "../../options.ts";
import { parseConninfo } from "../../postgres/conninfo.ts";
import { HOOK_OPTIONS } from "../../restore-test/options.ts";
import { didYouMean, loadSettings } from "../../settings.ts";
import { parseSettingsFile } from "../../settings-file.ts";
import { POLICY_WORDS } from "../policy.ts";
import type { Policy, Resources, Service } from "../service.ts";
import { isTestScope, PREFIX, TEST_LABEL } from "./names.ts";

export interface LeaderSettings {
  watch: "endpoints" | "configmaps";
  /** Patroni's kubernetes.scope_label. */
  scopeLabel: string;
  /** What a service has that says nothing itself. */
  policy: Policy;
  /** With `{scope}` and `{namespace}`. */
  stanzaTemplate: string;
  /** With `{scope}`, `{namespace}` and `{stanza}`; null: sources are not asked. */
  sourceTemplate: string | null;
}

/** What Patroni writes when somebody has led; `<scope>-config` and `-sync` have none of them. */
const LEADER_ANNOTATIONS = ["acquireTime", "renewTime", "transitions"];

/** The scope whose leader object this is; null for everything else, such as `<scope>-config` and restore tests. */
export function leaderScope({ metadata }: KubernetesObject, settings: LeaderSettings): string | null {
  const labels = metadata.labels ?? {};
  const annotations = metadata.annotations ?? {};
  const scope = labels[settings.scopeLabel];
  if (scope === undefined || scope === "" || labels[TEST_LABEL] !== undefined || isTestScope(scope)) return null;
  // By Citus each group is a cluster of its own.
  const group = labels["citus-group"];
  const cluster = group === undefined ? scope : `${scope}-${group}`;
  const name = settings.watch === "endpoints" ? cluster : `${cluster}-leader`;
  if (metadata.name !== name || !LEADER_ANNOTATIONS.some((key) => annotations[key] !== undefined)) return null;
  return cluster;
}

/** All that people said, in an order of its own: as long as it stays the same, so does the service. */
export function overridesOf({ metadata }: KubernetesObject): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const values of [metadata.labels, metadata.annotations]) {
    for (const [key, value] of Object.entries(values ?? {})) {
      if (key.startsWith(PREFIX)) found.set(key.slice(PREFIX.length), value);
    }
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What an override changes. Each throws a plain Error with the sentence to show. */
const OVERRIDES: Readonly<Record<string, (draft: Draft, value: string) => void>> = {
  ...Object.fromEntries(
    Object.entries(POLICY_WORDS).map(([name, convert]) => [
      name.replaceAll("_", "-"),
      (draft: Draft, value: string) => Object.assign(draft.policy, convert(value)),
    ]),
  ),
  "test-now": (draft, value) => {
    draft.wanted = value === "" ? null : value;
  },
  stanza: (draft, value) => {
    if (value === "") throw new Error("is empty");
    draft.stanza = value;
  },
  source: (draft, value) => {
    draft.source = value === "none" ? null : value;
  },
  groups: (draft, value) => {
    draft.groups = mapping(value);
  },
  settings: (draft, value) => {
    draft.settings = hookSettings(value);
  },
  storage: (draft, value) => {
    draft.resources.storage = quantity(value);
  },
  cpu: (draft, value) => {
    draft.resources.cpu = quantity(value);
  },
  memory: (draft, value) => {
    draft.resources.memory = quantity(value);
  },
};

interface Draft {
  policy: { -readonly [Key in keyof Policy]: Policy[Key] };
  stanza: string | null;
  source: string | null | undefined;
  groups: Record<string, string>;
  settings: Record<string, unknown>;
  resources: { -readonly [Key in keyof Resources]: Resources[Key] };
  wanted: string | null;
}

/** `scope` is `leaderScope`'s. What is wrong stands in the service's `problem`: it is shown, and not tested meanwhile. */
export function serviceOf(
  namespace: string,
  scope: string,
  overrides: ReadonlyMap<string, string>,
  settings: LeaderSettings,
): Service {
  const draft: Draft = {
    policy: { ...settings.policy },
    stanza: null,
    source: undefined,
    groups: {},
    settings: {},
    resources: {},
    wanted: null,
  };
  const problems: string[] = [];
  const attempt = (name: string, work: () => void) => {
    try {
      work();
    } catch (error) {
      problems.push(`${PREFIX}${name}: ${messageOf(error)}`);
    }
  };
  for (const [name, value] of overrides) {
    const apply = OVERRIDES[name];
    if (apply !== undefined) attempt(name, () => apply(draft, value.trim()));
    else problems.push(unknown(name));
  }
  const words = { scope, namespace };
  const stanza = draft.stanza ?? filled(settings.stanzaTemplate, words);
  let source: string | null = null;
  attempt("source", () => {
    const text = draft.source === undefined ? settings.sourceTemplate : draft.source;
    source = text === null ? null : checkedSource(filled(text, { ...words, stanza }));
  });
  return {
    id: `${namespace}/${scope}`,
    namespace,
    scope,
    stanza,
    source,
    groups: draft.groups,
    // The same object for all that say nothing: there may be very many.
    policy: overrides.size === 0 ? settings.policy : draft.policy,
    settings: draft.settings,
    ...(Object.keys(draft.resources).length === 0 ? {} : { resources: draft.resources }),
    wanted: draft.wanted,
    problem: problems.length === 0 ? null : problems.join("; "),
  };
}

function unknown(name: string): string {
  const near = didYouMean(name, Object.keys(OVERRIDES));
  return `${PREFIX}${name} is not known${near === undefined ? "" : `; ${near}`}`;
}

/** `{scope}` and others. A word that is not known stays as it is, and whoever reads the result will say so. */
const filled = (template: string, words: Readonly<Record<string, string>>) =>
  template.replace(/\{(\w+)\}/g, (whole, name: string) => words[name] ?? whole);

function checkedSource(text: string): string {
  const left = /\{\w+\}/.exec(text);
  if (left !== null) throw new Error(`${left[0]} is none of {scope}, {namespace} and {stanza}`);
  if (parseConninfo(text).password !== undefined) {
    throw new Error("it holds a password, which everybody can read here; use a file that PGPASSFILE names");
  }
  return text;
}

/** Kubernetes' own form of a number with a unit. */
function quantity(text: string): string {
  if (!/^\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$/.test(text))
    throw new Error(`"${text}" is not a quantity such as 10Gi`);
  return text;
}

function mapping(text: string): Record<string, string> {
  const value: unknown = parse(text);
  const isMapping = typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isMapping || Object.values(value).some((inner) => typeof inner === "object"))
    throw new Error(`"${text}" is not a mapping such as "storage_class: fast"`);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, String(inner)]));
}

const HOOK_KEYS: readonly string[] = HOOK_OPTIONS.filter((name) => name !== "stanza").map(snake);

/** As it was written: its values are checked now, and once more by the scripts that get them. */
function hookSettings(text: string): Record<string, unknown> {
  loadSettings(HOOK_OPTIONS, [], { flags: {}, environment: {}, file: parseSettingsFile("settings", text) });
  const value = (parse(text) ?? {}) as Record<string, unknown>;
  const strange = Object.keys(value).find((key) => !HOOK_KEYS.includes(key));
  if (strange !== undefined) throw new Error(`${strange} is not a setting of a restore test's hooks`);
  return value;
}
