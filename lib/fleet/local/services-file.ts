/** The services of one machine, listed in a YAML file: `defaults` and `services`, each by its name. Pure. */

import { LineCounter, parseDocument } from "yaml";
import { z } from "zod";
import { combineProblems, messageOf, type RestoreError } from "../../errors.ts";
import { parseConninfo } from "../../postgres/conninfo.ts";
import { overridden, policySchema } from "../policy.ts";
import type { Policy, Service } from "../service.ts";
import { settingsProblems } from "../test-settings.ts";

const groups = z.record(z.string().min(1), z.union([z.string(), z.number()]).transform(String));
const settings = z.record(z.string(), z.unknown());

const defaultsSchema = policySchema.extend({ groups: groups.optional(), settings: settings.optional() });

const serviceSchema = defaultsSchema.extend({
  /** libpq; without it the source is not asked, and only the newest marker says how much is missing. */
  source: z.string().min(1).optional(),
  stanza: z.string().min(1).optional(),
  namespace: z.string().optional(),
  /** Each new value asks for one more test. */
  test_now: z.union([z.string(), z.number()]).transform(String).optional(),
});

const fileSchema = z.strictObject({
  defaults: defaultsSchema.optional(),
  services: z.record(
    z.string().regex(/^[A-Za-z0-9][\w.-]{0,62}$/, { error: "is not a name of letters, digits, _ . -" }),
    serviceSchema,
  ),
});

/** Throws SETTINGS_INVALID with all problems, each with its line. */
export function parseServices(text: string, path: string, policy: Policy): Service[] {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const place = (offset: number) => {
    const { line, col } = lineCounter.linePos(offset);
    return `${path}:${line}:${col}`;
  };
  if (document.errors.length > 0) {
    throw invalid(document.errors.map(({ pos, message }) => `${place(pos[0])}: ${message}`));
  }
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    throw invalid([`${path}: ${messageOf(error)}`]);
  }
  const whereIs = (keys: readonly PropertyKey[]): string => {
    for (let length = keys.length; length > 0; length--) {
      const node = document.getIn(keys.slice(0, length), true) as { range?: [number] } | undefined;
      if (node?.range !== undefined) return place(node.range[0]);
    }
    return `${path}:1:1`;
  };
  const result = fileSchema.safeParse(value ?? {});
  if (!result.success) {
    throw invalid(
      result.error.issues.map(
        (issue) => `${whereIs(issue.path)}: ${issue.path.join(".") || "the file"} ${describe(issue)}`,
      ),
    );
  }
  const { defaults = {}, services } = result.data;
  const problems: string[] = [];
  const all = Object.entries(services).map(([name, given]): Service => {
    const merged = { ...defaults.settings, ...given.settings };
    for (const problem of settingsProblems(merged))
      problems.push(`${whereIs(["services", name])}: ${name}: ${problem}`);
    try {
      if (given.source !== undefined) parseConninfo(given.source);
    } catch (error) {
      problems.push(`${whereIs(["services", name, "source"])}: ${name}.source: ${messageOf(error)}`);
    }
    return {
      id: name,
      namespace: given.namespace ?? "",
      scope: name,
      stanza: given.stanza ?? name,
      source: given.source ?? null,
      groups: { ...defaults.groups, ...given.groups },
      policy: overridden(overridden(policy, defaults), given),
      settings: merged,
      wanted: given.test_now ?? null,
      problem: null,
    };
  });
  if (problems.length > 0) throw invalid(problems);
  return all;
}

const invalid = (problems: readonly string[]): RestoreError =>
  combineProblems(
    "SETTINGS_INVALID",
    problems.map((message) => ({ message })),
  );

function describe(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys")
    return `has the unknown key ${issue.keys.map((key) => `"${key}"`).join(", ")}`;
  if (issue.code === "invalid_key") return issue.issues[0]?.message ?? issue.message;
  if (issue.code === "invalid_type" && /undefined$/.test(issue.message)) return "is missing";
  if (issue.code === "invalid_type" && ["record", "object"].includes(issue.expected)) return "is not a map";
  return issue.message;
}
