/** The configuration in patroni-templates/kubernetes/pgbackrest-*.yml, read by pgBackRest itself. */

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { renderObject } from "../fixtures/kubernetes-templates.ts";
import { startProgram } from "../fixtures/run-script.ts";

/** Laid out as backup-sidecar.yml mounts it. Starts a backup, which fails at the CA file that is not here. */
async function backup(store: string, spoil = (text: string) => text, includePath = true) {
  const directory = await mkdtemp(join(tmpdir(), "patroni-restore-pgbackrest-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await mkdir(join(directory, "conf.d"));
  const config = renderObject(`pgbackrest-configmap-${store}.yml`, {
    storage_ca_file: join(directory, "none.crt"),
  }).data;
  await writeFile(join(directory, "pgbackrest.conf"), config["pgbackrest.conf"]);
  await writeFile(join(directory, "conf.d/repository.conf"), spoil(config["repository.conf"]));
  const { stringData } = renderObject(`pgbackrest-secret-${store}.yml`);
  await writeFile(join(directory, "conf.d/keys.conf"), stringData["keys.conf"]);
  const env: Record<string, string> = {
    PGBACKREST_STANZA: "main",
    PGBACKREST_LOCK_PATH: join(directory, "lock"),
    PGBACKREST_LOG_PATH: directory,
    ...(includePath ? { PGBACKREST_CONFIG_INCLUDE_PATH: join(directory, "conf.d") } : {}),
  };
  const { stdout, stderr } = await startProgram("pgbackrest", [`--config=${directory}/pgbackrest.conf`, "backup"], {
    env,
  }).ended;
  return stdout + stderr;
}

test.each(["s3", "azure"])("%s: every option is known, and none is missing", async (store) => {
  const said = await backup(store);
  expect(said).toMatch(/^ERROR: \[\d+\]: .*CA certificate/);
  expect(said).not.toMatch(/WARN|option/);
});

test("a mistyped option would be seen", async () => {
  expect(await backup("s3", (text) => text.replace("repo1-bundle", "repo1-bundel"))).toContain(
    "WARN: configuration file contains invalid option 'repo1-bundel'",
  );
});

test("without the variable pgBackRest reads no conf.d, because it is given --config", async () => {
  expect(await backup("s3", undefined, false)).toMatch(/^ERROR: \[037\]: backup command requires option: pg1-path/);
});
