/** Runs a script's body: argv, environment, settings, signals and log in; result, error text and exit code out. */

import { setMaxListeners } from "node:events";
import { Command, CommanderError, Option as CommanderOption } from "commander";
import { EXIT_CODES, formatError, INTERNAL_EXIT_CODE, RestoreError } from "./errors.ts";
import { killAllChildren } from "./io/children.ts";
import { exists, readTextOrExplain } from "./io/files.ts";
import { keepGarbageLow } from "./io/garbage.ts";
import { openLog } from "./io/terminal.ts";
import type { Log } from "./log.ts";
import {
  COMMON_OPTIONS,
  environmentName,
  kebab,
  OPTIONS,
  type Option,
  type OptionName,
  type Settings,
} from "./options.ts";
import { didYouMean, isFileOnly, isList, loadSettings, type SettingsFile } from "./settings.ts";
import { VERSION } from "./version.ts";

export const DEFAULT_CONFIG = "/etc/patroni-restore.yml";

export interface Context<N extends OptionName> {
  settings: Settings<N | (typeof COMMON_OPTIONS)[number]>;
  /** Flags exactly as given, by option name: to tell a flag from a default, and to refuse secrets in argv. */
  flags: Readonly<Record<string, unknown>>;
  operands: readonly string[];
  log: Log;
  /** Aborted by SIGINT or SIGTERM; its reason is a RestoreError. Every wait takes it. */
  signal: AbortSignal;
  /** How long the end may take after a signal, when 8 s are not enough; after that children are killed. */
  endWithin(limitMs: number): void;
  /** Writes a result to standard output. */
  print(text: string): void;
}

export interface Script<N extends OptionName> {
  name: string;
  /** One sentence for the top of `--help`. */
  summary: string;
  /** Who calls it and what its exit code means. */
  description?: string;
  options: readonly N[];
  required?: readonly NoInfer<N>[];
  /** Synopsis of the operands, such as `CONNINFO` or `FILE...`; none are taken without it. */
  operands?: string;
  examples: readonly string[];
  /** Done when it returns; every failure is thrown. */
  run(context: Context<N>): Promise<void>;
}

/** Patroni 4.x kills after 10 s; children must be gone and files in order before. */
const CLEANUP_LIMIT_MS = 8000;

/** On a large machine more than Node's ten wait for one signal, and it would warn the operator of a leak. */
const MOST_WAITERS = 1000;

/** A forgotten socket or timer must not keep a script that is done. */
const EXIT_LIMIT_MS = 2000;

export async function main<const N extends OptionName>(script: Script<N>): Promise<void> {
  setMaxListeners(MOST_WAITERS);
  keepGarbageLow();
  const stop = new AbortController();
  let hardExit: NodeJS.Timeout | undefined;
  let cleanUpLimitMs = CLEANUP_LIMIT_MS;
  const onSignal = (signal: NodeJS.Signals) => {
    const code = signal === "SIGINT" ? "INTERRUPTED" : "TERMINATED";
    if (stop.signal.aborted) return;
    stop.abort(new RestoreError(code, `ended by ${signal}`));
    hardExit = setTimeout(() => {
      killAllChildren();
      process.stderr.write(`clean-up took longer than ${cleanUpLimitMs / 1000} s and was cut short\n`);
      process.exit(EXIT_CODES[code]);
    }, cleanUpLimitMs);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) process.on(name, onSignal);
  // A reader that went away (`| head`) is no reason to lose the exit code.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  process.on("uncaughtException", (error) => {
    killAllChildren();
    writeBug(error);
    process.exit(INTERNAL_EXIT_CODE);
  });
  // Node ends with 0 when nothing is left to wait for, even if the script still waits.
  let isDone = false;
  process.once("exit", (code) => {
    if (code !== 0 || isDone) return;
    writeBug(new Error("it waited for something that could no longer come"));
    process.exitCode = INTERNAL_EXIT_CODE;
  });
  try {
    process.exitCode = await runScript(script, process.argv.slice(2), stop.signal, (limitMs) => {
      // The most that a timer can wait; more would fire at once.
      cleanUpLimitMs = Math.min(limitMs, 2 ** 31 - 1);
    });
    isDone = true;
  } finally {
    clearTimeout(hardExit);
    killAllChildren();
    for (const name of signals) process.off(name, onSignal);
    setTimeout(() => process.exit(), EXIT_LIMIT_MS).unref();
  }
}

function writeBug(error: unknown): void {
  const stack = error instanceof Error ? error.stack : String(error);
  process.stderr.write(`ERROR: [001]: INTERNAL: a bug in patroni-restore ${VERSION}; please report it\n${stack}\n`);
}

async function runScript<N extends OptionName>(
  script: Script<N>,
  argv: readonly string[],
  signal: AbortSignal,
  endWithin: (limitMs: number) => void,
): Promise<number> {
  try {
    const parsed = parseArguments(script, argv);
    if (parsed === "shown") return 0;
    const names = allOptions(script);
    const file = await readSettingsFile(parsed.config);
    const settings = loadSettings<OptionName>(names, script.required ?? [], {
      flags: parsed.flags,
      environment: process.env,
      ...(file === undefined ? {} : { file }),
    }) as Context<N>["settings"];
    await script.run({
      settings,
      flags: parsed.flags,
      operands: parsed.operands,
      log: await openLog(settings.logFormat),
      signal,
      endWithin,
      print: (text) => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`),
    });
    return 0;
  } catch (thrown) {
    // What breaks while everything is being ended is a consequence: Ctrl-C reaches the children too.
    const isConsequence = thrown instanceof RestoreError || (thrown as Error | null)?.name === "AbortError";
    const error = signal.aborted && isConsequence ? signal.reason : thrown;
    if (error instanceof RestoreError) {
      process.stderr.write(`${formatError(error)}\n`);
      return error.exitCode;
    }
    writeBug(error);
    return signal.aborted ? signal.reason.exitCode : INTERNAL_EXIT_CODE;
  }
}

function allOptions<N extends OptionName>(script: Script<N>): OptionName[] {
  return [...new Set<OptionName>([...script.options, ...COMMON_OPTIONS])];
}

async function readSettingsFile(config: string | undefined): Promise<SettingsFile | undefined> {
  const given = config ?? process.env.RESTORE_CONFIG;
  if (given === undefined && !(await exists(DEFAULT_CONFIG))) return undefined;
  const path = given ?? DEFAULT_CONFIG;
  const text = await readTextOrExplain(path, "settings file");
  const { parseSettingsFile } = await import("./settings-file.ts");
  return parseSettingsFile(path, text);
}

interface ParsedArguments {
  flags: Record<string, unknown>;
  operands: string[];
  config: string | undefined;
}

/** Throws SETTINGS_INVALID; "shown" when `--help` or `--version` was asked for and printed. */
export function parseArguments<N extends OptionName>(
  script: Script<N>,
  argv: readonly string[],
): ParsedArguments | "shown" {
  const names = allOptions(script);
  const { commandLine, given } = normaliseArguments(argv, names);
  const command = new Command(script.name)
    .description(script.description === undefined ? script.summary : `${script.summary}\n\n${script.description}`)
    .version(VERSION, "--version", "print the version")
    .helpOption("--help", "print this page")
    .option("--config <FILE>", `settings file (YAML); ${DEFAULT_CONFIG} if it exists`)
    .exitOverride()
    .configureHelp({ helpWidth: 110 })
    .configureOutput({ writeErr: () => {} });
  if (script.operands !== undefined) command.arguments(`[${script.operands}]`);
  for (const name of names) {
    const option: Option = OPTIONS[name];
    if (isFileOnly(name)) continue;
    const value = option.placeholder === null ? "" : ` <${option.placeholder}>`;
    const preset = option.fallback === undefined || option.fallback === false ? "" : ` (default: ${option.fallback})`;
    const commanderOption = new CommanderOption(`--${kebab(name)}${value}`, option.help + preset);
    if (isList(name)) commanderOption.argParser((item: string, all?: string[]) => [...(all ?? []), item]);
    command.addOption(commanderOption);
  }
  command.addHelpText("after", helpTail(script));
  try {
    command.parse(commandLine, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return "shown";
    const [message = "", hint] = error.message.replace(/^error: /, "").split("\n");
    throw new RestoreError("SETTINGS_INVALID", message, {
      hint: hint?.replace(/^\(|\)$|\?/g, "").replace(/^Did/, "did") ?? `see ${script.name} --help`,
    });
  }
  const { config, ...flags } = command.opts<Record<string, unknown> & { config?: string }>();
  return { flags: { ...flags, ...given }, operands: command.args, config };
}

/** Flags that every script has beside its settings; true for those that take a value. */
const BUILT_IN = new Map([
  ["config", true],
  ["help", false],
  ["version", false],
]);

/**
 * Patroni >= 3.2 appends every other key of the method's section as `--key=value` with Python's spelling: underscores,
 * `True`, `None` (patroni 4.1 postgresql/bootstrap.py, _custom_bootstrap). `given` are the values of flags that take none.
 */
function normaliseArguments(argv: readonly string[], names: readonly OptionName[]) {
  const options = new Map(names.filter((name) => !isFileOnly(name)).map((name) => [kebab(name), name]));
  const takesValue = (flag: string) => {
    const name = options.get(flag);
    return name === undefined ? BUILT_IN.get(flag) : OPTIONS[name].placeholder !== null;
  };
  const commandLine: string[] = [];
  const given: Partial<Record<OptionName, string>> = {};
  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at] ?? "";
    if (argument === "--") {
      commandLine.push(...argv.slice(at));
      break;
    }
    const { flag, value } = splitFlag(argument);
    const name = options.get(flag ?? "");
    if (flag === undefined) commandLine.push(argument);
    else if (takesValue(flag) === undefined) {
      // Without its value, which may be a secret.
      throw new RestoreError("SETTINGS_INVALID", `unknown option --${flag}`, {
        hint:
          didYouMean(
            `--${flag}`,
            [...options.keys(), ...BUILT_IN.keys()].map((known) => `--${known}`),
          ) ?? "see --help for what there is",
      });
    } else if (takesValue(flag)) {
      if (value === "None") continue;
      const next = value ?? argv[++at];
      if (next === undefined || (value === undefined && takesValue(splitFlag(next).flag ?? "") !== undefined)) {
        throw new RestoreError("SETTINGS_INVALID", `--${flag} needs a value`);
      }
      commandLine.push(`--${flag}=${next}`);
    } else if (name === undefined || value === undefined) {
      if (name !== undefined) delete given[name];
      commandLine.push(`--${flag}`);
    } else if (value !== "None") given[name] = value;
  }
  return { commandLine, given };
}

function splitFlag(argument: string): { flag?: string; value?: string | undefined } {
  const match = /^--([A-Za-z][\w-]*)(?:=(.*))?$/s.exec(argument);
  return match?.[1] === undefined ? {} : { flag: match[1].replaceAll("_", "-"), value: match[2] };
}

function helpTail<N extends OptionName>(script: Script<N>): string {
  const codes = Object.entries(EXIT_CODES)
    .map(([name, code]) => `${code} ${name}`)
    .join(", ");
  const examples = script.examples.map((example) => `  ${example.replaceAll("\n", "\n  ")}`).join("\n\n");
  const sample = script.options[0] ?? "stanza";
  return `
Every option can also be set by environment (${environmentName(sample)}=…) or in the settings file.

Exit codes: 0 done, 1 INTERNAL, ${codes}

Examples:
${examples}`;
}
