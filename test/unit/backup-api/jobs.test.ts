/** With real processes, started as pgBackRest is: what a backup says and how it ends is up to the test. */

import { type ChildProcess, spawn } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Job } from "../../../lib/backup-api/job.ts";
import { type JobRequest, type Jobs, openJobs } from "../../../lib/backup-api/jobs.ts";
import { readJournal } from "../../../lib/backup-api/journal.ts";
import { type Service, startService } from "../../../lib/io/command.ts";
import type { JournalFile } from "../../../lib/io/journal-file.ts";
import { processStatus } from "../../../lib/io/processes.ts";
import { isRunning } from "../../fixtures/processes.ts";
import { fakeJournal, fakeLog, job } from "./samples.ts";

const BACKUP: JobRequest = { command: "backup", type: "full", stanza: "main", by: "request" };
const LONG = ["sleep", "30"];
const node = (code: string) => [process.execPath, "-e", code];
/** Prints lines and ends with a code. */
const says = (code: number, ...lines: string[]) =>
  node(`for (const line of ${JSON.stringify(lines)}) console.log(line); process.exitCode = ${code};`);
/** Says when it is there, and does not listen to SIGTERM for so long. */
const stubborn = (ms: number) =>
  node(
    `process.on("SIGTERM", () => setTimeout(() => process.exit(63), ${ms})); console.log("ready"); setTimeout(() => {}, 30000);`,
  );

let log: ReturnType<typeof fakeLog>;
let journal: ReturnType<typeof fakeJournal>;
let services: Service[];
let children: ChildProcess[];
/** Lines of all programs. */
let said: string[];

beforeEach(() => {
  log = fakeLog();
  journal = fakeJournal();
  services = [];
  children = [];
  said = [];
});
afterEach(async () => {
  for (const service of services) service.kill("SIGKILL");
  for (const child of children) child.kill("SIGKILL");
  await Promise.all(services.map(({ ended }) => ended));
});

function open(
  command: readonly string[] | ((job: Job) => readonly string[]),
  change: { remembered?: Job[]; journal?: JournalFile; timeoutMs?: number } = {},
): Promise<Jobs> {
  return openJobs({
    remembered: change.remembered ?? [],
    journal: change.journal ?? journal,
    launch(job, onLine) {
      const [file = "", ...args] = typeof command === "function" ? command(job) : command;
      const service = startService(file, args, {
        onLine(line, from) {
          said.push(line);
          onLine(line, from);
        },
      });
      services.push(service);
      return service;
    },
    timeoutMs: change.timeoutMs ?? 60_000,
    log,
  });
}

const later = (ms = 20) => new Promise((resolve) => setTimeout(resolve, ms));
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await later(5);
}
const isStarted = (jobs: Jobs, label: string) => until(() => jobs.find(label)?.status === "RUNNING");
const remembered = () => readJournal(journal.text()).jobs;

describe("one at a time", () => {
  test("of many starts at the same moment one starts, the others are told which", async () => {
    const jobs = await open(LONG);
    const all = Array.from({ length: 50 }, () => jobs.start(BACKUP));
    expect(all.filter(({ isNew }) => isNew)).toHaveLength(1);
    expect(new Set(all.map(({ job }) => job.label)).size).toBe(1);
    await isStarted(jobs, all[0]?.job.label ?? "");
    expect(services).toHaveLength(1);
  });

  test("an expire waits for nobody but the same stanza's backup, a verify for no backup", async () => {
    const jobs = await open(LONG);
    const isNew = (request: Partial<JobRequest>) => jobs.start({ ...BACKUP, ...request }).isNew;
    expect(isNew({})).toBe(true);
    expect(isNew({ command: "expire", type: null })).toBe(false);
    expect(isNew({ command: "verify", type: null })).toBe(true);
    expect(isNew({ command: "restore-test", type: null })).toBe(true);
    expect(isNew({ stanza: "other" })).toBe(true);
    expect(isNew({ command: "verify", type: null })).toBe(false);
  });

  test("the next one starts as soon as the first has ended", async () => {
    const jobs = await open(says(0));
    const first = jobs.start(BACKUP).job;
    await jobs.wait(first.label, 4000);
    const second = jobs.start(BACKUP);
    expect(second.isNew).toBe(true);
    expect(second.job.label).not.toBe(first.label);
    await jobs.wait(second.job.label, 4000);
    expect(jobs.list().map(({ status }) => status)).toEqual(["FINISHED", "FINISHED"]);
  });
});

describe("a job is followed to its end", () => {
  test("what it said is kept: set, warnings, progress while it ran", async () => {
    const jobs = await open(
      node(`
        console.log("P00   INFO: backup command begin 2.45: --stanza=main");
        console.log("P00   WARN: no prior backup exists, incr backup has been changed to full");
        console.log("P01 DETAIL: backup file /data/1 (8KB, 40.00%) checksum a");
        console.log("P00 DETAIL: store zero-length file /data/2");
        process.stdin.resume();
        setTimeout(() => console.log("P00   INFO: new backup label = 20261123-010001F"), 300);
      `),
    );
    const { label } = jobs.start(BACKUP).job;
    await until(() => jobs.progress(label) !== null);
    expect(jobs.progress(label)).toEqual({ fraction: 0.4, bytes: 8192 });
    const ended = await jobs.wait(label, 4000);
    expect(ended).toMatchObject({
      status: "FINISHED",
      exitCode: 0,
      set: "20261123-010001F",
      warnings: ["no prior backup exists, incr backup has been changed to full"],
      output: [],
      error: null,
    });
    expect(Date.parse(ended.finishedAt ?? "")).toBeGreaterThanOrEqual(Date.parse(ended.startedAt));
    expect(jobs.progress(label)).toBeNull();
    expect(remembered()).toEqual([ended]);
  });

  test("pgBackRest's lines go to the log by their level, without the thousands of files", async () => {
    const jobs = await open(
      says(
        62,
        "P00   INFO: backup command begin 2.45: --stanza=main",
        "P01 DETAIL: backup file /data/1 (8KB, 40.00%) checksum a",
        "P00 DETAIL: store zero-length file /data/2",
        "P00   WARN: careful",
        "P00  ERROR: [062]: stop file exists for all stanzas",
      ),
    );
    await jobs.wait(jobs.start(BACKUP).job.label, 4000);
    expect(log.lines.map(({ level, message }) => `${level} ${message}`)).toEqual([
      "info starts",
      "info backup command begin 2.45: --stanza=main",
      "warn careful",
      "error [062]: stop file exists for all stanzas",
      "error pgbackrest backup ended with code 62: [062]: stop file exists for all stanzas",
    ]);
  });

  test("a code is an error with its words", async () => {
    const jobs = await open(says(50, "P00  ERROR: [050]: unable to acquire lock"));
    expect(await jobs.wait(jobs.start(BACKUP).job.label, 4000)).toMatchObject({
      status: "ERROR",
      exitCode: 50,
      error: "pgbackrest backup ended with code 50: [050]: unable to acquire lock",
    });
  });

  test("SIGKILL of somebody else is an error", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    await isStarted(jobs, label);
    process.kill(jobs.find(label)?.pid ?? 0, "SIGKILL");
    expect(await jobs.wait(label, 4000)).toMatchObject({
      status: "ERROR",
      exitCode: null,
      error: "pgbackrest backup was ended by SIGKILL",
    });
  });

  test("one that cannot be started is an error, and the next one may try", async () => {
    const jobs = await open(["/no/such/program"]);
    const { label } = jobs.start(BACKUP).job;
    expect(await jobs.wait(label, 4000)).toMatchObject({
      status: "ERROR",
      pid: null,
      error: 'cannot run "/no/such/program": not found',
    });
    expect(jobs.start(BACKUP).isNew).toBe(true);
  });

  test("one that takes too long is ended", async () => {
    const jobs = await open(LONG, { timeoutMs: 200 });
    const { label } = jobs.start(BACKUP).job;
    expect(await jobs.wait(label, 4000)).toMatchObject({
      status: "ERROR",
      error: "pgbackrest backup did not end within 0.2 s and was ended",
    });
  });

  test("verify's findings are kept, once", async () => {
    const jobs = await open(
      says(
        0,
        "P00   INFO: verify command begin 2.45: --output=text",
        "P00   INFO: stanza: main",
        "            status: error",
        "              archiveId: 15-1, total WAL checked: 3, total valid WAL: 2",
        "stanza: main",
        "status: error",
        "  archiveId: 15-1, total WAL checked: 3, total valid WAL: 2",
        "P00   INFO: verify command end: completed successfully",
      ),
    );
    const { label } = jobs.start({ ...BACKUP, command: "verify", type: null }).job;
    expect(await jobs.wait(label, 4000)).toMatchObject({
      status: "ERROR",
      exitCode: 0,
      output: ["stanza: main", "status: error", "  archiveId: 15-1, total WAL checked: 3, total valid WAL: 2"],
    });
  });

  test("a restore test: its verdict, what it printed, and why it failed", async () => {
    const jobs = await open(
      node(
        'console.log("report"); console.error("ERROR: [020]: UNHEALTHY: a check failed\\nHINT: look."); process.exitCode = 20;',
      ),
      { timeoutMs: 1 },
    );
    const { label } = jobs.start({ ...BACKUP, command: "restore-test", type: null, by: "20261123010000" }).job;
    expect(await jobs.wait(label, 4000)).toMatchObject({
      status: "ERROR",
      error: "[020]: UNHEALTHY: a check failed",
      hint: "look",
      output: ["report"],
      by: "20261123010000",
    });
  });

  test("who listens is told once of each end", async () => {
    const jobs = await open(says(0));
    const ended: string[] = [];
    jobs.onEnd(({ label, status }) => ended.push(`${label} ${status}`));
    const { label } = jobs.start(BACKUP).job;
    await jobs.wait(label, 4000);
    await later();
    expect(ended).toEqual([`${label} FINISHED`]);
  });
});

describe("waiting", () => {
  test("ends with its limit, with its client, or at once for what has ended or never was", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    await isStarted(jobs, label);
    expect((await jobs.wait(label, 1)).status).toBe("RUNNING");
    const gone = new AbortController();
    const waiting = jobs.wait(label, 60_000, gone.signal);
    gone.abort();
    expect((await waiting).status).toBe("RUNNING");
    expect((await jobs.wait(label, 60_000, AbortSignal.abort())).status).toBe("RUNNING");
    await jobs.cancel(label);
    expect((await jobs.wait(label, 60_000)).status).toBe("CANCELLED");
  });

  test("a hundred clients may wait for the same job", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    const all = Array.from({ length: 100 }, () => jobs.wait(label, 60_000));
    await isStarted(jobs, label);
    await jobs.cancel(label);
    expect((await Promise.all(all)).every(({ status }) => status === "CANCELLED")).toBe(true);
  });
});

describe("cancelling", () => {
  test("ends the process, and the job is CANCELLED", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    await isStarted(jobs, label);
    const { pid } = jobs.find(label) as Job;
    expect(await jobs.cancel(label)).toMatchObject({ status: "CANCELLED", error: "cancelled on request", hint: null });
    expect(isRunning(pid ?? 0)).toBe(false);
    expect(remembered()).toMatchObject([{ status: "CANCELLED" }]);
  });

  test("before there is a process starts none", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    expect(await jobs.cancel(label)).toMatchObject({ status: "CANCELLED", error: "cancelled on request", pid: null });
    await later(50);
    expect(services).toEqual([]);
    expect(jobs.start(BACKUP).isNew).toBe(true);
  });

  test("twice is once", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    await isStarted(jobs, label);
    const both = await Promise.all([jobs.cancel(label), jobs.cancel(label)]);
    expect(both.map((one) => one?.status)).toEqual(["CANCELLED", "CANCELLED"]);
    expect(jobs.cancel(label)).toBeUndefined();
  });

  test("of what does not run is nothing", async () => {
    const jobs = await open(LONG, { remembered: [job({ status: "FINISHED" })] });
    expect(jobs.cancel("20261123010000")).toBeUndefined();
    expect(jobs.cancel("20200101000000")).toBeUndefined();
    expect(jobs.find("20261123010000")?.status).toBe("FINISHED");
  });

  test("waits until it has really ended", async () => {
    const jobs = await open(stubborn(300));
    const { label } = jobs.start(BACKUP).job;
    await until(() => said.includes("ready"));
    const cancelled = jobs.cancel(label);
    await later(50);
    expect(jobs.find(label)?.status).toBe("RUNNING");
    expect(jobs.start(BACKUP).isNew).toBe(false);
    expect(await cancelled).toMatchObject({ status: "CANCELLED", exitCode: 63 });
  });
});

describe("the end of the API", () => {
  test("lets a job end by itself within the grace", async () => {
    const jobs = await open(
      node('setTimeout(() => console.log("P00   INFO: new backup label = 20261123-010001F"), 300)'),
    );
    const { label } = jobs.start(BACKUP).job;
    await isStarted(jobs, label);
    await jobs.stop(4000);
    expect(jobs.find(label)).toMatchObject({ status: "FINISHED", set: "20261123-010001F" });
  });

  test("ends it after the grace, and says why", async () => {
    const jobs = await open(LONG);
    const { label } = jobs.start(BACKUP).job;
    await isStarted(jobs, label);
    const { pid } = jobs.find(label) as Job;
    await jobs.stop(100);
    expect(jobs.find(label)).toMatchObject({ status: "CANCELLED", error: "backup-api was stopped while it ran" });
    expect(isRunning(pid ?? 0)).toBe(false);
    expect(remembered()).toMatchObject([{ status: "CANCELLED" }]);
  });

  test("takes no more jobs, from the first moment of it", async () => {
    const jobs = await open(LONG);
    const stopped = jobs.stop(0);
    expect(() => jobs.start(BACKUP)).toThrow("backup-api is being stopped");
    await stopped;
  });

  test("ends all of them", async () => {
    const jobs = await open(LONG);
    const labels = ["a", "b", "c"].map((stanza) => jobs.start({ ...BACKUP, stanza }).job.label);
    expect(new Set(labels).size).toBe(3);
    await Promise.all(labels.map((label) => isStarted(jobs, label)));
    await jobs.stop(0);
    expect(jobs.list().map(({ status }) => status)).toEqual(["CANCELLED", "CANCELLED", "CANCELLED"]);
  });
});

describe("a journal that cannot be written", () => {
  const broken: JournalFile = {
    append: () => Promise.reject(new Error("no space left on the device")),
    rewrite: () => Promise.reject(new Error("no space left on the device")),
  };

  test("does not cost the backup, is counted and is told", async () => {
    const jobs = await open(says(0, "P00   INFO: new backup label = 20261123-010001F"), { journal: broken });
    expect(jobs.journalFailures()).toBe(0);
    expect(await jobs.wait(jobs.start(BACKUP).job.label, 4000)).toMatchObject({ status: "FINISHED" });
    await later();
    expect(jobs.journalFailures()).toBeGreaterThan(2);
    expect(log.lines).toContainEqual(
      expect.objectContaining({ level: "error", phase: "journal", message: "no space left on the device" }),
    );
  });
});

describe("after a restart of the API", () => {
  async function survivor(args: readonly string[] = ["30"]): Promise<{ job: Job; child: ChildProcess }> {
    const child = spawn("sleep", [...args], { stdio: "ignore" });
    children.push(child);
    const pid = child.pid as number;
    const pidStarted = (await processStatus(pid))?.started ?? null;
    return { child, job: job({ status: "RUNNING", pid, pidStarted }) };
  }

  test("what was lost is an error that says so, what had ended stays as it was", async () => {
    const done = job({ label: "20261123000000", status: "FINISHED", set: "20261123-000001F" });
    const lost = job({ status: "RUNNING", pid: 2 ** 30, pidStarted: "1" });
    const jobs = await open(LONG, { remembered: [done, lost] });
    expect(jobs.list()).toMatchObject([
      done,
      {
        label: lost.label,
        status: "ERROR",
        error: expect.stringContaining("backup-api was ended while this backup ran"),
      },
    ]);
    expect(remembered()).toMatchObject([{ label: lost.label, status: "ERROR" }]);
    expect(jobs.start(BACKUP).isNew).toBe(true);
  });

  test("one that was asked for and never started", async () => {
    const jobs = await open(LONG, { remembered: [job()] });
    expect(jobs.list()).toMatchObject([
      { status: "ERROR", error: "backup-api was ended before it had started pgBackRest" },
    ]);
  });

  test("another process that has its number now is not taken for it, nor ended", async () => {
    const { job: running, child } = await survivor();
    const jobs = await open(LONG, { remembered: [{ ...running, pidStarted: "1" }] });
    expect(jobs.list()).toMatchObject([{ status: "ERROR" }]);
    expect(jobs.cancel(running.label)).toBeUndefined();
    expect(isRunning(child.pid as number)).toBe(true);
  });

  test("one that still runs is in the way of the next until it ends", async () => {
    const { job: running, child } = await survivor();
    const jobs = await open(LONG, { remembered: [running] });
    expect(jobs.find(running.label)?.status).toBe("RUNNING");
    expect(jobs.start(BACKUP)).toMatchObject({ isNew: false, job: { label: running.label } });
    child.kill("SIGTERM");
    expect((await jobs.wait(running.label, 4000)).status).toBe("ERROR");
    expect(jobs.start(BACKUP).isNew).toBe(true);
  });

  test("one that still runs can be cancelled", async () => {
    const { job: running, child } = await survivor();
    const jobs = await open(LONG, { remembered: [running] });
    expect(await jobs.cancel(running.label)).toMatchObject({ status: "CANCELLED", error: "cancelled on request" });
    expect(isRunning(child.pid as number)).toBe(false);
  });

  test("what was found out later is remembered", async () => {
    const jobs = await open(LONG, { remembered: [job({ status: "ERROR" })] });
    jobs.amend("20261123010000", { status: "FINISHED", set: "20261123-010001F" });
    await later();
    expect(remembered()).toMatchObject([{ status: "FINISHED", set: "20261123-010001F" }]);
  });
});

test("no more than a thousand are remembered, the newest", async () => {
  const many = Array.from({ length: 1005 }, (_, i) => job({ label: String(20260101000000 + i), status: "FINISHED" }));
  const jobs = await open(says(0), { remembered: many });
  const { label } = jobs.start(BACKUP).job;
  await jobs.wait(label, 4000);
  expect(jobs.list()).toHaveLength(1000);
  expect(jobs.list().at(-1)?.label).toBe(label);
});
