import { chmodSync, readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { dirname, resolve } from "node:path";
import { defineConfig } from "rolldown";
import { oneFile } from "./one-file.mjs";

const { version } = JSON.parse(readFileSync("package.json", "utf8"));

/** `import text from "./page.css?raw"`, as in Vite. */
const rawText = {
  name: "raw text",
  resolveId: {
    filter: { id: /\?raw$/ },
    handler: (source, importer) => resolve(dirname(importer), source),
  },
  load: {
    filter: { id: /\?raw$/ },
    handler: (id) => ({
      code: `export default ${JSON.stringify(readFileSync(id.replace(/\?raw$/, ""), "utf8"))};`,
      moduleType: "js",
    }),
  },
};

/** Node's own modules are loaded when they are first used: most runs need few of them, and `--version` none. */
const builtins = {
  name: "built-in modules on demand",
  resolveId: {
    handler: (id) => (isBuiltin(id) ? `\0builtin:${id}` : null),
  },
  load: {
    filter: { id: /^\0builtin:/ },
    handler: (id) => ({
      code: `module.exports = process.getBuiltinModule(${JSON.stringify(id.replace("\0builtin:", ""))});`,
      moduleType: "js",
    }),
  },
};

/** pg finds out whether it is in a Cloudflare Worker by making a Response, for which Node loads all of its HTTP client. */
const noCloudflare = {
  name: "pg in Node",
  transform: {
    filter: { id: /\/pg\/lib\/stream\.js$/ },
    handler(code) {
      const question = "typeof Response === 'function'";
      if (!code.includes(question)) throw new Error(`pg/lib/stream.js no longer asks ${question}`);
      return code.replace(question, "false");
    },
  },
};

/** One self-contained, executable file per script: people copy a single file into a debugging pod. */
export default readdirSync("scripts")
  .filter((file) => file.endsWith(".ts"))
  .map((file) =>
    defineConfig({
      input: `scripts/${file}`,
      platform: "node",
      // pg loads pg-native only when asked for it, and it is a compiled addon.
      external: ["pg-native"],
      moduleTypes: { ".yml": "text" },
      transform: { define: { "process.env.PATRONI_RESTORE_VERSION": JSON.stringify(version) } },
      output: {
        dir: "dist",
        entryFileNames: "[name].mjs",
        format: "cjs",
        minify: true,
        comments: false,
      },
      plugins: [
        rawText,
        builtins,
        noCloudflare,
        oneFile,
        {
          name: "run bit",
          writeBundle: ({ dir }, bundle) => {
            for (const name of Object.keys(bundle)) chmodSync(`${dir}/${name}`, 0o755);
          },
        },
      ],
    }),
  );
