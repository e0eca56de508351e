/**
 * A store that fails the service itself: `mark` says why the fence does not arrive, PostgreSQL keeps its WAL, and when the
 * store is back nothing is lost.
 */

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import { EXIT_CODES } from "../../../lib/errors.ts";
import { startBackupApi } from "../backup-api.ts";
import { useLab } from "../fixture.ts";
import { processesOf, waitFor } from "../process.ts";
import { archiveWal, backup, createStanza, pgbackrest, query, startSource, value } from "../source.ts";
import { startCeph } from "./ceph.ts";
import { type FaultProxy, startFaultProxy } from "./fault-proxy.ts";
import { createRepository, FAULT_LIMITS, objectsIn } from "./store.ts";

const lab = useLab("source", async (lab) => {
  const ceph = await startCeph(lab);
  const proxy = await startFaultProxy(lab, ceph.port, ceph.certificates);
  const source = await startSource(lab, {
    stanza: "svc",
    pgbackrest: { ...ceph.settings("read-write", proxy.port), ...FAULT_LIMITS, "repo1-bundle": "y" },
  });
  await query(source, "CREATE TABLE orders AS SELECT id, md5(id::text) FROM generate_series(1, 50000) AS id");
  await createRepository(lab, source);
  await createStanza(lab, source);
  await backup(lab, source, "full");
  return { ceph, proxy, source, work: await lab.makeDirectory("w") };
});

afterEach(async () => {
  await recover();
  expect(await readdir(lab().work)).toEqual([]);
});

async function recover(): Promise<void> {
  const { proxy } = lab();
  proxy.decide = () => "pass";
  await proxy.accept();
}

const faults: Readonly<Record<string, (proxy: FaultProxy) => unknown>> = {
  "is gone": (proxy) => proxy.refuse(),
  "refuses the credential": (proxy) => {
    proxy.decide = () => 403;
  },
  "does not answer": (proxy) => {
    proxy.decide = () => "stall";
  },
};

describe("mark waits for the fence", () => {
  test.each(Object.keys(faults))(
    "the store %s: SOURCE_UNREACHABLE with the archiver's failure; back again, marked",
    async (name) => {
      const { source, proxy, path, runScript } = lab();
      const receipt = path(`${name.replaceAll(" ", "-")}.receipt`);
      const mark = (limit: string) =>
        runScript("mark", ["--source", source.conninfo, "--receipt", receipt, `--archive-timeout=${limit}`]);
      await faults[name]?.(proxy);
      const result = await mark("15s");
      expect(result.exitCode, result.stderr).toBe(EXIT_CODES.SOURCE_UNREACHABLE);
      expect(result.stderr).toMatch(/WAL ([0-9A-F]{24}) was not archived within 15 s \(last failure \1 at /);
      expect(result.stderr).toMatch(/HINT: .*pgbackrest check/);
      expect(existsSync(receipt)).toBe(false);
      await recover();
      const second = await mark("2min");
      expect(second.exitCode, second.stderr).toBe(0);
      expect(existsSync(receipt)).toBe(true);
    },
  );

  test("in a restore test: the same words, a truthful report, and nothing runs", async () => {
    const { source, proxy, work, path, startScript } = lab();
    const report = path("log", "report.json");
    const running = await startScript("restore-test", [
      "--source",
      source.conninfo,
      "--stanza=svc",
      `--pgbackrest-config=${source.pgbackrestConfig}`,
      `--work-dir=${work}`,
      `--report=${report}`,
      "--archive-timeout=15s",
    ]);
    const said = () => running.output().stderr;
    await waitFor("the marker", () => /marker placed/.test(said()), 60_000, said);
    await proxy.refuse();
    const result = await running.result;
    expect(result.exitCode, result.stderr).toBe(EXIT_CODES.SOURCE_UNREACHABLE);
    expect(result.stderr).toMatch(/was not archived within 15 s \(last failure/);
    const { verdict, error } = JSON.parse(await readFile(report, "utf8"));
    expect({ verdict, name: error.name }).toEqual({ verdict: "error", name: "SOURCE_UNREACHABLE" });
    expect(processesOf(work)).toEqual([]);
  });
});

describe("backup-api", () => {
  const start = (name: string) =>
    startBackupApi(lab(), { name, args: ["--stanza=svc", `--pgbackrest-config=${lab().source.pgbackrestConfig}`] });

  test("makes, lists and removes backups, and reads the archive, as with any repository", async () => {
    const api = await start("api");
    const made = await api.post("/backups?wait=60", { type: "incr" });
    expect(made, made.text).toMatchObject({ status: 200, json: { status: "FINISHED", pgbackrest: { type: "incr" } } });
    expect((await api.get("/info")).json).toMatchObject({ ok: true });
    const archived = await archiveWal(lab().source);
    const wal = await waitFor("a fresh look", async () => {
      const { json } = await api.get("/wal");
      return json.archives[0]?.newest.segment === archived ? json : undefined;
    });
    expect(wal).toMatchObject({ ok: true, archives: [{ gaps: [], restorable: { until: { segment: archived } } }] });
    expect((await api.post("/expire?wait=60")).json).toMatchObject({ status: "FINISHED" });
    expect((await api.post("/verify?wait=60")).json).toMatchObject({ status: "FINISHED" });
    await api.service.stop("SIGTERM", 60_000);
  });

  test("the store is gone in the middle of a backup: an error by name; back again, the next one succeeds", async () => {
    const { proxy } = lab();
    const api = await start("away");
    let uploads = 0;
    proxy.decide = ({ method }) => (method === "PUT" && ++uploads > 2 ? { bytesPerSecond: 1 } : "pass");
    const begun = await api.post("/backups", { type: "full" });
    expect(begun.status, begun.text).toBe(202);
    await waitFor("the copying", () => uploads > 2);
    await proxy.refuse();
    const ended = await api.get(`${begun.location}?wait=120`);
    expect(ended.json, ended.text).toMatchObject({ status: "ERROR", pgbackrest: {} });
    expect(ended.json.error).toMatch(/^pgbackrest backup ended with code \d+: \[\d+\]: .*/);
    expect(ended.json.hint).toMatch(/store|host cannot be reached/);
    const info = await waitFor("the repository's failure", async () => {
      const answer = await api.get("/info");
      return answer.status === 503 ? answer : undefined;
    });
    expect(info.text).toMatch(/HostConnectError|unable to connect/);
    expect((await api.get("/healthz")).status).toBe(200);
    await recover();
    const next = await api.post("/backups?wait=120", { type: "full" });
    expect(next, next.text).toMatchObject({ status: 200, json: { status: "FINISHED" } });
    await api.service.stop("SIGTERM", 60_000);
  });
});

test("the store is full: backups and archiving fail by name, PostgreSQL keeps its WAL, and nothing is lost", async () => {
  const { ceph, source, run } = lab();
  await archiveWal(source);
  await ceph.setQuota(1024);
  const write = () => query(source, "INSERT INTO orders SELECT id, md5(id::text) FROM generate_series(1, 20000) AS id");
  const switchWal = async () => {
    await write();
    return value(source, "SELECT pg_walfile_name(pg_switch_wal())");
  };
  const written = [await switchWal(), await switchWal(), await switchWal()];
  const full = (...args: string[]) =>
    run("pgbackrest", [`--config=${source.pgbackrestConfig}`, "--stanza=svc", "--type=full", ...args, "backup"]);
  const checked = await full("--archive-timeout=5");
  expect(checked.exitCode, checked.stderr).toBe(82);
  expect(checked.stderr).toMatch(/was not archived before the 5000ms timeout/);
  const unchecked = await full("--no-archive-check");
  expect(unchecked.exitCode, unchecked.stderr).not.toBe(0);
  expect(unchecked.stderr).toMatch(/403[\s\S]*QuotaExceeded/);
  const log = () => readFile(source.logFile, "utf8");
  await waitFor("the archiver's failure", async () => /archive-push[\s\S]*QuotaExceeded/.test(await log()), 60_000);
  expect(await value(source, "SELECT last_failed_wal FROM pg_stat_archiver")).toBe(written[0]);
  await query(source, "CHECKPOINT");
  const kept = await readdir(`${source.dataDir}/pg_wal`);
  expect(kept).toEqual(expect.arrayContaining(written));

  await ceph.setQuota(null);
  await switchWal();
  await archiveWal(source);
  const objects = Object.keys(await objectsIn(lab(), source));
  const archived = new Set(objects.flatMap((name) => /\/([0-9A-F]{24})-/.exec(name)?.[1] ?? []));
  expect(written.filter((segment) => !archived.has(segment))).toEqual([]);
  await backup(lab(), source, "full");
  const { stdout } = await pgbackrest(lab(), source, "--output=text", "--verbose", "verify");
  expect(stdout).toMatch(/status: ok/);
});
