/**
 * Schedulers and their database are killed all the time, and the fleet's promises hold: one test of a service at a time, the
 * limit, no slot that leaks, nothing that is left behind, every status recorded. The schedulers, their record and their
 * processes are real; the tests themselves are stand-ins that take a second, so that hundreds of them fit.
 */

import { copyFile, readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { isEnd, STATUSES, type Status } from "../../../lib/fleet/test.ts";
import { useLab } from "../fixture.ts";
import { signalProcess, waitFor } from "../process.ts";
import { launchPostgres, query, startSource } from "../source.ts";
import { type FleetScheduler, launchFleet, recordedTests, recordOf, servicesFile, slotCount } from "./fleet.ts";

const SERVICES = 12;
const MAX_TESTS = 4;
const CHAOS_MS = Number(process.env.FLEET_CHAOS_SECONDS ?? 90) * 1000;

const program = (name: string) => fileURLToPath(new URL(`../programs/${name}`, import.meta.url));

const lab = useLab("chaos", async (lab) => {
  const database = await startSource(lab, { stanza: "record" });
  await query(database, "CREATE DATABASE fleet");
  const scripts = await lab.makeDirectory("scripts");
  await copyFile(await lab.script("fleet"), `${scripts}/fleet.mjs`);
  await copyFile(program("quick-mark.mjs"), `${scripts}/mark.mjs`);
  await copyFile(program("quick-restore-test.mjs"), `${scripts}/restore-test.mjs`);
  const names = Array.from({ length: SERVICES }, (_, n) => `s${n}`);
  const services = await servicesFile(lab, "services.yml", {
    defaults: { interval: "3s", jitter: "0s" },
    services: Object.fromEntries(names.map((name) => [name, { source: "host=nowhere" }])),
  });
  return { database, script: `${scripts}/fleet.mjs`, services, names, work: await lab.makeDirectory("w") };
});

/** The kernel's own dice would make a failure hard to see again. */
function dice(seed: number) {
  let state = seed;
  return (below: number) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

test("three schedulers and their database, killed again and again", { timeout: CHAOS_MS + 180_000 }, async () => {
  const { database, script, services, names, work } = lab();
  const random = dice(20_261_123);
  const schedulers = new Map<number, FleetScheduler>();
  let started = 0;
  const start = async (n: number) =>
    void schedulers.set(
      n,
      await launchFleet(lab(), {
        ...{ name: `fleet-${n}-${started++}`, script, servicesFile: services, workDir: work },
        record: recordOf(database),
        args: [`--max-tests=${MAX_TESTS}`, "--deadline=60s"],
      }),
    );
  let postgres = database.service;
  const overLimit: string[] = [];
  for (const n of [0, 1, 2]) await start(n);
  await waitFor("the first test", async () => (await recordedTests(database).catch(() => [])).length > 0, 60_000);

  const until = Date.now() + CHAOS_MS;
  while (Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 1000 + random(3000)));
    const slots = await slotCount(database).catch(() => 0);
    if (slots > MAX_TESTS) overLimit.push(`${slots} tests in progress`);
    if (random(5) === 0) {
      const [postmaster] = (await readFile(`${database.dataDir}/postmaster.pid`, "utf8")).split("\n");
      signalProcess(Number(postmaster), random(2) === 0 ? "SIGKILL" : "SIGQUIT");
      await postgres.stop("SIGQUIT", 10_000);
      await new Promise((resolve) => setTimeout(resolve, random(4000)));
      postgres = await waitFor("PostgreSQL", async () => {
        const service = launchPostgres(lab(), database);
        await new Promise((resolve) => setTimeout(resolve, 1500));
        return service.isRunning() ? service : undefined;
      });
    } else {
      const n = random(3);
      schedulers.get(n)?.service.kill("SIGKILL");
      await start(n);
    }
  }

  // One scheduler is left in peace, and puts everything in order.
  for (const n of [1, 2]) schedulers.get(n)?.service.kill("SIGKILL");
  if (!schedulers.get(0)?.service.isRunning()) await start(0);
  const before = (await recordedTests(database)).length;
  const isInOrder = async () => {
    const tests = await recordedTests(database);
    const newest = new Map(
      tests.filter(({ status }) => isEnd(status as Status)).map(({ id, service }) => [service, id]),
    );
    return tests.length > before + 2 * SERVICES && newest.size === SERVICES;
  };
  await waitFor(
    "every service to be tested again",
    isInOrder,
    90_000,
    async () => (await schedulers.get(0)?.service.log()) ?? "",
  );
  await lab().writeFile("services.yml", "services: {}\n", 0o600);
  await waitFor("the last tests to end", async () => (await slotCount(database)) === 0, 60_000);
  const leftInWork = async () => (await readdir(work)).filter((name) => name.startsWith("fleet-"));
  await waitFor("what is left to be removed", async () => (await leftInWork()).length === 0, 30_000);
  await schedulers.get(0)?.service.stop();

  const trace = (await readFile(lab().path("trace"), "utf8")).trim().split("\n");
  expect(trace.filter((line) => line.startsWith("OVERLAP"))).toEqual([]);
  expect(overLimit).toEqual([]);
  const tests = await recordedTests(database);
  const order = (status: string) => STATUSES.indexOf(status as Status);
  for (const one of tests) {
    expect(isEnd(one.status as Status), JSON.stringify(one)).toBe(true);
    expect(
      one.statuses.filter((status) => isEnd(status as Status)),
      JSON.stringify(one),
    ).toHaveLength(1);
    expect(new Set(one.statuses).size, JSON.stringify(one)).toBe(one.statuses.length);
    expect(one.statuses.map(order), JSON.stringify(one)).toEqual(one.statuses.map(order).sort((a, b) => a - b));
    if (one.status === "healthy") {
      expect(one.statuses).toEqual(["requested", "marking", "restoring", "recovering", "verifying", "healthy"]);
    }
  }
  // As many as began were recorded: what no scheduler saw ending was told by what it left.
  const begun = trace.filter((line) => line.startsWith("begin")).length;
  expect(tests.filter(({ statuses }) => statuses.includes("restoring")).length).toBe(begun);
  const counts = names.map((name) => tests.filter(({ service }) => service === name).length);
  console.log(
    `${tests.length} tests, ${started} schedulers; of each service ${Math.min(...counts)} to ${Math.max(...counts)}; ` +
      STATUSES.map((status) => `${tests.filter((one) => one.status === status).length} ${status}`).join(", "),
  );
});
