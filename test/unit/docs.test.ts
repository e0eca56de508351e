/** What the documents say about the code is compared with the code. */

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import { exitCodes, exitCodesIn, settingsTable } from "../fixtures/docs-tables.ts";

const root = new URL("../..", import.meta.url);
const read = (name: string) =>
  existsSync(new URL(name, root)) ? readFileSync(new URL(name, root), "utf8") : undefined;

const readme = read("README.md");
const architecture = read("ARCHITECTURE.md");

describe.skipIf(readme === undefined)("README.md", () => {
  test("names every exit code, and no other", () => {
    expect(exitCodesIn(readme ?? "")).toEqual(exitCodes());
  });

  test("has the table of settings as the options are", () => {
    const table = settingsTable();
    const missing = table.split("\n").filter((row) => !readme?.includes(`\n${row}\n`));
    expect(missing, `the table must read:\n\n${table}\n`).toEqual([]);
  });

  test("names no flag that does not exist as a setting", () => {
    const rows = [...(readme ?? "").matchAll(/^\| `--([a-z-]+)[^|]*\|[^|]*\|/gm)].map(([, flag]) => flag);
    const known = [...settingsTable().matchAll(/`--([a-z-]+)/g)].map(([, flag]) => flag);
    expect(rows.filter((flag) => !known.includes(flag))).toEqual([]);
  });
});

describe.skipIf(architecture === undefined)("ARCHITECTURE.md", () => {
  const files = readdirSync(new URL("lib", root), { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  const names = new Map<string, number>();
  for (const file of files) names.set(basename(file), (names.get(basename(file)) ?? 0) + 1);

  test("names every file in lib", () => {
    const missing = [...names]
      .filter(
        ([name, times]) => (architecture?.match(new RegExp(`(?<![\\w-])${name}(?!\\w)`, "g")) ?? []).length < times,
      )
      .map(([name]) => name);
    expect(missing).toEqual([]);
  });
});

test("the table of settings has a row for every option and no empty cell for what it does", () => {
  const rows = settingsTable().split("\n").slice(2);
  expect(rows.length).toBeGreaterThan(40);
  for (const row of rows) expect(row).toMatch(/^\| `.+` ?.* \| .* \| .*\S \|$/);
});

test("exit codes are found in a table whatever its third column says", () => {
  const markdown =
    "| code | name | when |\n|---|---|---|\n| 0 | | done |\n| 13 | `TARGET_UNREACHED` | late |\n| 130 | INTERRUPTED | ^C |\n";
  expect(exitCodesIn(markdown)).toEqual([
    { code: 0, name: "" },
    { code: 13, name: "TARGET_UNREACHED" },
    { code: 130, name: "INTERRUPTED" },
  ]);
});
