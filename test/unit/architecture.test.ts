/** The rules of the house that no compiler enforces. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { describe, expect, test } from "vitest";

const root = new URL("../..", import.meta.url);

interface Source {
  /** From the repository's root: `lib/io/files.ts`. */
  path: string;
  text: string;
}

function sourcesIn(directory: string): Source[] {
  return readdirSync(new URL(directory, root), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .sort()
    .map((name) => ({
      path: `${directory}/${name}`,
      text: readFileSync(new URL(`${directory}/${name}`, root), "utf8"),
    }));
}

const lib = sourcesIn("lib");
const scripts = sourcesIn("scripts");

/** Comments may say anything. */
const withoutComments = (text: string) => text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");

/** `path: the line`, for every line of these sources that matches. */
function findings(sources: readonly Source[], pattern: RegExp): string[] {
  return sources.flatMap(({ path, text }) =>
    withoutComments(text)
      .split("\n")
      .filter((line) => pattern.test(line))
      .map((line) => `${path}: ${line.trim()}`),
  );
}

const OUTSIDE =
  /^(?!\s*import type\b).*(\bfrom|\bimport|\bimport\(|\brequire\()\s*"(execa|zx|pg|cli-progress|@hono\/node-server|@kubernetes\/client-node|(node:)?(child_process|cluster|dgram|dns|fs|http|http2|https|net|readline|tls|worker_threads)(\/promises)?)"/;

describe("only lib/io touches processes, SQL, HTTP and files", () => {
  const outsideIo = lib.filter(({ path }) => !path.startsWith("lib/io/")).concat(scripts);

  test("by import", () => {
    expect(findings(outsideIo, OUTSIDE)).toEqual([]);
  });

  test("by what Node gives without import", () => {
    expect(
      findings(outsideIo, /(?<![.\w])fetch\(|\bnew WebSocket\(|\bprocess\.(kill|chdir|setuid|setgid|umask)\(/),
    ).toEqual([]);
  });

  test.each([
    'import { readFile } from "node:fs/promises";',
    'import fs from "fs";',
    'import "zx";',
    'const { execa } = await import("execa");',
    'const net = require("node:net");',
    'export { Client } from "pg";',
  ])("the rule sees %s", (line) => {
    expect(findings([{ path: "x", text: line }], OUTSIDE)).toEqual([`x: ${line}`]);
  });

  test.each([
    'import { join } from "node:path";',
    'import type { Stats } from "node:fs";',
    'import { list } from "./io/files.ts";',
    '// import { readFile } from "node:fs";',
  ])("the rule lets %s pass", (line) => {
    expect(findings([{ path: "x", text: line }], OUTSIDE)).toEqual([]);
  });
});

test("each library from outside is used in one file", () => {
  const users = (name: string) =>
    lib
      .filter(({ text }) => new RegExp(`^import (?!type).*from "${name}"|\\bimport\\("${name}"\\)`, "m").test(text))
      .map(({ path }) => path);
  const names = [
    "execa",
    "cli-progress",
    "commander",
    "@hono/node-server",
    "@kubernetes/client-node",
    "hono",
    "prom-client",
    "croner",
  ];
  expect(Object.fromEntries(names.map((name) => [name, users(name)]))).toEqual({
    execa: ["lib/io/command.ts"],
    "@hono/node-server": ["lib/io/http-server.ts"],
    "@kubernetes/client-node": ["lib/io/kubeconfig.ts"],
    hono: ["lib/http/app.ts"],
    "prom-client": ["lib/http/prometheus.ts"],
    croner: ["lib/backup-api/cron.ts"],
    "cli-progress": ["lib/io/terminal.ts"],
    commander: ["lib/cli.ts"],
  });
});

test("only lib/cli.ts ends the process", () => {
  const ends = findings(lib.concat(scripts), /\bprocess\.(exit\(|exitCode\b|abort\()/);
  expect(ends.filter((finding) => !finding.startsWith("lib/cli.ts:"))).toEqual([]);
});

test("no shell anywhere", () => {
  expect(findings(lib.concat(scripts), /\bshell: true\b|"(\/bin\/)?(ba)?sh", \[?"-c"/)).toEqual([]);
});

describe("scripts", () => {
  const NAMES = ["backup-api", "bootstrap", "guard", "mark", "post-bootstrap", "preflight", "restore-test", "verify"];

  test("there is one for each caller", () => {
    expect(scripts.map(({ path }) => path)).toEqual(expect.arrayContaining(NAMES.map((name) => `scripts/${name}.ts`)));
  });

  test.each(scripts)("$path is thin: a shebang, less than 60 lines, and a call of start", ({ path, text }) => {
    expect(text.startsWith("#!/usr/bin/env node\n")).toBe(true);
    expect(text.split("\n").length).toBeLessThan(60);
    expect(text).toMatch(/\bvoid start\(/);
    expect(statSync(new URL(path, root)).isFile()).toBe(true);
  });
});

test("imports name their file with its ending, so that nothing is searched for", () => {
  expect(findings(lib.concat(scripts), /from "\.{1,2}\/(?!.*\.(ts|yml|json|\w+\?raw)").*"/)).toEqual([]);
});
