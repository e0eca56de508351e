/** An API for people: its OpenAPI document as one page that needs nothing from anywhere else. */

import type { OpenApiDocument, Operation } from "./openapi.ts";

export function renderPage({ info, paths }: OpenApiDocument): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => section(method, path, operation)),
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(info.title)}</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
  h2 { font: 600 1rem ui-monospace, monospace; margin: 2rem 0 0.25rem; }
  h2 b { display: inline-block; min-width: 4.5rem; }
  p { margin: 0.25rem 0; }
  table { border-collapse: collapse; margin: 0.5rem 0; }
  td { padding: 0.1rem 1rem 0.1rem 0; vertical-align: top; }
  code { font-family: ui-monospace, monospace; }
</style>
<h1>${escaped(info.title)} ${escaped(info.version)}</h1>
<p>${escaped(info.description)} All but <code>/healthz</code>, <code>/readyz</code>, <code>/openapi.json</code> and this page need
<code>Authorization: Bearer &lt;token&gt;</code> when a token is configured. For machines: <a href="openapi.json">openapi.json</a>.</p>
${operations.join("\n")}
</html>`;
}

function section(method: string, path: string, { summary, parameters, requestBody, responses }: Operation): string {
  const query = parameters.filter((parameter) => parameter.in === "query");
  const body = (requestBody as { content: Record<string, { schema: { properties?: object } }> } | undefined)?.content;
  const members = Object.entries(Object.values(body ?? {})[0]?.schema.properties ?? {});
  const rows = [
    ...query.map(({ name, description }) => [`?${name}=`, description ?? ""]),
    ...members.map(([name, schema]) => [`{"${name}"}`, describe(schema as Member)]),
    ...Object.entries(responses).map(([status, { description }]) => [status, description]),
  ];
  const cells = rows.map(
    ([name = "", text = ""]) => `<tr><td><code>${escaped(name)}</code></td><td>${escaped(text)}</td></tr>`,
  );
  return `<h2><b>${method.toUpperCase()}</b> ${escaped(path)}</h2>
<p>${escaped(summary)}.</p>
<table>${cells.join("")}</table>`;
}

interface Member {
  enum?: string[];
  const?: string;
  default?: string;
  description?: string;
}

function describe({ enum: choices, const: only, default: preset, description }: Member): string {
  const values = choices?.join(", ") ?? only ?? "";
  return [values, preset === undefined ? "" : `default ${preset}`, description].filter(Boolean).join("; ");
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escaped = (text: string) => text.replace(/[&<>"]/g, (character) => ENTITIES[character] as string);
