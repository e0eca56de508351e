/** Expire, verify and restore tests: what goes with backups, each a collection of its own. */

import { z } from "zod";
import { problem } from "../http/route.ts";
import { hasEnded, type Job, type JobCommand } from "./job.ts";
import { describeJob } from "./present.ts";
import {
  type Api,
  type Call,
  json,
  labelOf,
  listQuery,
  NOT_FOUND,
  notFound,
  oneQuery,
  PATHS,
  type Route,
  STARTED,
  stanzaBody,
  start,
  waitQuery,
} from "./route.ts";

const SUMMARIES: Record<Exclude<JobCommand, "backup">, string> = {
  expire: "Remove backups and WAL that retention no longer wants",
  verify: "Let pgBackRest read and check every file of the repository",
  "restore-test": "Prove the newest backup with a restore test",
};

export function jobRoutes(api: Api, command: keyof typeof SUMMARIES): Route[] {
  const { jobs } = api;
  const path = PATHS[command];
  const summary = SUMMARIES[command];
  const describe = (job: Job) => describeJob(job, new Date());
  const find = (call: Call) => {
    const { query } = call;
    const label = labelOf(call);
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
        const job = labelOf(call) === "latest" ? undefined : find(call);
        if (job === undefined) return notFound(call);
        const ended = jobs.cancel(job.label);
        return ended === undefined
          ? problem(409, `${command} ${job.label} has ended: ${job.status}`)
          : json(200, describe(await ended));
      },
    },
  ];
}
