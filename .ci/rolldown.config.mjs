import { chmodSync, readdirSync, readFileSync } from "node:fs";
import { defineConfig } from "rolldown";

const { version } = JSON.parse(readFileSync("package.json", "utf8"));

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
        {
          name: "run bit",
          writeBundle: (options) => chmodSync(options.file ?? "", 0o755),
        },
      ],
    }),
  );
