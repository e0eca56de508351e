import { dirname, join, resolve } from "node:path";
import type { Script } from "../cli.ts";
import { RestoreError } from "../errors.ts";
import { FLEET_ASK_OPTIONS, requestTest, showService, showStatus } from "../fleet/ask.ts";
import { createKubernetesRunner } from "../fleet/kubernetes/runner.ts";
import { checkTemplate } from "../fleet/kubernetes/template.ts";
import { createKubernetesWatch } from "../fleet/kubernetes/watch.ts";
import { localRunner } from "../fleet/local/runner.ts";
import { watchServicesFile } from "../fleet/local/watch.ts";
import { checkWorkDir } from "../fleet/local/work-dir.ts";
import {
  FLEET_END_LIMIT_MS,
  FLEET_RUN_OPTIONS,
  type FleetRunSettings,
  type Place,
  serveFleet,
} from "../fleet/serve.ts";
import type { Policy } from "../fleet/service.ts";
import { readTextOrExplain } from "../io/files.ts";
import { connectKubernetes } from "../io/kubernetes.ts";
import type { Log } from "../log.ts";
import { kebab } from "../options.ts";
import { didYouMean, refuseSecretFlag } from "../settings.ts";
import { VERSION } from "../version.ts";

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
  await serveFleet({
    settings,
    markScript: beside("mark.mjs"),
    environment: environmentOf(process.env),
    version: VERSION,
    log,
    signal,
    place: (policy) =>
      settings.services === undefined ? cluster(settings, policy, log) : machine(settings, policy, log),
  });
  throw signal.reason;
}

/** Services in a file, tests as processes of this machine. */
async function machine(settings: FleetRunSettings, policy: Policy, log: Log): Promise<Place> {
  const { services = "", keepFailed } = settings;
  const workDir = resolve(settings.workDir);
  await checkWorkDir(workDir);
  const runner = localRunner({
    workDir,
    script: beside("restore-test.mjs"),
    environment: environmentOf(process.env),
    ...{ keepFailed, log },
  });
  return { watch: watchServicesFile(resolve(services), policy, log), runner };
}

/** Services that Patroni keeps in Kubernetes, tests as StatefulSets. */
async function cluster(settings: FleetRunSettings, policy: Policy, log: Log): Promise<Place> {
  const { testTemplate, selector, scopeLabel, watch, stanzaTemplate } = settings;
  const template =
    testTemplate === undefined ? null : await readTextOrExplain(testTemplate, "template of restore tests");
  checkTemplate(template);
  const api = await connectKubernetes(`patroni-restore/${VERSION}`);
  const namespaces = settings.namespaces?.split(",").map((name) => name.trim()) ?? null;
  const testNamespace = settings.testNamespace ?? null;
  const sourceTemplate = settings.sourceTemplate ?? null;
  return {
    watch: createKubernetesWatch(api, {
      ...{ namespaces, selector, scopeLabel, watch, policy, stanzaTemplate, sourceTemplate },
    }),
    runner: createKubernetesRunner(api, { testNamespace, namespaces, scopeLabel, template }, { log }),
  };
}

const beside = (script: string) => join(dirname(process.argv[1] ?? ""), script);

/** The fleet's settings are not those of its restore tests. */
const environmentOf = (environment: NodeJS.ProcessEnv) =>
  Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith("RESTORE_")));
