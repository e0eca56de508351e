/** The OpenAPI 3.1 document of the routes: https://spec.openapis.org/oas/v3.1.0 */

import { z } from "zod";
import type { About, Route } from "./route.ts";

export interface OpenApiDocument {
  openapi: string;
  info: { title: string; version: string; description: string };
  components: object;
  security: readonly object[];
  paths: Record<string, Record<string, Operation>>;
}

export interface Operation {
  summary: string;
  security?: readonly object[];
  parameters: readonly { name: string; in: string; required: boolean; description?: string; schema: object }[];
  requestBody?: object;
  responses: Record<string, { description: string }>;
}

/** Of every route that needs a token, and of every route. */
const COMMON = { 401: "no valid token", 429: "too many requests from this address" };

/** Whatever the routes' handlers take: the document is of what they say. */
type AnyRoute = Omit<Route, "handle">;

export function openApiDocument(routes: readonly AnyRoute[], about: About): OpenApiDocument {
  const paths: OpenApiDocument["paths"] = {};
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, "{$1}");
    paths[path] ??= {};
    paths[path][route.method.toLowerCase()] = operation(route, about);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: `${about.name} of patroni-restore`,
      version: about.version,
      description: about.description,
    },
    security: [{ bearer: [] }],
    components: { securitySchemes: { bearer: { type: "http", scheme: "bearer" } } },
    paths,
  };
}

function operation(route: AnyRoute, { unavailable }: About): Operation {
  const answers: Record<number, string> = route.isPublic
    ? route.answers
    : { ...COMMON, 503: unavailable, ...route.answers };
  return {
    summary: route.summary,
    ...(route.isPublic ? { security: [] } : {}),
    parameters: [...pathParameters(route.path), ...queryParameters(route.query)],
    ...(route.body === undefined
      ? {}
      : { requestBody: { content: { "application/json": { schema: schemaOf(route.body) } } } }),
    responses: Object.fromEntries(Object.entries(answers).map(([status, description]) => [status, { description }])),
  };
}

const pathParameters = (path: string) =>
  [...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));

function queryParameters(query: z.ZodType | undefined) {
  if (!(query instanceof z.ZodObject)) return [];
  return Object.entries(query.shape as Record<string, z.ZodType>).map(([name, schema]) => ({
    name,
    in: "query",
    required: false,
    ...(schema.description === undefined ? {} : { description: schema.description }),
    schema: schemaOf(schema),
  }));
}

/** What the client writes, before it is converted. */
function schemaOf(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
}
