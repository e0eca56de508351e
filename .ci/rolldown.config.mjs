import { chmodSync, readdirSync, readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { defineConfig } from "rolldown";

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
        file: `dist/${file.replace(/\.ts$/, ".mjs")}`,
        format: "esm",
        codeSplitting: false,
        minify: true,
      },
      plugins: [
        rawText,
        {
          name: "run bit",
          writeBundle: (options) => chmodSync(options.file ?? "", 0o755),
        },
      ],
    }),
  );
