/** The README's examples are run as they stand there; only names and places are this lab's. */

import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { formatConninfo, parseConninfo } from "../../lib/postgres/conninfo.ts";
import { sharedSource, useLab } from "./fixture.ts";
import { waitFor } from "./process.ts";
import { APP_DATABASE, markAndWait, query } from "./source.ts";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const blocks = [...readme.matchAll(/^```(sh|yaml)\n([\s\S]*?)^```$/gm)].map(([, language, text = ""]) => ({
  language,
  text,
}));

const block = (part: string): string => {
  const found = blocks.filter(({ text }) => text.includes(part));
  expect(found, `exactly one example has "${part}"`).toHaveLength(1);
  return (found[0] as { text: string }).text;
};

const lab = useLab("readme", async (lab) => {
  await lab.makeDirectory("etc");
  const datadir = lab.path("pgroot", "data");
  await lab.makeDirectory("pgroot", 0o700);
  const scripts = dirname(await lab.script("bootstrap"));
  return { datadir, scripts };
});

/** The example's names and places, and this lab's. */
function here(text: string): string {
  const source = sharedSource();
  return text
    .replaceAll("host=/var/run/postgresql user=postgres", source.conninfo)
    .replaceAll("--stanza main", `--stanza ${source.stanza}`)
    .replaceAll("--stanza=main", `--stanza=${source.stanza}`)
    .replaceAll("/etc/patroni-restore/", lab().path("etc/"))
    .replaceAll("/etc/patroni/", lab().path("etc/"))
    .replaceAll("/opt/patroni-restore", lab().scripts)
    .replaceAll("/var/lib/postgresql/pgroot/data", lab().datadir);
}

async function run(example: string) {
  return lab().run("bash", ["-euc", here(example)], {
    env: {
      PATH: `${lab().scripts}:${lab().env.PATH}`,
      RESTORE_PGBACKREST_CONFIG: sharedSource().pgbackrestConfig,
      RESTORE_WORK_DIR: lab().dir,
      RESTORE_LEVEL: "quick",
    },
  });
}

test("the two commands exist", () => {
  const { scripts } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  for (const [, name = ""] of block("npm run demo").matchAll(/^npm (?:run )?(\w+)/gm))
    expect(scripts).toHaveProperty(name);
});

test("one command says whether the backup is any good", async () => {
  const result = await run(block("restore-test.mjs --source"));
  expect(result).toMatchObject({ exitCode: 0 });
  expect(result.stdout).toMatch(/^verdict {2}healthy/);
  expect(JSON.parse(readFileSync(lab().path("report.json"), "utf8"))).toMatchObject({
    schema_version: 1,
    verdict: "healthy",
  });
});

test("the section of patroni.yml passes the check that follows it", async () => {
  const { receipt } = await markAndWait(lab(), sharedSource(), "etc/receipt");
  const configuration = {
    scope: "readme",
    name: "readme-0",
    restapi: { listen: "127.0.0.1:1", connect_address: "127.0.0.1:1" },
    etcd3: { hosts: "127.0.0.1:1" },
    ...parse(here(block("method: patroni_restore"))),
    postgresql: {
      listen: "127.0.0.1:1",
      connect_address: "127.0.0.1:1",
      data_dir: lab().datadir,
      authentication: { superuser: { username: "postgres" }, replication: { username: "postgres" } },
    },
  };
  await lab().writeFile("etc/patroni.yml", stringify(configuration));
  const result = await run(block("preflight.mjs --stanza"));
  expect(result).toMatchObject({ exitCode: 0 });
  expect(result.stdout).toContain(receipt.target.time);
  expect(result.stderr).toContain("nothing speaks against this restore");
});

test("guard lets Patroni start when nothing is unproven", async () => {
  const example = block("guard.mjs --datadir").replace("exec patroni ", "echo started ");
  expect((await run(example)).stdout).toContain("started");
  expect(existsSync(lab().datadir)).toBe(false);
});

test("backup-api serves, with the settings that the README shows", async () => {
  await lab().makeDirectory("state");
  await lab().writeFile("etc/patroni-restore.yml", here(block("schedules:")));
  const port = await lab().freePort();
  const example = here(block("backup-api.mjs --stanza"))
    .replace("/var/lib/patroni-restore", lab().path("state"))
    .trim();
  const service = lab().startService("backup-api", "bash", ["-euc", `exec ${example}`], {
    env: {
      PATH: `${lab().scripts}:${lab().env.PATH}`,
      RESTORE_PGBACKREST_CONFIG: sharedSource().pgbackrestConfig,
      RESTORE_CONFIG: lab().path("etc/patroni-restore.yml"),
      RESTORE_LISTEN: `127.0.0.1:${port}`,
    },
  });
  await service.waitForLog(/listens on http:/);
  const backups = await (await fetch(`http://127.0.0.1:${port}/backups`)).json();
  expect(backups).toMatchObject([{ type: "full" }, { type: "incr" }]);
  await service.stop();
  expect(await service.ended).toMatchObject({ exitCode: 143 });
});

test("fleet tests the services of the file, and says so", async () => {
  const source = sharedSource();
  const example = block("fleet.mjs run")
    .replace(/^createdb.*\n/, "")
    .replace(/host=\S+ user=postgres dbname=fleet/, "RECORD");
  const file = parse(here(block("after_backups")));
  // Not all at once, and a stanza of its own: neither is this lab's.
  const services = { ...file, defaults: { ...file.defaults, jitter: "0s" } };
  services.services.main.stanza = source.stanza;
  await lab().writeFile("etc/services.yml", stringify(services));
  const record = formatConninfo({ ...parseConninfo(source.conninfo), dbname: "fleet" });
  await query(source, "CREATE DATABASE fleet");
  const url = `http://127.0.0.1:${await lab().freePort()}`;
  const service = lab().startService(
    "fleet",
    "bash",
    ["-euc", `exec ${here(example).replace("RECORD", record.replaceAll("'", ""))}`],
    {
      env: {
        PATH: `${lab().scripts}:${lab().env.PATH}`,
        RESTORE_WORK_DIR: await lab().makeDirectory("w"),
        RESTORE_LEVEL: "quick",
        RESTORE_LISTEN: new URL(url).host,
        PGBACKREST_CONFIG: source.pgbackrestConfig,
      },
    },
  );
  await service.waitForLog(/main: healthy/, 120_000);
  const [status = "", explain = "", ask = ""] = block("fleet.mjs status").trim().split("\n");
  const said = async (line: string) => (await run(`export RESTORE_URL=${url}; ${line}`)).stdout;
  await waitFor("the verdict", async () => /main +healthy/.test(await said(status)));
  expect(await said(status)).toMatch(/reporting[^\n]*paused/);
  expect(await said(explain)).toMatch(/the interval is 7d/);
  expect(await said(ask)).toMatch(/a test of main is asked for/);
  await service.waitForLog(/main: requested, because a test was asked for/);
  await service.stop();
  expect(await service.ended).toMatchObject({ exitCode: 143 });
});

test("the user's queries are asked on the source", async () => {
  const settings = block("orders_total")
    .replace("database: shop", `database: ${APP_DATABASE}`)
    .replace(/sql: .*/, "sql: SELECT count(*) FROM shop.customers");
  const config = await lab().writeFile("etc/queries.yml", settings);
  const receipt = lab().path("queries.json");
  const result = await lab().runScript("mark", [
    "--source",
    sharedSource().conninfo,
    "--receipt",
    receipt,
    "--config",
    config,
  ]);
  expect(result).toMatchObject({ exitCode: 0 });
  expect(JSON.parse(readFileSync(receipt, "utf8")).queries).toMatchObject([{ name: "orders_total" }]);
});
