/** The alert rules by Prometheus' own promtool: they are valid, and fire when they must and not before. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { createFleetMetrics } from "../../../lib/fleet/web/metrics.ts";
import { fleet } from "../../fixtures/fleet.ts";
import { FLEET_VALUES, renderObject } from "../../fixtures/kubernetes-templates.ts";

const directory = mkdtempSync(join(tmpdir(), "fleet-rules-"));
afterAll(() => rmSync(directory, { recursive: true }));

const spec = renderObject("fleet-rules.yml", FLEET_VALUES).spec;
const rulesFile = join(directory, "rules.yml");
writeFileSync(rulesFile, stringify(spec));

async function promtool(...options: string[]): Promise<string> {
  const { all, exitCode } = await execa("promtool", options, { all: true, reject: false });
  return `${exitCode} ${all}`;
}

test("promtool takes every rule", async () => {
  const count = spec.groups.flatMap(({ rules }: { rules: unknown[] }) => rules).length;
  expect(await promtool("check", "rules", rulesFile)).toMatch(new RegExp(`^0 [\\s\\S]*SUCCESS: ${count} rules found`));
});

test("promtool can read the metrics, and finds no name wrong", async () => {
  const metrics = createFleetMetrics({ view: () => fleet(), version: "1.2.3" });
  metrics.decided("due");
  const { all } = await execa("promtool", ["check", "metrics"], {
    input: await metrics.text(),
    all: true,
    reject: false,
  });
  expect(all.split("\n").filter((line) => !/^(nodejs|process)_/.test(line))).toEqual([]);
});

interface Case {
  alert: string;
  series: Record<string, string>;
  /** Minutes at which it must fire, with the service, and at which it must not. */
  fires: number[];
  quiet: number[];
}

const LABELS = 'service="databases/shop",namespace="databases",stanza="shop"';
const two = (name: string, labels: string, values: string): Record<string, string> =>
  // Leader and standby both tell of it.
  Object.fromEntries(
    ["fleet-0", "fleet-1"].map((pod) => [
      `patroni_restore_fleet_${name}{${labels}${labels === "" ? "" : ","}instance="${pod}"}`,
      values,
    ]),
  );
const verdict = (outcome: string, values: string) => two("verdict", `${LABELS},outcome="${outcome}"`, values);

/** A sample a minute. */
const CASES: Record<string, Case> = {
  "an unhealthy backup wakes somebody, and an inconclusive test after it calms nobody": {
    alert: "BackupUnhealthy",
    series: {
      ...verdict("unhealthy", "0x9 1x60 0x120"),
      ...verdict("infra", "0x70 1x60 0x60"),
      ...verdict("healthy", "0x130 1x60"),
    },
    fires: [15, 60, 100],
    quiet: [5, 140],
  },
  "a restore that failed wakes somebody": {
    alert: "BackupNotRestorable",
    series: { ...verdict("restore", "0x9 1x60"), ...verdict("healthy", "1x9 0x60") },
    fires: [20],
    quiet: [5],
  },
  "a source that is away is told after hours": {
    alert: "BackupTestInconclusive",
    series: verdict("source", "1x600"),
    fires: [200],
    quiet: [60, 170],
  },
  "a service that was never tested is told of after two intervals": {
    alert: "BackupNeverTested",
    series: {
      ...two("age_seconds", LABELS, "0+60x600"),
      ...two("interval_seconds", LABELS, "3600x600"),
      ...two("last_healthy_timestamp_seconds", LABELS, "0x600"),
    },
    fires: [140],
    quiet: [60, 121],
  },
  "a proof that is old is told of after three": {
    alert: "BackupProofOld",
    series: {
      ...two("age_seconds", LABELS, "0+60x600"),
      ...two("interval_seconds", LABELS, "3600x600"),
      ...two("last_healthy_timestamp_seconds", LABELS, "1x600"),
    },
    fires: [200],
    quiet: [140, 181],
  },
  "a test that does not move": {
    alert: "FleetTestStuck",
    series: { [`patroni_restore_fleet_status_seconds{${LABELS}}`]: "0+60x600" },
    fires: [300],
    quiet: [200],
  },
  "no leader": {
    alert: "FleetWithoutLeader",
    series: {
      'patroni_restore_fleet_leader{instance="fleet-0"}': "1x30 0x60",
      'patroni_restore_fleet_leader{instance="fleet-1"}': "0x20 1x20 0x60",
    },
    fires: [60],
    quiet: [10, 25, 41],
  },
  "no scheduler at all": { alert: "FleetWithoutLeader", series: { up: "1x60" }, fires: [30], quiet: [2] },
};

describe("promtool sees fire", () => {
  test.each(Object.entries(CASES))("%s", async (name, { alert, series, fires, quiet }) => {
    const rule = spec.groups
      .flatMap(({ rules }: { rules: { alert: string; labels: object }[] }) => rules)
      .find((one: { alert: string }) => one.alert === alert);
    const file = join(directory, `${alert}-${name.length}.yml`);
    const check = (minute: number, isFiring: boolean) => ({
      eval_time: `${minute}m`,
      // How many fire; their texts are not what is tested.
      expr: `count(ALERTS{alertname="${alert}",alertstate="firing",severity="${rule.labels.severity}"}) or vector(0)`,
      exp_samples: [{ labels: "{}", value: isFiring ? 1 : 0 }],
    });
    writeFileSync(
      file,
      stringify({
        rule_files: [rulesFile],
        evaluation_interval: "1m",
        tests: [
          {
            interval: "1m",
            input_series: Object.entries(series).map(([key, values]) => ({ series: key, values })),
            promql_expr_test: [...fires.map((at) => check(at, true)), ...quiet.map((at) => check(at, false))],
          },
        ],
      }),
    );
    expect(await promtool("test", "rules", file)).toMatch(/^0 [\s\S]*SUCCESS/);
  });
});
