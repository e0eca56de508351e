/** Every template of patroni-templates/, filled and really run. (restore-test.yml: restore-test.lab.test.ts.) */

import { existsSync } from "node:fs";
import { cp, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { EXIT_CODES } from "../../lib/errors.ts";
import { renderTemplate, shellWord, type TemplateValues } from "../../lib/patroni/templates.ts";
import type { Report } from "../../lib/report/report.ts";
import { type Etcd, startEtcd } from "./etcd.ts";
import { useLab } from "./fixture.ts";
import type { Lab } from "./lab.ts";
import { startPatroni, waitForLeader } from "./patroni.ts";
import { waitFor } from "./process.ts";
import { archiveWal, markAndWait, query, type Source, value } from "./source.ts";

const DIRECTORY = fileURLToPath(new URL("../../patroni-templates/", import.meta.url));
const NAMESPACE = "/templates/";
/** Patroni takes the passwords from its environment, as the templates say. */
const PASSWORDS = { PATRONI_SUPERUSER_PASSWORD: "super secret", PATRONI_REPLICATION_PASSWORD: "it's" };

const lab = useLab("templ", async (lab) => {
  const etcd = await startEtcd(lab);
  await lab.makeDirectory("log");
  const { service, source } = await startTemplateSource(lab, etcd);
  await query(source, "CREATE TABLE before_the_mark AS SELECT generate_series(1, 1000) AS id");
  const withoutPassword = { ...source, conninfo: source.conninfo.replace(/ password=.*/, "") };
  const env = { PGPASSWORD: PASSWORDS.PATRONI_SUPERUSER_PASSWORD };
  const receipt = await markAndWait(lab, withoutPassword, "receipt", { env });
  await query(source, "CREATE TABLE after_the_mark ()");
  await archiveWal(source);
  return { etcd, service, source, receipt };
});

const render = async (file: string, values: TemplateValues) =>
  renderTemplate(await readFile(DIRECTORY + file, "utf8"), values);

/** source.yml: a service with archiving; its stanza and first backup, as its comments say. */
async function startTemplateSource(lab: Lab, etcd: Etcd) {
  const [rest, port] = [await lab.freePort(), await lab.freePort()];
  await lab.makeDirectory("prod");
  const socketDir = await lab.makeDirectory("prod/s");
  const dataDir = lab.path("prod", "data");
  const pgbackrestConfig = await writePgbackrestConfig(lab, "prod", "prod main", dataDir, port, socketDir);
  const config = await render("source.yml", {
    ...nodeValues(lab, "prod", etcd, rest, port, dataDir, socketDir),
    pgbackrest_config: pgbackrestConfig,
    stanza: "prod main",
  });
  const service = startPatroni(lab, await lab.writeFile("prod/patroni.yml", config), { name: "prod", env: PASSWORDS });
  await waitForLeader(service, rest);
  const source: Source = {
    kind: "patroni",
    stanza: "prod main",
    dataDir,
    port,
    socketDir,
    conninfo: `host=${socketDir} port=${port} user=postgres dbname=postgres password='super secret'`,
    pgbackrestConfig,
    repository: lab.path("repo-prod"),
    logFile: service.logFile,
    patroni: { scope: "prod", restPort: rest, configFile: lab.path("prod", "patroni.yml") },
  };
  const overTcp = { ...source, conninfo: source.conninfo.replace(socketDir, "127.0.0.1") };
  await pgbackrest(lab, pgbackrestConfig, "prod main", "stanza-create");
  await pgbackrest(lab, pgbackrestConfig, "prod main", "--type=full", "backup");
  return { service, source: overTcp };
}

function nodeValues(lab: Lab, name: string, etcd: Etcd, rest: number, port: number, datadir: string, socket: string) {
  return {
    scope: name,
    namespace: NAMESPACE,
    name: `${name}-0`,
    restapi_address: `127.0.0.1:${rest}`,
    etcd: etcd.endpoint,
    postgresql_address: `127.0.0.1:${port}`,
    datadir,
    bin_dir: lab.binDir,
    pgpass: lab.path(name, "pgpass"),
    socket_dir: socket,
  };
}

async function writePgbackrestConfig(
  lab: Lab,
  name: string,
  stanza: string,
  dataDir: string,
  port: number,
  socketDir: string,
): Promise<string> {
  const global = {
    "repo1-path": await lab.makeDirectory(`repo-${name}`, 0o750),
    "lock-path": await lab.makeDirectory(`${name}/lock`),
    "log-path": await lab.makeDirectory(`${name}/pgbackrest-log`),
    "spool-path": await lab.makeDirectory(`${name}/spool`),
    "start-fast": "y",
    "archive-timeout": 60,
  };
  const own = { "pg1-path": dataDir, "pg1-port": port, "pg1-socket-path": socketDir };
  const section = (title: string, values: object) =>
    [`[${title}]`, ...Object.entries(values).map(([key, text]) => `${key}=${text}`), ""].join("\n");
  return lab.writeFile(`${name}/pgbackrest.conf`, section("global", global) + section(stanza, own));
}

const pgbackrest = (lab: Lab, config: string, stanza: string, ...args: string[]) =>
  lab.mustRun("pgbackrest", [`--config=${config}`, `--stanza=${stanza}`, ...args]);

/** Everything in a repository's archive, by name. */
async function archived(lab: Lab, config: string, stanza: string): Promise<string[]> {
  const { stdout } = await pgbackrest(lab, config, stanza, "repo-ls", "--recurse", "archive");
  return stdout.split("\n").filter((line) => /\/[0-9A-F]{8}/.test(line));
}

/** A folder with the compiled scripts and odd characters in its name, to see that every word is quoted. */
async function scriptsFolder(lab: Lab): Promise<string> {
  const folder = await lab.makeDirectory("it's a folder");
  for (const name of ["bootstrap", "post-bootstrap"]) await cp(await lab.script(name), `${folder}/${name}.mjs`);
  return folder;
}

/** A patroni.yml of an operator, to which a `bootstrap:` section is added. */
async function patroniConfig(name: string, bootstrap: string) {
  const { etcd } = lab();
  await lab().makeDirectory(name);
  const [rest, port] = [await lab().freePort(), await lab().freePort()];
  const datadir = lab().path(name, "data");
  const socket = await lab().makeDirectory(`${name}/s`);
  const rendered = {
    scope: name,
    namespace: NAMESPACE,
    name: `${name}-0`,
    restapi: { listen: `127.0.0.1:${rest}`, connect_address: `127.0.0.1:${rest}` },
    etcd3: { hosts: etcd.endpoint },
    ...parse(bootstrap, { version: "1.1" }),
    postgresql: {
      listen: `127.0.0.1:${port}`,
      connect_address: `127.0.0.1:${port}`,
      data_dir: datadir,
      bin_dir: lab().binDir,
      pgpass: lab().path(name, "pgpass"),
      authentication: { superuser: { username: "postgres" }, replication: { username: "replicator" } },
      parameters: { unix_socket_directories: socket, archive_mode: "off" },
      pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust"],
    },
  };
  const file = await lab().writeFile(`${name}/patroni.yml`, stringify(rendered, { defaultStringType: "QUOTE_DOUBLE" }));
  const conninfo = `host=127.0.0.1 port=${port} user=postgres dbname=postgres`;
  return { file, rest, port, datadir, conninfo };
}

const readReport = async (datadir: string): Promise<Report> =>
  JSON.parse(await readFile(`${datadir}.report.json`, "utf8"));

/** Marker there, nothing newer, and the file that says "not yet proven" gone. */
async function expectProven(datadir: string, conninfo: string): Promise<void> {
  const { receipt } = lab().receipt;
  const report = await readReport(datadir);
  expect(report.checks.filter((check) => check.status === "fail" || check.status === "unverified")).toEqual([]);
  expect(report).toMatchObject({ verdict: "healthy", receipt_id: receipt.id, target: { value: receipt.target.time } });
  expect(existsSync(`${datadir}.unproven`)).toBe(false);
  expect(await value({ conninfo }, "SELECT count(*) FROM pg_class WHERE relname = 'after_the_mark'")).toBe("0");
}

test("source.yml: a leader that archives through pgBackRest", async () => {
  const { source, etcd } = lab();
  const segment = await archiveWal(source);
  expect((await archived(lab(), source.pgbackrestConfig, source.stanza)).join("\n")).toContain(segment);
  const keys = await etcd.get(`${NAMESPACE}prod/`);
  const { system_identifier } = (await query(source, "SELECT system_identifier FROM pg_control_system()"))[0] ?? {};
  expect(keys[`${NAMESPACE}prod/initialize`]).toBe(system_identifier);
});

test("bootstrap-3.0.yml: restored to the target and proven, by this machine's Patroni", async () => {
  const { source, receipt, etcd } = lab();
  await lab().makeDirectory("v30");
  const settings = { pgbackrest_config: source.pgbackrestConfig, receipt: receipt.file, level: "quick" };
  const bootstrap = await render("bootstrap-3.0.yml", {
    node: process.execPath,
    scripts: await scriptsFolder(lab()),
    settings_file: await lab().writeFile("v30/settings.yml", stringify(settings)),
    stanza: source.stanza,
    restore_target_time: receipt.receipt.target.time,
  });
  const { file, rest, datadir, conninfo } = await patroniConfig("v30", bootstrap);
  const patroni = startPatroni(lab(), file, { name: "v30" });
  await waitForLeader(patroni, rest);
  await expectProven(datadir, conninfo);
  const keys = await etcd.get(`${NAMESPACE}v30/`);
  expect(keys[`${NAMESPACE}v30/initialize`]).toBe(receipt.receipt.system_identifier);
  await patroni.stop();
});

test("bootstrap-3.2.yml: called with its keys as Patroni >= 3.2 appends them, and proven", async () => {
  const { source, receipt } = lab();
  await lab().makeDirectory("v32");
  const settings = { pgbackrest_config: source.pgbackrestConfig, receipt: receipt.file, level: "quick" };
  const settingsFile = await lab().writeFile("v32/settings.yml", stringify(settings));
  const section = parse(
    await render("bootstrap-3.2.yml", {
      node: process.execPath,
      scripts: await scriptsFolder(lab()),
      settings_file: settingsFile,
      stanza: source.stanza,
      restore_target_time: receipt.receipt.target.time,
    }),
    { version: "1.1" },
  ).bootstrap;
  const { command, ...keys } = section[section.method];
  // Patroni 4.1 postgresql/bootstrap.py, _custom_bootstrap: scope and datadir, then every other key in its order.
  const appended = Object.entries(keys).map(([key, text]) => `--${key}=${text}`);
  const wrapper = await lab().writeFile(
    "v32/as-3.2.sh",
    `#!/bin/sh\nexec ${command} "$@" ${appended.map(shellWord).join(" ")}\n`,
    0o755,
  );
  const bootstrap = { ...section, patroni_restore: { command: shellWord(wrapper) } };
  const { file, rest, datadir, conninfo } = await patroniConfig("v32", stringify({ bootstrap }));
  const patroni = startPatroni(lab(), file, { name: "v32" });
  await waitForLeader(patroni, rest);
  await expectProven(datadir, conninfo);
  await patroni.stop();
});

test("clone.yml: a service of its own that archives to its own stanza, never to the source's", async () => {
  const { source, receipt, etcd } = lab();
  await lab().makeDirectory("clone");
  const [rest, port] = [await lab().freePort(), await lab().freePort()];
  const socket = await lab().makeDirectory("clone/s");
  const datadir = lab().path("clone", "data");
  const ownConfig = await writePgbackrestConfig(lab(), "clone", "clone", datadir, port, socket);
  const config = await render("clone.yml", {
    ...nodeValues(lab(), "clone", etcd, rest, port, datadir, socket),
    pgbackrest_config: ownConfig,
    stanza: "clone",
    node: process.execPath,
    scripts: await scriptsFolder(lab()),
    source_stanza: source.stanza,
    source_pgbackrest_config: source.pgbackrestConfig,
    restore_target_time: receipt.receipt.target.time,
  });
  const before = await archived(lab(), source.pgbackrestConfig, source.stanza);
  const patroni = startPatroni(lab(), await lab().writeFile("clone/patroni.yml", config), {
    name: "clone",
    env: { ...PASSWORDS, RESTORE_RECEIPT: receipt.file, RESTORE_LEVEL: "quick" },
  });
  await waitForLeader(patroni, rest);
  const conninfo = `host=127.0.0.1 port=${port} user=postgres dbname=postgres password='super secret'`;
  await expectProven(datadir, conninfo);

  const clone = { ...source, conninfo };
  expect(await value(clone, "SHOW archive_mode")).toBe("on");
  await pgbackrest(lab(), ownConfig, "clone", "stanza-create");
  await query(clone, "CREATE TABLE of_the_clone ()");
  const segment = await value(clone, "SELECT pg_walfile_name(pg_switch_wal())");
  expect(segment).toMatch(/^00000002/);
  await waitFor(
    `${segment} to be archived by the clone`,
    async () => (await archived(lab(), ownConfig, "clone")).some((line) => line.includes(segment)),
    60_000,
    () => patroni.log(),
  );
  await pgbackrest(lab(), ownConfig, "clone", "--type=full", "backup");
  // The source went on meanwhile, on its own timeline; nothing of the clone's is there.
  const added = (await archived(lab(), source.pgbackrestConfig, source.stanza)).filter(
    (line) => !before.includes(line),
  );
  expect(added.filter((line) => !/\/00000001[0-9A-F]{16}/.test(line) && !/\/0000000100/.test(line))).toEqual([]);
  expect(await readFile(`${datadir}/postgresql.conf`, "utf8")).not.toContain(source.pgbackrestConfig);
  await patroni.stop();
});

test("image/entrypoint.sh: Patroni starts only when guard allows it, and takes the entrypoint's place", async () => {
  await lab().makeDirectory("image");
  const bin = await lab().makeDirectory("image/bin");
  await lab().writeFile("image/bin/patroni", '#!/bin/sh\necho "patroni $$ $*"\n', 0o755);
  const env = {
    PATH: `${bin}:${lab().env.PATH}`,
    SCRIPTS_DIR: lab().path("dist"),
    PGDATA: lab().path("image", "data"),
  };
  await lab().script("guard");
  const entrypoint = await lab().writeFile(
    "image/entrypoint.sh",
    await readFile(`${DIRECTORY}image/entrypoint.sh`, "utf8"),
    0o755,
  );

  const free = lab().run(entrypoint, ["/etc/patroni/it's.yml"], { env });
  const started = await free;
  expect(started.exitCode, started.stderr).toBe(0);
  expect(started.stdout).toMatch(/^patroni \d+ \/etc\/patroni\/it's\.yml$/m);

  const without = await lab().run(entrypoint, [], { env: { ...env, PGDATA: undefined } });
  expect(without.exitCode).not.toBe(0);
  expect(without.stderr).toMatch(/PGDATA.*data_dir/);

  await lab().makeDirectory("image/data", 0o700);
  await lab().writeFile("image/data/PG_VERSION", "15\n");
  await lab().writeFile("image/data.unproven", "{}");
  const refused = await lab().run(entrypoint, ["/etc/patroni.yml"], { env });
  expect(refused.exitCode).toBe(EXIT_CODES.UNVERIFIED);
  expect(refused.stdout).not.toContain("patroni ");
});

test("image/patroni-restore.conf: systemd takes it, and its guard is a command that works", async () => {
  const text = await readFile(`${DIRECTORY}image/patroni-restore.conf`, "utf8");
  const [, line = ""] = /^ExecStartPre=(.*)$/m.exec(text) ?? [];
  const script = await lab().script("guard");
  const command = line.replace("/usr/bin/node", process.execPath).replace("/opt/patroni-restore/guard.mjs", script);
  const [program = "", ...args] = command.split(" ");
  const result = await lab().run(program, args);
  expect(result.exitCode, result.stderr).toBe(0);

  await lab().makeDirectory("units/patroni.service.d");
  const unit = await lab().writeFile("units/patroni.service", "[Service]\nExecStart=/bin/true\n");
  const dropIn = text.replace(line, command);
  await lab().writeFile("units/patroni.service.d/patroni-restore.conf", dropIn);
  const verified = await lab().run("systemd-analyze", ["verify", "--man=no", unit]);
  expect(verified.stderr.split("\n").filter((message) => message.includes("patroni"))).toEqual([]);
  expect(verified.exitCode).toBe(0);
});

test("image/backup-api.service: systemd takes it, and its command serves until SIGTERM", async () => {
  const text = await readFile(`${DIRECTORY}image/backup-api.service`, "utf8");
  const [, line = ""] = /^ExecStart=(.*)$/m.exec(text) ?? [];
  const settings = `stanza: prod main\nlisten: 127.0.0.1:${await lab().freePort()}\nstate_dir: ${lab().path("state")}\n`;
  const command = line
    .replace("/usr/bin/node", process.execPath)
    .replace("/opt/patroni-restore/backup-api.mjs", await lab().script("backup-api"))
    .replace("/etc/patroni-restore-backup.yml", await lab().writeFile("backup.yml", settings));
  const [program = "", ...args] = command.split(" ");
  const service = lab().startService("unit", program, args);
  await service.waitForLog(/listens on http:/);
  await service.stop();
  const success = Number(/^SuccessExitStatus=(\d+)$/m.exec(text)?.[1]);
  expect(await service.ended).toMatchObject({ exitCode: success });

  await lab().makeDirectory("units");
  const unit = await lab().writeFile("units/backup-api.service", text.replace(line, command));
  const verified = await lab().run("systemd-analyze", ["verify", "--man=no", unit]);
  expect(verified.stderr.split("\n").filter((message) => message.includes("backup-api"))).toEqual([]);
  expect(verified.exitCode).toBe(0);
});
