/** The configuration of the throwaway Patroni, from the built-in template or the operator's own. */

import { parse, parseDocument } from "yaml";
import builtIn from "../../patroni-templates/restore-test.yml";
import { messageOf, RestoreError } from "../errors.ts";
import { placeholdersOf, renderTemplate } from "../patroni/templates.ts";
import type { Layout } from "./layout.ts";

export interface PatroniConfigInput {
  layout: Layout;
  /** The operator's own template, or null for the built-in one. */
  template: string | null;
  node: string;
  binDir: string;
  superuser: string;
  /** Of `shared_preload_libraries`; undefined leaves what the restored configuration says. */
  sharedPreloadLibraries: string | undefined;
  /** `host:port`. */
  etcd: string;
  restapiAddress: string;
  restapiPassword: string;
  postgresqlAddress: string;
}

/** Throws SETTINGS_INVALID when the operator's template cannot be filled. */
export function renderPatroniConfig(input: PatroniConfigInput): string {
  const { layout } = input;
  const values = {
    scope: layout.scope,
    namespace: layout.namespace,
    restapi_address: input.restapiAddress,
    restapi_password: input.restapiPassword,
    etcd: input.etcd,
    node: input.node,
    script: layout.script,
    settings_file: layout.hooksConfig,
    postgresql_address: input.postgresqlAddress,
    datadir: layout.datadir,
    bin_dir: input.binDir,
    pgpass: layout.pgpass,
    socket_dir: layout.socketDir,
    superuser: input.superuser,
  };
  return withLibraries(fill(input.template, values), input.sharedPreloadLibraries);
}

/** Without these an own template would not be a restore test of this run. */
const NEEDED = ["scope", "restapi_address", "etcd", "datadir", "script", "settings_file"];

function fill(template: string | null, values: Record<string, string>): string {
  if (template === null) return renderTemplate(builtIn, values);
  try {
    const names = placeholdersOf(template);
    const missing = NEEDED.filter((name) => !names.includes(name));
    if (missing.length > 0) throw new Error(`the template does not use ${missing.map((n) => `{{${n}}}`).join(", ")}`);
    return renderTemplate(template, values, { unusedAllowed: true });
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `--patroni-config: ${messageOf(error)}`, {
      hint: "start from a copy of patroni-templates/restore-test.yml",
    });
  }
}

function withLibraries(config: string, libraries: string | undefined): string {
  if (libraries === undefined) return config;
  const document = parseDocument(config);
  document.setIn(["postgresql", "parameters", "shared_preload_libraries"], libraries);
  return document.toString({ lineWidth: 0 });
}

/** The same PostgreSQL settings that Patroni would give, as `-c` arguments, for a server without Patroni. */
export function serverSettings(config: string): [string, string][] {
  const { bootstrap, postgresql } = parse(config, { version: "1.1" });
  const all = { ...bootstrap?.dcs?.postgresql?.parameters, ...postgresql?.parameters } as Record<string, unknown>;
  return Object.entries(all).map(([name, value]) => [name, String(value)]);
}
