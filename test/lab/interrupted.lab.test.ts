/**
 * Patroni is ended in every phase of a bootstrap, gently and not, and started again behind `guard`: there is never a leader
 * without a healthy report, and nothing goes on alone.
 */

import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { renderTemplate } from "../../lib/patroni/templates.ts";
import type { Report } from "../../lib/report/report.ts";
import { startEtcd } from "./etcd.ts";
import { useLab } from "./fixture.ts";
import { postgresUser } from "./lab.ts";
import { askPatroni, startPatroni, waitForLeader } from "./patroni.ts";
import { processesOf, type Service, signalProcess, waitFor } from "./process.ts";
import { archiveWal, backup, createStanza, markAndWait, query, startSource } from "./source.ts";

const lab = useLab("interrupt", async (lab) => {
  const source = await startSource(lab, { stanza: "svc" });
  await createStanza(lab, source);
  await backup(lab, source, "full");
  await query(source, "CREATE TABLE event (id int, filler text)");
  for (let round = 0; round < 5; round++) {
    await query(source, "INSERT INTO event SELECT g, repeat('x', 900) FROM generate_series(1, 8000) g");
    await archiveWal(source);
  }
  const receipt = await markAndWait(lab, source);
  const etcd = await startEtcd(lab);
  return { source, receipt, etcd };
});

interface Instance {
  directory: string;
  datadir: string;
  config: string;
  rest: number;
  scope: string;
}

let count = 0;

/** A patroni.yml with our hooks, from the template that operators use. */
async function makeInstance(
  change: (configuration: { postgresql: { authentication: { superuser: { username: string } } } }) => void = () => {},
): Promise<Instance> {
  const { source, receipt, etcd } = lab();
  const name = `rt-${++count}`;
  const directory = await lab().makeDirectory(name, 0o700);
  const datadir = lab().path(name, "data");
  const [rest, port] = [await lab().freePort(), await lab().freePort()];
  const settings = { pgbackrest_config: source.pgbackrestConfig, receipt: receipt.file, level: "quick" };
  const bootstrap = renderTemplate(
    await readFile(new URL("../../patroni-templates/bootstrap-3.0.yml", import.meta.url), "utf8"),
    {
      node: process.execPath,
      scripts: (await lab().script("bootstrap")).replace("/bootstrap.mjs", ""),
      settings_file: await lab().writeFile(`${name}/settings.yml`, stringify(settings)),
      stanza: source.stanza,
      restore_target_time: receipt.receipt.target.time,
    },
  );
  const configuration = {
    scope: name,
    namespace: "/interrupted/",
    name: `${name}-0`,
    restapi: { listen: `127.0.0.1:${rest}`, connect_address: `127.0.0.1:${rest}` },
    etcd3: { hosts: etcd.endpoint },
    ...parse(bootstrap, { version: "1.1" }),
    postgresql: {
      listen: `127.0.0.1:${port}`,
      connect_address: `127.0.0.1:${port}`,
      data_dir: datadir,
      bin_dir: lab().binDir,
      pgpass: `${directory}/pgpass`,
      authentication: { superuser: { username: "postgres" }, replication: { username: "postgres" } },
      parameters: { unix_socket_directories: directory, shared_buffers: "32MB", fsync: "off" },
      pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust"],
    },
  };
  configuration.bootstrap.dcs = { ttl: 20, loop_wait: 1, retry_timeout: 5 };
  change(configuration);
  const config = await lab().writeFile(
    `${name}/patroni.yml`,
    stringify(configuration, { defaultStringType: "QUOTE_DOUBLE" }),
  );
  return { directory, datadir, config, rest, scope: name };
}

const report = ({ datadir }: Instance): Report | undefined => {
  try {
    return JSON.parse(readFileSync(`${datadir}.report.json`, "utf8"));
  } catch {
    return undefined;
  }
};

const phaseOf = ({ datadir }: Instance): string => {
  try {
    return JSON.parse(readFileSync(`${datadir}.unproven`, "utf8")).phase;
  } catch {
    return "none";
  }
};

const isUnproven = ({ datadir }: Instance) => existsSync(`${datadir}.unproven`);

/** Looks all the time whether Patroni leads with something that is not proven. */
function watchLeader(instance: Instance): { end(): string[] } {
  const seen: string[] = [];
  const timer = setInterval(async () => {
    const proven = report(instance)?.verdict === "healthy";
    if ((await askPatroni(instance.rest, "/primary"))?.status !== 200) return;
    if (!proven && report(instance)?.verdict !== "healthy")
      seen.push(`leader while the verdict was ${report(instance)?.verdict}`);
  }, 200);
  return {
    end() {
      clearInterval(timer);
      return seen;
    },
  };
}

/** Keys that a bootstrap leaves in the DCS when it is interrupted; `guard --on-unproven wipe` names them. */
async function clearKeys({ scope }: Instance): Promise<void> {
  const { etcd } = lab();
  const key = Buffer.from(`/interrupted/${scope}/`).toString("base64");
  const range_end = Buffer.from(`/interrupted/${scope}0`).toString("base64");
  await fetch(`http://${etcd.endpoint}/v3/kv/deleterange`, {
    method: "POST",
    body: JSON.stringify({ key, range_end }),
  });
}

const guard = (instance: Instance, mode: string) =>
  lab().runScript("guard", ["--datadir", instance.datadir, "--on-unproven", mode]);

const inside = (instance: Instance, pattern: RegExp) =>
  processesOf(instance.directory).filter(({ command }) => pattern.test(command));

/** Each phase, and how it is held so that the signal really falls into it. */
const PHASES: Record<string, (instance: Instance) => Promise<void>> = {
  async restore(instance) {
    await waitFor(
      "pgbackrest restore",
      () => inside(instance, /pgbackrest .*restore/).length > 0,
      30_000,
      undefined,
      5,
    );
    for (const { pid } of inside(instance, /pgbackrest .*restore/)) signalProcess(pid, "SIGSTOP");
  },
  async recovery(instance) {
    await waitFor("the startup process", () => inside(instance, /^postgres: startup/).length > 0, 30_000, undefined, 5);
    for (const { pid } of inside(instance, /^postgres: startup/)) signalProcess(pid, "SIGSTOP");
    expect(phaseOf(instance)).toBe("recovery");
  },
  async detach(instance) {
    const postmaster = () => inside(instance, /bin\/postgres -D .*\.restoring/);
    await waitFor("the end of recovery", () => /promote|detach/.test(phaseOf(instance)), 30_000, undefined, 2);
    // Nobody gets a new session now.
    for (const { pid } of postmaster()) signalProcess(pid, "SIGSTOP");
  },
  async "between rename and post-bootstrap"(instance) {
    await waitFor("the rename", () => existsSync(instance.datadir), 30_000, undefined, 2);
    expect(phaseOf(instance)).toBe("handover");
  },
  async "post-bootstrap"(instance) {
    await waitFor("the checks", () => phaseOf(instance) === "verify", 30_000, undefined, 2);
  },
};

/** Nothing but the server of the data directory, which Patroni itself leaves running, and which guard knows. */
const oursGoingOn = (instance: Instance) =>
  inside(instance, /./).filter(
    ({ command }) => !/^postgres: |bin\/postgres -D \S*\/data( |$)/.test(command) && command !== "",
  );

describe.each(["SIGKILL", "SIGTERM"] as const)("%s", (signal) => {
  test.each(Object.entries(PHASES))("in %s", async (phase, hold) => {
    const instance = await makeInstance();
    const leader = watchLeader(instance);
    const patroni = startPatroni(lab(), instance.config, { name: instance.scope });
    await hold(instance);
    patroni.kill(signal);
    await waitFor(
      "everything of ours to end",
      () => !patroni.isRunning() && oursGoingOn(instance).length === 0,
      60_000,
      () => JSON.stringify(inside(instance, /./)),
    );
    if (report(instance)?.verdict === "healthy") {
      // Only the last phase can have been proven before the signal took effect.
      expect(phase).toBe("post-bootstrap");
      expect(isUnproven(instance)).toBe(false);
    } else {
      expect(isUnproven(instance)).toBe(true);
      expect(report(instance)?.verdict ?? "error").toBe("error");
      await expectGuarded(instance);
    }
    expect(leader.end()).toEqual([]);
    if (phase === (signal === "SIGKILL" ? "recovery" : "post-bootstrap") && isUnproven(instance))
      await startAgain(instance);
    expect(inside(instance, /./)).toEqual([]);
  });
});

/** Refused by default, and gone with `wipe`, with everything that ran on it. */
async function expectGuarded(instance: Instance): Promise<void> {
  const isThere = existsSync(instance.datadir);
  const refused = await guard(instance, "refuse");
  expect(refused.exitCode, refused.stderr).toBe(isThere ? 21 : 0);
  const wiped = await guard(instance, "wipe");
  expect(wiped.exitCode, wiped.stderr).toBe(0);
  expect(`${refused.stderr}${wiped.stderr}`).toContain("initialize");
  expect(existsSync(instance.datadir)).toBe(false);
  expect(existsSync(`${instance.datadir}.restoring`)).toBe(false);
  await waitFor("the server to end", () => inside(instance, /./).length === 0, 20_000);
}

/** Behind guard, with a DCS that was cleared as guard says: bootstrapped anew and proven. */
async function startAgain(instance: Instance): Promise<void> {
  await clearKeys(instance);
  const leader = watchLeader(instance);
  expect((await guard(instance, "refuse")).exitCode).toBe(0);
  const patroni = startPatroni(lab(), instance.config, { name: `${instance.scope}-again` });
  await waitForLeader(patroni, instance.rest);
  expect(report(instance)?.verdict).toBe("healthy");
  expect(isUnproven(instance)).toBe(false);
  expect(leader.end()).toEqual([]);
  await patroni.stop("SIGTERM", 30_000);
  await waitFor("the server to end", () => inside(instance, /./).length === 0, 20_000);
}

describe("a bootstrap that Patroni must give up", () => {
  /** Patroni's whole output once it has ended by itself. */
  async function runToItsEnd(instance: Instance, name: string): Promise<{ log: string; service: Service }> {
    const leader = watchLeader(instance);
    const service = startPatroni(lab(), instance.config, { name });
    await waitFor(
      "Patroni to give up",
      () => !service.isRunning(),
      90_000,
      () => service.log(),
    );
    expect(leader.end()).toEqual([]);
    expect(inside(instance, /./)).toEqual([]);
    return { log: await service.log(), service };
  }
  const initialize = async ({ scope }: Instance) =>
    (await lab().etcd.get(`/interrupted/${scope}/`))[`/interrupted/${scope}/initialize`];

  test("a check fails: no leader, no initialize key, and after --max-attempts nothing is downloaded again", async () => {
    const { receipt } = lab();
    const instance = await makeInstance();
    // The marker of another mark, which is not in this backup.
    const foreign = { ...receipt.receipt, id: "20200101T000000Z-00000000" };
    const file = await lab().writeFile(`${instance.scope}/foreign.json`, JSON.stringify(foreign), 0o600);
    const settings = {
      pgbackrest_config: lab().source.pgbackrestConfig,
      receipt: file,
      level: "quick",
      max_attempts: 1,
    };
    await lab().writeFile(`${instance.scope}/settings.yml`, stringify(settings));
    const first = await runToItsEnd(instance, "unhealthy");
    expect(first.log).toContain("ERROR: [020]: UNHEALTHY");
    expect(report(instance)).toMatchObject({ verdict: "unhealthy", error: { code: 20 } });
    expect(existsSync(`${instance.datadir}.failed`)).toBe(true);
    expect(await initialize(instance)).toBeUndefined();
    const verdict = report(instance);
    const second = await runToItsEnd(instance, "unhealthy-again");
    expect(second.log).toContain("1 attempts at this restore have failed, and nothing is downloaded again");
    expect(report(instance)).toEqual(verdict);
  });

  test("Patroni's superuser is not in the backup: said at once instead of waiting for ever", async () => {
    const instance = await makeInstance((configuration) => {
      configuration.postgresql.authentication.superuser.username = "admin";
    });
    const { log } = await runToItsEnd(instance, "superuser");
    expect(log).toContain('superuser "admin" does not exist in the restored cluster; it has postgres');
    expect(report(instance)).toMatchObject({ verdict: "error", error: { code: 10 } });
    expect(existsSync(instance.datadir)).toBe(false);
  });

  test("the DCS is away for longer than retry_timeout while the checks run: not healthy, and why", async () => {
    const instance = await makeInstance();
    const { etcd } = lab();
    const patroni = startPatroni(lab(), instance.config, { name: "dcs-away" });
    try {
      // The checks must take longer than Patroni's patience: they stand still meanwhile.
      const checks = () =>
        lab()
          .processes()
          .filter(({ command }) => /\bpost-bootstrap\b/.test(command));
      const explain = () => patroni.log();
      const haveBegun = async () => / checks of level /.test(await patroni.log());
      await waitFor("the checks to begin", haveBegun, 60_000, explain, 2);
      for (const { pid } of checks()) signalProcess(pid, "SIGSTOP");
      etcd.service.kill("SIGSTOP");
      const isStopped = async () => /received fast shutdown request/.test(await patroni.log());
      await waitFor("Patroni to stop PostgreSQL", isStopped, 60_000, explain);
      for (const { pid } of checks()) signalProcess(pid, "SIGCONT");
      await waitFor("the verdict", () => report(instance)?.finished_at !== null, 60_000);
    } finally {
      etcd.service.kill("SIGCONT");
    }
    const { verdict, error } = report(instance) as Report;
    expect(verdict).not.toBe("healthy");
    expect(`${error?.message} ${error?.hint} ${JSON.stringify(report(instance)?.checks)}`).toContain("retry_timeout");
    expect(isUnproven(instance)).toBe(true);
    await patroni.stop("SIGTERM", 30_000);
    await guard(instance, "wipe");
    await waitFor("the server to end", () => inside(instance, /./).length === 0, 20_000);
  });
});

test("a data directory that is a mount point is refused before Patroni could adopt a rejected restore", async () => {
  const instance = await makeInstance();
  await lab().makeDirectory(`${instance.scope}/data`, 0o700);
  await lab().mustRun(
    "mount",
    ["-t", "tmpfs", "-o", `mode=0700,uid=${postgresUser()?.uid}`, "tmpfs", instance.datadir],
    {
      asRoot: true,
    },
  );
  try {
    const patroni = startPatroni(lab(), instance.config, { name: "mount" });
    await waitFor(
      "Patroni to give up",
      () => !patroni.isRunning(),
      60_000,
      () => patroni.log(),
    );
    expect(await patroni.log()).toContain("is a mount point, which cannot be renamed");
    expect(processesOf(instance.directory)).toEqual([]);
  } finally {
    await lab().mustRun("umount", [instance.datadir], { asRoot: true });
  }
});
