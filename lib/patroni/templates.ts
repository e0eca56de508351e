/**
 * Fills the placeholders of `patroni-templates/*.yml`. A template is valid YAML before and after: a placeholder stands
 * inside a double-quoted value, as `"{{stanza}}"`, so no value can change the structure, and Patroni's YAML 1.1 never
 * takes a name such as `on` or `1_0` for something else. `{{path|word}}` is quoted once more for the commands that Patroni
 * splits like a shell (patroni 3.0.2 postgresql/bootstrap.py, `shlex.split(command)`). `"{{uid|number}}"`, alone in its
 * value, becomes a number: Kubernetes takes no string for one. `{{ $labels.service }}` is Prometheus' own and stays.
 */

import { type Document, isScalar, parseDocument, Scalar, visit } from "yaml";

export type TemplateValues = Readonly<Record<string, string | number>>;

/** What may stand between the braces; no variable of a Go template, which begins with a dollar sign. */
const PLACEHOLDER = /\{\{(?!\s*\$)\s*([^{}|]*?)\s*(?:\|\s*([^{}|]*?)\s*)?\}\}/g;

const OPENING = /\{\{(?!\s*\$)/;
const AS_NUMBER = /\|\s*number\s*\}\}/;

/**
 * The template with its comments and every placeholder replaced. Throws a plain Error that lists every problem: a
 * placeholder without value, a value without placeholder, a placeholder outside a double-quoted value, invalid YAML.
 * `unusedAllowed` is for a template that the operator wrote and that need not use everything.
 */
export function renderTemplate(
  template: string,
  values: TemplateValues,
  options: { unusedAllowed?: boolean } = {},
): string {
  const document = parseDocument(template, { prettyErrors: true });
  const problems = new Set<string>(document.errors.map((error) => error.message));
  const used = fill(document, values, problems);
  if (!options.unusedAllowed) {
    for (const name of Object.keys(values)) {
      if (!used.has(name)) problems.add(`the value "${name}" has no placeholder in the template`);
    }
  }
  if (problems.size > 0) throw new Error(`the template cannot be filled: ${[...problems].join("; ")}`);
  return document.toString({ lineWidth: 0 });
}

function fill(document: Document.Parsed, values: TemplateValues, problems: Set<string>): Set<string> {
  const used = new Set<string>();
  visit(document, (role, node) => {
    if (!isScalar(node) || typeof node.value !== "string" || !OPENING.test(node.value)) return;
    if (role === "key" || node.type !== Scalar.QUOTE_DOUBLE) {
      problems.add(`the placeholder in ${node.value} is not inside a double-quoted value`);
      return;
    }
    const template = node.value;
    const filled = template.replace(PLACEHOLDER, (_, name: string, filter: string | undefined) => {
      const value = Object.hasOwn(values, name) ? values[name] : undefined;
      if (value === undefined) problems.add(`the placeholder "${name}" has no value`);
      if (filter !== undefined && filter !== "word" && filter !== "number") {
        problems.add(`"${filter}" is not a filter; only "word" and "number" are`);
      }
      used.add(name);
      return filter === "word" ? shellWord(String(value)) : String(value);
    });
    node.value = filled;
    if (!AS_NUMBER.test(template)) return;
    if (!/^\d{1,9}$/.test(filled)) problems.add(`${template} must be a whole number, not "${filled}"`);
    node.value = Number(filled);
    node.type = Scalar.PLAIN;
  });
  return used;
}

/** Names of the placeholders of a template, in the order of their first use. Throws a plain Error for invalid YAML. */
export function placeholdersOf(template: string): string[] {
  const document = parseDocument(template, { prettyErrors: true });
  if (document.errors[0]) throw new Error(document.errors[0].message);
  return [...fill(document, {}, new Set())];
}

/** One word of a command line for Python's `shlex.split` and for a POSIX shell alike. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}
