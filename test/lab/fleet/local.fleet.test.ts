/**
 * A fleet of one machine with real services: one is as it should be, one has lost WAL from its archive, one backup is damaged
 * in the repository, and one table was damaged before it was backed up. They are tested round and round.
 */

import { readdir, readFile } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import { EXIT_CODES } from "../../../lib/errors.ts";
import type { ServiceDetailsJson } from "../../../lib/fleet/web/present.ts";
import { useLab } from "../fixture.ts";
import { processesOf, signalProcess, waitFor } from "../process.ts";
import { query, type Source, startPostgres, startSource } from "../source.ts";
import {
  type FleetScheduler,
  recordedTests,
  recordOf,
  serviceOf,
  servicesFile,
  slotCount,
  startFleet,
} from "./fleet.ts";
import { damageBackup, loseWal, makeService } from "./services.ts";

const TOKEN = "a-token-of-the-laboratory";

const lab = useLab("fleet", async (lab) => {
  const database = await startSource(lab, { stanza: "record" });
  await query(database, "CREATE DATABASE fleet");
  const sources: Record<string, Source> = {};
  for (const name of ["orders", "gap", "torn", "bad"])
    sources[name] = await makeService(lab, name, { isDamaged: name === "bad" });
  const { orders, gap, torn, bad } = sources as Record<"orders" | "gap" | "torn" | "bad", Source>;
  await loseWal(gap);
  await damageBackup(torn);
  const entry = (source: Source, own: object = {}) => ({
    source: source.conninfo,
    settings: { pgbackrest_config: source.pgbackrestConfig, runner: "direct", archive_timeout: "30s" },
    ...own,
  });
  const services = {
    orders: entry(orders, { settings: { pgbackrest_config: orders.pgbackrestConfig, level: "full" } }),
    ...{ gap: entry(gap), torn: entry(torn), bad: entry(bad) },
  };
  const file = await servicesFile(lab, "services.yml", { defaults: { interval: "10min", jitter: "0s" }, services });
  const tokenFile = await lab.writeFile("token", `${TOKEN}\n`, 0o600);
  const work = await lab.makeDirectory("w");
  const options = { record: recordOf(database), servicesFile: file, workDir: work };
  return { database, sources: { orders, gap, torn, bad }, services, work, options, tokenFile };
});

const started: FleetScheduler[] = [];
afterEach(async () => {
  for (const { service } of started.splice(0)) await service.stop("SIGTERM", 30_000);
});
async function start(name: string, ...args: string[]): Promise<FleetScheduler> {
  const { options, tokenFile } = lab();
  const fleet = await startFleet(lab(), { ...options, name, args: [`--token-file=${tokenFile}`, ...args] });
  started.push(fleet);
  return fleet;
}

const headers = { Authorization: `Bearer ${TOKEN}` };
/** The same fleet, asked with the token. */
const authorized = ({ url, service }: FleetScheduler): Pick<FleetScheduler, "get" | "post" | "service"> => {
  const ask = async (path: string, init: RequestInit) => {
    const response = await fetch(`${url}${path}`, { ...init, headers, signal: AbortSignal.timeout(30_000) });
    const text = await response.text();
    return { status: response.status, location: response.headers.get("location"), text, json: parsed(text) };
  };
  return {
    service,
    get: (path) => ask(path, {}),
    post: (path, body = "") => ask(path, { method: "POST", body: JSON.stringify(body) }),
  };
};
// biome-ignore lint/suspicious/noExplicitAny: tests look at what they expect.
function parsed(text: string): any {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
/** All but schedulers, which name the directory too. */
const testProcesses = () => processesOf(lab().work).filter(({ command }) => !/fleet\.mjs run/.test(command));
const fleetDirectories = async () => (await readdir(lab().work)).filter((name) => /^(fleet|restore-test)-/.test(name));

describe("a fleet of four services", { timeout: 300_000 }, () => {
  test("each gets the verdict it deserves, with its reason, and nothing of the tests stays", async () => {
    const { database } = lab();
    const running = await start("fleet", "--max-tests=2");
    const fleet = authorized(running);
    const verdicts = async () => {
      const { services } = (await fleet.get("/services")).json;
      return Object.fromEntries(services.map((one: { id: string; verdict: string }) => [one.id, one.verdict]));
    };
    const isDone = async () => !Object.values(await verdicts()).includes("never");
    await waitFor("four tests", isDone, 240_000, () => running.service.log());
    expect(await verdicts()).toEqual({ orders: "healthy", gap: "restore", torn: "restore", bad: "unhealthy" });

    const details = async (id: string): Promise<ServiceDetailsJson> => (await fleet.get(`/service?id=${id}`)).json;
    expect((await details("gap")).last_test?.error?.message).toMatch(/WAL|recovery|segment/i);
    expect((await details("torn")).last_test?.error?.name).toBe("RESTORE_FAILED");
    expect((await details("bad")).last_test?.error?.name).toBe("UNHEALTHY");
    const healthy = await details("orders");
    expect(healthy.figures).toMatchObject({ rto_ms: expect.any(Number), rpo_ms: expect.any(Number) });
    const id = healthy.last_test?.id as string;
    const whole = (await fleet.get(`/tests/${id}`)).json;
    expect(whole.report).toMatchObject({ verdict: "healthy", scope: `orders-rt-${id}`, stanza: "orders" });
    expect(whole.statuses.map(({ status }: { status: string }) => status)).toEqual([
      "requested",
      "marking",
      "restoring",
      "recovering",
      "verifying",
      "healthy",
    ]);
    expect(await slotCount(database)).toBe(0);
    expect(await fleetDirectories()).toEqual([]);
    expect(testProcesses()).toEqual([]);
  });

  test("a test that somebody asks for begins at once; asked again while it runs is refused", async () => {
    const { tokenFile, runScript } = lab();
    const running = await start("asked");
    const fleet = authorized(running);
    const before = await serviceOf(fleet, "orders");
    const asked = await runScript("fleet", ["test", "orders", `--url=${running.url}`, `--token-file=${tokenFile}`]);
    expect(asked.exitCode, asked.stderr).toBe(0);
    const isRunning = async () => (await serviceOf(fleet, "orders")).running !== null;
    await waitFor("the test", isRunning, 30_000, () => running.service.log());
    expect(await fleet.post("/tests", { service: "orders" })).toMatchObject({ status: 409 });
    const isNew = async () => (await serviceOf(fleet, "orders")).last_test?.id !== before.last_test?.id;
    await waitFor("its end", isNew, 120_000, () => running.service.log());
    expect(await serviceOf(fleet, "orders")).toMatchObject({ verdict: "healthy", running: null });

    const status = await runScript("fleet", ["status", `--url=${running.url}`, `--token-file=${tokenFile}`]);
    expect(status.stdout).toMatch(/orders[^\n]*healthy/);
    expect(status.stdout).toMatch(/bad[^\n]*unhealthy/);
    const why = await runScript("fleet", ["explain", "gap", `--url=${running.url}`, `--token-file=${tokenFile}`]);
    expect(why.stdout).toMatch(/the last restore failed/);
    const refused = await runScript("fleet", ["status", `--url=${running.url}`]);
    expect(refused).toMatchObject({
      exitCode: EXIT_CODES.PREFLIGHT_FAILED,
      stderr: expect.stringMatching(/--token-file/),
    });
    const unknown = await runScript("fleet", ["test", "nobody", `--url=${running.url}`, `--token-file=${tokenFile}`]);
    expect(unknown.stderr).toMatch(/there is no service "nobody"/);
  });
});

test("a scheduler that is killed in the middle of a restore: the next one follows the test to its verdict", async () => {
  const { database } = lab();
  const first = await start("first");
  await authorized(first).post("/tests", { service: "orders" });
  const isRestoring = async () =>
    (await recordedTests(database)).some(({ status }) => ["restoring", "recovering", "verifying"].includes(status));
  await waitFor("the restore", isRestoring, 60_000, () => first.service.log());
  first.service.kill("SIGKILL");
  const second = await start("second");
  const isDone = async () => (await slotCount(database)) === 0;
  await waitFor("its end", isDone, 120_000, () => second.service.log());
  const last = (await recordedTests(database)).at(-1);
  expect(last).toMatchObject({
    status: "healthy",
    statuses: ["requested", "marking", "restoring", "recovering", "verifying", "healthy"],
  });
  await waitFor("what is left to be removed", async () => (await fleetDirectories()).length === 0, 30_000);
});

test("a restore test that is killed is an error that says so, and what it left is removed", async () => {
  const { database } = lab();
  const fleet = await start("killed");
  await authorized(fleet).post("/tests", { service: "orders" });
  const main = () => testProcesses().find(({ command }) => /restore-test\.mjs --config=/.test(command));
  const victim = await waitFor(
    "the restore test",
    () => main(),
    60_000,
    () => fleet.service.log(),
  );
  signalProcess(victim.pid, "SIGKILL");
  const isDone = async () => (await recordedTests(database)).at(-1)?.status === "error";
  await waitFor("its end", isDone, 60_000, () => fleet.service.log());
  expect((await recordedTests(database)).at(-1)).toMatchObject({ outcome: "infra" });
  await waitFor("what is left to be removed", async () => (await fleetDirectories()).length === 0, 30_000);
  expect(testProcesses()).toEqual([]);
  const isKnown = async () => (await serviceOf(authorized(fleet), "orders")).verdict === "infra";
  await waitFor("the verdict", isKnown, 30_000, () => fleet.service.log());
  const { last_test } = await serviceOf(authorized(fleet), "orders");
  expect(last_test?.error?.message).toMatch(/ended by SIGKILL without a report/);
});

test("the database away while a test runs: it goes on, and all of it is recorded afterwards", async () => {
  const { database } = lab();
  const fleet = await start("away");
  await authorized(fleet).post("/tests", { service: "orders" });
  const isRestoring = async () => (await recordedTests(database)).at(-1)?.status === "restoring";
  await waitFor("the restore", isRestoring, 60_000, () => fleet.service.log());
  await database.service.stop("SIGQUIT", 10_000);
  await waitFor(
    "the test's own end",
    () => testProcesses().length === 0,
    120_000,
    () => fleet.service.log(),
  );
  expect((await fleet.get("/readyz")).status).toBe(503);
  await startPostgres(lab(), database);
  const isDone = async () => (await slotCount(database)) === 0;
  await waitFor("the record", isDone, 60_000, () => fleet.service.log());
  expect((await recordedTests(database)).at(-1)).toMatchObject({
    status: "healthy",
    statuses: ["requested", "marking", "restoring", "recovering", "verifying", "healthy"],
  });
});

test("the services file: what is new is tested, a mistake leaves the fleet as it was and is shown", async () => {
  const { services } = lab();
  const fleet = await start("file");
  const { get } = authorized(fleet);
  await servicesFile(lab(), "services.yml", { services: { ...services, orders: { interval: "soon" } } });
  const isShown = async () => (await get("/services")).json.problems.length > 0;
  await waitFor("the problem", isShown, 30_000, () => fleet.service.log());
  expect((await get("/services")).json).toMatchObject({
    counts: { total: 4 },
    problems: [expect.stringMatching(/services\.yml:\d+:\d+: services\.orders\.interval.*"soon"/)],
  });
  await servicesFile(lab(), "services.yml", { services: { bad: services.bad } });
  const isOne = async () => (await get("/services")).json.counts.total === 1;
  await waitFor("the new file", isOne, 30_000, () => fleet.service.log());
  expect((await get("/services")).json.problems).toEqual([]);
  expect(await readFile(lab().path("services.yml"), "utf8")).toMatch(/bad/);
});
