/** Runs a script's body: argv, environment, settings, signals and log in; result, error text and exit code out. */

import { Command, CommanderError, Option as CommanderOption } from "commander";
import { EXIT_CODES, formatError, INTERNAL_EXIT_CODE, RestoreError } from "./errors.ts";
import { killAllChildren } from "./io/command.ts";
import { readTextIfExists, readTextOrExplain } from "./io/files.ts";
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
import { isList, loadSettings } from "./settings.ts";

export const VERSION = process.env.PATRONI_RESTORE_VERSION ?? "0.0.0-source";

export const DEFAULT_CONFIG = "/etc/patroni-restore.yml";

export interface Context<N extends OptionName> {
  settings: Settings<N | (typeof COMMON_OPTIONS)[number]>;
  /** Flags exactly as given, by option name: to tell a flag from a default, and to refuse secrets in argv. */
  flags: Readonly<Record<string, unknown>>;
  operands: readonly string[];
  log: Log;
  /** Aborted by SIGINT or SIGTERM; its reason is a RestoreError. Every wait takes it. */
  signal: AbortSignal;
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

export async function main<const N extends OptionName>(script: Script<N>): Promise<void> {
  const stop = new AbortController();
  let hardExit: NodeJS.Timeout | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    const code = signal === "SIGINT" ? "INTERRUPTED" : "TERMINATED";
    if (stop.signal.aborted) return;
    stop.abort(new RestoreError(code, `ended by ${signal}`));
    hardExit = setTimeout(() => {
      killAllChildren();
      process.stderr.write(`clean-up took longer than ${CLEANUP_LIMIT_MS / 1000} s and was cut short\n`);
      process.exit(EXIT_CODES[code]);
    }, CLEANUP_LIMIT_MS);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) process.on(name, onSignal);
  // A reader that went away (`| head`) is no reason to lose the exit code.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  try {
    process.exitCode = await runScript(script, process.argv.slice(2), stop.signal);
  } finally {
    clearTimeout(hardExit);
    killAllChildren();
    for (const name of signals) process.off(name, onSignal);
  }
}

async function runScript<N extends OptionName>(
  script: Script<N>,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<number> {
  try {
    const parsed = parseArguments(script, argv);
    if (parsed === "shown") return 0;
    const names = [...COMMON_OPTIONS, ...script.options];
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
      log: openLog(settings.logFormat),
      signal,
      print: (text) => void process.stdout.write(text.endsWith("\n") ? text : `${text}\n`),
    });
    return 0;
  } catch (error) {
    if (error instanceof RestoreError) {
      process.stderr.write(`${formatError(error)}\n`);
      return error.exitCode;
    }
    const stack = error instanceof Error ? error.stack : String(error);
    process.stderr.write(`ERROR: [001]: INTERNAL: a bug in patroni-restore ${VERSION}; please report it\n${stack}\n`);
    return INTERNAL_EXIT_CODE;
  }
}

async function readSettingsFile(config: string | undefined): Promise<{ path: string; text: string } | undefined> {
  const path = config ?? process.env.RESTORE_CONFIG;
  if (path !== undefined) return { path, text: await readTextOrExplain(path, "settings file") };
  const text = await readTextIfExists(DEFAULT_CONFIG);
  return text === undefined ? undefined : { path: DEFAULT_CONFIG, text };
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
  const names: OptionName[] = [...new Set<OptionName>([...script.options, ...COMMON_OPTIONS])];
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
    if (option.fileOnly) continue;
    const value = option.placeholder === null ? "" : ` <${option.placeholder}>`;
    const preset = option.fallback === undefined || option.fallback === false ? "" : ` (default: ${option.fallback})`;
    const commanderOption = new CommanderOption(`--${kebab(name)}${value}`, option.help + preset);
    if (isList(name)) commanderOption.argParser((item: string, all?: string[]) => [...(all ?? []), item]);
    command.addOption(commanderOption);
  }
  command.addHelpText("after", helpTail(script));
  try {
    command.parse(normaliseArguments(argv, names), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return "shown";
    const [message = "", hint] = error.message.replace(/^error: /, "").split("\n");
    throw new RestoreError("SETTINGS_INVALID", message, {
      hint: hint?.replace(/^\(|\)$|\?/g, "").replace(/^Did/, "did") ?? `see ${script.name} --help`,
    });
  }
  const { config, ...flags } = command.opts<Record<string, unknown> & { config?: string }>();
  return { flags, operands: command.args, config };
}

/**
 * Patroni >= 3.2 appends every other key of the method's section as `--key=value` with Python's spelling: underscores,
 * `True`, `None` (patroni 4.1 postgresql/bootstrap.py, _custom_bootstrap).
 */
function normaliseArguments(argv: readonly string[], names: readonly OptionName[]): string[] {
  const flagsWithoutValue = new Set(names.filter((n) => OPTIONS[n].placeholder === null).map(kebab));
  const end = argv.indexOf("--");
  return argv.flatMap((argument, index) => {
    const match = /^--([A-Za-z][\w-]*)(?:=(.*))?$/s.exec(argument);
    if (!match?.[1] || (end >= 0 && index > end)) return [argument];
    const name = match[1].replaceAll("_", "-");
    const value = match[2];
    if (value === undefined) return [`--${name}`];
    if (value === "None") return [];
    if (flagsWithoutValue.has(name)) {
      if (/^(true|yes|on|1)$/i.test(value)) return [`--${name}`];
      if (/^(false|no|off|0)$/i.test(value)) return [];
    }
    return [`--${name}=${value}`];
  });
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
