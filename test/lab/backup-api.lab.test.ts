/** The backup sidecar beside a real PostgreSQL, with real pgBackRest. */

import { existsSync, readdirSync, readFileSync, renameSync, utimesSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parse } from "yaml";
import { renderTemplate } from "../../lib/patroni/templates.ts";
import { type BackupApi, flood, memoryOf, mixedRequests, startBackupApi } from "./backup-api.ts";
import { useLab } from "./fixture.ts";
import type { Lab } from "./lab.ts";
import { processesOf, signalProcess, waitFor } from "./process.ts";
import { archiveWal, loadSchema, query, type Source, startPostgres, startSource, value } from "./source.ts";

const STANZA = "main";

const lab = useLab("api", async (lab) => {
  // While this file is there, WAL segments after the one that it names are not archived, and a backup waits for them.
  const hold = lab.path("hold");
  const wait = await lab.writeFile(
    "wait.sh",
    `#!/bin/sh\nwhile [ "$1" \\> "$(cat ${hold} 2>/dev/null || echo Z)" ]; do sleep 0.05; done\n`,
    0o755,
  );
  const push = `pgbackrest --config=${lab.path(STANZA, "pgbackrest.conf")} --stanza=${STANZA} archive-push %p`;
  const source = await startSource(lab, {
    stanza: STANZA,
    parameters: { archive_command: `${wait} %f && ${push}` },
  });
  await loadSchema(lab, source, { scale: 2 });
  const api = await start(lab, source, ["--stanza-setup=create"]);
  return { source, api, hold };
});

const start = (lab: Lab, source: Source, args: readonly string[], name?: string) =>
  startBackupApi(lab, {
    ...(name === undefined ? {} : { name }),
    args: [`--stanza=${STANZA}`, `--pgbackrest-config=${source.pgbackrestConfig}`, "--rate-limit=100000", ...args],
  });

/** A backup waits at its beginning, for the segment before its own. */
const holdBack = () => writeFile(lab().hold, "0");
/** A backup waits when everything is copied, for its own segment: it begins with a new one. */
const holdEnd = async () =>
  writeFile(lab().hold, await value(lab().source, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"));
const letGo = () => rm(lab().hold, { force: true });

// What one test breaks is not the next one's.
beforeEach(async () => {
  if (!lab().api.service.isRunning()) await restart();
});
afterEach(letGo);

/** A backup that waits; returns its path. */
async function startHeldBackup(api: BackupApi, hold = holdBack, type = "incr"): Promise<string> {
  await hold();
  const { status, location } = await api.post("/backups", { type });
  expect(status).toBe(202);
  const path = location as string;
  // A signal before that, in the midst of its work, was seen to end it without an exit code of its own.
  const waits = new RegExp(`check archive for (prior )?segment .*label=${path.split("/").at(-1)}`);
  const isWaiting = async () => waits.test(await api.service.log());
  if (hold === holdBack) await waitFor("pgBackRest to wait for its WAL", isWaiting, 30_000, () => api.service.log());
  return path;
}

const setLabels = async () => {
  const { stdout } = await lab().mustRun("pgbackrest", [
    `--config=${lab().source.pgbackrestConfig}`,
    `--stanza=${STANZA}`,
    "info",
    "--output=json",
  ]);
  return (JSON.parse(stdout)[0].backup as { label: string }[]).map(({ label }) => label);
};

const pgbackrests = () =>
  processesOf(lab().dir).filter(({ command }) => /^pgbackrest .*(backup|exec-id)/.test(command));

/** Started anew after it was ended; the others need it as it was. */
async function restart(args: readonly string[] = []): Promise<BackupApi> {
  lab().api = await start(lab(), lab().source, args);
  return lab().api;
}

test("the stanza is created at start, and readyz says when all is well", async () => {
  const { api } = lab();
  const { json } = await api.get("/readyz");
  // Without a backup the stanza is not in order yet.
  await waitFor("the stanza", async () => /"main" works/.test(await api.service.log()));
  expect(json.ready).toBe(false);
  const info = await waitFor("the repository to be asked again", async () => {
    const answer = await api.get("/info");
    return answer.text.includes("no valid backups") ? answer : undefined;
  });
  expect(info).toMatchObject({ status: 503, json: { ok: false } });
  const made = await api.post("/backups?wait=60", { type: "full" });
  expect(made.status, made.text).toBe(200);
  expect(made.json).toMatchObject({ status: "FINISHED", type: "full", returncode: 0, pgbackrest: { type: "full" } });
  await waitFor("the repository to be in order", async () => (await api.get("/readyz")).json.ready);
  expect((await api.get("/info")).json).toMatchObject({ ok: true, problems: [] });
});

test("the calls of the original client work unchanged", async () => {
  const { api } = lab();
  // timescaledb-single 0.33.1, templates/pgbackrest.yaml: the CronJob's container.
  const curl = ["--connect-timeout", "10", "--include", "--silent", "--show-error", "--fail", "--request", "POST"];
  const result = await lab().run("curl", [...curl, "--data", '{"type": "diff"}\n', `${api.url}/backups/`]);
  expect(result.exitCode, result.stderr).toBe(0);
  expect(result.stdout).toMatch(/^HTTP\/1.1 20[02] /);
  const label = /^location: \/backups\/backup\/(\d{14})\s*$/im.exec(result.stdout)?.[1];
  const done = await api.get(`/backups/backup/${label}?wait=60`);
  expect(done.json).toMatchObject({ label, status: "FINISHED", returncode: 0, duration: expect.any(Number) });
  const pgbackrestLabel = done.json.pgbackrest.label;
  expect(pgbackrestLabel).toMatch(/^\d{8}-\d{6}F_\d{8}-\d{6}D$/);

  expect((await api.get(`/backups/backup/${pgbackrestLabel}`)).json.label).toBe(label);
  expect((await api.get("/backups/backup/latest")).json.label).toBe(label);
  expect((await api.get("/backups/latest")).json.label).toBe(label);
  const all = (await api.get("/backups/")).json;
  expect(all.map((one: { pgbackrest: object }) => one.pgbackrest)).toEqual(
    (await setLabels()).map((name) => ({ label: name })),
  );
  expect((await api.get("/backups?status=error")).json).toEqual([]);
  expect((await api.get("/backups/latest?status=ERROR")).status).toBe(404);
  for (const unknown of ["20200101000000", "20200101-000000F", `${pgbackrestLabel}x`, ""]) {
    expect((await api.get(`/backups/backup/${unknown}`)).status, unknown).toBe(404);
  }
});

test("200 requests at once start one backup", async () => {
  const { api } = lab();
  const before = await setLabels();
  await holdBack();
  const answers = await Promise.all(Array.from({ length: 200 }, () => api.post("/backups", { type: "incr" })));
  const statuses = answers.map(({ status }) => status).sort();
  expect(statuses).toEqual([202, ...Array.from({ length: 199 }, () => 409)]);
  expect(new Set(answers.map(({ location }) => location)).size).toBe(1);
  expect(pgbackrests().filter(({ command }) => / backup --config=| --type=incr/.test(command))).toHaveLength(1);
  await letGo();
  expect((await api.get(`${answers[0]?.location}?wait=60`)).json.status).toBe("FINISHED");
  expect(await setLabels()).toHaveLength(before.length + 1);
});

test("a running backup says how far it is, as it goes and as events", async () => {
  const { api, source } = lab();
  const path = await startHeldBackup(api, holdEnd, "full");
  const events = readEvents(`${api.url}${path}/events`);
  const { json } = await waitUntilCopied(api, path);
  const size = Number(await value(source, "SELECT sum(pg_database_size(oid)) FROM pg_database"));
  expect(json.progress).toMatchObject({ bytes_per_second: expect.any(Number), seconds_left: expect.any(Number) });
  expect(Math.abs(json.progress.bytes / size - 1)).toBeLessThan(0.1);
  expect((await api.get("/metrics")).text).toMatch(/^patroni_restore_backup_progress_ratio\{stanza="main"\} 1$/m);
  await letGo();
  expect((await api.get(`${path}?wait=60`)).json.status).toBe("FINISHED");
  const seen = await events;
  expect(seen[0]).toMatchObject({ event: "status", data: { status: "RUNNING" } });
  expect(seen.at(-1)).toMatchObject({ event: "status", data: { status: "FINISHED", returncode: 0 } });
  const percents = seen.map(({ data }) => data.progress?.percent).filter((percent) => percent !== undefined);
  expect(percents.length).toBeGreaterThan(0);
  expect(percents).toEqual([...percents].sort((a, b) => a - b));
});

const waitUntilCopied = (api: BackupApi, path: string) =>
  waitFor("everything to be copied", async () => {
    const answer = await api.get(path);
    expect(answer.json.status).toBe("RUNNING");
    return answer.json.progress?.percent === 100 ? answer : undefined;
  });

interface ServerSentEvent {
  event: string;
  data: { status: string; returncode: number; progress: { percent: number } | null };
}

async function readEvents(url: string): Promise<ServerSentEvent[]> {
  const text = await (await fetch(url, { signal: AbortSignal.timeout(120_000) })).text();
  return text
    .split("\n\n")
    .filter((block) => block.trim() !== "")
    .map((block) => {
      const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1] ?? "";
      return { event: field("event"), data: JSON.parse(field("data")) };
    });
}

test("DELETE ends a backup cleanly, and the next one can start at once", async () => {
  const { api, source } = lab();
  const path = await startHeldBackup(api);
  const { status, json } = await api.delete(path);
  expect({ status, ...json }).toMatchObject({ status: "CANCELLED", error: "cancelled on request", pgbackrest: {} });
  expect(pgbackrests()).toEqual([]);
  expect(await value(source, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgBackRest%'")).toBe(
    "0",
  );
  await letGo();
  expect((await api.delete(path)).status).toBe(409);
  expect((await api.delete("/backups/backup/20200101000000")).status).toBe(404);
  expect((await api.post("/backups?wait=60", { type: "incr" })).status).toBe(200);
});

test("a pgBackRest that is killed is noticed, and does not stay in the way", async () => {
  const { api } = lab();
  const path = await startHeldBackup(api);
  signalProcess((await api.get(path)).json.pid, "SIGKILL");
  const { json } = await api.get(`${path}?wait=60`);
  expect(json).toMatchObject({ status: "ERROR", returncode: null, error: "pgbackrest backup was ended by SIGKILL" });
  expect(json.hint).toContain("out of memory");
  await letGo();
  expect((await api.post("/backups?wait=60", { type: "incr" })).status).toBe(200);
});

test("after kill -9 the next start knows what happened, also to the backups before", async () => {
  const { api } = lab();
  const before = (await api.get("/backups")).json as { label: string; status: string }[];
  const path = await startHeldBackup(api);
  api.service.kill("SIGKILL");
  await api.service.ended;
  await waitFor("pgBackRest to end with it", () => pgbackrests().length === 0);
  await letGo();
  const next = await restart();
  const { json } = await waitFor("the repository to be asked", async () => {
    const answer = await next.get(path);
    return answer.json.error?.includes("not yet known") ? undefined : answer;
  });
  expect(json).toMatchObject({ status: "ERROR", finished: expect.any(String), pgbackrest: {} });
  expect(json.error).toBe("backup-api was ended while this backup ran; no backup set came of it");
  const after = (await next.get("/backups")).json as { label: string; status: string }[];
  expect(after.slice(0, before.length)).toEqual(before);
  expect((await next.post("/backups?wait=60", { type: "incr" })).status).toBe(200);
});

test("a backup that was finished while nobody followed it is known as finished", async () => {
  const { api } = lab();
  const path = await startHeldBackup(api, holdEnd);
  const { pid, label } = (await waitUntilCopied(api, path)).json;
  // Before that it says much, which would fill the pipe that nobody reads then, and it would wait for ever.
  const waits = new RegExp(`backup stop and wait for all WAL segments to archive label=${label}`);
  await waitFor("pgBackRest to wait for its WAL", async () => waits.test(await api.service.log()));
  api.service.kill("SIGSTOP");
  await letGo();
  await waitFor(
    "pgBackRest to end",
    () => !processesOf(lab().dir).some((one) => one.pid === pid && /pgbackrest/.test(one.command)),
  );
  api.service.kill("SIGKILL");
  await api.service.ended;
  const next = await restart();
  const { json } = await waitFor("the repository to be asked", async () => {
    const answer = await next.get(path);
    return answer.json.error?.includes("not yet known") ? undefined : answer;
  });
  expect(json).toMatchObject({ label, status: "FINISHED", error: null, pgbackrest: { type: "incr" } });
  expect(json.pgbackrest.label).toBe((await setLabels()).at(-1));
});

test("SIGTERM lets a backup end within its grace", async () => {
  const { api } = lab();
  const path = await startHeldBackup(api);
  api.service.kill("SIGTERM");
  await waitFor("it to take no more", async () => (await api.get("/readyz")).text.includes("it is being stopped"));
  expect((await api.post("/backups", {})).status).toBe(503);
  await letGo();
  expect(await api.service.ended).toMatchObject({ exitCode: 143 });
  const next = await restart(["--stop-grace=0"]);
  expect((await next.get(path)).json).toMatchObject({ status: "FINISHED", returncode: 0 });
});

test("SIGTERM ends it cleanly when the grace is over, and nothing is left of it", async () => {
  const { api } = lab();
  const path = await startHeldBackup(api);
  api.service.kill("SIGTERM");
  expect(await api.service.ended).toMatchObject({ exitCode: 143 });
  expect(pgbackrests()).toEqual([]);
  await letGo();
  const next = await restart();
  expect((await next.get(path)).json).toMatchObject({
    status: "CANCELLED",
    error: "backup-api was stopped while it ran",
    returncode: 63,
  });
  expect((await next.post("/backups?wait=60", { type: "incr" })).status).toBe(200);
});

test("what is wrong with a backup is said with pgBackRest's own words and a way out", async () => {
  const { api, source } = lab();
  await source.service.stop("SIGINT");
  try {
    const { status, json } = await api.post("/backups?wait=60", { type: "incr" });
    expect(status).toBe(500);
    expect(json).toMatchObject({ status: "ERROR", returncode: 56, pgbackrest: {} });
    expect(json.error).toMatch(/^pgbackrest backup ended with code 56: \[056\]: unable to find primary cluster/);
    expect(json.hint).toBe("is PostgreSQL running here, and is it the primary");
  } finally {
    source.service = await startPostgres(lab(), source);
  }
});

test("WAL that is missing in the archive is found, and said by name; so is damage by verify", async () => {
  const { api, source } = lab();
  await query(source, "CREATE TABLE in_the_newest_segment AS SELECT 1");
  const archived = await archiveWal(source);
  const whole = await waitFor("a fresh look", async () => {
    const { json } = await api.get("/wal");
    return json.archives[0].newest.segment === archived ? json : undefined;
  });
  expect(Date.now() - Date.parse(whole.archives[0].restorable.last_commit)).toBeLessThan(120_000);
  expect(whole).toMatchObject({ ok: true, problems: [], archives: [{ stanza: STANZA, repo: 1, gaps: [] }] });
  const { newest, restorable, segment_size } = whole.archives[0];
  expect(segment_size).toBe(16 * 1024 ** 2);
  expect(restorable.until.segment).toBe(newest.segment);

  const directory = join(source.repository, "archive", STANZA, "15-1", newest.segment.slice(0, 16));
  await query(source, "SELECT pg_create_restore_point('later')");
  await archiveWal(source);
  const name = readdirSync(directory).find((one) => one.startsWith(newest.segment)) as string;
  renameSync(join(directory, name), lab().path("taken"));
  // What comes after it may only be faster, for a minute.
  const next = readdirSync(directory).find((one) => one.slice(0, 24) > newest.segment) as string;
  utimesSync(join(directory, next), 0, Date.now() / 1000 - 120);
  const broken = await waitFor("a fresh look", async () => {
    const answer = await api.get("/wal");
    return answer.status === 503 ? answer : undefined;
  });
  expect(broken.json).toMatchObject({
    ok: false,
    problems: [`stanza "main" in repo1: WAL segment ${newest.segment} is missing`],
    archives: [{ gaps: [{ first: newest.segment, last: newest.segment, segments: 1, settled: true }] }],
  });
  expect(broken.json.archives[0].restorable.until.segment < newest.segment).toBe(true);
  expect((await api.get("/metrics")).text).toMatch(/^patroni_restore_wal_missing_segments\{.*\} 1$/m);

  await writeFile(join(directory, name), "not WAL");
  const verified = await api.post("/verify?wait=60");
  expect(verified.status).toBe(500);
  expect(verified.json).toMatchObject({ status: "ERROR", returncode: 0 });
  expect(verified.json.error).toBe("pgbackrest verify found damage in the repository");
  expect(verified.json.output).toContain("status: error");

  renameSync(lab().path("taken"), join(directory, name));
  expect((await api.post("/verify?wait=60")).json).toMatchObject({ status: "FINISHED", error: null });
});

test("expire, and 409 while a backup has the lock that it needs", async () => {
  const { api } = lab();
  const path = await startHeldBackup(api);
  expect(await api.post("/expire")).toMatchObject({ status: 409, location: path });
  await letGo();
  await api.get(`${path}?wait=60`);
  const { status, json, location } = await api.post("/expire?wait=60");
  expect({ status, ...json }).toMatchObject({ command: "expire", status: "FINISHED" });
  expect((await api.get(location as string)).json.label).toBe(json.label);
});

test("a schedule makes a backup on the primary, and says when it cannot tell that it is", async () => {
  const { source } = lab();
  const config = await lab().writeFile("schedule.yml", 'schedules:\n  - { cron: "* * * * * *", type: incr }\n');
  const api = await start(lab(), source, [`--config=${config}`, `--conninfo=${source.conninfo}`], "scheduled");
  const made = await waitFor("a backup by the clock", async () => {
    const backups = (await api.get("/backups?status=finished")).json as { label: string }[];
    const all = await Promise.all(backups.map(({ label }) => api.get(`/backups/backup/${label}`)));
    return all.find(({ json }) => json.by === "schedule");
  });
  expect(made.json).toMatchObject({ type: "incr", returncode: 0 });
  await api.service.stop("SIGTERM", 60_000);

  const away = source.conninfo.replace(/port='?\d+'?/, "port='1'");
  const blind = await start(lab(), source, [`--config=${config}`, `--conninfo=${away}`], "blind");
  await blind.service.waitForLog(/no incr backup: .*(refused|connect)/);
  await waitFor("the metric", async () =>
    /^patroni_restore_schedule_skipped [1-9]/m.test((await blind.get("/metrics")).text),
  );
  await blind.service.stop("SIGTERM", 60_000);
});

test("a backup is proven right after it was made", async () => {
  const { source } = lab();
  const test = await lab().writeFile(
    "restore-test.yml",
    [
      `pgbackrest_config: ${source.pgbackrestConfig}`,
      `work_dir: ${lab().dir}`,
      "runner: direct",
      "level: quick",
      `source: ${source.conninfo}`,
      `report: ${lab().path("proof.json")}`,
    ].join("\n"),
  );
  const config = await lab().writeFile("prove.yml", `restore_test:\n  after: [incr]\n  config: ${test}\n`);
  const api = await start(lab(), source, [`--config=${config}`], "proving");
  const made = await api.post("/backups?wait=60", { type: "incr" });
  expect(made.json.status).toBe("FINISHED");
  const { json } = await waitFor("the restore test", async () => {
    const answer = await api.get("/restore-tests/latest?wait=60");
    return answer.status === 200 ? answer : undefined;
  });
  expect(json).toMatchObject({ status: "FINISHED", returncode: 0, by: made.json.label });
  expect(json.output.join("\n")).toMatch(/verdict +healthy/);
  expect(JSON.parse(readFileSync(lab().path("proof.json"), "utf8")).verdict).toBe("healthy");
  await api.service.stop("SIGTERM", 60_000);
});

test("the CronJob's script has a backup made over TLS with a token", async () => {
  const { source } = lab();
  const template = readFileSync(
    new URL("../../patroni-templates/kubernetes/backup-scripts.yml", import.meta.url),
    "utf8",
  );
  const rendered = parse(renderTemplate(template, { scope: "demo", namespace: "databases" }));
  const script = await lab().writeFile("backup-job.sh", rendered.data["backup-job.sh"], 0o755);
  const token = await lab().writeFile("tokens", "0123456789abcdef0123456789abcdef\n", 0o600);
  const [key, certificate] = [lab().path("tls.key"), lab().path("tls.crt")];
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  await lab().mustRun("openssl", [
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "2",
    ...subject,
    "-keyout",
    key,
    "-out",
    certificate,
  ]);
  const port = await lab().freePort();
  await lab().makeDirectory("secure-state");
  const service = lab().startService("secure", process.execPath, [
    await lab().script("backup-api"),
    `--stanza=${STANZA}`,
    `--pgbackrest-config=${source.pgbackrestConfig}`,
    `--state-dir=${lab().path("secure-state")}`,
    `--listen=0.0.0.0:${port}`,
    `--token-file=${token}`,
    `--tls-cert-file=${certificate}`,
    `--tls-key-file=${key}`,
    "--log-format=json",
  ]);
  await service.waitForLog(/listens on https/);
  const env = { BACKUP_API: `https://localhost:${port}`, BACKUP_TYPE: "incr", TOKEN_FILE: token, CA_FILE: certificate };
  const made = await lab().run("sh", [script], { env: { ...env, DEADLINE_SECONDS: "120" } });
  expect(made.exitCode, made.stdout + made.stderr).toBe(0);
  expect(made.stdout).toContain("the incr backup is finished");

  const wrong = await lab().writeFile("wrong", "00000000000000000000000000000000\n", 0o600);
  const refused = await lab().run("sh", [script], { env: { ...env, TOKEN_FILE: wrong } });
  expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("the token was refused (401)") });
  await service.stop("SIGTERM", 60_000);
  const log = (await service.log()).trim().split("\n");
  // The last line is the error that every script prints.
  expect(log.slice(0, -1).every((line) => JSON.parse(line).level !== undefined)).toBe(true);
  expect(log.join("\n")).not.toContain("0123456789abcdef");
});

test("10,000 mixed requests, malformed ones among them, beside a backup: every answer is right, its memory stays flat", async () => {
  const { api } = lab();
  const path = await startHeldBackup(api);
  const kinds = mixedRequests(api, path);
  expect((await flood(kinds, 2000)).wrong).toEqual([]);
  const before = await memoryOf(api);
  expect((await flood(kinds, 8000)).wrong).toEqual([]);
  const after = await memoryOf(api);
  expect(after).toBeLessThan(150 * 1024 ** 2);
  expect(after).toBeLessThan(before + 32 * 1024 ** 2);
  await letGo();
  expect((await api.get(`${path}?wait=60`)).json.status).toBe("FINISHED");
});

test("at the end nothing of it runs, and the lock is free", async () => {
  const { api } = lab();
  await api.service.stop("SIGTERM", 60_000);
  expect(pgbackrests()).toEqual([]);
  expect(existsSync(lab().path(STANZA, "lock", `${STANZA}-backup.lock`))).toBe(false);
});
