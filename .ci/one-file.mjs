/**
 * A script is one file, and V8 parses all of a file before any of it runs: for `--version` that took longer than Node's own
 * start. So the parts that rolldown splits a script into stand behind its entry as comments, which V8 only steps over, and
 * each is compiled when it is first asked for.
 *
 * A part is one line of ASCII behind `//`: nothing in it can end such a comment, and its place in the file is the one that
 * stack traces name.
 */

import { parseSync, Visitor } from "rolldown/utils";

/** For chunks of the format "cjs" with an entry that imports none of the others at once. */
export const oneFile = {
  name: "one file",
  generateBundle(_options, bundle) {
    const [entry, ...others] = Object.values(bundle).sort((a, b) => Number(b.isEntry) - Number(a.isEntry));
    const texts = others.map(({ fileName, code }) => `//"use strict";${onOneLine(fileName, code)}`);
    const own = onOneLine(entry.fileName, entry.code.replace(/^#!.*\n/, ""));
    const head = (parts) => `#!/usr/bin/env node
const exports = {};
const require = ${openParts}(import.meta, ${JSON.stringify(parts)}, { "./${entry.fileName}": exports });
${own}
`;
    const linesBefore = head({}).split("\n").length - 1;
    const parts = others.map(({ fileName }, n) => [
      `./${fileName}`,
      { line: linesBefore + n, length: texts[n].length },
    ]);
    entry.code = `${head(Object.fromEntries(parts))}${texts.join("\n")}\n`;
    for (const { fileName } of others) delete bundle[fileName];
  },
};

/** Stands in every script as it is here: what `require` means to the parts. */
function openParts({ url, filename }, parts, loaded) {
  let lines;
  return function require(name) {
    if (name in loaded) return loaded[name];
    // Nothing but pg-native, which pg would use if it were installed.
    if (!(name in parts)) return process.getBuiltinModule("node:module").createRequire(url)(name);
    // Read once: the file may be replaced by its next version while this one runs.
    lines ??= process.getBuiltinModule("node:fs").readFileSync(filename, "latin1").split("\n");
    const { line, length } = parts[name];
    const text = lines[line];
    if (text?.length !== length) throw new Error(`${filename} was replaced while it was started`);
    const { compileFunction } = process.getBuiltinModule("node:vm");
    const place = { filename: url, lineOffset: line, columnOffset: 2 };
    const run = compileFunction(text.slice(2), ["exports", "require"], place);
    loaded[name] = {};
    run(loaded[name], require);
    return loaded[name];
  };
}

/** The same program. Small code has line ends and characters beyond ASCII in strings, templates and patterns alone. */
function onOneLine(name, code) {
  const { program, errors } = parseSync(name, code, { sourceType: "script" });
  if (errors.length > 0) throw new Error(`${name}: ${errors[0].message}`);
  const texts = [];
  new Visitor({
    TemplateElement: ({ start, end }) => texts.push({ start, end }),
    TaggedTemplateExpression({ quasi }) {
      const raw = quasi.quasis.map(({ value }) => value.raw).join("");
      if (/[^ -~]/.test(raw)) throw new Error(`${name}: a tagged template would change: ${raw}`);
    },
  }).visit(program);
  let line = "";
  let from = 0;
  for (const { start, end } of texts.sort((a, b) => a.start - b.start)) {
    const text = code.slice(start, end).replace(/\\.|\n/gs, (unit) => ({ "\n": "\\n", "\\\n": "" })[unit] ?? unit);
    line += code.slice(from, start) + text;
    from = end;
  }
  line += code.slice(from).trimEnd();
  const odd = /.{0,80}[\n\r].{0,80}/s.exec(line);
  if (odd) throw new Error(`${name}: a line end outside of templates: ${odd}`);
  return line.replace(/[^\0-~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
