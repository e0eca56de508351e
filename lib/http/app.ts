/** An API as a function from request to response: who may ask, what may be asked, and how errors look. */

import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { compress } from "hono/compress";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import { RateLimiterMemory } from "rate-limiter-flexible";
import { z } from "zod";
import { messageOf, RestoreError } from "../errors.ts";
import type { Log } from "../log.ts";
import { didYouMean } from "../settings.ts";
import { openApiDocument } from "./openapi.ts";
import { renderPage } from "./page.ts";
import { type About, type Answer, type Call, type Look, problem, type Route } from "./route.ts";
import { isAuthorized } from "./tokens.ts";

export interface AppOptions<Query, Body> {
  about: About;
  routes: readonly Route<Query, Body>[];
  /** Where the page with all routes is. */
  docsPath?: string;
  /** The valid tokens at this moment; null when none is needed. Throws when they cannot be read. */
  tokens: (() => readonly string[]) | null;
  /** Requests in a second from one address. */
  rateLimit: number;
  /** Long answers are compressed for clients that take it. */
  isCompressed?: boolean;
  log: Log;
}

type Environment = { Bindings: { address: string } };

/** Bodies are some dozen bytes. */
const BODY_LIMIT = 16 * 1024;
const JSON_TYPE = "application/json";

export type App = (request: Request, client: { address: string }) => Promise<Response>;

export function createApp<Query, Body>(options: AppOptions<Query, Body>): App {
  const { about, routes, docsPath = "/", log } = options;
  const app = new Hono<Environment>({ strict: false });
  const limiter = new RateLimiterMemory({ points: options.rateLimit, duration: 1 });

  app.use(async (context, next) => {
    const startedAt = performance.now();
    await next();
    const { method, path } = context.req;
    const status = context.res.status;
    // Probes ask every few seconds, and have their answer.
    if (method === "GET" && (status < 400 || path === "/readyz")) return;
    const fields = { status, ms: Math.round(performance.now() - startedAt), from: context.env.address };
    log[status >= 500 ? "warn" : "info"]("http", `${method} ${path.slice(0, 200)}`, fields);
  });
  app.use(async (context, next) => {
    try {
      await limiter.consume(context.env.address);
    } catch {
      return respond({
        ...problem(429, `more than ${options.rateLimit} requests in a second`),
        headers: { "Retry-After": "1" },
      });
    }
    return next();
  });
  if (options.isCompressed) app.use(compress({ threshold: 16 * 1024 }));
  app.use(
    bodyLimit({
      maxSize: BODY_LIMIT,
      onError: () => respond(problem(413, `the body is longer than ${BODY_LIMIT} bytes`)),
    }),
  );

  const document = openApiDocument(routes, about);
  app.get("/openapi.json", () => respond({ status: 200, text: JSON.stringify(document, null, 2) }));
  app.get(docsPath, () =>
    respond({ status: 200, text: renderPage(document), contentType: "text/html; charset=utf-8" }),
  );

  for (const route of routes) {
    app.on(route.method, route.path, async (context) => {
      const refusal = route.isPublic ? undefined : authorize(options, context.req.header("authorization"));
      if (refusal !== undefined) return respond(refusal);
      const query = parse(route.query ?? z.strictObject({}), multiple(new URL(context.req.url).searchParams));
      const body =
        route.body === undefined ? {} : parse(route.body, await readBody(context.req.raw, about.exampleBody));
      const call: Call<Query, Body> = {
        params: context.req.param(),
        query: query as Query,
        body: body as Body,
        signal: context.req.raw.signal,
      };
      const answer = await route.handle(call);
      const { events } = answer;
      if (events === undefined) return respond(answer);
      return streamSSE(context, (stream) => sendEvents(stream, events));
    });
  }
  for (const path of new Set([docsPath, "/openapi.json", ...routes.map((route) => route.path)])) {
    const methods = routes.filter((route) => route.path === path).map(({ method }) => method);
    const allow = methods.length === 0 ? ["GET"] : methods;
    app.all(path, (context) =>
      respond({
        ...problem(405, `${context.req.method} is not for ${path}`, `only ${allow.join(", ")}`),
        headers: { Allow: allow.join(", ") },
      }),
    );
  }
  app.notFound((context) =>
    respond(problem(404, `there is no ${context.req.path.slice(0, 200)}`, `GET ${docsPath} shows what there is`)),
  );
  app.onError((error) => respond(answerTo(error, log)));

  return async (request, client) => app.fetch(request, client);
}

function respond({ status, text, contentType = JSON_TYPE, headers = {} }: Answer): Response {
  const safe = { "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store" };
  return new Response(`${text}\n`, { status, headers: { "Content-Type": contentType, ...safe, ...headers } });
}

function authorize(
  { tokens, about }: Pick<AppOptions<unknown, unknown>, "tokens" | "about">,
  header: string | undefined,
): Answer | undefined {
  if (tokens === null || isAuthorized(header, tokens())) return undefined;
  return {
    ...problem(
      401,
      header === undefined ? "a bearer token is needed" : "the token is not valid",
      "Authorization: Bearer <token>",
    ),
    headers: { "WWW-Authenticate": `Bearer realm="${about.name}"` },
  };
}

/** A request that cannot be understood; becomes a 400. */
const misunderstood = (message: string, hint?: string) => new RestoreError("SETTINGS_INVALID", message, { hint });

/** Whatever the Content-Type says: `curl --data` says that it is a form. */
async function readBody(request: Request, example: string): Promise<unknown> {
  const text = await request.text();
  if (text.trim() === "") return {};
  try {
    return JSON.parse(text) ?? {};
  } catch (error) {
    throw misunderstood(`the body is not JSON: ${messageOf(error)}`, `such as ${example}`);
  }
}

function multiple(parameters: URLSearchParams): Record<string, string | string[]> {
  const names = [...new Set(parameters.keys())];
  return Object.fromEntries(
    names.map((name) => {
      const values = parameters.getAll(name);
      return [name, values.length === 1 ? (values[0] as string) : values];
    }),
  );
}

function parse(schema: z.ZodType, value: unknown): unknown {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const known = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  const hints: string[] = [];
  const problems = result.error.issues.map((issue) => {
    if (issue.code === "unrecognized_keys") {
      for (const key of issue.keys) hints.push(didYouMean(key, known) ?? `there is ${known.join(", ") || "none"}`);
      return `unknown key ${issue.keys.map((key) => JSON.stringify(key)).join(", ")}`;
    }
    if (issue.path.length === 0) return "the body is not a JSON object";
    return `${issue.path.filter((part) => typeof part === "string").join(".")} ${issue.message}`;
  });
  throw misunderstood(problems.join("; "), hints[0]);
}

function answerTo(error: unknown, log: Log): Answer {
  if (error instanceof RestoreError) {
    return problem(error.code === "SETTINGS_INVALID" ? 400 : 503, error.message, error.hint);
  }
  log.error("http", messageOf(error), { stack: error instanceof Error ? error.stack : undefined });
  return problem(500, "a bug in patroni-restore; its log has the stack");
}

/** Proxies close what is silent for a minute. */
const KEEP_ALIVE_MS = 15_000;
const EVENT_EVERY_MS = 500;

async function sendEvents(stream: SSEStreamingApi, { look }: { look(): Look }): Promise<void> {
  let last: Look | null = null;
  let lastAt = 0;
  for (;;) {
    const now = look();
    if (now.stamp !== last?.stamp || performance.now() - lastAt > KEEP_ALIVE_MS) {
      const event = last?.status === now.status && !now.isOver ? "progress" : "status";
      await stream.writeSSE({ event, data: JSON.stringify(now.data) });
      [last, lastAt] = [now, performance.now()];
    }
    if (now.isOver || stream.aborted || stream.closed) return;
    await stream.sleep(EVENT_EVERY_MS);
  }
}
