/**
 * The template of a restore test, read and checked once. It is the operator's own; what the fleet must rely on is not
 * left to it, but set in the parsed objects (`objects.ts`).
 */

import { parse, parseAllDocuments } from "yaml";
import builtIn from "../../../patroni-templates/kubernetes/fleet-restore-test.yml";
import { combineProblems, messageOf, RestoreError } from "../../errors.ts";
import { apiVersionOf, isKind, type Kind, type KubernetesObject } from "../../io/kubernetes.ts";
import { placeholdersOf, renderTemplate } from "../../patroni/templates.ts";
import { HOOK_OPTIONS } from "../../restore-test/options.ts";
import { loadSettings } from "../../settings.ts";
import { parseSettingsFile } from "../../settings-file.ts";

export const PATRONI_FILE = "patroni.yml";
export const HOOKS_FILE = "hooks.yml";
export const RECEIPT_FILE = "receipt.json";
export const PREVIOUS_FILE = "previous-report.json";

/** Of the service that is tested. */
export type TemplateWords = Readonly<Record<"scope" | "namespace" | "stanza", string>>;

const ALLOWED: readonly Kind[] = ["NetworkPolicy", "ConfigMap", "StatefulSet"];

/** These would be Patroni's own objects. */
const TAKEN = /-(config|leader|sync|failover|failsafe)$/;

/** `text`: null for the built-in one. The objects with their words filled in. Throws SETTINGS_INVALID with every problem. */
export function readTemplate(text: string | null, words: TemplateWords): KubernetesObject[] {
  const problems: string[] = [];
  const objects: KubernetesObject[] = [];
  for (const document of parseAllDocuments(text ?? builtIn)) {
    if ("contents" in document && document.contents === null) continue;
    if (document.errors.length > 0) {
      problems.push(...document.errors.map(messageOf));
      continue;
    }
    try {
      const source = document.toString({ lineWidth: 0 });
      const strange = placeholdersOf(source).find((name) => !(name in words));
      if (strange !== undefined) throw new Error(`{{${strange}}} is none of {{scope}}, {{namespace}} and {{stanza}}`);
      const filled = renderTemplate(source, words, { unusedAllowed: true });
      objects.push(parse(filled, { version: "1.1" }) as KubernetesObject);
    } catch (error) {
      problems.push(messageOf(error));
    }
  }
  if (problems.length === 0) problems.push(...objects.flatMap(problemsOf), ...problemsOfAll(objects));
  if (problems.length === 0) return objects;
  const all = problems.map((message) => ({ message: `the template of the restore test: ${message}` }));
  const error = combineProblems("SETTINGS_INVALID", all);
  throw new RestoreError("SETTINGS_INVALID", error.message, {
    hint: "start from a copy of patroni-templates/kubernetes/fleet-restore-test.yml",
  });
}

/** Throws SETTINGS_INVALID: to be known at the start, not at the first test. */
export const checkTemplate = (text: string | null): void =>
  void readTemplate(text, { scope: "scope", namespace: "namespace", stanza: "stanza" });

function problemsOf({ apiVersion, kind, metadata }: KubernetesObject): string[] {
  const name = `${String(kind)} ${metadata?.name ?? "without a name"}`;
  if (!isKind(kind) || !ALLOWED.includes(kind)) return [`${name} is none of ${ALLOWED.join(", ")}`];
  if (apiVersion !== apiVersionOf(kind)) return [`${name} must be of ${apiVersionOf(kind)}, not ${apiVersion}`];
  if (!/^restore-test(-[a-z0-9-]+)?$/.test(metadata?.name ?? "")) {
    return [`${name} must be called "restore-test", or that with an ending`];
  }
  return TAKEN.test(metadata.name) ? [`${name} would have the name of an object of Patroni's`] : [];
}

function problemsOfAll(objects: readonly KubernetesObject[]): string[] {
  const sets = objects.filter(({ kind }) => kind === "StatefulSet");
  if (sets.length !== 1) return [`it must have one StatefulSet, and has ${sets.length}`];
  const spec = sets[0]?.spec as { template?: { spec?: { containers?: unknown } } } | undefined;
  const containers = spec?.template?.spec?.containers;
  if (!Array.isArray(containers) || containers.length === 0) return ["its StatefulSet has no container"];
  const main = objects.find(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === "restore-test");
  if (main === undefined) return [`it has no ConfigMap "restore-test"`];
  const data = (main.data ?? {}) as Record<string, string>;
  return [PATRONI_FILE, HOOKS_FILE].flatMap((file) => {
    const text = data[file];
    if (text === undefined) return [`its ConfigMap has no ${file}`];
    try {
      const value: unknown = parse(text, { version: "1.1" });
      if (typeof value !== "object" || value === null) return [`${file} is not a mapping`];
      return file === PATRONI_FILE ? patroniProblems(value as PatroniFile) : hooksProblems(text);
    } catch (error) {
      return [`${file}: ${messageOf(error)}`];
    }
  });
}

/** Known to the hooks, and with values that they take: they could only say it in a pod's log. */
function hooksProblems(text: string): string[] {
  const names = [...HOOK_OPTIONS, "detach", "sync", "annotatePod", "logFormat"] as const;
  try {
    loadSettings(names, [], { flags: {}, environment: {}, file: parseSettingsFile(HOOKS_FILE, text) });
    return [];
  } catch (error) {
    return [messageOf(error)];
  }
}

export interface PatroniFile {
  bootstrap?: { method?: string; post_bootstrap?: unknown; [method: string]: unknown };
  kubernetes?: Record<string, unknown>;
  postgresql?: { authentication?: Record<string, { username?: string }>; parameters?: Record<string, unknown> };
  [section: string]: unknown;
}

/** A mistyped method would run initdb, and the instance would be green and empty. */
function patroniProblems({ bootstrap }: PatroniFile): string[] {
  const method = bootstrap?.method;
  const section = method === undefined ? undefined : (bootstrap?.[method] as { command?: unknown } | undefined);
  return [
    ...(typeof section?.command === "string"
      ? []
      : [`${PATRONI_FILE}: bootstrap.method must name a section of bootstrap that has a command`]),
    ...(typeof bootstrap?.post_bootstrap === "string" ? [] : [`${PATRONI_FILE}: bootstrap.post_bootstrap is missing`]),
  ];
}
