/** A child of a real Patroni notices that it goes; `guard` with real servers left behind. */

import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { rolldown } from "rolldown";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { type Etcd, startEtcd } from "./etcd.ts";
import { sharedSource, useLab } from "./fixture.ts";
import type { Lab } from "./lab.ts";
import { askPatroni, startPatroni } from "./patroni.ts";
import { waitFor } from "./process.ts";
import { query } from "./source.ts";

const lab = useLab("guard", async (lab) => ({ etcd: await startEtcd(lab), watcher: await buildWatcher(lab) }));

/** One file, as postgres may read it, wherever this repository lies. */
async function buildWatcher(lab: Lab): Promise<string> {
  const build = await rolldown({
    input: new URL("programs/watcher.ts", import.meta.url).pathname,
    platform: "node",
    logLevel: "silent",
  });
  const { output } = await build.generate({ format: "esm", codeSplitting: false });
  return lab.writeFile("watcher.mjs", output[0].code);
}

/** A Patroni whose bootstrap command is the watcher, up to the moment when the watcher has begun. */
async function startWatched(name: string, { wrapped = false } = {}) {
  const { etcd, watcher, binDir } = lab() as Lab & { etcd: Etcd; watcher: string };
  const seen = lab().path(`${name}.seen`);
  const command = `${process.execPath} ${watcher} ${seen}`;
  const ports = { rest: await lab().freePort(), postgres: await lab().freePort() };
  await lab().makeDirectory(name);
  const writeConfig = (restPort: number) =>
    lab().writeFile(
      `${name}.yml`,
      stringify({
        scope: name,
        name: "n1",
        restapi: { listen: `127.0.0.1:${restPort}`, connect_address: `127.0.0.1:${restPort}` },
        etcd3: { host: etcd.endpoint },
        bootstrap: {
          dcs: { ttl: 20, loop_wait: 1, retry_timeout: 3 },
          method: "watch",
          watch: { command: wrapped ? `bash -c '${command}; exit $?'` : command },
          post_bootstrap: "/bin/false",
        },
        postgresql: {
          listen: `127.0.0.1:${ports.postgres}`,
          connect_address: `127.0.0.1:${ports.postgres}`,
          data_dir: lab().path(name, "data"),
          pgpass: lab().path(name, "pgpass"),
          bin_dir: binDir,
          authentication: {
            superuser: { username: "the owner", password: "x" },
            replication: { username: "standby", password: "x" },
          },
        },
      }),
    );
  const config = await writeConfig(ports.rest);
  const patroni = startPatroni(lab(), config, { name });
  const lines = () => (existsSync(seen) ? readFileSync(seen, "utf8").trim().split("\n") : []).map((l) => JSON.parse(l));
  const found = await waitFor(
    "the watcher to begin",
    () => lines()[0],
    60_000,
    () => patroni.log(),
  );
  const gone = () => lines().find((line) => "gone" in line)?.gone as string | undefined;
  return { patroni, config, found, gone, writeConfig, rest: ports.rest };
}

describe("a child of Patroni", () => {
  test("knows it, is left alone by reloads, and notices SIGTERM although Patroni 3.0 waits for its command", async () => {
    const { patroni, config, found, gone, writeConfig } = await startWatched("term");
    expect(found).toEqual({ pid: patroni.pid, configFile: config, superuser: "the owner" });

    // A reload that moves the REST API ends the thread that accepts its connections and starts another.
    const restPort = await lab().freePort();
    await writeConfig(restPort);
    patroni.kill("SIGHUP");
    await waitFor("the REST API to be at its new port", async () => (await askPatroni(restPort))?.status === 200);
    // Requests come and go; each has a thread of its own.
    const loops = async () => (await patroni.log()).split("bootstrap in progress").length;
    const before = await loops();
    await waitFor("Patroni's loop to go on", async () => {
      await askPatroni(restPort);
      return (await loops()) >= before + 15;
    });
    expect(gone()).toBeUndefined();

    patroni.kill("SIGTERM");
    expect(await waitFor("the watcher to notice", gone)).toBe(`Patroni (process ${patroni.pid}) is shutting down`);
    await patroni.ended;
  });

  test("notices SIGKILL, also behind a shell", async () => {
    const { patroni, found, gone } = await startWatched("kill", { wrapped: true });
    expect(found.pid).toBe(patroni.pid);
    patroni.kill("SIGKILL");
    expect(await waitFor("the watcher to notice", gone)).toBe(`Patroni (process ${patroni.pid}) has ended`);
  });

  test("without a Patroni there is none", async () => {
    const seen = lab().path("by-hand.seen");
    const watcher = lab().startService("by-hand", process.execPath, [lab().watcher, seen]);
    const line = await waitFor("the watcher to begin", () => existsSync(seen) && readFileSync(seen, "utf8"));
    expect(JSON.parse(line)).toEqual({ pid: null, configFile: null, superuser: null });
    await watcher.stop();
  });
});

/** A data directory with a server that nobody looks after any more, and the file that says "not yet proven". */
async function leaveBehind(name: string, changes: object = {}) {
  const { binDir } = lab();
  await lab().makeDirectory(name);
  const datadir = lab().path(name, "data");
  await lab().mustRun("initdb", ["--pgdata", datadir, "--auth=trust", "--username=postgres", "--no-sync"]);
  const port = await lab().freePort();
  // pg_ctl starts it so that it outlives whoever started it.
  const options = `-p ${port} -c listen_addresses= -c unix_socket_directories=${lab().path(name)} -c fsync=off`;
  await lab().mustRun(`${binDir}/pg_ctl`, ["-D", datadir, "-w", "-o", options, "-l", `${datadir}.log`, "start"]);
  const pid = Number(readFileSync(`${datadir}/postmaster.pid`, "utf8").split("\n")[0]);
  await lab().writeFile(
    `${name}/data.unproven`,
    JSON.stringify({
      schema_version: 1,
      id: "20261122T100000Z-7",
      scope: name,
      stanza: "main",
      started_at: "2026-11-22T10:00:00.000Z",
      phase: "verify",
      pid: 1,
      pid_started: "not this one",
      attempts: 2,
      request: "stanza main",
      receipt: null,
      report: `${datadir}.report.json`,
      detach: "restore-test",
      linked: [],
      ...changes,
    }),
  );
  return { datadir, pid, guard: (...args: string[]) => lab().runScript("guard", ["--datadir", datadir, ...args]) };
}

/** A zombie has ended, whenever its parent may take note of it. */
function isRunning(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
}

const processesOf = (directory: string) =>
  lab()
    .processes()
    .filter(({ command }) => command.includes(directory));

describe("a server that was left behind", () => {
  test("is refused and left running by default, with its process number", async () => {
    const { datadir, pid, guard } = await leaveBehind("refused");
    const { exitCode, stderr } = await guard();
    expect(stderr).toContain(`its server still runs (process ${pid})`);
    expect(exitCode).toBe(21);
    expect(isRunning(pid)).toBe(true);
    await lab().mustRun(`${lab().binDir}/pg_ctl`, ["-D", datadir, "-m", "immediate", "stop"]);
  });

  test("is stopped and wiped with --on-unproven wipe, and what the DCS still holds is named", async () => {
    const { datadir, pid, guard } = await leaveBehind("wiped");
    const { exitCode, stderr } = await guard("--on-unproven", "wipe");
    expect(stderr).toContain("patronictl remove wiped");
    expect(exitCode).toBe(0);
    expect(isRunning(pid)).toBe(false);
    expect(existsSync(datadir)).toBe(false);
    expect(processesOf(datadir)).toEqual([]);
  });

  test("a number in postmaster.pid that belongs to another program is not a server", async () => {
    const { datadir, pid, guard } = await leaveBehind("stale");
    process.kill(pid, "SIGKILL");
    await waitFor("the server to end", () => !isRunning(pid));
    const text = await readFile(`${datadir}/postmaster.pid`, "utf8");
    await lab().writeFile("stale/data/postmaster.pid", text.replace(/^\d+/, String(process.pid)));
    const { stderr } = await guard();
    expect(stderr).not.toContain("its server still runs");
    expect((await guard("--on-unproven", "wipe")).exitCode).toBe(0);
    expect(existsSync(datadir)).toBe(false);
  });

  test("nothing is touched while a Patroni runs with the data directory", async () => {
    const { patroni, config } = await startWatched("busy");
    await lab().makeDirectory("busy/data", 0o700);
    await lab().writeFile("busy/data/PG_VERSION", "15\n");
    const state = { schema_version: 1, id: "1", scope: "busy", stanza: "main", started_at: "2026-11-22T10:00:00Z" };
    const rest = {
      phase: "verify",
      pid: 1,
      pid_started: "",
      attempts: 1,
      request: "",
      receipt: null,
      report: "",
      linked: [],
    };
    await lab().writeFile("busy/data.unproven", JSON.stringify({ ...state, ...rest, detach: "restore-test" }));
    const { exitCode, stderr } = await lab().runScript("guard", [
      "--datadir",
      lab().path("busy/data"),
      "--on-unproven",
      "wipe",
    ]);
    expect(stderr).toContain(`Patroni (process ${patroni.pid}) is running with ${lab().path("busy/data")}`);
    expect(exitCode).toBe(10);
    expect(existsSync(lab().path("busy/data/PG_VERSION")), config).toBe(true);
    await patroni.stop("SIGKILL");
  });
});

describe("a real restore that was interrupted after it was put in place", () => {
  /** Restored for real, then started by nobody's order and left running: what SIGKILL of Patroni leaves. */
  async function interrupt(name: string) {
    const source = sharedSource();
    const datadir = lab().path(name, "data");
    await lab().makeDirectory(name);
    const receipt = lab().path(name, "receipt.json");
    const marked = await lab().runScript("mark", ["--source", source.conninfo, "--receipt", receipt]);
    expect(marked.exitCode, marked.stderr).toBe(0);
    const settings = ["--stanza", source.stanza, "--pgbackrest-config", source.pgbackrestConfig, "--receipt", receipt];
    const restored = await lab().runScript("bootstrap", ["--scope", name, "--datadir", datadir, ...settings]);
    expect(restored.exitCode, restored.stderr).toBe(0);
    const port = await lab().freePort();
    const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${lab().path(name)}`;
    await lab().mustRun(`${lab().binDir}/pg_ctl`, [
      "-D",
      datadir,
      "-w",
      "-o",
      options,
      "-l",
      `${datadir}.log`,
      "start",
    ]);
    const server = { ...source, conninfo: `host=127.0.0.1 port=${port} user=postgres dbname=postgres` };
    return { datadir, server, guard: (...args: string[]) => lab().runScript("guard", ["--datadir", datadir, ...args]) };
  }

  test("is proven, stopped cleanly, and then free for Patroni", async () => {
    const { datadir, guard } = await interrupt("proven");
    expect((await guard()).exitCode).toBe(21);
    const { exitCode, stderr } = await guard("--on-unproven", "prove");
    expect(exitCode, stderr).toBe(0);
    expect(existsSync(`${datadir}.unproven`)).toBe(false);
    expect(JSON.parse(await readFile(`${datadir}.report.json`, "utf8"))).toMatchObject({ verdict: "healthy" });
    const { stdout } = await lab().mustRun("pg_controldata", ["-D", datadir]);
    expect(stdout).toMatch(/Database cluster state: +shut down\n/);
    expect(processesOf(datadir)).toEqual([]);
    expect((await guard()).exitCode).toBe(0);
  });

  test("stays unproven when the marker is missing, and nothing of it runs", async () => {
    const { datadir, server, guard } = await interrupt("unhealthy");
    await query(server, "DELETE FROM patroni_restore.marker");
    const { exitCode, stderr } = await guard("--on-unproven", "prove");
    expect(exitCode, stderr).toBe(20);
    expect(existsSync(`${datadir}.unproven`)).toBe(true);
    expect(JSON.parse(await readFile(`${datadir}.report.json`, "utf8"))).toMatchObject({ verdict: "unhealthy" });
    expect(processesOf(datadir)).toEqual([]);
    expect((await guard()).exitCode).toBe(21);
  });

  test("is refused when its files say that it would archive", async () => {
    const { datadir, server, guard } = await interrupt("archiving");
    await query(server, "ALTER SYSTEM SET archive_mode = on");
    const { exitCode, stderr } = await guard("--on-unproven", "prove");
    expect(stderr).toContain("archive_mode is on");
    expect(exitCode).toBe(20);
    expect(existsSync(`${datadir}.unproven`)).toBe(true);
  });
});
