import { describe, expect, test } from "vitest";
import { parseServices } from "../../../../lib/fleet/local/services-file.ts";
import type { Policy } from "../../../../lib/fleet/service.ts";

const POLICY: Policy = {
  ...{ intervalMs: 604_800_000, jitterMs: 0, windows: [], afterBackups: null, isPaused: false, weight: 1 },
};
const parse = (text: string) => parseServices(text, "services.yml", POLICY);

test("a service says what is special about it, the defaults and the fleet's settings the rest", () => {
  const services = parse(`
defaults:
  interval: 1d
  windows: ["mon-fri 22:00-06:00 Europe/Berlin"]
  groups: { node: n1 }
  settings: { level: full, pgbackrest_config: /etc/pgbackrest.conf }
services:
  orders:
    source: host=db1 user=postgres
    stanza: main
    interval: 6h
    weight: 4
    after_backups: 3
    settings: { level: quick }
    test_now: 2026-11-23
  archive:
    windows: "22:00-06:00; sat,sun 00:00-24:00"
    paused: true
    groups: { disk: slow }
`);
  expect(services).toMatchObject([
    {
      ...{ id: "orders", scope: "orders", stanza: "main", source: "host=db1 user=postgres", groups: { node: "n1" } },
      policy: {
        intervalMs: 21_600_000,
        weight: 4,
        afterBackups: 3,
        isPaused: false,
        windows: [{ from: 1320, to: 360 }],
      },
      settings: { level: "quick", pgbackrest_config: "/etc/pgbackrest.conf" },
      wanted: "2026-11-23",
    },
    {
      ...{ id: "archive", stanza: "archive", source: null, groups: { node: "n1", disk: "slow" }, wanted: null },
      policy: { intervalMs: 86_400_000, isPaused: true, windows: [{ timeZone: "UTC" }, { days: ["sat", "sun"] }] },
    },
  ]);
});

test("a file without services is a fleet without services", () => {
  expect(parse("services: {}")).toEqual([]);
});

describe("what is wrong is said with its place, all at once", () => {
  test.each([
    ["services:\n  a:\n    intervall: 1d", /services\.yml:3:\d+: services\.a has the unknown key "intervall"/],
    ["services:\n  a:\n    interval: soon", /services\.yml:3:15: services\.a\.interval .*"soon"/],
    ["services:\n  a:\n    windows: [sometimes]", /services\.yml:3:14: .*"sometimes" is not a window/],
    ["services:\n  a b: {}", /services\.yml:2:\d+: services\.a b is not a name/],
    ["services:\n  a:\n    source: host", /services\.yml:3:13: a\.source: /],
    ["services:\n  a:\n    settings: {levle: full}", /a: settings\.levle is not a setting of a restore test.*level/],
    ["services:\n  a:\n    settings: {report: /x}", /settings\.report is not .*the fleet decides it/],
    ["services:\n  a:\n    settings: {level: deep}", /settings\.level: "deep" is not one of/],
    ["services: [a]", /services\.yml:1:11: services /],
    ["service: {}", /services\.yml:1:1: the file has the unknown key "service"/],
    ["services:\n  a: {\n", /services\.yml:\d+:\d+: /],
    ["", /services/],
  ])("%j", (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  test("several problems are one error", () => {
    const wrong = "services:\n  a:\n    interval: soon\n  b:\n    weight: heavy";
    expect(() => parse(wrong)).toThrow(/services\.a\.interval[\s\S]*services\.b\.weight/);
  });
});
