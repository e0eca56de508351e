/** The method of the bootstrap and post_bootstrap: where the silent mistakes are. */

import { basename } from "node:path";
import { OPTIONS, type Option, type OptionName, snake } from "../options.ts";
import { didYouMean } from "../settings.ts";
import { isShell, programsOfCommand, runsScript, splitCommand } from "./command.ts";
import { type ConfigReader, isAtLeast, isTrue, toObject, toText, type Values } from "./config-reader.ts";
import type { PatroniConfigFacts, PatroniConfigSummary } from "./patroni-config.ts";

/** Keys of the method's section that Patroni keeps for itself (4.1 postgresql/bootstrap.py, _custom_bootstrap). */
export const OWN_KEYS = ["command", "no_params", "keep_existing_recovery_conf", "recovery_conf"];

export const RESERVED_KEYS = ["scope", "datadir"];

/** Keys of `bootstrap` that are not methods. */
export const NOT_METHODS = ["dcs", "method", "initdb", "pg_hba", "users", "post_bootstrap", "post_init"];

export function checkMethod(
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

export function checkParameters(check: ConfigReader, at: string[], section: Values, argv: readonly string[]): void {
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
export function checkExtraKeys(check: ConfigReader, at: string[], section: Values, facts: PatroniConfigFacts): void {
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

export function checkPostBootstrap(
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
export function checkCommand(
  check: ConfigReader,
  place: string[],
  command: string,
  facts: PatroniConfigFacts,
): string[] {
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
