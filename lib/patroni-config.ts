/**
 * Reads Patroni's configuration as Patroni does and finds everything that would make a restore fail, or seem to succeed.
 * The worst mistakes are silent: with a mistyped `bootstrap.method` Patroni runs initdb and turns green with an empty
 * cluster (patroni 3.0.2 postgresql/bootstrap.py, bootstrap). References are to Patroni's source unless said otherwise.
 */

import { basename } from "node:path";
import { isMap, isPair, isScalar, LineCounter, type Node, parseDocument, type YAMLMap } from "yaml";
import { OPTIONS, type Option, type OptionName, snake } from "./options.ts";
import { didYouMean } from "./settings.ts";
import { parseDuration } from "./units.ts";

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

export interface ConfigProblem {
  message: string;
  hint?: string | undefined;
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

/** Keys of the method's section that Patroni keeps for itself (4.1 postgresql/bootstrap.py, _custom_bootstrap). */
const OWN_KEYS = ["command", "no_params", "keep_existing_recovery_conf", "recovery_conf"];
const RESERVED_KEYS = ["scope", "datadir"];
/** Keys of `bootstrap` that are not methods. */
const NOT_METHODS = ["dcs", "method", "initdb", "pg_hba", "users", "post_bootstrap", "post_init"];

/** Is this argv Patroni's own? `patronictl` and `patroni_raft_controller` are not. */
export function isPatroniCommand(argv: readonly string[]): boolean {
  const [program = "", ...rest] = argv;
  if (basename(program) === "patroni") return true;
  if (!/^python[\d.]*$/.test(basename(program))) return false;
  const module = rest.indexOf("-m");
  if (module >= 0) return /^patroni(\.__main__)?$/.test(rest[module + 1] ?? "");
  const script = rest.find((argument) => !argument.startsWith("-"));
  return script !== undefined && /^patroni(\.py)?$/.test(basename(script));
}

/**
 * Splits as Python's `shlex.split` does, which is all that Patroni does with a command: nothing is expanded, no shell
 * runs. Throws when a quote is not closed, as Python does.
 */
export function splitCommand(command: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote: string | undefined;
  for (let at = 0; at < command.length; at++) {
    const character = command[at] as string;
    const next = command[at + 1];
    if (quote === "'") {
      if (character === quote) quote = undefined;
      else word += character;
    } else if (quote === '"') {
      if (character === quote) quote = undefined;
      else if (character === "\\" && (next === '"' || next === "\\")) {
        word += next;
        at++;
      } else word += character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= "";
    } else if (character === "\\") {
      if (next === undefined) throw new Error("no character follows the backslash");
      word = (word ?? "") + next;
      at++;
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + character;
  }
  if (quote !== undefined) throw new Error("a quote is not closed");
  if (word !== undefined) words.push(word);
  return words;
}

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

function programsOfCommand(argv: readonly string[]): { path: string; kind: "program" | "script" }[] {
  const [program] = argv;
  if (program === undefined) return [];
  const script = isNode(program) ? argv.slice(1).find((argument) => !argument.startsWith("-")) : undefined;
  return [
    { path: program, kind: "program" as const },
    ...(script === undefined ? [] : [{ path: script, kind: "script" as const }]),
  ];
}

const isNode = (program: string) => /^node(js)?$/.test(basename(program));
const isShell = (program: string) => /^(ba|da|z|k)?sh$/.test(basename(program));

/** True when some word of the command is this project's script, also inside `sh -c '…'`. */
const runsScript = (argv: readonly string[], name: "bootstrap" | "post-bootstrap") =>
  argv.some((word) =>
    word.split(/[\s;&|]+/).some((part) => part === name || new RegExp(`(^|/)${name}(\\.mjs|\\.ts)?$`).test(part)),
  );

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

function checkMethod(
  check: ConfigReader,
  bootstrap: Values,
  summary: PatroniConfigSummary,
  facts: PatroniConfigFacts,
): void {
  const silentInitdb = "Patroni would run initdb and report an empty cluster as healthy";
  if (check.values.bootstrap === undefined || check.values.bootstrap === null) {
    check.problem(
      ["bootstrap"],
      "there is no bootstrap section; Patroni would not restore anything",
      "take one from patroni-templates",
    );
    return;
  }
  const methods = Object.keys(bootstrap).filter((key) => !NOT_METHODS.includes(key));
  const { method } = summary;
  if (method === null || method === "initdb") {
    const what = method === null ? "bootstrap.method is missing" : 'bootstrap.method is "initdb"';
    const [only] = methods;
    check.problem(
      ["bootstrap", "method"],
      `${what}: ${silentInitdb}`,
      methods.length === 1 ? `set bootstrap.method to "${only}"` : "name the section that holds the restore's command",
    );
    return;
  }
  const at = ["bootstrap", method];
  if (NOT_METHODS.includes(method) || bootstrap[method] === undefined) {
    check.problem(
      ["bootstrap", "method"],
      `bootstrap.method is "${method}" but there is no section bootstrap.${method}: ${silentInitdb}`,
      didYouMean(method, methods) ?? (methods.length > 0 ? `there is ${methods.join(", ")}` : undefined),
    );
    return;
  }
  const section = toObject(bootstrap[method]);
  const command = toText(section.command);
  if (command === null || command.trim() === "") {
    check.problem(
      at,
      `bootstrap.${method} has no command: ${silentInitdb}`,
      "give the bootstrap script as its command",
    );
  } else {
    summary.command = checkCommand(check, [...at, "command"], command, facts);
    checkParameters(check, at, section, summary.command);
    if (summary.command.length > 0 && !runsScript(summary.command, "bootstrap")) {
      check.warning(
        [...at, "command"],
        "the command is not the bootstrap script of this library; what it restores is not watched",
      );
    }
  }
  if ("recovery_conf" in section) {
    check.problem(
      [...at, "recovery_conf"],
      `bootstrap.${method}.recovery_conf makes Patroni recover once more an instance that is already recovered and promoted`,
      "remove it; the bootstrap script ends recovery itself",
    );
  }
  if (isTrue(section.keep_existing_recovery_conf)) {
    check.warning(
      [...at, "keep_existing_recovery_conf"],
      "keep_existing_recovery_conf is not needed, since recovery ends inside the bootstrap script, and makes Patroni start a recovering server with hot_standby off; remove it",
    );
  }
  checkExtraKeys(check, at, section, facts);
}

function checkParameters(check: ConfigReader, at: string[], section: Values, argv: readonly string[]): void {
  const [program = "", ...rest] = argv;
  if (isTrue(section.no_params) && !argv.some((word) => word.includes("--datadir"))) {
    check.problem(
      [...at, "no_params"],
      "with no_params the bootstrap script is not told --scope and --datadir",
      "remove no_params, or write both into the command",
    );
  } else if (isShell(program) && rest.includes("-c") && !isTrue(section.no_params)) {
    check.warning(
      [...at, "command"],
      `Patroni appends --scope and --datadir after the script of ${basename(program)} -c, where they are $0 and $1; call the bootstrap script directly`,
    );
  }
}

/** Patroni < 3.2 drops them silently, later versions append them as `--key=value`, even with no_params. */
function checkExtraKeys(check: ConfigReader, at: string[], section: Values, facts: PatroniConfigFacts): void {
  const extra = Object.keys(section).filter((key) => !OWN_KEYS.includes(key));
  const appends = facts.patroniVersion ? isAtLeast(facts.patroniVersion, 3, 2) : undefined;
  const known = (Object.keys(OPTIONS) as OptionName[]).filter((name) => (OPTIONS[name] as Option).fileOnly !== true);
  const knownKeys = ["config", ...known.map(snake)];
  for (const key of extra) {
    const place = [...at, key];
    if (RESERVED_KEYS.includes(key)) {
      check.problem(place, `key "${key}" is reserved by Patroni and would not be passed to the command`, "remove it");
    } else if (key === "no_leader" || key === "keep_data") {
      check.problem(place, `key "${key}" exists for create_replica_methods only, not for bootstrap`, "remove it");
    } else if (!knownKeys.includes(key.replaceAll("-", "_"))) {
      check.problem(
        place,
        `key "${key}" is neither Patroni's nor an option of bootstrap`,
        didYouMean(key, [...OWN_KEYS, ...knownKeys]),
      );
    } else if (appends === false) {
      check.problem(
        place,
        `key "${key}" is ignored: Patroni ${facts.patroniVersion} does not pass further keys to the command (3.2 and later do)`,
        `write --${key.replaceAll("_", "-")}=${String(section[key])} into the command`,
      );
    } else if (appends === undefined) {
      check.warning(
        place,
        `key "${key}" reaches the command only with Patroni 3.2 or later; which version will read this is not known`,
      );
    }
  }
}

function checkPostBootstrap(
  check: ConfigReader,
  bootstrap: Values,
  summary: PatroniConfigSummary,
  facts: PatroniConfigFacts,
): void {
  if (check.values.bootstrap === undefined || check.values.bootstrap === null) return;
  const set = (["post_bootstrap", "post_init"] as const).filter((key) => toText(bootstrap[key]));
  const [key] = set;
  if (key === undefined) {
    const mistyped = Object.keys(bootstrap).find(
      (name) => didYouMean(name, ["post_bootstrap", "post_init"]) && !NOT_METHODS.includes(name),
    );
    check.problem(
      ["bootstrap"],
      "there is no bootstrap.post_bootstrap: the restore would be reported healthy without any check",
      mistyped === undefined
        ? "set it to the post-bootstrap script"
        : `"${mistyped}" is not a key of Patroni; did you mean "post_bootstrap"`,
    );
    return;
  }
  if (set.length === 2) {
    check.problem(
      ["bootstrap", "post_init"],
      "post_bootstrap and post_init are both set: Patroni ignores post_init",
      "keep post_bootstrap only",
    );
  }
  const place = ["bootstrap", key];
  summary.postBootstrap = checkCommand(check, place, toText(bootstrap[key]) ?? "", facts);
  if (summary.postBootstrap.length > 0 && !runsScript(summary.postBootstrap, "post-bootstrap")) {
    check.warning(place, `${key} is not the post-bootstrap script of this library: nothing here proves the restore`);
  }
}

/** The command as Patroni splits it; empty when it cannot be split. */
function checkCommand(check: ConfigReader, place: string[], command: string, facts: PatroniConfigFacts): string[] {
  let argv: string[];
  try {
    argv = splitCommand(command);
  } catch (error) {
    check.problem(place, `the command cannot be split into words: ${(error as Error).message}`);
    return [];
  }
  for (const { path } of programsOfCommand(argv)) {
    const state = facts.programs?.[path];
    if (state === "not found")
      check.problem(place, `"${path}" is not found on this machine`, "install it or correct its path");
    if (state === "not executable")
      check.problem(place, `"${path}" is not executable`, `run chmod +x ${path}, or call it with node`);
  }
  const [program = ""] = argv;
  const literal = isShell(program)
    ? undefined
    : argv.find((word) => /^(&&|\|\||[|;<>&]|>>|\d?>.*)$|\$\{?\w|^~\//.test(word));
  if (literal !== undefined) {
    check.problem(
      place,
      `Patroni starts the command without a shell, so "${literal}" reaches it literally`,
      "write the value itself, or put it into the environment or a settings file",
    );
  }
  return argv;
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

function checkArchiving(check: ConfigReader, postgresql: Values, dcs: Values, facts: PatroniConfigFacts): void {
  const sections: [string[], Values][] = [
    [["bootstrap", "dcs", "postgresql", "parameters"], toObject(toObject(dcs.postgresql).parameters)],
    [["postgresql", "parameters"], toObject(postgresql.parameters)],
  ];
  const isOff = sections.some(([, parameters]) => isFalse(parameters.archive_mode));
  for (const [at, parameters] of sections) {
    const command = toText(parameters.archive_command)?.trim();
    if (!command || isOff) continue;
    const place = [...at, "archive_command"];
    const stanza = /--stanza(?:=|\s+)["']?([^\s"']+)/.exec(command)?.[1];
    if (stanza !== undefined && stanza === facts.source?.stanza) {
      check.problem(
        place,
        `this configuration would archive the restored instance into the source's stanza "${stanza}", and damage its backups`,
        "give it a stanza of its own, or set archive_mode: off",
      );
    } else if (/^((\/usr)?\/bin\/)?true$|^:$|^exit 0$/.test(command)) {
      const message = `archive_command "${command}" succeeds without storing anything: WAL and the new timeline's history count as archived and are gone`;
      if (facts.detach === "clone")
        check.problem(place, message, "set archive_mode: off, or /bin/false until the archive is ready");
      else check.warning(place, message);
    }
  }
}

function checkDatadir(
  check: ConfigReader,
  postgresql: Values,
  summary: PatroniConfigSummary,
  facts: PatroniConfigFacts,
): void {
  const place = ["postgresql", "data_dir"];
  const { datadir } = summary;
  if (datadir === null) return;
  const isSame = (other: string | undefined) => other !== undefined && withoutSlash(other) === withoutSlash(datadir);
  if (!datadir.startsWith("/")) check.problem(place, `data_dir "${datadir}" is not an absolute path`);
  if (isSame(facts.source?.datadir)) {
    check.problem(place, `data_dir ${datadir} is the source's own data directory`, "choose another directory");
  }
  const configDir = toText(postgresql.config_dir);
  if (configDir !== null && !isSame(configDir)) {
    check.warning(
      ["postgresql", "config_dir"],
      `config_dir ${configDir} is not the data directory: Patroni demands a postgresql.conf there, which a restore does not bring`,
    );
  }
  const state = facts.datadir;
  if (state === undefined || !isSame(state.path)) return;
  if (state.kind === "link") {
    check.problem(
      place,
      `data_dir ${datadir} is a symbolic link; one rename could not put the restore in place`,
      "name the directory it leads to",
    );
  } else if (state.isMountPoint) {
    check.problem(
      place,
      `data_dir ${datadir} is a mount point: Patroni cannot rename a rejected restore away and adopts it at its next start`,
      `use a directory inside it, such as ${withoutSlash(datadir)}/data`,
    );
  } else if (state.kind === "other") {
    check.problem(place, `data_dir ${datadir} is not a directory`);
  } else if (!state.isEmpty) {
    check.problem(
      place,
      `data_dir ${datadir} is not empty: Patroni would start what is in it and restore nothing`,
      "remove or rename it",
    );
  } else if (!state.parentExists) {
    check.problem(
      place,
      `the parent directory of data_dir ${datadir} does not exist`,
      "create it, owned by Patroni's user",
    );
  } else if (!state.parentWritable) {
    check.problem(
      place,
      `the parent directory of data_dir ${datadir} is not writable`,
      "let Patroni's user write there",
    );
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

type Values = Record<string, unknown>;

/** The file's values with the place of each, and what was found. */
class ConfigReader {
  readonly problems: ConfigProblem[] = [];
  readonly warnings: string[] = [];
  readonly values: Values;
  readonly isReadable: boolean;
  private readonly path: string;
  private readonly root: Node | null;
  private readonly lines: LineCounter;

  constructor(text: string, path: string) {
    const { document, lines } = parseText(text);
    this.path = path;
    this.root = document.contents;
    this.lines = lines;
    for (const error of document.errors) this.add(error.pos[0], { message: error.message });
    const values: unknown = document.errors.length > 0 ? undefined : document.toJS();
    this.isReadable = isMap(this.root) && values !== undefined;
    if (!this.isReadable && this.problems.length === 0) {
      this.add(0, { message: "Patroni's configuration is not a mapping of keys to values" });
    }
    this.values = this.isReadable ? toObject(values) : {};
  }

  problem(keys: readonly string[], message: string, hint?: string | undefined): void {
    this.add(this.offsetOf(keys), { message, hint });
  }

  warning(keys: readonly string[], message: string): void {
    this.warnings.push(`${this.place(this.offsetOf(keys))}: ${message}`);
  }

  private add(offset: number, { message, hint }: ConfigProblem): void {
    this.problems.push({ message: `${this.place(offset)}: ${message}`, ...(hint === undefined ? {} : { hint }) });
  }

  private place(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${this.path}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
  }

  /** Where the deepest of the keys that exists stands. */
  private offsetOf(keys: readonly string[]): number {
    let node: unknown = this.root;
    let offset = 0;
    for (const key of keys) {
      if (!isMap(node)) break;
      const pair = (node as YAMLMap).items.find(
        (item) => isPair(item) && isScalar(item.key) && String(item.key.value) === key,
      );
      if (pair === undefined) break;
      offset = (pair.key as Node).range?.[0] ?? offset;
      node = pair.value;
    }
    return offset;
  }
}

/** Patroni reads YAML 1.1, in which `on`, `yes` and `off` are booleans and `<<` merges. */
function parseText(text: string) {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, version: "1.1", merge: true });
  return { document, lines };
}

function toObject(value: unknown): Values {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Values) : {};
}

function toText(value: unknown): string | null {
  if (typeof value === "string") return value === "" ? null : value;
  return typeof value === "number" || typeof value === "boolean" ? String(value) : null;
}

/** Seconds as Patroni takes them: a number, or text with a unit. */
function toNumber(value: unknown): number | null {
  if (typeof value === "number") return value;
  if (typeof value !== "string") return null;
  if (/^\d+$/.test(value)) return Number(value);
  try {
    return parseDuration(value) / 1000;
  } catch {
    return null;
  }
}

/** As Patroni's parse_bool reads it. */
const isTrue = (value: unknown) =>
  value === true ||
  (typeof value === "string" && !/^(false|no|off|0|)$/i.test(value)) ||
  (typeof value === "number" && value !== 0);
const isFalse = (value: unknown) => value === false || (typeof value === "string" && /^(false|no|off)$/i.test(value));

const withoutSlash = (path: string) => path.replace(/(.)\/+$/, "$1");

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [a = 0, b = 0] = version.split(".").map(Number);
  return a > major || (a === major && b >= minor);
}

function hasDcsVariable(environment: Readonly<Record<string, string | undefined>>, section: string): boolean {
  const prefix = `PATRONI_${section.toUpperCase()}_`;
  return Object.entries(environment).some(([name, value]) => name.startsWith(prefix) && value);
}
