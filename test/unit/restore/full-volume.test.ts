import { expect, test } from "vitest";
import { RestoreError, reportError } from "../../../lib/errors.ts";
import { explainFullVolume } from "../../../lib/restore/full-volume.ts";

const MB = 2 ** 20;
const roomy = { path: "/data", freeBytes: 900 * MB };
const full = { path: "/tablespace", freeBytes: 36_864 };
// As PostgreSQL 15 ended on a volume that was full.
const error = new RestoreError("RECOVERY_FAILED", "PostgreSQL ended during recovery: could not write init file", {
  hint: "the whole log stands beside the data directory",
});

test("a failure on a volume that is full keeps its own words and tells of the volume", () => {
  expect(reportError(explainFullVolume(error, [roomy, full]))).toEqual({
    code: 12,
    name: "RECOVERY_FAILED",
    message:
      "PostgreSQL ended during recovery: could not write init file (no space left on device: /tablespace has 36.0 kB)",
    hint: "give the volume more space",
    about: "host",
  });
});

test("where there is space the failure is left as it is", () => {
  expect(explainFullVolume(error, [roomy])).toBe(error);
});

test("so is one that is known to lie at the host, a signal, and a bug", () => {
  const others = [
    new RestoreError("RESTORE_FAILED", "pgbackrest restore ended with code 39", { about: "host" }),
    new RestoreError("TERMINATED", "SIGTERM"),
    new TypeError("x is not a function"),
  ];
  for (const other of others) expect(explainFullVolume(other, [full])).toBe(other);
});
