import { readFileSync } from "node:fs";
import { defineConfig, type Plugin } from "vitest/config";

/** As the bundler does it (`.ci/rolldown.config.mjs`): a template is imported as its text. */
const templatesAsText: Plugin = {
  name: "templates as text",
  load: (id) => (id.endsWith(".yml") ? `export default ${JSON.stringify(readFileSync(id, "utf8"))}` : undefined),
};

/** Three rings: pure logic, the compiled scripts, real services. */
export default defineConfig({
  test: {
    projects: [
      { plugins: [templatesAsText], test: { name: "unit", include: ["test/unit/**/*.test.ts"] } },
      { test: { name: "contract", include: ["test/contract/**/*.test.ts"], testTimeout: 30_000 } },
      {
        test: {
          name: "lab",
          include: ["test/lab/**/*.lab.test.ts"],
          globalSetup: ["test/lab/global-setup.ts"],
          // Real services on two cores: one file after the other, and time enough for a busy machine.
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
