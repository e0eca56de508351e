/** The harness itself: what every other lab test stands on. */

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { startEtcd } from "./etcd.ts";
import { sharedSource, useLab } from "./fixture.ts";
import { assertNothingRuns, openLab } from "./lab.ts";
import { isFree } from "./ports.ts";
import { isAlive, processesOf, waitFor } from "./process.ts";
import {
  APP_DATABASE,
  archiveWal,
  backup,
  copyRepository,
  createStanza,
  loadSchema,
  ODD_DATABASE,
  pgbackrest,
  query,
  startLoad,
  startPatroniSource,
  startSource,
  TABLESPACE,
  value,
} from "./source.ts";

const lab = useLab("source", async (lab) => {
  const etcd = await startEtcd(lab);
  const source = await startPatroniSource(lab, etcd, { stanza: "svc" });
  await loadSchema(lab, source, { tablespace: true });
  await createStanza(lab, source);
  return { etcd, source };
});

test("a source under Patroni is the leader, with checksums and a system identifier in etcd", async () => {
  const { etcd, source } = lab();
  const keys = await etcd.get("/service/svc-source/");
  expect(keys["/service/svc-source/leader"]).toBe("svc-source-0");
  const { system_identifier } = (await query(source, "SELECT system_identifier FROM pg_control_system()"))[0] ?? {};
  expect(keys["/service/svc-source/initialize"]).toBe(system_identifier);
  expect(await value(source, "SHOW data_checksums")).toBe("on");
});

test("the schema has the variety of a real one, in a second database with an odd name too", async () => {
  const { source } = lab();
  const names = await query(source, "SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1");
  expect(names.map((row) => row.datname)).toEqual([ODD_DATABASE, APP_DATABASE, "postgres"]);
  const kinds = await value(
    source,
    "SELECT string_agg(DISTINCT relkind::text, '' ORDER BY relkind::text) FROM pg_class",
    {
      database: APP_DATABASE,
    },
  );
  expect(kinds).toBe("IScfimprtv");
  const spaces = await query(source, "SELECT 1 FROM pg_tablespace WHERE spcname = $1", { values: [TABLESPACE] });
  expect(spaces).toHaveLength(1);
});

test("backups run while the load runs, and the repository holds them and the WAL", async () => {
  const { source } = lab();
  const load = await startLoad(lab(), source);
  const full = await backup(lab(), source, "full");
  const incremental = await backup(lab(), source, "incr");
  expect(load.isRunning()).toBe(true);
  await load.stop();
  expect(full).toMatch(/^\d{8}-\d{6}F$/);
  expect(incremental.startsWith(`${full}_`)).toBe(true);
  const segment = await archiveWal(source);
  const { stdout } = await pgbackrest(lab(), source, "repo-ls", "--recurse", "archive");
  expect(stdout).toContain(segment);
});

test("the shared source can be asked, and a copy of its repository can be damaged without touching it", async () => {
  const source = sharedSource();
  expect(Number(await value(source, "SELECT count(*) FROM shop.customers", { database: APP_DATABASE }))).toBe(5000);
  const copy = await copyRepository(lab(), source);
  await lab().mustRun("rm", ["-r", `${copy.repository}/backup`]);
  const backups = async (of: typeof source) =>
    JSON.parse((await pgbackrest(lab(), of, "info", "--output=json")).stdout);
  expect((await backups(copy))[0].backup ?? []).toHaveLength(0);
  expect((await backups(source))[0].backup).toHaveLength(2);
});

test("a plain source starts where a program runs as postgres, never as root", async () => {
  await using own = await openLab("plain");
  const source = await startSource(own);
  const user = await own.mustRun("stat", ["--format=%U", source.dataDir]);
  expect(user.stdout.trim()).not.toBe("root");
  expect(source.socketDir.length).toBeLessThan(80);
});

test("closing a lab ends what it started, and what that started, and removes the directory", async () => {
  const own = await openLab("close");
  const source = await startSource(own);
  const stray = own.startService("stray", "sleep", ["600"]);
  const before = processesOf(own.dir);
  expect(() => assertNothingRuns(own)).toThrow(/processes of the lab are left[\s\S]*postgres/);
  expect(before.some(({ command }) => command.includes("checkpointer"))).toBe(true);
  await own.close();
  assertNothingRuns(own);
  expect([stray.pid, ...before.map(({ pid }) => pid)].filter(isAlive)).toEqual([]);
  expect(existsSync(own.dir)).toBe(false);
  expect(await isFree(source.port)).toBe(true);
});

test("a harness that is killed leaves nothing behind either", async () => {
  const { dir, pids, child } = await harnessInAnotherProcess();
  expect(pids.length).toBeGreaterThan(3);
  child.kill("SIGKILL");
  await waitFor("the killed harness's directory to go", () => !existsSync(dir), 20_000);
  expect(pids.filter(isAlive)).toEqual([]);
  // The reaper's rm, whose work is then done, is the last to end.
  await waitFor("the last process of it to end", () => processesOf(dir).length === 0, 20_000);
});

test("evidence holds logs and configuration and no data", async () => {
  const kept = await lab().keepEvidence("harness: what is kept");
  evidence.push(kept);
  const files = (await readdir(kept, { recursive: true })).map(String);
  expect(files).toEqual(
    expect.arrayContaining(["log/etcd.log", "log/svc-patroni.log", "svc/patroni.yml", "svc/pgbackrest.conf"]),
  );
  expect(files.filter((file) => /PG_VERSION|pg_wal|\.lz4$|backup\.info/.test(file))).toEqual([]);
  expect(await readFile(`${kept}/log/svc-patroni.log`, "utf8")).toContain("initialized a new cluster");
});

const evidence: string[] = [];
afterEach(async () => {
  for (const path of evidence.splice(0)) await lab().mustRun("rm", ["-r", path], { asRoot: true });
});

/** A harness with a running PostgreSQL in a process that can be killed. */
async function harnessInAnotherProcess() {
  const tsx = createRequire(import.meta.url).resolve("tsx");
  const modules = ["lab.ts", "source.ts"].map((file) => new URL(file, import.meta.url).href);
  const program = `
    const { openLab } = await import(${JSON.stringify(modules[0])});
    const { startSource } = await import(${JSON.stringify(modules[1])});
    const lab = await openLab("killed");
    await startSource(lab);
    console.log(JSON.stringify({ dir: lab.dir, pids: lab.processes().map((p) => p.pid) }));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--import", tsx, "--input-type=module", "--eval", program], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    stdio: ["ignore", "pipe", "inherit"],
  });
  let printed = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const line = await waitFor("the other harness", () => printed.includes("\n") && printed, 30_000);
  return { ...(JSON.parse(line) as { dir: string; pids: number[] }), child };
}
