import { dirname, join, resolve } from "node:path";
import { type Script, VERSION } from "../cli.ts";
import { RestoreError } from "../errors.ts";
import { FLEET_ASK_OPTIONS, requestTest, showService, showStatus } from "../fleet/ask.ts";
import { localRunner } from "../fleet/local/runner.ts";
import { watchServicesFile } from "../fleet/local/watch.ts";
import { checkWorkDir } from "../fleet/local/work-dir.ts";
import { FLEET_END_LIMIT_MS, FLEET_RUN_OPTIONS, serveFleet } from "../fleet/serve.ts";
import { kebab } from "../options.ts";
import { didYouMean, refuseSecretFlag } from "../settings.ts";

const OPTIONS = [...new Set([...FLEET_RUN_OPTIONS, ...FLEET_ASK_OPTIONS])];
type FleetOption = (typeof OPTIONS)[number];
type FleetContext = Parameters<Script<FleetOption>["run"]>[0];

const COMMANDS = ["run", "status", "explain", "test"] as const;
const ASKING = "status, explain and test";

export const script: Script<FleetOption> = {
  name: "fleet",
  summary:
    "Test the backups of a fleet of services, all the time: fleet run | status | explain SERVICE | test SERVICE.",
  description:
    "run watches the services (--services FILE on one machine, Patroni's objects in Kubernetes otherwise), starts restore " +
    "tests that are due, and records every status change in the database --record. Several may run; one leads. SIGTERM " +
    "ends this process; tests that run go on, and the next scheduler follows them.\n\n" +
    `${ASKING} ask a fleet that runs, at --url; of the options below they take --url, --token-file and --json, ` +
    "and run takes all but --url and --json.",
  operands: "COMMAND...",
  options: OPTIONS,
  examples: [
    '# one machine: tests are processes of it\nfleet run --services /etc/patroni-restore/services.yml --record "dbname=fleet"',
    "# who is proven, when last, and what failed\nfleet status",
    "# why a service is tested, or not, and when\nfleet explain orders",
    "fleet test orders --url https://fleet:8081 --token-file /etc/patroni-restore/token",
  ],
  async run(context) {
    const [command, service, ...rest] = context.operands;
    const { settings, flags, signal, print } = context;
    const asking = { settings, signal, print, color: process.stdout.isTTY === true };
    if (rest.length > 0) throw misused(`"${rest[0]}" is one word too many`);
    if (command === "run" || command === "status") {
      if (service !== undefined) throw misused(`fleet ${command} takes no "${service}"`);
      refuseForeignFlags(command, flags);
      return command === "run" ? run(context) : showStatus(asking);
    }
    if (command === "explain" || command === "test") {
      if (service === undefined) throw misused(`fleet ${command} needs the name of a service`);
      refuseForeignFlags(command, flags);
      return command === "explain" ? showService(asking, service) : requestTest(asking, service);
    }
    throw misused(command === undefined ? "a command is missing" : `"${command}" is not a command`, command);
  },
};

function misused(message: string, command = ""): RestoreError {
  const hint = didYouMean(command, COMMANDS) ?? "fleet run | status | explain SERVICE | test SERVICE";
  return new RestoreError("SETTINGS_INVALID", message, { hint });
}

/** Whoever gives one believes that it counts. In the environment and in the settings file those of both may stand. */
function refuseForeignFlags(command: (typeof COMMANDS)[number], flags: FleetContext["flags"]): void {
  const own: readonly FleetOption[] = command === "run" ? FLEET_RUN_OPTIONS : FLEET_ASK_OPTIONS;
  const foreign = OPTIONS.filter((name) => flags[name] !== undefined && !own.includes(name));
  if (foreign.length === 0) return;
  const [names, others] = [foreign.map((name) => `--${kebab(name)}`).join(", "), command === "run" ? ASKING : "run"];
  throw new RestoreError("SETTINGS_INVALID", `fleet ${command} does not take ${names}`, {
    hint: `that is for fleet ${others}`,
  });
}

async function run({ settings, flags, log, signal, endWithin }: FleetContext): Promise<void> {
  refuseSecretFlag(flags, "record");
  endWithin(FLEET_END_LIMIT_MS);
  if (settings.record === undefined) {
    throw new RestoreError("SETTINGS_INVALID", "--record is missing", {
      hint: "the connection string of a PostgreSQL database for the record, such as --record dbname=fleet",
    });
  }
  const scripts = dirname(process.argv[1] ?? "");
  const environment = environmentOf(process.env);
  await serveFleet({
    settings,
    markScript: join(scripts, "mark.mjs"),
    environment,
    version: VERSION,
    log,
    signal,
    async place(policy) {
      const { services, keepFailed } = settings;
      if (services === undefined) throw new RestoreError("SETTINGS_INVALID", "--services is missing");
      const workDir = resolve(settings.workDir);
      await checkWorkDir(workDir);
      const runner = localRunner({ workDir, script: join(scripts, "restore-test.mjs"), environment, keepFailed, log });
      return { watch: watchServicesFile(resolve(services), policy, log), runner };
    },
  });
  throw signal.reason;
}

/** The fleet's settings are not those of its restore tests. */
const environmentOf = (environment: NodeJS.ProcessEnv) =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith("RESTORE_")));
