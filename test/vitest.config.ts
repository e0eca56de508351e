import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { defineConfig, type Plugin } from "vitest/config";
import { LongestFirst } from "./longest-first.ts";

/** The bundler (`.ci/rolldown.config.mjs`) turns an imported template into its text; so must the tests. */
const templatesAsText: Plugin = {
  name: "templates as text",
  enforce: "pre",
  load(id) {
    if (id.endsWith(".yml")) return `export default ${JSON.stringify(readFileSync(id, "utf8"))};`;
  },
};

/** `?raw` too. Vite knows it by itself, but Vitest empties whatever is called `.css`. */
const rawText: Plugin = {
  name: "raw text",
  enforce: "pre",
  resolveId(source, importer) {
    if (source.endsWith("?raw")) return `${resolve(dirname(importer ?? ""), source.slice(0, -"?raw".length))}.text`;
  },
  load(id) {
    if (id.endsWith(".text"))
      return `export default ${JSON.stringify(readFileSync(id.slice(0, -".text".length), "utf8"))};`;
  },
};

const plugins = [templatesAsText, rawText];

export default defineConfig({
  root: new URL("..", import.meta.url).pathname,
  test: {
    // Two cores are the machine that everything must run on.
    maxWorkers: 2,
    sequence: { sequencer: LongestFirst },
    // Servers of the lab are stopped then.
    teardownTimeout: 60_000,
    reporters: ["default"],
    projects: [
      {
        plugins,
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts"],
          // Pure logic: a process for each file would take longer than the tests.
          isolate: false,
          testTimeout: 5_000,
          hookTimeout: 5_000,
        },
      },
      {
        plugins,
        test: {
          name: "contract",
          include: ["test/contract/**/*.contract.test.ts"],
          globalSetup: ["test/contract/setup.ts"],
          // What is tested runs in processes of its own.
          isolate: false,
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        plugins,
        test: {
          name: "lab",
          include: ["test/lab/**/*.lab.test.ts"],
          globalSetup: ["test/lab/global-setup.ts"],
          // Every file has servers, ports and directories of its own.
          fileParallelism: true,
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        plugins,
        test: {
          name: "fleet-kubernetes",
          include: ["test/lab/kubernetes/**/*.fleet-kubernetes.test.ts"],
          // Every file has an API server of its own, of 330 MB.
          fileParallelism: true,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        plugins,
        test: {
          name: "stores",
          include: ["test/lab/stores/**/*.stores.test.ts"],
          // Every file has a store of its own.
          fileParallelism: true,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        plugins,
        test: {
          name: "fleet",
          include: ["test/lab/fleet/**/*.fleet.test.ts"],
          fileParallelism: true,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
