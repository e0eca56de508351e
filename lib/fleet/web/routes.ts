/** What can be asked of the fleet over HTTP, and the application that answers. */

import { z } from "zod";
import { RestoreError } from "../../errors.ts";
import { type App, createApp } from "../../http/app.ts";
import { monitoringRoutes } from "../../http/monitoring-routes.ts";
import { type About, type Answer, type Call, problem, type Route } from "../../http/route.ts";
import type { Log } from "../../log.ts";
import { didYouMean } from "../../settings.ts";
import { OUTCOMES } from "../outcome.ts";
import type { ServiceView } from "../view.ts";
import type { FleetApi } from "./api.ts";
import { pageRoutes } from "./page-routes.ts";
import { describeDetails, describeFleet, describeTest, describeTestDetails, type ServiceVerdict } from "./present.ts";

export interface FleetAppOptions {
  api: FleetApi;
  /** The valid tokens at this moment; null when none is needed. */
  tokens: (() => readonly string[]) | null;
  /** Requests in a second from one address. */
  rateLimit: number;
  version: string;
  log: Log;
}

export const about = (version: string): About => ({
  name: "fleet",
  description: "Restore tests of every service's backup, and what they prove.",
  version,
  unavailable: "the record cannot be asked; the error says why",
  exampleBody: '{"service": "databases/shop"}',
});

export const createFleetApp = ({ api, tokens, rateLimit, version, log }: FleetAppOptions): App =>
  createApp({
    about: about(version),
    routes: fleetRoutes(api),
    docsPath: "/api",
    tokens,
    rateLimit,
    isCompressed: true,
    log,
  });

const VERDICTS: readonly ServiceVerdict[] = [...OUTCOMES, "never"];
const HISTORY_LENGTH = 50;
const LONGEST_HISTORY = 500;

const verdicts = z
  .union([z.string(), z.array(z.string())])
  .transform((value) => [value].flat().map((word) => word.toLowerCase()))
  .pipe(z.array(z.enum(VERDICTS, { error: `is not one of ${VERDICTS.join(", ")}` })))
  .optional()
  .describe(`of the last test: ${VERDICTS.join(", ")}; may be given several times`);
const limit = z.coerce
  .number({ error: "is not a number" })
  .int({ error: "is not a whole number" })
  .min(1, { error: "is less than 1" })
  .max(LONGEST_HISTORY, { error: `is more than ${LONGEST_HISTORY}` })
  .default(HISTORY_LENGTH)
  .describe("at most so many, the newest ones");
const text = z.string({ error: "must be text" }).min(1, { error: "is empty" });
const id = text.describe("such as databases/shop");

interface Query {
  id: string;
  namespace?: string;
  verdict?: ServiceVerdict[];
  service?: string;
  limit: number;
}
interface Body {
  service?: string;
  stanza?: string;
  backup?: string | null;
}
type FleetCall = Call<Query, Body>;
export type FleetRoute = Route<Query, Body>;

/** Of a service: two names of Kubernetes. */
const LONGEST_NAME = 127;

/** Not indented: it is 5 MB for 10,000 services as it is. */
const json = (status: number, value: unknown): Answer => ({ status, text: JSON.stringify(value) });

function missing(api: FleetApi, name: string): Answer {
  const ids = api.view().services.map(({ service }) => service.id);
  // A long one costs much to compare, and is a mistake of another kind.
  const hint = name.length > LONGEST_NAME ? undefined : didYouMean(name, ids);
  return problem(
    404,
    `there is no service "${name.slice(0, LONGEST_NAME)}"`,
    hint ?? "fleet status, or GET /services, has those that the watch knows",
  );
}

export function fleetRoutes(api: FleetApi): FleetRoute[] {
  const find = (name: string) => api.view().services.find(({ service }) => service.id === name);
  return [
    ...pageRoutes(),
    {
      method: "GET",
      path: "/services",
      summary: "The fleet: every service with the verdict of its last test and when it is tested next",
      query: z.strictObject({ namespace: text.optional().describe("only its services"), verdict: verdicts }),
      answers: { 200: "the services, and what counts for the whole fleet" },
      handle: ({ query: { namespace, verdict } }) =>
        json(
          200,
          describeFleet(api.view(), new Date(), {
            ...(namespace === undefined ? {} : { namespace }),
            ...(verdict === undefined ? {} : { verdict }),
          }),
        ),
    },
    {
      method: "GET",
      path: "/service",
      summary: "One service: what is decided and why, and its last tests",
      query: z.strictObject({ id, limit }),
      answers: { 200: "its details; tests_problem says why the tests are missing", 404: "there is no such service" },
      async handle({ query }) {
        if (find(query.id) === undefined) return missing(api, query.id);
        const tests = await pastTests(api, query.id, query.limit);
        // Asked again: meanwhile it may have changed, or gone.
        const view = find(query.id);
        if (view === undefined) return missing(api, query.id);
        return json(200, describeDetails(view, new Date(), { tests, explanation: api.explain(query.id) }));
      },
    },
    {
      method: "GET",
      path: "/tests",
      summary: "Restore tests, the newest first",
      query: z.strictObject({ service: id.optional(), limit }),
      answers: { 200: "a list; of services that are gone too" },
      async handle({ query }) {
        return json(200, (await api.history.tests(query.service ?? null, query.limit)).map(describeTest));
      },
    },
    {
      method: "GET",
      path: "/tests/:id",
      summary: "One restore test, with the times of its statuses and its report",
      answers: { 200: "its details", 404: "there is no such test" },
      async handle({ params }) {
        const test = await api.history.test(params.id ?? "");
        return test === null ? problem(404, `there is no test "${params.id}"`) : json(200, describeTestDetails(test));
      },
    },
    {
      method: "POST",
      path: "/tests",
      summary: "Ask for a test now, of a service or of whatever uses a stanza; or tell of a new backup of the stanza",
      body: z.strictObject({
        service: id.optional(),
        stanza: text.optional().describe("instead of the service"),
        backup: text
          .nullable()
          .optional()
          .describe("label of a backup of the stanza that was just made; counts for services tested after N backups"),
      }),
      answers: {
        202: "it is tested as soon as the limits let it; Location says where to look",
        400: "the request is not understood",
        404: "there is no such service, or none with the stanza",
        409: "a test is in progress, or it cannot be tested",
      },
      handle: (call) => ask(api, call),
    },
    ...monitoringRoutes({
      metrics: () => api.metrics(),
      notReady: () => api.view().problems,
      readiness: "Record and watch can be used; a standby is ready too",
    }),
  ];
}

/** Or the sentence why the record cannot be asked: the rest is known without it. */
async function pastTests({ history }: FleetApi, service: string, count: number) {
  try {
    return await history.tests(service, count);
  } catch (error) {
    if (error instanceof RestoreError) return error.message;
    throw error;
  }
}

const misunderstood = (message: string) =>
  new RestoreError("SETTINGS_INVALID", message, {
    hint: 'such as {"service": "databases/shop"} or {"stanza": "main"}',
  });

/** What keeps a test from being asked for; null when nothing does. */
function refusal({ service, running }: ServiceView): string | null {
  if (running !== null) return `a test of "${service.id}" is in progress: ${running.test}`;
  return service.problem === null ? null : `"${service.id}" can't be tested: ${service.problem}`;
}

async function ask(api: FleetApi, { body }: FleetCall): Promise<Answer> {
  const { service, stanza, backup } = body;
  if ((service === undefined) === (stanza === undefined)) {
    throw misunderstood(service === undefined ? "service is missing" : "service and stanza do not go together");
  }
  if (backup !== undefined && stanza === undefined) throw misunderstood("backup goes together with stanza");
  const all = api.view().services.filter((one) => (service ?? one.service.id) === one.service.id);
  const views = stanza === undefined ? all : all.filter((one) => one.service.stanza === stanza);
  if (views.length === 0) {
    return stanza === undefined ? missing(api, service ?? "") : problem(404, `no service has the stanza "${stanza}"`);
  }
  const wanted: string[] = [];
  const counted: string[] = [];
  const refused: string[] = [];
  for (const view of views) {
    const { id: name, policy } = view.service;
    // Counted whatever else goes on; backup-api knows no label when pgBackRest did not say it.
    const isCounted = backup !== undefined && policy.afterBackups !== null;
    const reason = isCounted ? null : refusal(view);
    if (reason !== null) refused.push(reason);
    else if (isCounted) {
      await api.countBackup(name, backup ?? `unknown ${new Date().toISOString()}`);
      counted.push(name);
    } else {
      await api.want(name, backup === undefined ? "a request" : `backup ${backup ?? "of the stanza"}`);
      wanted.push(name);
    }
  }
  const [first] = [...wanted, ...counted];
  const headers = { Location: locationOf(first ?? views[0]?.service.id ?? "") };
  if (first === undefined) return { ...problem(409, refused.join("; ")), headers };
  return { ...json(202, { wanted, counted, refused }), headers };
}

const locationOf = (service: string) => `/service?id=${encodeURIComponent(service)}`;
