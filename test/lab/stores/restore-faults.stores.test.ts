/**
 * A store that fails before or during a restore: an error that names the cause, within limits, never a healthy verdict,
 * nothing left; and the same command succeeds when the store is back.
 */

import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { afterEach, describe, expect, test } from "vitest";
import { type ErrorCode, EXIT_CODES } from "../../../lib/errors.ts";
import type { Report } from "../../../lib/report/report.ts";
import { useLab } from "../fixture.ts";
import { processesOf, type RunResult } from "../process.ts";
import { archiveWal, backup, createStanza, markAndWait, query, type Source, startSource, value } from "../source.ts";
import { startCeph } from "./ceph.ts";
import { type Fault, type FaultProxy, startFaultProxy } from "./fault-proxy.ts";
import { configure, createRepository, FAULT_LIMITS } from "./store.ts";
import { makeCertificates } from "./tls.ts";

const lab = useLab("faults", async (lab) => {
  const ceph = await startCeph(lab);
  const source = await startSource(lab, { stanza: "svc", pgbackrest: ceph.settings("read-write") });
  await query(source, "CREATE TABLE orders AS SELECT id, md5(id::text) FROM generate_series(1, 50000) AS id");
  await createRepository(lab, source);
  await createStanza(lab, source);
  await backup(lab, source, "full");
  // Recovery has something to fetch in its middle.
  await query(source, "INSERT INTO orders SELECT id, md5(id::text) FROM generate_series(1, 100000) AS id");
  await archiveWal(source);
  await query(source, "INSERT INTO orders SELECT id, md5(id::text) FROM generate_series(1, 100000) AS id");
  const { file: receipt } = await markAndWait(lab, source);
  const proxy = await startFaultProxy(lab, ceph.port, ceph.certificates);
  const through = (name: string, settings: Readonly<Record<string, string | number>> = {}) =>
    configure(lab, source, name, { ...ceph.settings("read-only", proxy.port), ...FAULT_LIMITS, ...settings });
  const work = await lab.makeDirectory("w");
  const stranger = await makeCertificates(lab, "stranger");
  return { source, receipt, proxy, through, reader: await through("reader"), work, stranger };
});

afterEach(async () => {
  await recover();
  const { work, mustRun } = lab();
  expect(processesOf(work)).toEqual([]);
  const left = await readdir(work);
  await mustRun("bash", ["-c", `rm -rf "${work}"/*`]);
  expect(left).toEqual([]);
});

/** The store is as it should be again. */
async function recover(): Promise<void> {
  const { proxy } = lab();
  proxy.decide = () => "pass";
  proxy.faults = 0;
  await proxy.accept();
}

const isBackupFile = (path: string) => /\/backup\/svc\/\d[^/]*\/pg_data\//.test(path);
const isWal = (path: string) => /\/[0-9A-F]{24}-[0-9a-f]{40}/.test(path);

/** Does it to such requests, from the nth on, so many times. */
function strike(proxy: FaultProxy, is: (path: string) => boolean, from: number, fault: Fault, times = Infinity): void {
  let seen = 0;
  proxy.decide = ({ path }) => {
    if (!is(path)) return "pass";
    seen++;
    return seen >= from && seen < from + times ? fault : "pass";
  };
}

async function restoreTest(source: Source, ...args: string[]): Promise<{ result: RunResult; report: Report | null }> {
  const { work, path, run, runScript } = lab();
  const report = path("log", "report.json");
  await run("rm", ["-f", report]);
  const from = args.includes("--source") ? [] : [`--receipt=${lab().receipt}`];
  const result = await runScript("restore-test", [
    ...[...from, ...args],
    "--stanza=svc",
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    "--level=quick",
    "--runner=direct",
    `--work-dir=${work}`,
    `--report=${report}`,
  ]);
  return { result, report: existsSync(report) ? JSON.parse(await readFile(report, "utf8")) : null };
}

const said = ({ stdout, stderr }: RunResult) => `${stdout}\n${stderr}`;

async function expectSuccess(source: Source): Promise<void> {
  const { result, report } = await restoreTest(source);
  expect(result.exitCode, said(result)).toBe(0);
  expect(report?.verdict).toBe("healthy");
}

function expectFailure(result: RunResult, code: ErrorCode, ...words: RegExp[]): void {
  expect(result.exitCode, said(result)).toBe(EXIT_CODES[code]);
  // The whole of it stands at the end, for who has only those lines.
  const end = result.stderr.slice(result.stderr.lastIndexOf("ERROR: ["));
  expect(end).toContain(code);
  for (const word of words) expect(end).toMatch(word);
}

describe("before the restore", () => {
  const config: Readonly<Record<string, () => Readonly<Record<string, string>>>> = {
    "a certificate of an authority that is not trusted": () => ({ "repo1-storage-ca-file": lab().stranger.caFile }),
    "a key that the store does not know": () => ({ "repo1-s3-key": "nobody" }),
    "a wrong secret": () => ({ "repo1-s3-key-secret": "wrong" }),
    "a bucket that does not exist": () => ({ "repo1-s3-bucket": "nowhere" }),
    "a host that does not exist": () => ({ "repo1-s3-endpoint": "store.invalid" }),
  };
  const fault: Readonly<Record<string, (proxy: FaultProxy) => unknown>> = {
    "nothing listens there": (proxy) => proxy.refuse(),
    "the store does not answer": (proxy) => strike(proxy, () => true, 1, "stall"),
    "it answers 500": (proxy) => strike(proxy, () => true, 1, 500),
    "it answers 503": (proxy) => strike(proxy, () => true, 1, 503),
    "the credential has expired": (proxy) => strike(proxy, () => true, 1, 403),
  };

  test.each([
    ["nothing listens there", /HostConnectError\].*Connection refused/, /cannot be reached/],
    ["a host that does not exist", /HostConnectError\].*store\.invalid/, /cannot be reached/],
    ["a certificate of an authority that is not trusted", /CryptoError\].*certificate/, /repo-storage-ca-file/],
    ["a key that the store does not know", /403.*InvalidAccessKeyId/, /refuses this credential/],
    ["a wrong secret", /403.*SignatureDoesNotMatch/, /refuses this credential/],
    ["the credential has expired", /403.*AccessDenied/, /refuses this credential/],
    ["a bucket that does not exist", /404.*NoSuchBucket, GET \/nowhere\//, /no such bucket/],
    ["the store does not answer", /timeout after \d+ms/, /stalls or breaks/],
    ["it answers 500", /\[500\] Internal Server Error/, /trouble of its own/],
    ["it answers 503", /\[503\] Service Unavailable/, /trouble of its own/],
  ])("%s: preflight and restore-test say so, and the source is not marked", async (name, cause, hint) => {
    const { source, proxy, through, receipt, work, runScript } = lab();
    const markers = () => value(source, "SELECT count(*) FROM patroni_restore.marker");
    const before = await markers();
    const reader = await through("wrong", config[name]?.());
    await fault[name]?.(proxy);
    const plan = ["--stanza=svc", `--pgbackrest-config=${reader.pgbackrestConfig}`, `--receipt=${receipt}`];
    const [preflight, { result, report }] = await Promise.all([
      runScript("preflight", [...plan, `--datadir=${work}/data`]),
      restoreTest(reader, "--source", source.conninfo),
    ]);
    for (const ended of [preflight, result]) {
      expectFailure(ended, "PREFLIGHT_FAILED", cause, new RegExp(`HINT: .*${hint.source}`));
    }
    expect(report).toMatchObject({ verdict: "error", error: { name: "PREFLIGHT_FAILED" } });
    expect(await markers()).toBe(before);
  });
});

describe("in the middle of the restore", () => {
  test.each<[string, Fault, RegExp, RegExp]>([
    ["the store goes away", "refuse", /HostConnectError/, /cannot be reached/],
    ["it answers 500 from then on", 500, /\[500\] Internal Server Error/, /trouble of its own/],
    ["the credential expires", 403, /403.*AccessDenied, GET \/pgbackrest\//, /refuses this credential/],
    ["it answers no more", "stall", /timeout after \d+ms/, /stalls or breaks/],
  ])("%s: RESTORE_FAILED with the cause; when it is back, healthy", async (_, fault, cause, hint) => {
    const { proxy, reader } = lab();
    strike(proxy, isBackupFile, 100, fault);
    const { result, report } = await restoreTest(reader);
    expect(proxy.faults).toBeGreaterThan(0);
    expectFailure(result, "RESTORE_FAILED", cause, new RegExp(`HINT: .*${hint.source}`));
    expect(report).toMatchObject({ verdict: "error", recovered: null, error: { name: "RESTORE_FAILED" } });
    await recover();
    await expectSuccess(reader);
  });

  test.each<[string, Fault]>([
    ["connections break in the middle of files", "cut"],
    ["the store answers 500 for a moment", 500],
    ["the store asks for fewer requests (503)", 503],
  ])("%s: pgBackRest tries again, healthy", async (_, fault) => {
    const { proxy, reader } = lab();
    strike(proxy, isBackupFile, 100, fault, 3);
    await expectSuccess(reader);
    expect(proxy.faults).toBe(3);
  });

  test("a slow store: the restore takes its time, or ends at its limit", async () => {
    const { proxy, reader } = lab();
    strike(proxy, isWal, 1, { bytesPerSecond: 2_000_000 });
    await expectSuccess(reader);
    expect(proxy.faults).toBeGreaterThan(0);
    strike(proxy, isBackupFile, 1, { bytesPerSecond: 2000 });
    const { result, report } = await restoreTest(reader, "--restore-timeout=4s");
    expectFailure(result, "TIMED_OUT", /pgbackrest restore did not end within 4 s/, /--restore-timeout/);
    expect(report).toMatchObject({ verdict: "error", error: { name: "TIMED_OUT" } });
  });

  test("bootstrap by itself: nothing is left of the data directory, and the second call succeeds", async () => {
    const { proxy, reader, receipt, work, path, runScript, mustRun } = lab();
    const datadir = `${work}/data`;
    const bootstrap = () =>
      runScript("bootstrap", [
        "--stanza=svc",
        "--scope=svc",
        `--datadir=${datadir}`,
        `--pgbackrest-config=${reader.pgbackrestConfig}`,
        `--receipt=${receipt}`,
        `--report=${path("log", "bootstrap.json")}`,
      ]);
    strike(proxy, isBackupFile, 100, 403);
    expectFailure(await bootstrap(), "RESTORE_FAILED", /403.*AccessDenied/);
    expect(existsSync(datadir)).toBe(false);
    expect(existsSync(`${datadir}.restoring`)).toBe(false);
    await recover();
    const second = await bootstrap();
    expect(second.exitCode, said(second)).toBe(0);
    await mustRun("bash", ["-c", `rm -rf ${work}/*`]);
  });
});

describe("during recovery", () => {
  test.each<[string, Fault, RegExp, RegExp]>([
    ["the store goes away", "refuse", /archive-get said \[\d+\].*Connection refused/, /cannot be reached/],
    ["the credential expires", 403, /archive-get said \[042\].*403.*AccessDenied/, /refuses this credential/],
  ])("%s: that is never taken for the end of the WAL; when it is back, healthy", async (_, fault, cause, hint) => {
    const { proxy, reader } = lab();
    strike(proxy, isWal, 2, fault);
    // Fetched ahead, the second segment would be asked for while the base backup is copied, which would fail instead.
    const { result, report } = await restoreTest(reader, "--wal-ahead=0");
    expectFailure(
      result,
      "RECOVERY_FAILED",
      /the repository failed during recovery/,
      cause,
      new RegExp(`HINT: .*${hint.source}`),
    );
    expect(report).toMatchObject({ verdict: "error", error: { name: "RECOVERY_FAILED" } });
    await recover();
    await expectSuccess(reader);
  });

  test("a connection breaks in the middle of a segment: it is fetched again, healthy", async () => {
    const { proxy, reader } = lab();
    strike(proxy, isWal, 2, "cut", 1);
    await expectSuccess(reader);
    expect(proxy.faults).toBe(1);
  });

  test("the store stalls for ever: --recovery-stall-timeout ends it, and names the segment that does not come", async () => {
    const { proxy, through } = lab();
    const patient = await through("patient", { "io-timeout": 60 });
    strike(proxy, isWal, 2, "stall");
    const { result, report } = await restoreTest(patient, "--recovery-stall-timeout=5s");
    expectFailure(
      result,
      "TIMED_OUT",
      /recovery made no progress for 5\.0s/,
      /has not yet answered pgbackrest archive-get [0-9A-F]{24}/,
    );
    expect(report).toMatchObject({ verdict: "error", error: { name: "TIMED_OUT" } });
    await recover();
    await expectSuccess(patient);
  });
});
