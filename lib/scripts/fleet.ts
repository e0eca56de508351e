import { dirname, join, resolve } from "node:path";
import { type Script, VERSION } from "../cli.ts";
import { RestoreError } from "../errors.ts";
import { FLEET_ASK_OPTIONS, requestTest, showService, showStatus } from "../fleet/ask.ts";
import { createKubernetesRunner } from "../fleet/kubernetes/runner.ts";
import { checkTemplate } from "../fleet/kubernetes/template.ts";
import { createKubernetesWatch } from "../fleet/kubernetes/watch.ts";
import { localRunner } from "../fleet/local/runner.ts";
import { watchServicesFile } from "../fleet/local/watch.ts";
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
import { didYouMean, refuseSecretFlag } from "../settings.ts";

const OPTIONS = [...new Set([...FLEET_RUN_OPTIONS, ...FLEET_ASK_OPTIONS])];
type FleetOption = (typeof OPTIONS)[number];
type FleetContext = Parameters<Script<FleetOption>["run"]>[0];

const COMMANDS = ["run", "status", "explain", "test"] as const;

export const script: Script<FleetOption> = {
  name: "fleet",
  summary:
    "Test the backups of a fleet of services, all the time: fleet run | status | explain SERVICE | test SERVICE.",
  description:
    "run watches the services (--services FILE on one machine, Patroni's objects in Kubernetes otherwise), starts restore " +
    "tests that are due, and records every status change in the database --record. Several may run; one leads. status, " +
    "explain and test ask a fleet that runs, at --url. SIGTERM ends this process; tests that run go on, and the next " +
    "scheduler follows them.",
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
    const { settings, signal, print } = context;
    const asking = { settings, signal, print, color: process.stdout.isTTY === true };
    if (rest.length > 0) throw misused(`"${rest[0]}" is one word too many`);
    if (command === "run" || command === "status") {
      if (service !== undefined) throw misused(`fleet ${command} takes no "${service}"`);
      return command === "run" ? run(context) : showStatus(asking);
    }
    if (command === "explain" || command === "test") {
      if (service === undefined) throw misused(`fleet ${command} needs the name of a service`);
      return command === "explain" ? showService(asking, service) : requestTest(asking, service);
    }
    throw misused(command === undefined ? "a command is missing" : `"${command}" is not a command`, command);
  },
};

function misused(message: string, command = ""): RestoreError {
  const hint = didYouMean(command, COMMANDS) ?? "fleet run | status | explain SERVICE | test SERVICE";
  return new RestoreError("SETTINGS_INVALID", message, { hint });
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
  const runner = localRunner({
    workDir: resolve(settings.workDir),
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
