/** What the routes of the API take, and what they have in common. */

import { z } from "zod";
import { RestoreError } from "../errors.ts";
import { type About, type Answer, type Call as HttpCall, type Route as HttpRoute, problem } from "../http/route.ts";
import { BACKUP_TYPES } from "../restore/backup-info.ts";
import { hasEnded, JOB_STATUSES, type Job, type JobCommand } from "./job.ts";
import type { Jobs } from "./jobs.ts";
import { formatJson } from "./present.ts";
import type { Repository } from "./repository.ts";

export type Call = HttpCall<
  { wait?: number; status?: string[]; stanza?: string },
  { type?: (typeof BACKUP_TYPES)[number]; stanza?: string }
>;
export type Route = HttpRoute<Call["query"], Call["body"]>;

/** What the routes work with. */
export interface Api {
  stanzas: readonly string[];
  jobs: Jobs;
  repository: Repository;
  metrics(): Promise<string>;
  /** Why it is not ready; empty when it is. */
  notReady(): string[];
  hasRestoreTest: boolean;
}

/** A failure that shows at once is worth an answer that says so. */
const FIRST_LOOK_MS = 1000;
/** No one waits longer in one request. */
const LONGEST_WAIT_S = 86_400;

const wait = z.coerce
  .number({ error: "is not a number of seconds" })
  .min(0, { error: "is less than 0" })
  .max(LONGEST_WAIT_S, { error: `is more than ${LONGEST_WAIT_S}` })
  .optional()
  .describe("seconds to wait for the end");
const stanza = z.string().optional().describe("one of the stanzas that are served; needed when there are several");
const statuses = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => [value].flat().map((word) => word.toUpperCase()))
  .pipe(z.array(z.enum(JOB_STATUSES, { error: `is not one of ${JOB_STATUSES.join(", ")}` })))
  .optional()
  .describe(JOB_STATUSES.join(", "));
export const backupBody = z.strictObject({
  type: z.enum(BACKUP_TYPES, { error: `is not one of ${BACKUP_TYPES.join(", ")}` }).default("full"),
  stanza,
  command: z.literal("backup", { error: 'can only be "backup"' }).optional().describe("for old clients"),
});
export const stanzaBody = z.strictObject({ stanza });

export const waitQuery = z.strictObject({ wait });
export const listQuery = z.strictObject({ status: statuses, stanza });
export const oneQuery = z.strictObject({ wait, status: statuses, stanza });

export const NOT_FOUND = "there is none of that label";
export const STARTED = {
  200: "it ended successfully while the request waited",
  202: "it runs; Location says where to ask for it",
  400: "the request is not understood",
  409: "one runs already; Location says which",
  500: "it failed while the request waited",
};

/** Where one of them is found. */
export const PATHS: Readonly<Record<JobCommand, string>> = {
  backup: "/backups/backup",
  expire: "/expire",
  verify: "/verify",
  "restore-test": "/restore-tests",
};

/** Starts a job, and answers as POST does. */
export async function start(
  api: Api,
  { body, query, signal }: Call,
  command: JobCommand,
  describe: (job: Job) => object | Promise<object>,
): Promise<Answer> {
  const type = command === "backup" ? (body.type ?? "full") : null;
  const { job, isNew } = api.jobs.start({ command, type, stanza: stanzaOf(api, body.stanza), by: "request" });
  const headers = { Location: `${PATHS[job.command]}/${job.label}` };
  if (!isNew) {
    const error =
      job.command === command ? `${command} in progress` : `${job.command} in progress, which shares its lock`;
    return { ...json(409, { error, label: job.label }), headers };
  }
  const now = await api.jobs.wait(job.label, (query.wait ?? FIRST_LOOK_MS / 1000) * 1000, signal);
  const status = !hasEnded(now) ? 202 : now.status === "FINISHED" ? 200 : 500;
  return { ...json(status, await describe(now)), headers };
}

/** Throws SETTINGS_INVALID, which becomes a 400. */
function stanzaOf(api: Api, given: string | undefined): string {
  const [only, another] = api.stanzas;
  if (given === undefined && another === undefined) return only as string;
  if (given !== undefined && api.stanzas.includes(given)) return given;
  const message = given === undefined ? "stanza is missing" : `stanza "${given}" is not served here`;
  throw new RestoreError("SETTINGS_INVALID", message, { hint: `one of ${api.stanzas.join(", ")}` });
}

export const json = (status: number, value: unknown): Answer => ({ status, text: formatJson(value) });

export const labelOf = ({ params }: Call) => params.label ?? "";

export const notFound = (call: Call) => problem(404, `there is no "${labelOf(call)}"`);

export const about = (version: string): About => ({
  name: "backup-api",
  description: "Backups of PostgreSQL with pgBackRest, next to the database.",
  version,
  unavailable: "pgBackRest cannot be asked",
  exampleBody: '{"type": "full"}',
});
