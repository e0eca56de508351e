import { expect, test } from "vitest";
import type { Plan } from "../../../lib/restore/plan.ts";
import { recoverySettings } from "../../../lib/restore/recovery-settings.ts";

const [MB, GB] = [2 ** 20, 2 ** 30];
const plan = (size: number, ...links: [string, string][]) =>
  ({ backup: { size_bytes: size }, links, pgVersion: "15" }) as unknown as Pick<Plan, "backup" | "links" | "pgVersion">;

test.each([
  [64 * MB, "16MB"],
  [128 * MB, "32MB"],
  [256 * MB, "64MB"],
  [64 * GB, "64MB"],
])("of %d bytes of memory shared_buffers are %s", (memoryBytes, expected) => {
  expect(recoverySettings(plan(400 * GB), { memoryBytes, sync: false }).shared_buffers).toBe(expected);
});

test("what does not fit into memory is asked for ahead", () => {
  const prefetch = (size: number) =>
    recoverySettings(plan(size), { memoryBytes: 8 * GB, sync: true }).recovery_prefetch;
  expect([prefetch(GB), prefetch(4 * GB), prefetch(400 * GB)]).toEqual(["off", "try", "try"]);
});

test("nothing is flushed before the end, unless initdb could not flush all of it", () => {
  const fsync = (sync: boolean, ...links: [string, string][]) =>
    recoverySettings(plan(GB, ...links), { memoryBytes: GB, sync }).fsync;
  expect(fsync(true)).toBe("off");
  expect(fsync(true, ["pg_wal", "/wal"])).toBe("off");
  expect(fsync(true, ["pg_wal", "/wal"], ["pg_xact", "/xact"])).toBeUndefined();
  expect(fsync(false, ["pg_xact", "/xact"])).toBe("off");
});

test.each([
  ["13", false],
  ["14", false],
  ["15", true],
  ["18", true],
])("PostgreSQL %s has recovery_prefetch: %s", (pgVersion, isKnown) => {
  const settings = recoverySettings({ ...plan(GB), pgVersion }, { memoryBytes: GB, sync: true });
  expect("recovery_prefetch" in settings).toBe(isKnown);
});
