import { readdirSync, readFileSync } from "node:fs";
import { beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import type { FleetView } from "../../../../lib/fleet/view.ts";
import { createFleetMetrics, type FleetMetrics } from "../../../../lib/fleet/web/metrics.ts";
import {
  fleet,
  HOUR,
  healthy,
  last,
  manyServices,
  SERVICES,
  service,
  standing,
  view,
} from "../../../fixtures/fleet.ts";

let shown: FleetView;
let metrics: FleetMetrics;

beforeEach(() => {
  shown = fleet();
  metrics = createFleetMetrics({ view: () => shown, version: "1.2.3" });
});

/** `name{labels}` to its value, without the prefix. */
async function values(): Promise<Record<string, number>> {
  const lines = (await metrics.text()).split("\n").filter((line) => line.startsWith("patroni_restore_fleet_"));
  return Object.fromEntries(
    lines.map((line) => {
      const space = line.lastIndexOf(" ");
      return [line.slice("patroni_restore_fleet_".length, space), Number(line.slice(space + 1))];
    }),
  );
}

const BILLING = 'service="databases/billing",namespace="databases",stanza="shared"';
const NEW = 'service="archive/new",namespace="archive",stanza="new"';

describe("of a service", () => {
  test("what its last test said, and when it was last proven", async () => {
    const all = await values();
    expect(all[`last_healthy_timestamp_seconds{${BILLING}}`]).toBeCloseTo(Date.now() / 1000 - 4 * 86_400, -3);
    expect(all[`age_seconds{${BILLING}}`]).toBeCloseTo(4 * 86_400, -3);
    expect(all[`interval_seconds{${BILLING}}`]).toBe(86_400);
    expect(all[`attempts{${BILLING}}`]).toBe(3);
    expect(all[`rto_seconds{${BILLING}}`]).toBe(63.5);
    expect(all[`rto_phase_seconds{${BILLING},phase="restore"}`]).toBe(41);
    expect(all[`rpo_seconds{${BILLING}}`]).toBe(1.2);
    expect(all[`coverage_ratio{${BILLING}}`]).toBe(0.25);
    expect(all[`paused{${BILLING}}`]).toBe(0);
    expect(all[`problem{${BILLING}}`]).toBe(0);
    expect(all['paused{service="web/paused",namespace="web",stanza="paused"}']).toBe(1);
    expect(all['problem{service="web/misspelt",namespace="web",stanza="misspelt"}']).toBe(1);
    expect(all['status_seconds{service="web/sessions",namespace="web",stanza="sessions"}']).toBeGreaterThanOrEqual(42);
  });

  test("exactly one verdict is 1", async () => {
    const all = await values();
    const verdicts = Object.entries(all).filter(([key]) => key.startsWith(`verdict{${BILLING}`));
    expect(verdicts).toHaveLength(7);
    expect(verdicts.filter(([, value]) => value === 1)).toEqual([[`verdict{${BILLING},outcome="unhealthy"}`, 1]]);
  });

  test("one that was never tested has its age from the first minute, and no figures", async () => {
    const all = await values();
    expect(all[`age_seconds{${NEW}}`]).toBeCloseTo(7200, -3);
    expect(all[`last_healthy_timestamp_seconds{${NEW}}`]).toBe(0);
    expect(all[`last_test_timestamp_seconds{${NEW}}`]).toBe(0);
    expect(all[`verdict{${NEW},outcome="never"}`]).toBe(1);
    expect(
      Object.keys(all).filter((key) => /^(rto|rpo|coverage|status_seconds)/.test(key) && key.includes(NEW)),
    ).toEqual([]);
  });

  test("that is gone or changed is gone or changed in the next answer", async () => {
    await values();
    shown = fleet([healthy("databases/billing", HOUR, { stanza: "other" })]);
    const all = await values();
    expect(all[`age_seconds{${BILLING}}`]).toBeUndefined();
    expect(all['verdict{service="databases/billing",namespace="databases",stanza="other",outcome="healthy"}']).toBe(1);
    expect(all.services).toBe(1);
  });

  test("whatever its name is, a series is one line", async () => {
    shown = fleet([view(service('a"b\\c\nd'), standing({ last: last("healthy", HOUR) }))]);
    expect((await values())['attempts{service="a\\"b\\\\c\\nd",namespace="",stanza="a\\"b\\\\c\\nd"}']).toBe(1);
  });
});

describe("of the fleet", () => {
  test("who leads, what is due and in progress, what is wrong", async () => {
    shown = fleet(SERVICES, { leads: false, problems: ["a", "b"], pending: 3, isPaused: true });
    expect(await values()).toMatchObject({
      leader: 0,
      problems: 2,
      pending_records: 3,
      all_paused: 1,
      services: 9,
      tests_due: 2,
      'tests_in_progress{status="recovering"}': 1,
      'tests_in_progress{status="requested"}': 0,
      'build_info{version="1.2.3"}': 1,
    });
  });

  test("decisions and ends are counted; an outcome that never was is there with 0", async () => {
    metrics.decided("due");
    metrics.decided("due");
    metrics.ended("restore");
    expect(await values()).toMatchObject({
      'decisions_total{decision="due"}': 2,
      'tests_ended_total{outcome="restore"}': 1,
      'tests_ended_total{outcome="healthy"}': 0,
    });
  });
});

test("the text is Prometheus' format: HELP and TYPE once before the samples, no sample twice", async () => {
  shown = fleet(manyServices(100));
  const lines = (await metrics.text()).split("\n").filter((line) => line !== "");
  const types = lines.filter((line) => line.startsWith("# TYPE ")).map((line) => line.split(" ")[2]);
  expect(new Set(types).size).toBe(types.length);
  const samples = lines.filter((line) => !line.startsWith("#"));
  for (const line of samples) expect(line).toMatch(/^[a-z_\d]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)+\})? ([-+.e\d]+|Nan)$/);
  const series = samples.map((line) => line.slice(0, line.lastIndexOf(" ")));
  expect(new Set(series).size).toBe(series.length);
});

describe("whatever rules and dashboard ask for is there", () => {
  const templates = new URL("../../../../patroni-templates/", import.meta.url);
  const rules = readFileSync(new URL("kubernetes/fleet-rules.yml", templates), "utf8");
  const dashboards = readdirSync(new URL("grafana/", templates));
  const texts: readonly (readonly [string, string])[] = [
    ["fleet-rules.yml", rules],
    ...dashboards.map((file) => [file, readFileSync(new URL(`grafana/${file}`, templates), "utf8")] as const),
  ];

  test.each(texts)("%s", async (_, text) => {
    const exported = new Set(Object.keys(await values()).map((key) => `patroni_restore_fleet_${key.split("{")[0]}`));
    metrics.decided("due");
    for (const key of Object.keys(await values())) exported.add(`patroni_restore_fleet_${key.split("{")[0]}`);
    const asked = new Set(text.match(/\bpatroni_restore_fleet_\w+/g));
    expect(asked.size).toBeGreaterThan(5);
    expect([...asked].filter((name) => !exported.has(name))).toEqual([]);
  });

  test("only what says something about a backup wakes somebody", () => {
    const alerts = parse(rules).spec.groups.flatMap(
      ({ rules: all }: { rules: { alert: string; labels: object }[] }) => all,
    );
    const critical = alerts.filter(({ labels }: { labels: { severity: string } }) => labels.severity === "critical");
    expect(critical.map(({ alert }: { alert: string }) => alert)).toEqual(["BackupNotRestorable", "BackupUnhealthy"]);
  });

  test("the dashboard asks the data source that is chosen, and its panels have places of their own", () => {
    const board = JSON.parse(texts[1]?.[1] as string);
    const sources = JSON.stringify(board).match(/"uid":"[^"]*"/g) ?? [];
    expect(new Set(sources)).toEqual(new Set([`"uid":"$\{datasource}"`, '"uid":"patroni-restore-fleet"']));
    type Panel = { id: number; gridPos: { x: number; y: number; w: number; h: number } };
    const cells = (board.panels as Panel[]).flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, n) => `${x + (n % w)} ${y + Math.floor(n / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(Math.max(...cells.map((cell) => Number(cell.split(" ")[0])))).toBeLessThan(24);
  });
});
