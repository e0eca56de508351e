/** `fleet run` as a lab's service, and what its record says. */

import { stringify } from "yaml";
import type { FleetJson, ServiceJson } from "../../../lib/fleet/web/present.ts";
import { formatConninfo, parseConninfo } from "../../../lib/postgres/conninfo.ts";
import { type BackupApi, clientOf } from "../backup-api.ts";
import type { Lab } from "../lab.ts";
import { type Service, waitFor } from "../process.ts";
import { query, type Source } from "../source.ts";

export interface FleetScheduler extends Omit<BackupApi, "service"> {
  service: Service;
}

export interface FleetOptions {
  name?: string;
  /** Connection string of the record's database. */
  record: string;
  /** Without it Kubernetes is watched. */
  servicesFile?: string;
  workDir?: string;
  env?: Readonly<Record<string, string>>;
  args?: readonly string[];
  port?: number;
  /** Instead of `dist/fleet.mjs`: its siblings are called. */
  script?: string;
}

/** Starts it only; it may not even reach its record. */
export async function launchFleet(lab: Lab, options: FleetOptions): Promise<FleetScheduler> {
  const port = options.port ?? (await lab.freePort());
  const args = [
    options.script ?? (await lab.script("fleet")),
    "run",
    ...(options.servicesFile === undefined ? [] : [`--services=${options.servicesFile}`]),
    ...(options.workDir === undefined ? [] : [`--work-dir=${options.workDir}`]),
    `--record=${options.record}`,
    `--listen=127.0.0.1:${port}`,
    ...(options.args ?? []),
  ];
  const service = lab.startService(options.name ?? "fleet", process.execPath, args, { env: options.env ?? {} });
  return { service, ...clientOf(`http://127.0.0.1:${port}`) };
}

/** Returns when it answers. */
export async function startFleet(lab: Lab, options: FleetOptions): Promise<FleetScheduler> {
  const fleet = await launchFleet(lab, options);
  const answers = async () => {
    if (!fleet.service.isRunning()) throw new Error(`fleet ended:\n${await fleet.service.log()}`);
    return (await fleet.get("/healthz").catch(() => null))?.status === 200;
  };
  await waitFor("fleet to answer", answers, 30_000, () => fleet.service.log());
  return fleet;
}

/** The database `fleet` of this server. */
export const recordOf = (source: Pick<Source, "conninfo">): string =>
  formatConninfo({ ...parseConninfo(source.conninfo), dbname: "fleet" });

export const servicesFile = (lab: Lab, name: string, content: object): Promise<string> =>
  lab.writeFile(name, stringify(content), 0o600);

export async function fleetOf(fleet: Pick<FleetScheduler, "get">): Promise<FleetJson> {
  return (await fleet.get("/services")).json;
}

export async function serviceOf(fleet: Pick<FleetScheduler, "get">, id: string): Promise<ServiceJson> {
  const found = (await fleetOf(fleet)).services.find((service) => service.id === id);
  if (found === undefined) throw new Error(`the fleet has no service ${id}`);
  return found;
}

export interface RecordedTest {
  id: string;
  service: string;
  status: string;
  outcome: string | null;
  statuses: string[];
}

/** Every test of the record, oldest first, with the statuses it reached in their order. */
export async function recordedTests(source: Source): Promise<RecordedTest[]> {
  const rows = (await query(
    source,
    `SELECT t.id, t.service, t.status, t.outcome,
            (SELECT string_agg(c.status, ',' ORDER BY c.at) FROM patroni_restore_fleet.status_changes c WHERE c.test = t.id)
              AS statuses
       FROM patroni_restore_fleet.tests t ORDER BY t.requested_at`,
    { database: "fleet" },
  )) as Record<string, string | null>[];
  return rows.map(({ id, service, status, outcome, statuses }) => ({
    id: id as string,
    service: service as string,
    status: status as string,
    outcome: outcome ?? null,
    statuses: (statuses ?? "").split(","),
  }));
}

export const slotCount = async (source: Source): Promise<number> =>
  Number((await query(source, "SELECT count(*) AS n FROM patroni_restore_fleet.slots", { database: "fleet" }))[0]?.n);
