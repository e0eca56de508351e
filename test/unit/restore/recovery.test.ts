import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { triedAgain } from "../../../lib/restore/recovery.ts";

/** As PostgreSQL runs it: by the shell. `codes` are the command's exit codes, one after the other. */
function run(codes: readonly number[]): { code: number; calls: number } {
  const directory = mkdtempSync(join(tmpdir(), "restore-command-"));
  try {
    const [left, command] = [join(directory, "codes"), join(directory, "command")];
    writeFileSync(left, `${codes.join("\n")}\n`);
    writeFileSync(command, `code=$(head -n 1 ${left}); sed -i 1d ${left}; exit $code\n`);
    let code = 0;
    try {
      execFileSync("sh", ["-c", triedAgain(`sh ${command}`)]);
    } catch (error) {
      code = (error as { status: number }).status;
    }
    return { code, calls: codes.length - readFileSync(left, "utf8").split("\n").filter(Boolean).length };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test.each([
  [[0, 0], 0, 1],
  [[1, 0], 1, 1],
  [[103, 0], 103, 1],
  [[42, 0], 0, 2],
  [[42, 42, 0], 42, 2],
  [[42, 1, 0], 1, 2],
])("restore_command that ends with %j in turn ends with %i after %i calls", (codes, code, calls) => {
  expect(run(codes)).toEqual({ code, calls });
});
