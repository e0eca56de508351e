/** The one table of settings: a flag, an environment variable and a key of the settings file each, of the same words. */

import { z } from "zod";
import { cronProblem, isTimeZone } from "./backup-api/cron.ts";
import { asText, parseWindows } from "./fleet/policy.ts";
import type { Window } from "./fleet/window.ts";
import { parseListen } from "./http/listen.ts";
import { TARGET_TYPES } from "./postgres/target.ts";
import { BACKUP_TYPES } from "./restore/backup-info.ts";
import { parseDuration, parseSize } from "./units.ts";

export interface Option<T = unknown> {
  /** What stands for the value in `--help`; null for a flag that takes none. */
  placeholder: string | null;
  help: string;
  /** From a flag's or variable's text, or from the settings file's own type. */
  schema: z.ZodType<T>;
  /** The default, in the words a person would write; undefined when there is none. */
  fallback?: string | boolean;
  /** A nested setting that only the settings file can hold. */
  fileOnly?: true;
}

const scalar = z.union([z.string(), z.number(), z.boolean()], { error: "is not a single value" }).transform(String);

function converted<T>(convert: (text: string) => T): z.ZodType<T> {
  return scalar.transform((value, context) => {
    try {
      return convert(value);
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message });
      return z.NEVER;
    }
  });
}

function wholeNumber(minimum: number): (text: string) => number {
  return (text) => {
    if (!/^\d+$/.test(text) || Number(text) < minimum)
      throw new Error(`"${text}" is not a whole number from ${minimum}`);
    return Number(text);
  };
}

function parseLimit(text: string): number {
  const limit = parseDuration(text);
  if (limit < 1 || limit > 24 * 86_400_000) throw new Error(`"${text}" is not a limit between 1ms and 24d`);
  return limit;
}

function pair(text: string): [string, string] {
  const equals = text.indexOf("=");
  if (equals < 1 || !text.slice(equals + 1).startsWith("/")) throw new Error(`"${text}" is not of the form NAME=/PATH`);
  return [text.slice(0, equals), text.slice(equals + 1)];
}

type Defaulted<T> = Option<T> & { fallback: string | boolean };

/** Its schema is made when it is first used: a start needs few of them, and all together cost more than all else here. */
function option<T>(placeholder: string | null, help: string, make: () => z.ZodType<T>, fallback: undefined): Option<T>;
function option<T>(
  placeholder: string | null,
  help: string,
  make: () => z.ZodType<T>,
  fallback: string | boolean,
): Defaulted<T>;
function option<T>(
  placeholder: string | null,
  help: string,
  make: () => z.ZodType<T>,
  fallback?: string | boolean,
): Option<T> {
  let schema: z.ZodType<T> | undefined;
  return {
    placeholder,
    help,
    get schema() {
      schema ??= make();
      return schema;
    },
    ...(fallback === undefined ? {} : { fallback }),
  };
}

const nonEmpty = converted((value) => {
  if (value === "") throw new Error("is empty");
  return value;
});
const httpUrl = z.url({ protocol: /^https?$/, error: ({ input }) => `"${input}" is not an http or https URL` });
const truth = converted((value) => {
  if (/^(true|yes|on|1)$/i.test(value)) return true;
  if (/^(false|no|off|0)$/i.test(value)) return false;
  throw new Error(`"${value}" is neither true nor false`);
});
const oneOf = <T extends string>(choices: readonly T[]) =>
  converted((value) => {
    if (!choices.includes(value as T)) throw new Error(`"${value}" is not one of ${choices.join(", ")}`);
    return value as T;
  });
/** A list of `NAME=/PATH`, or in the settings file a mapping of names to paths. */
const pairList = z.preprocess(
  (value) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.entries(value).map(([name, path]) => `${name}=${path}`)
      : value,
  z.array(converted(pair), { error: "is not a list of NAME=/PATH" }),
);

const text = (placeholder: string, help: string) => option(placeholder, help, () => nonEmpty, undefined);
const textWithDefault = (placeholder: string, help: string, fallback: string) =>
  option(placeholder, help, () => nonEmpty, fallback);
const optionalNumber = (help: string) => option("N", help, () => converted(wholeNumber(1)), undefined);
const number = (help: string, fallback: number) => option("N", help, () => converted(wholeNumber(1)), String(fallback));
/** A limit of a wait: never 0, which timers take for none, nor beyond the 24.8 days that a timer can count. */
const duration = (help: string, fallback: string) => option("DURATION", help, () => converted(parseLimit), fallback);
const age = (help: string, fallback: string) => option("DURATION", help, () => converted(parseDuration), fallback);
const size = (help: string, fallback: string) => option("SIZE", help, () => converted(parseSize), fallback);
const flag = (help: string) => option(null, help, () => truth, false);
const anyOf = <T extends string>(choices: readonly T[], help: string) =>
  option(choices.join("|"), help, () => oneOf(choices), undefined);
const choice = <const T extends string>(choices: readonly T[], help: string, fallback: NoInfer<T>) =>
  option(choices.join("|"), help, () => oneOf(choices), fallback);
const pairs = (placeholder: string, help: string) => option(placeholder, help, () => pairList, undefined);

/** A query whose result the restored instance must give as the source gave it (settings file, `queries`). */
export const querySchema = z.strictObject({
  name: z.string().min(1),
  database: z.string().min(1).default("postgres"),
  sql: z.string().min(1),
});
export type UserQuery = z.infer<typeof querySchema>;

/** When backup-api makes a backup by itself (settings file, `schedules`). */
export const scheduleSchema = z.strictObject({
  /** Minute, hour, day of month, month, day of week; with six fields the first are seconds. */
  cron: z.string().superRefine((pattern, context) => {
    const problem = cronProblem(pattern);
    if (problem !== undefined) context.addIssue({ code: "custom", message: problem });
  }),
  type: z.enum(BACKUP_TYPES),
  stanza: z.string().min(1).optional(),
  time_zone: z
    .string()
    .default("UTC")
    .refine(isTimeZone, { error: (issue) => `"${issue.input}" is not a time zone such as Europe/Berlin` }),
});
export type Schedule = z.infer<typeof scheduleSchema>;

/** What proves a backup right after it was made (settings file, `restore_test`). */
export const restoreTestSchema = z
  .strictObject({
    after: z.array(z.enum(BACKUP_TYPES)).default([...BACKUP_TYPES]),
    /** The settings file of restore-test, which is started here. */
    config: z.string().startsWith("/", { error: "is not an absolute path" }).optional(),
    /** Or who is told to do it. */
    url: httpUrl.optional(),
    token_file: z.string().min(1).optional(),
  })
  .refine(({ config, url }) => (config === undefined) !== (url === undefined), {
    error: "needs either config or url",
  });
export type RestoreTestSetting = z.infer<typeof restoreTestSchema>;

export const OPTIONS = {
  scope: text("NAME", "Patroni's scope of the instance that is made"),
  datadir: text("DIR", "PostgreSQL's data directory; for bootstrap it must not exist yet"),
  stanza: text("NAME", "pgBackRest stanza of the service that is restored"),
  restoreTargetTime: text("TIME", 'recover to this time, with UTC offset: "2026-11-22 10:00:00.123456+00"'),
  targetType: anyOf(TARGET_TYPES, "kind of recovery target; latest is the end of the WAL archive"),
  target: text("VALUE", "recovery target: a time, LSN, transaction ID or restore point, as --target-type says"),
  targetTimeline: text("TIMELINE", "latest, current (the backup's own) or a number; the receipt's timeline by default"),
  targetExclusive: flag("stop just before the target instead of just after it"),
  set: text("LABEL", "backup set to restore; by default the newest that can reach the target"),
  receipt: text("FILE", "the receipt that mark wrote on the source"),
  report: text("FILE", "where the report goes; <datadir>.report.json by default"),
  annotatePod: flag("write the report into the annotation patroni-restore/report of this pod too, for the fleet"),
  detach: choice(["restore-test", "clone"], "how much of the instance is made harmless", "restore-test"),
  pgbackrestConfig: text("FILE", "pgBackRest's configuration file; pgBackRest's own default otherwise"),
  processMax: optionalNumber(
    "processes that pgBackRest uses for the restore; the CPUs granted here by default, 2 to 8",
  ),
  binDir: text("DIR", "directory of PostgreSQL's programs; found by the backup's version otherwise"),
  tablespaceMap: pairs(
    "NAME=/PATH",
    "where a tablespace is restored; <datadir>.tablespaces/<name> by default (repeatable)",
  ),
  linkMap: pairs("NAME=/PATH", "restore as a link to that place, such as pg_wal=/wal/data (repeatable)"),
  sharedPreloadLibraries: text("LIST", "libraries to load during recovery instead of the restored configuration's own"),
  superuser: text("ROLE", "superuser of the restored instance; Patroni's own or postgres by default"),
  patroniConfig: text("FILE", "Patroni's configuration file, to check it too"),
  restoreTimeout: duration("limit for pgBackRest's restore", "12h"),
  recoveryTimeout: duration("limit for recovery and promotion", "12h"),
  recoveryStallTimeout: duration("limit for recovery without any progress", "10min"),
  stopTimeout: duration("limit for stopping PostgreSQL, and for the flush to disk after it", "10min"),
  pageChecksums: choice(["check", "skip"], "look at every page's checksum while the instance is stopped", "check"),
  sync: choice(
    ["sync", "skip"],
    "flush the restored files to disk before the hand-over; skip is for an instance that is thrown away",
    "sync",
  ),
  maxAttempts: number("failed attempts on this volume after which nothing is downloaded again", 3),
  level: choice(["quick", "standard", "full"], "how deep the checks go", "standard"),
  jobs: optionalNumber("checks and sessions at the same time; the CPUs granted here by default, 4 at most"),
  checkTimeout: duration("limit for each single check, without what it waits for others", "30min"),
  previousReport: text("FILE", "an earlier report of the service: what it proved waits until the rest is proven"),
  verifyBudget: duration("what the checks of the data may take at level standard", "60s"),
  maxRpo: age("without a receipt: how old the newest marker may be", "25h"),
  source: text("CONNINFO", "the service's primary, as a libpq connection string"),
  conninfo: text(
    "CONNINFO",
    "the instance to verify, as a libpq connection string; to backup-api: its schedules run only while this is the primary",
  ),
  timeout: duration("limit for each statement on the source", "60s"),
  archiveTimeout: duration("limit for the fence's WAL to be archived", "5min"),
  keepMarkers: age("how long markers stay on the source", "30d"),
  manifestBudget: option(
    "SIZE|full",
    "how much of the source's tables is read for the receipt, before the marker and again after it; full reads all",
    () => converted((value): number | "full" => (value === "full" ? value : parseSize(value))),
    "64MB",
  ),
  manifestTimeout: duration(
    "limit for reading the source's tables, each of the two times; the rest is not covered",
    "30s",
  ),
  manifestConnections: number("connections to the source that describe it at the same time", 1),
  runner: choice(["patroni", "direct"], "with a throwaway Patroni, or without Patroni", "patroni"),
  etcd: text("HOST:PORT", "an etcd to use; a throwaway etcd is started otherwise"),
  workDir: textWithDefault("DIR", "parent of the restore test's own directory", "/var/tmp"),
  osUser: textWithDefault("NAME", "the operating system's user that runs the servers when started as root", "postgres"),
  testId: option(
    "ID",
    "name of the restore test, eight hexadecimal digits; random by default",
    () =>
      converted((value) => {
        if (!/^[0-9a-f]{8}$/.test(value)) throw new Error(`"${value}" is not eight hexadecimal digits`);
        return value;
      }),
    undefined,
  ),
  deadline: duration("limit for the whole restore test", "24h"),
  keep: flag("keep the instance running at the end and print how to connect and how to remove it"),
  keepFailed: flag("keep the instance when the verdict is not healthy"),
  onUnproven: choice(["refuse", "wipe", "prove"], "what to do with a restore that was never proven", "refuse"),
  walAhead: size(
    "space for WAL that is fetched before recovery asks for it, beside the data directory; 0 for none",
    "1GB",
  ),
  spaceReserve: size("space that must stay free beside the restored files and their WAL", "64MB"),
  queries: {
    placeholder: "LIST",
    help: "queries whose results must equal the source's: a list of name, database, sql",
    schema: z.array(querySchema),
    fileOnly: true,
  } satisfies Option<UserQuery[]> as Option<UserQuery[]>,
  listen: option("HOST:PORT", "where the API listens", () => converted(parseListen), "127.0.0.1:8081"),
  stateDir: textWithDefault("DIR", "where the API keeps its journal", "/var/lib/patroni-restore"),
  tokenFile: text("FILE", "bearer tokens of the API, one on each line; read again when it changes"),
  tlsCertFile: text("FILE", "certificate of the API with its chain (PEM); read again when it changes"),
  tlsKeyFile: text("FILE", "private key of that certificate (PEM)"),
  insecure: flag("listen beyond loopback without token or TLS"),
  rateLimit: number("requests that one client address may make in a second", 50),
  backupTimeout: duration("limit for a single backup, expire or verify of the API", "24h"),
  stopGrace: age("after SIGTERM, how long running backups may go on before they are ended", "20s"),
  refresh: duration("how often the API reads pgBackRest's info", "5min"),
  stanzaSetup: choice(["create", "check", "skip"], "what the API does with its stanzas at its start", "check"),
  setupTimeout: duration("limit for that, with all its attempts", "10min"),
  schedules: {
    placeholder: "LIST",
    help: "backups that the API makes by itself: a list of cron, type, stanza, time_zone",
    schema: z.array(scheduleSchema),
    fileOnly: true,
  } satisfies Option<Schedule[]> as Option<Schedule[]>,
  restoreTest: {
    placeholder: "MAP",
    help: "the restore test after a backup of the API: after, and config or url with token_file",
    schema: restoreTestSchema,
    fileOnly: true,
  } satisfies Option<RestoreTestSetting> as Option<RestoreTestSetting>,
  services: text("FILE", "services of this machine and how they are tested (YAML); Kubernetes is watched without it"),
  namespaces: text("LIST", "namespaces whose services are watched, separated by commas; all of them otherwise"),
  selector: textWithDefault("SELECTOR", "label selector of Patroni's objects", "application=patroni"),
  scopeLabel: textWithDefault("LABEL", "Patroni's kubernetes.scope_label", "cluster-name"),
  watch: choice(
    ["endpoints", "configmaps"],
    "where Patroni keeps its leader: Endpoints, or ConfigMaps with use_endpoints: false",
    "endpoints",
  ),
  sourceTemplate: text(
    "CONNINFO",
    "how mark connects to a service's primary, with {scope}, {namespace} and {stanza}; sources are not asked without it",
  ),
  stanzaTemplate: textWithDefault("TEXT", "a service's stanza, with {scope} and {namespace}", "{scope}"),
  testTemplate: text("FILE", "objects of a restore test: a copy of fleet-restore-test.yml of your own"),
  testNamespace: text("NAME", "namespace in which restore tests run; each in its service's own otherwise"),
  record: text("CONNINFO", "PostgreSQL database that keeps the fleet's record, in a schema of its own"),
  keepHistory: age("how long the record keeps tests and their status changes", "400d"),
  keepReports: age("how long it keeps whole reports", "30d"),
  interval: age("a service is tested again after so long", "7d"),
  jitter: age("the tests of a fleet are spread over so long", "1h"),
  windows: {
    placeholder: "LIST",
    help: 'when tests may start, such as "mon-fri 22:00-06:00 Europe/Berlin"; several are separated by semicolons',
    schema: asText(parseWindows),
  } satisfies Option<Window[]> as Option<Window[]>,
  afterBackups: optionalNumber("a service is also due after so many new backups"),
  maxTests: number("restore tests in progress at the same time", 2),
  maxTestsPerNamespace: optionalNumber("of these, in one namespace"),
  maxTestsPer: {
    placeholder: "MAP",
    help: "of these, in each value of a group, such as {node: 1, storage_class: 4}",
    schema: z.record(z.string().min(1), z.number().int().min(1)),
    fileOnly: true,
  } satisfies Option<Record<string, number>> as Option<Record<string, number>>,
  maxWeight: optionalNumber("weight of the restore tests in progress together; a service weighs 1 unless it says more"),
  pauseFile: text("FILE", "while this file exists no test starts"),
  url: option("URL", "where a running fleet answers", () => httpUrl, "http://127.0.0.1:8081"),
  dryRun: flag("say what would be done and change nothing"),
  json: flag("print the result as JSON on standard output"),
  logFormat: choice(["text", "json"], "form of the log on standard error; one JSON object per line with json", "text"),
};

export type OptionName = keyof typeof OPTIONS;
type Value<N extends OptionName> = (typeof OPTIONS)[N] extends { schema: z.ZodType<infer T> } ? T : never;
type HasFallback = {
  [N in OptionName]: (typeof OPTIONS)[N] extends { fallback: string | boolean } ? N : never;
}[OptionName];

/** Validated settings. Durations are milliseconds, sizes bytes. A setting without default is undefined when not given. */
export type AllSettings = { [N in OptionName]: Value<N> | ([N] extends [HasFallback] ? never : undefined) };
export type Settings<N extends OptionName = OptionName> = Readonly<Pick<AllSettings, N>>;

/** Every script has these. */
export const COMMON_OPTIONS = ["logFormat"] as const satisfies readonly OptionName[];

export const kebab = (name: string) => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);
export const snake = (name: string) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
export const environmentName = (name: string) => `RESTORE_${snake(name).toUpperCase()}`;
