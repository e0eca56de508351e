/**
 * Reads Patroni's configuration as Patroni does and finds everything that would make a restore fail, or seem to succeed.
 * The worst mistakes are silent: with a mistyped `bootstrap.method` Patroni runs initdb and turns green with an empty
 * cluster (patroni 3.0.2 postgresql/bootstrap.py, bootstrap). References are to Patroni's source unless said otherwise.
 */

import { checkMethod, checkPostBootstrap } from "./check-hooks.ts";
import { checkArchiving, checkDatadir } from "./check-places.ts";
import { programsOfCommand, splitCommand } from "./command.ts";
import {
  type ConfigProblem,
  ConfigReader,
  isAtLeast,
  isTrue,
  parseText,
  toNumber,
  toObject,
  toText,
  type Values,
} from "./config-reader.ts";

export interface PatroniConfigFacts {
  /** Of the Patroni that will read the file: its PATRONI_* variables outrank the file. */
  environment?: Readonly<Record<string, string | undefined>>;
  /** Such as `3.0.2`; null when unknown. */
  patroniVersion?: string | null;
  /** State of each program and script that `programsOf` named, by path; one that is not there is not judged. */
  programs?: Readonly<Record<string, "ok" | "not found" | "not executable">>;
  datadir?: {
    path: string;
    kind: "absent" | "directory" | "link" | "other";
    isMountPoint: boolean;
    /** As Patroni sees it: dot-files and `lost+found` do not count. */
    isEmpty: boolean;
    parentExists: boolean;
    parentWritable: boolean;
  };
  /** The service whose backup is restored, as far as it is known. */
  source?: { scope?: string | undefined; datadir?: string | undefined; stanza?: string | undefined };
  /** The scope's `initialize` key in the DCS; null when it is absent, undefined when nobody looked. */
  initialize?: string | null;
  detach?: "restore-test" | "clone";
}

export interface PatroniConfigSummary {
  scope: string | null;
  /** Of the keys in the DCS; Patroni's default is `/service`. */
  namespace: string;
  name: string | null;
  method: string | null;
  /** The bootstrap command as Patroni splits it, without what Patroni appends. */
  command: string[];
  postBootstrap: string[];
  datadir: string | null;
  /** Null: Patroni connects as its operating system user. */
  superuser: string | null;
  /** `host:port` that Patroni's REST API listens on. */
  restapi: string | null;
  postgresqlListen: string | null;
  dcs: string | null;
  /** Seconds. */
  loopWait: number;
}

export interface PatroniConfigCheck {
  problems: ConfigProblem[];
  warnings: string[];
  summary: PatroniConfigSummary;
}

/** Environment variables that Patroni takes for the settings that this check needs (3.0.2 config.py, _build_environment_configuration). */
export const ENVIRONMENT_VARIABLE_OF = {
  scope: "PATRONI_SCOPE",
  namespace: "PATRONI_NAMESPACE",
  name: "PATRONI_NAME",
  restapi: "PATRONI_RESTAPI_LISTEN",
  postgresqlListen: "PATRONI_POSTGRESQL_LISTEN",
  datadir: "PATRONI_POSTGRESQL_DATA_DIR",
  superuser: "PATRONI_SUPERUSER_USERNAME",
} as const;

const DCS_SECTIONS = ["etcd3", "etcd", "kubernetes", "consul", "zookeeper", "exhibitor", "raft"];

/** What must exist on this machine for the two hooks to start, and the data directory that the file names. */
export function programsOf(text: string): {
  programs: { path: string; kind: "program" | "script" }[];
  datadir: string | undefined;
} {
  const values = toObject(parseText(text).document.toJS());
  const bootstrap = toObject(values.bootstrap);
  const commands = [
    toObject(bootstrap[String(bootstrap.method)]).command,
    bootstrap.post_bootstrap || bootstrap.post_init,
  ];
  const programs = commands.flatMap((command) => {
    try {
      return programsOfCommand(splitCommand(toText(command) ?? ""));
    } catch {
      return [];
    }
  });
  return { programs, datadir: toText(toObject(values.postgresql).data_dir) ?? undefined };
}

/** Pure: what cannot be seen in the text is given as facts. Every message begins with the place in the file. */
export function checkPatroniConfig(text: string, path: string, facts: PatroniConfigFacts = {}): PatroniConfigCheck {
  const check = new ConfigReader(text, path);
  const values = check.values;
  const environment = facts.environment ?? {};
  const bootstrap = toObject(values.bootstrap);
  const postgresql = toObject(values.postgresql);
  const dcs = toObject(bootstrap.dcs);
  const given = (name: keyof typeof ENVIRONMENT_VARIABLE_OF, value: unknown) =>
    environment[ENVIRONMENT_VARIABLE_OF[name]] || toText(value);
  const summary: PatroniConfigSummary = {
    scope: given("scope", values.scope),
    namespace: `/${(given("namespace", values.namespace) ?? "service").replace(/^\/+|\/+$/g, "")}`,
    name: given("name", values.name),
    method: toText(bootstrap.method),
    command: [],
    postBootstrap: [],
    datadir: given("datadir", postgresql.data_dir),
    superuser: given("superuser", toObject(toObject(postgresql.authentication).superuser).username),
    restapi: given("restapi", toObject(values.restapi).listen),
    postgresqlListen: given("postgresqlListen", postgresql.listen),
    dcs: DCS_SECTIONS.find((s) => values[s] !== undefined || hasDcsVariable(environment, s)) ?? null,
    loopWait: toNumber(dcs.loop_wait) ?? 10,
  };
  if (!check.isReadable) return { problems: check.problems, warnings: check.warnings, summary };

  checkIdentity(check, summary, facts);
  checkMethod(check, bootstrap, summary, facts);
  checkPostBootstrap(check, bootstrap, summary, facts);
  checkDynamic(check, bootstrap, dcs);
  checkArchiving(check, postgresql, dcs, facts);
  checkDatadir(check, postgresql, summary, facts);
  checkRest(check, bootstrap, summary, facts);
  return { problems: check.problems, warnings: check.warnings, summary };
}

function checkIdentity(check: ConfigReader, summary: PatroniConfigSummary, facts: PatroniConfigFacts): void {
  const required: [keyof typeof ENVIRONMENT_VARIABLE_OF, string[]][] = [
    ["scope", ["scope"]],
    ["name", ["name"]],
    ["restapi", ["restapi", "listen"]],
    ["postgresqlListen", ["postgresql", "listen"]],
    ["datadir", ["postgresql", "data_dir"]],
  ];
  for (const [name, keys] of required) {
    if (summary[name as keyof PatroniConfigSummary] !== null) continue;
    check.problem(
      keys.slice(0, -1),
      `${keys.join(".")} is missing`,
      `give it here or as ${ENVIRONMENT_VARIABLE_OF[name]}`,
    );
  }
  if (summary.dcs === null) {
    check.problem([], "there is no section for a DCS, such as etcd3", `give one of ${DCS_SECTIONS.join(", ")}`);
  }
  const { scope } = summary;
  if (scope !== null && scope === facts.source?.scope) {
    check.problem(
      ["scope"],
      `scope "${scope}" is the source's own; a restore must not meet its keys in the DCS`,
      "choose a scope of its own",
    );
  }
  if (facts.initialize === "") {
    check.problem(
      ["scope"],
      `scope "${scope}" has an empty initialize key, left by an interrupted bootstrap; Patroni would wait for ever`,
      `run patronictl remove ${scope}`,
    );
  } else if (typeof facts.initialize === "string") {
    check.problem(
      ["scope"],
      `scope "${scope}" already has the initialize key ${facts.initialize}; Patroni would not bootstrap`,
      `choose a new scope, or run patronictl remove ${scope} if nothing of it is left`,
    );
  }
}

function checkDynamic(check: ConfigReader, bootstrap: Values, dcs: Values): void {
  if (check.values.bootstrap === undefined || check.values.bootstrap === null) return;
  if (!("dcs" in bootstrap)) {
    check.problem(
      ["bootstrap"],
      "bootstrap.dcs is missing: Patroni ends with KeyError 'dcs'",
      "write at least dcs: {}",
    );
    return;
  }
  const place = (key: string) => ["bootstrap", "dcs", key];
  if (isTrue(dcs.pause)) {
    check.problem(
      place("pause"),
      "with pause Patroni never bootstraps: PAUSE: running with empty data directory",
      "remove it",
    );
  }
  if (Object.keys(toObject(dcs.standby_cluster)).length > 0) {
    check.problem(
      place("standby_cluster"),
      "with standby_cluster Patroni ignores bootstrap.method and post_bootstrap: nothing is restored, nothing is checked",
      "remove it",
    );
  }
  const seconds = (key: string, fallback: number) => {
    if (dcs[key] === undefined) return fallback;
    const value = toNumber(dcs[key]);
    if (value === null || value < 1) {
      check.problem(place(key), `bootstrap.dcs.${key} is "${String(dcs[key])}", not a number of seconds`);
    }
    return value ?? fallback;
  };
  const loopWait = seconds("loop_wait", 10);
  const retryTimeout = seconds("retry_timeout", 10);
  const ttl = seconds("ttl", 30);
  if (loopWait + 2 * retryTimeout > ttl) {
    check.warning(
      place("ttl"),
      `loop_wait + 2 * retry_timeout (${loopWait} + 2 * ${retryTimeout} s) is more than ttl (${ttl} s); a slow DCS would cost the leader key`,
    );
  }
  if (loopWait > 30) {
    check.warning(place("loop_wait"), `with loop_wait ${loopWait} s each step after the restore waits up to that long`);
  }
}

function checkRest(
  check: ConfigReader,
  bootstrap: Values,
  summary: PatroniConfigSummary,
  facts: PatroniConfigFacts,
): void {
  const { values } = check;
  if (isTrue(toObject(values.tags).nofailover)) {
    check.problem(
      ["tags", "nofailover"],
      "a node with tags.nofailover never bootstraps: it waits for a leader for ever",
      "remove the tag",
    );
  }
  if (toText(toObject(values.watchdog).mode) === "required") {
    check.warning(
      ["watchdog", "mode"],
      "with watchdog.mode required Patroni throws a proven restore away when the watchdog cannot be activated",
    );
  }
  if (summary.superuser === null) {
    check.warning(
      ["postgresql", "authentication"],
      "no superuser is configured: Patroni connects as its operating system user, which must be a role of the restored cluster",
    );
  }
  if (
    Object.keys(toObject(bootstrap.users)).length > 0 &&
    facts.patroniVersion &&
    isAtLeast(facts.patroniVersion, 4, 0)
  ) {
    check.warning(["bootstrap", "users"], `Patroni ${facts.patroniVersion} ignores bootstrap.users`);
  }
}

function hasDcsVariable(environment: Readonly<Record<string, string | undefined>>, section: string): boolean {
  const prefix = `PATRONI_${section.toUpperCase()}_`;
  return Object.entries(environment).some(([name, value]) => name.startsWith(prefix) && value);
}
