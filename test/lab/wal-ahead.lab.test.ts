/** WAL that is fetched while the backup is copied: recovery takes it, does without it, and is never told anything else by it. */

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import type { Report } from "../../lib/report/report.ts";
import { useLab } from "./fixture.ts";
import { assertNothingRuns } from "./lab.ts";
import { type ProcessInfo, signalProcess, waitFor } from "./process.ts";
import { archiveWal, backup, createStanza, query, type Source, startPostgres, startSource, value } from "./source.ts";

const SEGMENT = 16 * 1024 ** 2;
const ROUNDS = 24;

const lab = useLab("ahead", async (lab) => {
  const source = await startSource(lab, { stanza: "svc" });
  await createStanza(lab, source);
  const first = await backup(lab, source, "full");
  await query(source, "CREATE TABLE event (id int, filler text)");
  for (let round = 0; round < ROUNDS; round++) {
    await query(source, `INSERT INTO event SELECT ${round}, repeat('x', 900) FROM generate_series(1, 4000) g`);
    await archiveWal(source);
  }
  return { source, first };
});

let datadir: string;
let count = 0;
beforeEach(async () => {
  datadir = lab().path(`restore-${++count}`, "data");
  await lab().makeDirectory(`restore-${count}`, 0o700);
});

const spool = () => `${datadir}.wal-ahead`;
const args = (source: Source, ...more: string[]) => [
  "--scope=rt",
  `--datadir=${datadir}`,
  `--stanza=${source.stanza}`,
  `--pgbackrest-config=${source.pgbackrestConfig}`,
  `--set=${lab().first}`,
  "--target-type=latest",
  ...more,
];
const bootstrap = (...more: string[]) => lab().runScript("bootstrap", args(lab().source, ...more));
const start = (...more: string[]) => lab().startScript("bootstrap", args(lab().source, ...more));
const recovered = () =>
  (JSON.parse(readFileSync(`${datadir}.report.json`, "utf8")) as Report).recovered as Report["recovered"] & object;
const isFetching = ({ command }: ProcessInfo) => command.includes("archive-get:async");
const isSource = ({ command }: ProcessInfo) => command.includes("postgres") && !command.includes("restore-");

/** What restores the base backup may end a little later: pgBackRest's workers finish the file that they are at. */
async function nothingGoesOn(): Promise<void> {
  const left = () =>
    lab()
      .processes()
      .filter(({ command }) => command.includes(spool()));
  await waitFor(
    "what fetches WAL to end",
    () => left().length === 0,
    10_000,
    () => JSON.stringify(left()),
  );
  await waitFor("all of it to end", () => lab().processes().every(isSource), 60_000);
}

/** As plainly as Patroni would start it. */
async function rows(): Promise<string> {
  const socket = await lab().makeDirectory(`socket-${count}`, 0o700);
  const settings = ["-c", "listen_addresses=", "-c", `unix_socket_directories=${socket}`, "-c", "port=5432"];
  const service = lab().startService(`restored-${count}`, "postgres", ["-D", datadir, ...settings]);
  try {
    await service.waitForLog(/ready to accept connections/, 60_000);
    const sql = "SELECT count(*) || ' of ' || count(DISTINCT id) FROM event";
    const { stdout } = await lab().mustRun("psql", ["-XAtqc", sql, "-h", socket, "-U", "postgres", "postgres"]);
    return stdout.trim();
  } finally {
    await service.stop("SIGINT");
  }
}

const EVERYTHING = `${ROUNDS * 4000} of ${ROUNDS}`;

/** Apparent size of all files; what vanishes while it is looked at counts as gone. */
function sizeOf(directory: string): number {
  try {
    const names = readdirSync(directory, { recursive: true, encoding: "utf8" });
    return names.reduce((sum, name) => sum + fileSize(join(directory, name)), 0);
  } catch {
    return 0;
  }
}

function fileSize(path: string): number {
  try {
    const status = statSync(path);
    return status.isFile() ? status.size : 0;
  } catch {
    return 0;
  }
}

describe("recovery takes what was fetched ahead", () => {
  test("and nothing of it is left", async () => {
    const result = await bootstrap();
    expect(result.exitCode, result.stderr).toBe(0);
    const { segments, segments_ahead } = recovered();
    expect(segments).toBeGreaterThanOrEqual(ROUNDS);
    // How many depends on which is faster at the moment.
    expect(segments_ahead).toBeGreaterThan(0);
    expect(existsSync(spool())).toBe(false);
    expect(await rows()).toBe(EVERYTHING);
  });

  test("never more of it than --wal-ahead lies ready", async () => {
    const running = await start(`--wal-ahead=${3 * SEGMENT}B`);
    let most = 0;
    const ended = running.result.then(() => true);
    while (!(await Promise.race([ended, new Promise<false>((resolve) => setTimeout(() => resolve(false), 5))]))) {
      most = Math.max(most, sizeOf(spool()));
    }
    const result = await running.result;
    expect(result.exitCode, result.stderr).toBe(0);
    expect(most).toBeGreaterThan(SEGMENT);
    expect(most).toBeLessThan(3 * SEGMENT + 64 * 1024);
    expect(recovered().segments_ahead).toBeGreaterThan(0);
    expect(await rows()).toBe(EVERYTHING);
  });

  test("none with --wal-ahead=0", async () => {
    const result = await bootstrap("--wal-ahead=0");
    expect(result.exitCode, result.stderr).toBe(0);
    expect(recovered().segments_ahead).toBe(0);
    expect(await rows()).toBe(EVERYTHING);
  });
});

test("what fetches it is killed again and again: recovery fetches by itself, and everything is there", async () => {
  const running = await start();
  let killed = 0;
  const ended = running.result.then(() => true);
  while (!(await Promise.race([ended, new Promise<false>((resolve) => setTimeout(() => resolve(false), 20))]))) {
    for (const { pid } of lab().processes().filter(isFetching)) {
      signalProcess(pid, "SIGKILL");
      killed++;
    }
  }
  const result = await running.result;
  expect(killed).toBeGreaterThan(0);
  expect(result.exitCode, result.stderr).toBe(0);
  expect(result.stderr).toContain("WAL is not fetched ahead any more");
  expect(existsSync(spool())).toBe(false);
  expect(await rows()).toBe(EVERYTHING);
});

test("bootstrap is killed meanwhile: nothing goes on alone, and the next one removes what it left", async () => {
  const running = await start("--process-max=1");
  await waitFor("WAL to be fetched", () => lab().processes().some(isFetching), 30_000, undefined, 5);
  running.kill("SIGKILL");
  await running.result;
  await nothingGoesOn();
  expect(existsSync(spool())).toBe(true);
  const result = await bootstrap();
  expect(result.exitCode, result.stderr).toBe(0);
  expect(existsSync(spool())).toBe(false);
  assertNothingRuns(lab(), isSource);
  expect(await rows()).toBe(EVERYTHING);
});

test("guard removes it too", async () => {
  const running = await start();
  await waitFor("WAL to be fetched", () => lab().processes().some(isFetching), 30_000, undefined, 5);
  running.kill("SIGKILL");
  await running.result;
  await nothingGoesOn();
  const result = await lab().runScript("guard", [`--datadir=${datadir}`]);
  expect(result.exitCode, result.stderr).toBe(0);
  expect(existsSync(spool())).toBe(false);
});

test("a segment that the archive does not have is told as without it", async () => {
  const { source } = lab();
  const repository = lab().path("repository-gap");
  await lab().mustRun("cp", ["--archive", "--reflink=auto", source.repository, repository]);
  const config = (await readFile(source.pgbackrestConfig, "utf8")).replace(source.repository, repository);
  const own = { ...source, repository, pgbackrestConfig: await lab().writeFile("gap.conf", config) };
  const archive = `${repository}/archive/svc/15-1/0000000100000000`;
  const victim = (await readdir(archive)).filter((name) => /^[0-9A-F]{24}-/.test(name)).sort()[12] as string;
  await rm(join(archive, victim));
  const time = await value(source, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'");
  const told: string[] = [];
  for (const ahead of ["0", "1GB"]) {
    const timed = args(own, `--wal-ahead=${ahead}`).filter((arg) => !arg.startsWith("--target-type"));
    const result = await lab().runScript("bootstrap", [...timed, `--restore-target-time=${time}`]);
    expect(result.exitCode, result.stderr).toBe(13);
    told.push(result.stderr.slice(result.stderr.indexOf("ERROR: [013]")));
    await rm(`${datadir}.unproven`);
  }
  expect(told[0]).toContain(`${victim.slice(0, 24)} is missing in the archive although it goes on to`);
  expect(told[1]).toBe(told[0]);
});

test("over a switch of the timeline", async () => {
  const { source } = lab();
  await source.service.stop("SIGINT");
  await lab().writeFile(
    "svc/data/postgresql.auto.conf",
    `restore_command = 'pgbackrest --config=${source.pgbackrestConfig} --stanza=svc archive-get %f "%p"'\n`,
  );
  await lab().writeFile("svc/data/recovery.signal", "");
  await startPostgres(lab(), source);
  const isPromoted = async () => (await value(source, "SELECT pg_is_in_recovery()::text")) === "false";
  await waitFor("the source to be promoted", isPromoted);
  for (let round = 0; round < 6; round++) {
    await query(source, `INSERT INTO event SELECT ${100 + round}, repeat('x', 900) FROM generate_series(1, 4000) g`);
    await archiveWal(source);
  }
  const result = await bootstrap();
  expect(result.exitCode, result.stderr).toBe(0);
  expect(recovered()).toMatchObject({ parent_timeline: 2, timeline: 3 });
  const log = await readFile(`${datadir}.recovery.log`, "utf8");
  expect(log.match(/restored log file "00000002[0-9A-F]{16}" from archive/g)?.length).toBeGreaterThanOrEqual(6);
  expect(recovered().segments_ahead).toBeGreaterThan(0);
  expect(await rows()).toBe(`${(ROUNDS + 6) * 4000} of ${ROUNDS + 6}`);
});
