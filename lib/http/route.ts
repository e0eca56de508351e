/** A route of an API: what it takes, what it answers, and what all routes have in common. */

import type { z } from "zod";

export interface Call<Query = unknown, Body = unknown> {
  /** Of the path: what stands for `:label`. */
  params: Readonly<Record<string, string>>;
  query: Query;
  body: Body;
  /** Aborted when the client has gone away. */
  signal: AbortSignal;
}

export interface Answer {
  status: number;
  /** JSON, unless `contentType` says otherwise. */
  text: string;
  contentType?: string;
  headers?: Readonly<Record<string, string>>;
  /** These follow instead. */
  events?: { look(): Look };
}

/** What a stream of events has to tell at this moment. */
export interface Look {
  status: string;
  /** Told again when it is another one. */
  stamp: string;
  data: object;
  /** Nothing follows. */
  isOver: boolean;
}

/** `Query` and `Body` are what the schemas give; a route without one of them gets `{}`. */
export interface Route<Query = unknown, Body = unknown> {
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
  handle(call: Call<Query, Body>): Answer | Promise<Answer>;
}

/** What an API says of itself. */
export interface About {
  /** `backup-api`. */
  name: string;
  /** A sentence. */
  description: string;
  version: string;
  /** What an answer of 503 means, unless the route says it. */
  unavailable: string;
  /** A body, for whoever sent one that is not JSON. */
  exampleBody: string;
}

export const problem = (status: number, error: string, hint?: string): Answer => ({
  status,
  text: JSON.stringify(hint === undefined ? { error } : { error, hint }, null, 4),
});
