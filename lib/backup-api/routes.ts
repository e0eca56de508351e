/** What can be asked of the API: one table, from which the application and its OpenAPI document are made. */

import { z } from "zod";
import { RestoreError } from "../errors.ts";
import { BACKUP_TYPES } from "../restore/backup-info.ts";
import { type Backup, findBackup, listBackups } from "./backups.ts";
import { answerProblems, joinTexts } from "./info.ts";
import { hasEnded, JOB_STATUSES, type Job, type JobCommand } from "./job.ts";
import type { Jobs } from "./jobs.ts";
import {
  archiveProblems,
  describeArchive,
  describeJob,
  detailsOf,
  formatJson,
  summaryOf,
  unseenArchives,
} from "./present.ts";
import { FRESH_MS, type Repository } from "./repository.ts";

export interface Call {
  /** Of the path, such as `label`. */
  label: string;
  query: { wait?: number; status?: string[]; stanza?: string };
  body: { type?: (typeof BACKUP_TYPES)[number]; stanza?: string };
  /** Aborted when the client has gone away. */
  signal: AbortSignal;
}

export interface Answer {
  status: number;
  /** JSON, unless `contentType` says otherwise. */
  text: string;
  contentType?: string;
  headers?: Readonly<Record<string, string>>;
  /** Events of this job follow instead. */
  events?: { label: string; describe(): object };
}

export interface Route {
  method: "GET" | "POST" | "DELETE";
  /** `:label` stands for a label. */
  path: string;
  summary: string;
  query?: z.ZodType;
  body?: z.ZodType;
  /** What a status means. */
  answers: Readonly<Record<number, string>>;
  /** Without token. */
  isPublic?: true;
  handle(call: Call): Answer | Promise<Answer>;
}

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
const backupBody = z.strictObject({
  type: z.enum(BACKUP_TYPES, { error: `is not one of ${BACKUP_TYPES.join(", ")}` }).default("full"),
  stanza,
  command: z.literal("backup", { error: 'can only be "backup"' }).optional().describe("for old clients"),
});
const stanzaBody = z.strictObject({ stanza });

const waitQuery = z.strictObject({ wait });
const listQuery = z.strictObject({ status: statuses, stanza });
const oneQuery = z.strictObject({ wait, status: statuses, stanza });

const NOT_FOUND = "there is none of that label";
const STARTED = {
  200: "it ended successfully while the request waited",
  202: "it runs; Location says where to ask for it",
  400: "the request is not understood",
  409: "one runs already; Location says which",
  500: "it failed while the request waited",
};

export function routes(api: Api): Route[] {
  return [...backupRoutes(api), ...jobRoutes(api, "expire"), ...jobRoutes(api, "verify")]
    .concat(api.hasRestoreTest ? jobRoutes(api, "restore-test") : [])
    .concat(serviceRoutes(api));
}

function backupRoutes(api: Api): Route[] {
  const { jobs } = api;
  const { info } = api.repository;
  const describe = (backup: Backup) => detailsOf(backup, jobs.progress(backup.label), new Date());
  const list = () => listBackups(jobs.list("backup"), info.latest()?.value ?? []);
  const filtered = ({ query }: Call) =>
    list().filter(
      (one) =>
        (query.status === undefined || query.status.includes(one.status)) &&
        (query.stanza === undefined || query.stanza === one.stanza),
    );

  /** A set that somebody else has just made is looked for before it is said that there is none. */
  async function find(call: Call): Promise<Backup | undefined> {
    // Without it, the newest of ours would be the latest just after the start.
    if (info.latest() === null && info.failure() === null) await info.read(Number.POSITIVE_INFINITY).catch(() => {});
    const known = findBackup(filtered(call), call.label);
    if (known !== undefined) return known;
    await info.read(FRESH_MS);
    return findBackup(filtered(call), call.label);
  }

  async function one(call: Call): Promise<Answer> {
    const backup = await find(call);
    if (backup === undefined) return notFound(call);
    if (backup.job === null || hasEnded(backup.job) || call.query.wait === undefined)
      return json(200, describe(backup));
    await jobs.wait(backup.label, call.query.wait * 1000, call.signal);
    return json(200, await describeNow(backup));
  }

  /** With its set, which pgBackRest's info has only since its end. */
  async function describeNow(backup: Backup): Promise<object> {
    const job = jobs.find(backup.label);
    if (job?.status === "FINISHED" && job.finishedAt !== null) {
      await info.read(Date.now() - Date.parse(job.finishedAt)).catch(() => {});
    }
    return describe(findBackup(list(), backup.label) ?? backup);
  }

  return [
    {
      method: "POST",
      path: "/backups",
      summary: "Start a backup",
      query: waitQuery,
      body: backupBody,
      answers: STARTED,
      handle: (call) => start(api, call, "backup", (job) => describeNow(findBackup(list(), job.label) as Backup)),
    },
    {
      method: "GET",
      path: "/backups",
      summary: "All backups: those that were asked for here, and those in the repository",
      query: listQuery,
      answers: { 200: "a list, the oldest first; X-Repository-Error says why the repository's part may be old" },
      async handle(call) {
        // Only the first time: later on it is read again by and by.
        if (info.latest() === null) await info.read(Number.POSITIVE_INFINITY).catch(() => {});
        const failure = info.failure();
        const headers = failure === null ? {} : { "X-Repository-Error": failure.replace(/[^\x20-\x7e]+/g, " ") };
        return { ...json(200, filtered(call).map(summaryOf)), headers };
      },
    },
    {
      method: "GET",
      path: "/backups/latest",
      summary: "The newest backup",
      query: oneQuery,
      answers: { 200: "its details", 404: "there is none" },
      handle: (call) => one({ ...call, label: "latest" }),
    },
    {
      method: "GET",
      path: "/backups/backup/:label",
      summary: "One backup, by our label, pgBackRest's, or latest",
      query: oneQuery,
      answers: { 200: "its details", 404: NOT_FOUND },
      handle: one,
    },
    {
      method: "GET",
      path: "/backups/backup/:label/events",
      summary: "Progress and end of a backup, as server-sent events",
      query: z.strictObject({}),
      answers: { 200: "events named progress and status, each with the details", 404: NOT_FOUND },
      async handle(call) {
        const backup = await find(call);
        if (backup === undefined) return notFound(call);
        const { label } = backup;
        return { ...json(200, {}), events: { label, describe: () => describe(findBackup(list(), label) ?? backup) } };
      },
    },
    {
      method: "DELETE",
      path: "/backups/backup/:label",
      summary: "Cancel a running backup; what was copied helps the next one",
      query: z.strictObject({}),
      answers: { 200: "it was cancelled, or ended just before", 404: NOT_FOUND, 409: "it has ended" },
      async handle(call) {
        const backup = call.label === "latest" ? undefined : await find(call);
        if (backup === undefined) return notFound(call);
        const ended = jobs.cancel(backup.label);
        if (ended === undefined) return problem(409, `backup ${call.label} has ended: ${backup.status}`);
        await ended;
        return json(200, await describeNow(backup));
      },
    },
  ];
}

const COLLECTIONS: Record<Exclude<JobCommand, "backup">, { path: string; start: string }> = {
  expire: { path: "/expire", start: "Remove backups and WAL that retention no longer wants" },
  verify: { path: "/verify", start: "Let pgBackRest read and check every file of the repository" },
  "restore-test": { path: "/restore-tests", start: "Prove the newest backup with a restore test" },
};

function jobRoutes(api: Api, command: keyof typeof COLLECTIONS): Route[] {
  const { jobs } = api;
  const { path, start: summary } = COLLECTIONS[command];
  const describe = (job: Job) => describeJob(job, new Date());
  const find = ({ label, query }: Call) => {
    const all = jobs.list(command).filter(({ status }) => query.status === undefined || query.status.includes(status));
    return label === "latest" ? all.at(-1) : all.find((job) => job.label === label);
  };
  return [
    {
      method: "POST",
      path,
      summary,
      query: waitQuery,
      body: stanzaBody,
      answers: STARTED,
      handle: (call) => start(api, call, command, describe),
    },
    {
      method: "GET",
      path,
      summary: `Every ${command} that was started here`,
      query: listQuery,
      answers: { 200: "a list, the oldest first" },
      handle: ({ query }) =>
        json(
          200,
          jobs
            .list(command)
            .filter((job) => query.stanza === undefined || job.stanza === query.stanza)
            .filter(({ status }) => query.status === undefined || query.status.includes(status))
            .map(describe),
        ),
    },
    {
      method: "GET",
      path: `${path}/:label`,
      summary: `One ${command}, by its label or latest`,
      query: oneQuery,
      answers: { 200: "its details", 404: NOT_FOUND },
      async handle(call) {
        const job = find(call);
        if (job === undefined) return notFound(call);
        if (call.query.wait === undefined || hasEnded(job)) return json(200, describe(job));
        return json(200, describe(await jobs.wait(job.label, call.query.wait * 1000, call.signal)));
      },
    },
    {
      method: "DELETE",
      path: `${path}/:label`,
      summary: `Cancel a running ${command}`,
      query: z.strictObject({}),
      answers: { 200: "it was cancelled, or ended just before", 404: NOT_FOUND, 409: "it has ended" },
      async handle(call) {
        const job = call.label === "latest" ? undefined : find(call);
        if (job === undefined) return notFound(call);
        const ended = jobs.cancel(job.label);
        return ended === undefined
          ? problem(409, `${command} ${job.label} has ended: ${job.status}`)
          : json(200, describe(await ended));
      },
    },
  ];
}

function serviceRoutes(api: Api): Route[] {
  return [
    {
      method: "GET",
      path: "/info",
      summary: "pgBackRest's info, judged by its status codes",
      query: z.strictObject({}),
      answers: { 200: "every stanza is in order in every repository", 503: "problems says what is not" },
      async handle() {
        const { value } = await api.repository.info.read(FRESH_MS);
        const problems = value.flatMap(answerProblems).map(({ message }) => message);
        const head = formatJson({ ok: problems.length === 0, problems }).slice(0, -2);
        const text = `${head},\n    "stanzas": ${joinTexts(value)}\n}`;
        return { status: problems.length === 0 ? 200 : 503, text };
      },
    },
    {
      method: "GET",
      path: "/wal",
      summary: "The WAL archive: its gaps, its newest segment, and up to when can be restored",
      query: z.strictObject({}),
      answers: { 200: "nothing is missing", 503: "problems says what is" },
      async handle() {
        const { value } = await api.repository.archive.read(FRESH_MS);
        const answers = api.repository.info.latest()?.value ?? [];
        const now = new Date();
        const problems = [...unseenArchives(answers, value), ...value.flatMap((one) => archiveProblems(one, now))];
        const archives = value.map((one) => describeArchive(one, now));
        return json(problems.length === 0 ? 200 : 503, { ok: problems.length === 0, problems, archives });
      },
    },
    {
      method: "GET",
      path: "/metrics",
      summary: "Metrics for Prometheus",
      answers: { 200: "text format 0.0.4" },
      async handle() {
        return { status: 200, text: await api.metrics(), contentType: "text/plain; version=0.0.4; charset=utf-8" };
      },
    },
    {
      method: "GET",
      path: "/healthz",
      summary: "It answers",
      answers: { 200: "always" },
      isPublic: true,
      handle: () => json(200, { alive: true }),
    },
    {
      method: "GET",
      path: "/readyz",
      summary: "Stanzas and repository can be used",
      answers: { 200: "they can", 503: "reasons says why not" },
      isPublic: true,
      handle() {
        const reasons = api.notReady();
        return json(reasons.length === 0 ? 200 : 503, { ready: reasons.length === 0, reasons });
      },
    },
  ];
}

async function start(
  api: Api,
  { body, query, signal }: Call,
  command: JobCommand,
  describe: (job: Job) => object | Promise<object>,
): Promise<Answer> {
  const type = command === "backup" ? (body.type ?? "full") : null;
  const { job, isNew } = api.jobs.start({ command, type, stanza: stanzaOf(api, body.stanza), by: "request" });
  const headers = { Location: `${pathOf(job)}/${job.label}` };
  if (!isNew) {
    const error =
      job.command === command ? `${command} in progress` : `${job.command} in progress, which shares its lock`;
    return { ...json(409, { error, label: job.label }), headers };
  }
  const now = await api.jobs.wait(job.label, (query.wait ?? FIRST_LOOK_MS / 1000) * 1000, signal);
  const status = !hasEnded(now) ? 202 : now.status === "FINISHED" ? 200 : 500;
  return { ...json(status, await describe(now)), headers };
}

const pathOf = ({ command }: Job) => (command === "backup" ? "/backups/backup" : COLLECTIONS[command].path);

/** Throws SETTINGS_INVALID, which becomes a 400. */
function stanzaOf(api: Api, given: string | undefined): string {
  const [only, another] = api.stanzas;
  if (given === undefined && another === undefined) return only as string;
  if (given !== undefined && api.stanzas.includes(given)) return given;
  const message = given === undefined ? "stanza is missing" : `stanza "${given}" is not served here`;
  throw new RestoreError("SETTINGS_INVALID", message, { hint: `one of ${api.stanzas.join(", ")}` });
}

const json = (status: number, value: unknown): Answer => ({ status, text: formatJson(value) });

export const problem = (status: number, error: string, hint?: string): Answer =>
  json(status, hint === undefined ? { error } : { error, hint });

const notFound = ({ label }: Call) => problem(404, `there is no "${label}"`);
