/** `restore-test` on real parts: proven under load, told apart from its failures, and never anything left of it. */

import { existsSync, readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { parse } from "yaml";
import { EXIT_CODES } from "../../lib/errors.ts";
import type { Report } from "../../lib/report/report.ts";
import { startEtcd } from "./etcd.ts";
import { useLab } from "./fixture.ts";
import type { RunningCommand, RunOptions, RunResult } from "./process.ts";
import { processesOf, waitFor } from "./process.ts";
import {
  archiveWal,
  backup,
  createStanza,
  loadSchema,
  markAndWait,
  query,
  startLoad,
  startSource,
  value,
} from "./source.ts";

const TEMPLATE = fileURLToPath(new URL("../../patroni-templates/restore-test.yml", import.meta.url));

const lab = useLab("rt", async (lab) => {
  const source = await startSource(lab, { stanza: "svc" });
  await loadSchema(lab, source);
  await createStanza(lab, source);
  await backup(lab, source, "full");
  const work = await lab.makeDirectory("work");
  await lab.makeDirectory("log");
  const receipt = await markAndWait(lab, source, "shared");
  return { source, receipt, work, report: lab.path("log", "report.json") };
});

afterEach(async () => {
  const { work, mustRun, report } = lab();
  await mustRun("rm", ["-rf", report], { asRoot: true });
  expect(processesOf(work)).toEqual([]);
  expect(await readdir(work)).toEqual([]);
});

const settings = () => {
  const { source, work, report } = lab();
  return [
    `--stanza=${source.stanza}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    `--work-dir=${work}`,
    `--report=${report}`,
    "--level=quick",
  ];
};
const restoreTest = (args: readonly string[], options?: RunOptions) =>
  lab().runScript("restore-test", [...settings(), ...args], options);
const fromSource = () => ["--source", lab().source.conninfo];
/** The same target, already marked: for what comes after the mark. */
const fromReceipt = () => ["--receipt", lab().receipt.file];
const readReport = async (): Promise<Report> => JSON.parse(await readFile(lab().report, "utf8"));
const failed = (result: RunResult) => `${result.stdout}\n${result.stderr}`;

test("under load, through Patroni and a given etcd: marker found, fence absent, target exact to the microsecond", async () => {
  const { source } = lab();
  const etcd = await startEtcd(lab());
  const load = await startLoad(lab(), source);
  const running = await lab().startScript("restore-test", [...settings(), ...fromSource(), "--etcd", etcd.endpoint]);
  await said(running, /verify: checking/);
  const memory = sharedMemoryOf(lab().work);
  expect(memory).not.toEqual([]);
  const result = await running.result;
  await load.stop();
  expect(result.exitCode, failed(result)).toBe(0);
  expect(result.stdout).toMatch(/^verdict +healthy/m);
  const report = await readReport();
  expect(report.verdict).toBe("healthy");
  expect(report.target).toMatchObject({ type: "time", value: expect.stringMatching(/\.\d{6}\+00$/) });
  const status = Object.fromEntries(report.checks.map((check) => [check.id, check.status]));
  expect(status).toMatchObject({ "marker-present": "pass", "fence-absent": "pass", "last-commit": "pass" });
  const target = result.stderr.match(/marker placed .*target="([^"]+)"/)?.[1];
  expect(report.target?.value).toBe(target);
  expect(report.scope).toMatch(/^svc-rt-[0-9a-f]{8}$/);
  // Nothing of the throwaway scope is left in an etcd that others use.
  expect(await etcd.get("/")).toEqual({});
  // A server that is killed leaves its shared memory for ever.
  expect(memory.filter((path) => existsSync(path))).toEqual([]);
  await etcd.service.stop();
});

/** What the servers in a directory have made in /dev/shm. */
const sharedMemoryOf = (directory: string): string[] => [
  ...new Set(
    processesOf(directory).flatMap(({ pid }) => {
      try {
        return readFileSync(`/proc/${pid}/maps`, "utf8").match(/\/dev\/shm\/PostgreSQL\.\d+/g) ?? [];
      } catch {
        return []; // it has ended meanwhile
      }
    }),
  ),
];

test("without Patroni, started as root: the servers still run as an ordinary user, and stdout is only the report", async () => {
  const owners = new Set<string>();
  const running = await lab().startScript(
    "restore-test",
    [...settings(), ...fromSource(), "--runner=direct", "--json"],
    { asRoot: true },
  );
  const watch = setInterval(() => {
    const seen = processesOf(lab().work).map(({ pid }) => ({ pid, owner: ownerOf(pid) }));
    // A program that has just been started still had its parent's command line when it was found.
    const still = new Set(processesOf(lab().work).map(({ pid }) => pid));
    for (const { pid, owner } of seen) if (owner !== null && still.has(pid)) owners.add(owner);
  }, 50);
  const result = await running.result;
  clearInterval(watch);
  expect(result.exitCode, failed(result)).toBe(0);
  expect(JSON.parse(result.stdout)).toEqual(await readReport());
  expect([...owners].filter((owner) => owner.startsWith("postgres "))).not.toEqual([]);
  const asRoot = [...owners].filter(
    (owner) => owner.endsWith(" 0") && !/^(node|setpriv|rm|psql|pg_isready|MainThread)/.test(owner),
  );
  if (process.getuid?.() === 0) expect(asRoot).toEqual([]);
});

/** `postgres 105`: the program's name and the user's number; null when it has ended. */
function ownerOf(pid: number): string | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return `${/^Name:\s+(\S+)/m.exec(status)?.[1]} ${/^Uid:\s+(\d+)/m.exec(status)?.[1]}`;
  } catch {
    return null;
  }
}

test("the source is gone: the newest backup to the end of its WAL, and how much is lost", async () => {
  const { source } = lab();
  await markAndWait(lab(), source);
  await archiveWal(source);
  const result = await restoreTest(["--runner=direct"]);
  expect(result.exitCode, failed(result)).toBe(0);
  const report = await readReport();
  expect(report.target).toMatchObject({ type: "latest" });
  expect(report.rpo_ms).toBeGreaterThan(0);
});

test.each([["patroni"], ["direct"]])(
  "--keep with the %s runner: what it prints connects, and removes",
  async (runner) => {
    const result = await restoreTest([...fromReceipt(), `--runner=${runner}`, "--keep"]);
    expect(result.exitCode, failed(result)).toBe(0);
    const [, connect = "", remove = ""] = /\nConnect:\n([\s\S]*)\n\nRemove:\n([\s\S]*)$/.exec(result.stdout) ?? [];
    const answer = await lab().mustRun("bash", [
      "-c",
      `${connect.trim().split("\n")[0]} -Atc "SELECT current_setting('archive_mode'), pg_is_in_recovery()"`,
    ]);
    expect(answer.stdout.trim()).toBe("off|f");
    // The scripts know a server by its program's name: guard and bootstrap must not take the directory for a stopped one.
    const server = processesOf(lab().work).find(({ command }) => /\/postgres -D /.test(command));
    expect(readFileSync(`/proc/${server?.pid}/comm`, "utf8")).toBe("postgres\n");
    await lab().mustRun("bash", ["-ec", remove], { timeoutMs: 60_000 });
  },
);

test.each([
  ["SIGINT", "while the source is being marked", fromSource, /marker placed/, []],
  ["SIGTERM", "while Patroni starts", fromReceipt, /starting a throwaway Patroni/, []],
  ["SIGINT", "while files are restored", fromReceipt, /preflight: restoring/, []],
  ["SIGTERM", "while it is recovered or detached", fromReceipt, /restore: .* restored/, []],
  ["SIGINT", "between rename and post-bootstrap", fromReceipt, /is in place, stopped and promoted/, []],
  ["SIGTERM", "in post-bootstrap", fromReceipt, /verify: checking/, []],
  ["SIGINT", "while files are restored without Patroni", fromReceipt, /preflight: restoring/, ["--runner=direct"]],
  ["SIGTERM", "in post-bootstrap without Patroni", fromReceipt, /verify: checking/, ["--runner=direct"]],
] as const)("%s %s leaves no process and no file, and a truthful report", async (signal, _, start, moment, args) => {
  const running = await lab().startScript("restore-test", [...settings(), ...start(), ...args]);
  await said(running, moment);
  running.kill(signal);
  const result = await running.result;
  const name = signal === "SIGINT" ? "INTERRUPTED" : "TERMINATED";
  expect(result.exitCode, failed(result)).toBe(EXIT_CODES[name]);
  expect(await readReport()).toMatchObject({ verdict: "error", error: { name } });
});

test("a deadline ends it as a signal does, with its own code", async () => {
  const result = await restoreTest([...fromSource(), "--deadline=3s"]);
  expect(result.exitCode, failed(result)).toBe(EXIT_CODES.TIMED_OUT);
  expect(await readReport()).toMatchObject({ verdict: "error", error: { name: "TIMED_OUT" } });
});

test("a mistyped bootstrap.method is reported, with post_bootstrap and without", async () => {
  const template = await readFile(TEMPLATE, "utf8");
  const typo = template.replace("method: patroni_restore", "method: patroni_restor");
  const withHook = await lab().writeFile("typo.yml", typo);
  const first = await restoreTest([...fromReceipt(), `--patroni-config=${withHook}`]);
  expect(first.exitCode, failed(first)).toBe(EXIT_CODES.UNVERIFIED);
  expect(first.stderr).toMatch(/bootstrap\.method/);
  expect(await readReport()).toMatchObject({ verdict: "error", error: { name: "UNVERIFIED" } });

  const withoutHook = await lab().writeFile("typo-alone.yml", typo.replace(/^ {2}post_bootstrap:.*$/m, ""));
  const second = await restoreTest([...fromReceipt(), `--patroni-config=${withoutHook}`]);
  expect(second.exitCode, failed(second)).toBe(EXIT_CODES.PREFLIGHT_FAILED);
  expect(second.stderr).toMatch(/empty cluster with initdb[\s\S]*bootstrap\.method/);
  expect(await readReport()).toMatchObject({ verdict: "error", recovered: null });
});

test("a restore that no post_bootstrap has checked is never a success, although Patroni leads", async () => {
  const template = (await readFile(TEMPLATE, "utf8")).replace(/^ {2}post_bootstrap:.*$/m, "");
  const file = await lab().writeFile("unchecked.yml", template);
  const result = await restoreTest([...fromReceipt(), `--patroni-config=${file}`]);
  expect(result.exitCode, failed(result)).toBe(EXIT_CODES.UNVERIFIED);
  expect(result.stderr).toMatch(/never checked/);
});

test("a marker that is missing is UNHEALTHY, and the report names the check", async () => {
  const { source } = lab();
  const lost = await markAndWait(lab(), source, "lost");
  await query(source, "DELETE FROM patroni_restore.marker WHERE id = $1", { values: [lost.receipt.id] });
  const later = await markAndWait(lab(), source, "later");
  const result = await restoreTest(["--receipt", lost.file, "--restore-target-time", later.receipt.target.time]);
  expect(result.exitCode, failed(result)).toBe(EXIT_CODES.UNHEALTHY);
  const report = await readReport();
  expect(report.verdict).toBe("unhealthy");
  expect(report.checks.find((check) => check.id === "marker-present")).toMatchObject({ status: "fail" });
});

test("what is missing here is found before the source is touched, all of it at once", async () => {
  const { source } = lab();
  const markers = () => value(source, "SELECT count(*) FROM patroni_restore.marker");
  await markAndWait(lab(), source);
  const before = await markers();
  const result = await lab().runScript("restore-test", [
    ...fromSource(),
    "--stanza=nope",
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    "--work-dir=/nonexistent",
    `--etcd=127.0.0.1:${await lab().freePort()}`,
  ]);
  expect(result.exitCode).toBe(EXIT_CODES.PREFLIGHT_FAILED);
  expect(result.stderr).toMatch(/\/nonexistent does not exist[\s\S]*etcd at [\s\S]*stanza "nope"/);
  expect(await markers()).toBe(before);
});

test("nothing of another Patroni's or the source's environment reaches the throwaway", async () => {
  const environment = {
    PATRONI_SCOPE: "prod",
    PATRONI_ETCD3_HOSTS: "10.255.255.1:2379",
    PGOPTIONS: "-c default_transaction_read_only=on",
    RESTORE_RECEIPT: undefined,
  };
  const running = await lab().startScript("restore-test", [...settings(), "--dry-run"], { env: environment });
  const dry = await running.result;
  expect(dry.exitCode, failed(dry)).toBe(0);
  expect(dry.stdout).toMatch(/^1\. work in .*restore-test-[0-9a-f]{8}/);
  const result = await restoreTest(fromReceipt(), { env: environment });
  expect(result.exitCode, failed(result)).toBe(0);
  expect(await readReport()).toMatchObject({ verdict: "healthy", receipt_id: lab().receipt.receipt.id });
});

test("a relative --work-dir is the current directory's", async () => {
  const { source, work } = lab();
  const dry = await lab().runScript("restore-test", [
    `--stanza=${source.stanza}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    "--work-dir=work",
    "--dry-run",
  ]);
  expect(dry.exitCode, failed(dry)).toBe(0);
  expect(dry.stdout).toContain(`work in ${work}/restore-test-`);
});

test("one file in an empty folder is a whole installation", async () => {
  const folder = await lab().makeDirectory("alone");
  const script = await lab().script("restore-test");
  await lab().mustRun("cp", [script, folder]);
  expect(await readdir(folder)).toEqual(["restore-test.mjs"]);
  const result = await lab().run(process.execPath, [
    `${folder}/restore-test.mjs`,
    ...settings(),
    ...fromReceipt(),
    "--runner=direct",
  ]);
  expect(result.exitCode, failed(result)).toBe(0);
  expect(existsSync(lab().report)).toBe(true);
});

test("secrets of the throwaway are in files that only its user can read", async () => {
  const running = await lab().startScript("restore-test", [...settings(), ...fromReceipt()]);
  await said(running, /restore: .* restored/);
  const [name = ""] = await readdir(lab().work);
  const directory = `${lab().work}/${name}`;
  const config = await readFile(`${directory}/patroni.yml`, "utf8");
  const { password } = parse(config).restapi.authentication;
  expect(password).toMatch(/^[0-9a-f]{32}$/);
  const modes = await lab().mustRun("stat", ["--format=%a", directory, `${directory}/patroni.yml`], { asRoot: true });
  expect(modes.stdout.split("\n").slice(0, 2)).toEqual(["700", "600"]);
  expect(
    processesOf(lab().dir)
      .map(({ command }) => command)
      .join("\n"),
  ).not.toContain(password);
  running.kill("SIGINT");
  await running.result;
});

/** Waits until it has said so; a program that ended without is a failure. */
async function said(running: RunningCommand, words: RegExp): Promise<void> {
  let ended: RunResult | undefined;
  running.result.then((result) => {
    ended = result;
  });
  await waitFor(
    `restore-test to say ${words}`,
    () => {
      if (words.test(running.output().stderr)) return true;
      if (ended) throw new Error(`it ended before it said ${words}:\n${failed(ended)}`);
      return false;
    },
    90_000,
    () => running.output().stderr,
  );
}
