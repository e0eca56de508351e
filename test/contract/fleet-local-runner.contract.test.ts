/** Restore tests as processes: what a scheduler finds that did not start them. The restore test is a stand-in. */

import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { localRunner } from "../../lib/fleet/local/runner.ts";
import type { Observation, Runner } from "../../lib/fleet/runner.ts";
import type { Service } from "../../lib/fleet/service.ts";
import type { Test } from "../../lib/fleet/test.ts";
import type { Log } from "../../lib/log.ts";

const STAND_IN = new URL("../lab/programs/quick-restore-test.mjs", import.meta.url).pathname;
const SERVICE: Service = {
  ...{ id: "orders", namespace: "", scope: "orders", stanza: "orders", source: null, groups: {}, settings: {} },
  ...{ wanted: null, problem: null },
  policy: { intervalMs: 1000, jitterMs: 0, windows: [], afterBackups: null, isPaused: false, weight: 1 },
};
const TEST: Test = {
  ...{ id: "0badcafe", service: "orders", namespace: "", scope: "orders", stanza: "orders", groups: {}, weight: 1 },
  ...{ reason: "because", requestedAt: new Date(), deadlineAt: new Date(Date.now() + 60_000), scheduler: "one" },
};

let place: string;
let workDir: string;
let said: string[];
const watching = new Set<AbortController>();
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "patroni-restore-runner-"));
  workDir = join(place, "work");
  await mkdir(workDir);
  said = [];
});
afterEach(async () => {
  for (const controller of watching) controller.abort();
  watching.clear();
  await rm(place, { recursive: true, force: true });
});

function runnerOf(script: string): Runner {
  const say = (_phase: string, message: string) => void said.push(message);
  const log: Log = { info: say, warn: say, error: say, progress: () => ({ update: () => {}, end: () => {} }) };
  return localRunner({ workDir, script, environment: process.env, keepFailed: false, log });
}

/** The newest that was told of each test. */
async function watch(runner: Runner): Promise<Map<string, Observation>> {
  const told = new Map<string, Observation>();
  const controller = new AbortController();
  watching.add(controller);
  await runner.watch((one) => void told.set(one.test, one), controller.signal);
  return told;
}

async function until(isSo: () => boolean, limitMs = 20_000): Promise<void> {
  for (const end = performance.now() + limitMs; !isSo() && performance.now() < end; ) await sleep(50);
}

const start = (runner: Runner) => runner.start(TEST, SERVICE, { receipt: null, previousReport: null });

describe("a restore test that another scheduler started", () => {
  /** The stand-in ends healthy within seconds unless it really is the one that is told to end. */
  async function cancel(runner: Runner, told: Map<string, Observation>): Promise<void> {
    await until(() => told.get(TEST.id)?.changes.length !== 0);
    await runner.cancel(TEST.id);
    await until(() => told.get(TEST.id)?.end != null);
    expect(told.get(TEST.id)?.end).toMatchObject({ outcome: "cancelled" });
  }

  test("is followed, also when the script lies elsewhere by now", async () => {
    const old = join(place, "restore-test.mjs");
    await copyFile(STAND_IN, old);
    await start(runnerOf(old));
    const newer = runnerOf(STAND_IN);
    const told = await watch(newer);
    expect(told.get(TEST.id)?.end).toBe(null);
    await cancel(newer, told);
    await newer.remove(TEST.id, { keepInstance: false });
    expect(await readdir(workDir)).toEqual([]);
  });

  test("is found although it was looked at in the moment before its process was there", async () => {
    const directory = join(workDir, `fleet-${TEST.id}`);
    await mkdir(directory);
    await writeFile(join(directory, "test.json"), JSON.stringify(TEST));
    const standby = runnerOf(STAND_IN);
    const told = await watch(standby);
    expect(told.get(TEST.id)).toMatchObject({ service: "orders", end: null });
    await start(runnerOf(STAND_IN));
    await cancel(standby, told);
  });
});

describe("what a scheduler left that was killed while it started a test", () => {
  test.each([
    ["a directory without anything", async () => {}],
    ["half a test", async (directory: string) => writeFile(join(directory, "test.json"), '{"id": "0bad')],
  ])("%s hides no other test, and can be removed", async (_, leave) => {
    const directory = join(workDir, "fleet-00000000");
    await mkdir(directory);
    await leave(directory);
    const runner = runnerOf(STAND_IN);
    const told = await watch(runner);
    await start(runner);
    await until(() => told.get(TEST.id)?.end != null && told.has("00000000"));
    expect(told.get(TEST.id)?.end).toMatchObject({ outcome: "healthy" });
    expect(told.get("00000000")?.end).toMatchObject({ outcome: "infra" });
    await runner.remove("00000000", { keepInstance: false });
    expect(await readdir(workDir)).toEqual([`fleet-${TEST.id}`]);
    expect(said).toEqual([]);
  });
});

test("a work directory that is there no more is said, and not made again in another user's way", async () => {
  const runner = runnerOf(STAND_IN);
  await rm(workDir, { recursive: true });
  await expect(start(runner)).rejects.toThrow(`the work directory ${workDir} is there no more`);
  expect(await readdir(place)).toEqual([]);
});
