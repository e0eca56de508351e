/** Backups: what timescaledb-docker-ha's pgbackrest-rest.py has, and cancel, wait and events. */

import { z } from "zod";
import { type Answer, type Look, problem } from "../http/route.ts";
import { type Backup, findBackup, listBackups } from "./backups.ts";
import { hasEnded } from "./job.ts";
import { detailsOf, summaryOf } from "./present.ts";
import { FRESH_MS } from "./repository.ts";
import {
  type Api,
  backupBody,
  type Call,
  json,
  labelOf,
  listQuery,
  NOT_FOUND,
  notFound,
  oneQuery,
  type Route,
  STARTED,
  start,
  waitQuery,
} from "./route.ts";

export function backupRoutes(api: Api): Route[] {
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
    const known = findBackup(filtered(call), labelOf(call));
    if (known !== undefined) return known;
    await info.read(FRESH_MS);
    return findBackup(filtered(call), labelOf(call));
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
      handle: (call) => one({ ...call, params: { label: "latest" } }),
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
        return { ...json(200, {}), events: { look: () => lookAt(describe(findBackup(list(), label) ?? backup)) } };
      },
    },
    {
      method: "DELETE",
      path: "/backups/backup/:label",
      summary: "Cancel a running backup; what was copied helps the next one",
      query: z.strictObject({}),
      answers: { 200: "it was cancelled, or ended just before", 404: NOT_FOUND, 409: "it has ended" },
      async handle(call) {
        const backup = labelOf(call) === "latest" ? undefined : await find(call);
        if (backup === undefined) return notFound(call);
        const ended = jobs.cancel(backup.label);
        if (ended === undefined) return problem(409, `backup ${labelOf(call)} has ended: ${backup.status}`);
        await ended;
        return json(200, await describeNow(backup));
      },
    },
  ];
}

function lookAt(details: object): Look {
  const { status, progress } = details as { status: string; progress: { percent: number } | null };
  const isOver = status !== "RUNNING" && status !== "REQUESTED";
  return { status, stamp: `${status} ${progress?.percent}`, data: details, isOver };
}
