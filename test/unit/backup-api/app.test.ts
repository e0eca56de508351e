/** The API as its clients see it: requests in, responses out, without network and without pgBackRest. */

import { beforeEach, describe, expect, test } from "vitest";
import { type Cached, cached } from "../../../lib/backup-api/cached.ts";
import type { StanzaAnswer } from "../../../lib/backup-api/info.ts";
import { readAnswer } from "../../../lib/backup-api/info.ts";
import type { Job } from "../../../lib/backup-api/job.ts";
import { type Jobs, openJobs } from "../../../lib/backup-api/jobs.ts";
import type { StanzaArchive } from "../../../lib/backup-api/repository.ts";
import { type Api, about, type Route } from "../../../lib/backup-api/route.ts";
import { routes } from "../../../lib/backup-api/routes.ts";
import { RestoreError } from "../../../lib/errors.ts";
import { createApp } from "../../../lib/http/app.ts";
import { answer, fakeJournal, fakeLog, job, MISSING_STANZA, set } from "./samples.ts";

const TOKEN = "0123456789abcdef0123456789abcdef";
const FULL = "20261123-010001F";

/** How the next job's program ends, when it does. */
interface Program {
  end(exitCode: number | null, signal?: string): void;
  line(text: string): void;
  killed: string[];
}

let log: ReturnType<typeof fakeLog>;
let programs: Program[];
let jobs: Jobs;
let answers: StanzaAnswer[] | Error;
let archives: StanzaArchive[] | Error;
let tokens: string[] | Error | null;
let notReady: string[];

const failing = <T>(value: T | Error): T => {
  if (value instanceof Error) throw value;
  return value;
};

async function makeJobs(remembered: readonly Job[] = []): Promise<Jobs> {
  return openJobs({
    remembered,
    journal: fakeJournal(),
    launch(_job, onLine) {
      let resolve: (end: { exitCode: number | null; signal: string | null }) => void = () => {};
      const ended = new Promise<{ exitCode: number | null; signal: string | null }>((done) => {
        resolve = done;
      });
      const program: Program = {
        end: (exitCode, signal) => resolve({ exitCode, signal: signal ?? null }),
        line: (text) => onLine(text, "stdout"),
        killed: [],
      };
      programs.push(program);
      return {
        pid: 2 ** 30,
        ended,
        kill: (signal) => {
          program.killed.push(signal);
          resolve({ exitCode: null, signal });
        },
      };
    },
    timeoutMs: 60_000,
    log,
  });
}

interface Client {
  (request: string, options?: { body?: string; headers?: Record<string, string>; from?: string }): Promise<Response>;
  api: Api;
  table: Route[];
}

/** `client("POST /backups", { body: '{"type": "full"}' })` */
function client(change: { stanzas?: string[]; rateLimit?: number; hasRestoreTest?: boolean } = {}): Client {
  const info: Cached<readonly StanzaAnswer[]> = cached(async () => failing(answers));
  const archive = cached(async () => {
    await info.read(2000);
    return failing(archives);
  });
  const api: Api = {
    stanzas: change.stanzas ?? ["main"],
    jobs,
    repository: { info, archive },
    metrics: async () => "up 1\n",
    notReady: () => notReady,
    hasRestoreTest: change.hasRestoreTest ?? true,
  };
  const table = routes(api);
  const app = createApp({
    about: about("1.2.3"),
    routes: table,
    tokens: tokens === null ? null : () => failing(tokens ?? []),
    rateLimit: change.rateLimit ?? 10_000,
    log,
  });
  const call = (
    request: string,
    { body, headers = {}, from = "10.0.0.1" }: { body?: string; headers?: Record<string, string>; from?: string } = {},
  ) => {
    const [method = "", path = ""] = request.split(" ");
    const init = { method, headers, ...(body === undefined ? {} : { body }) };
    return app(new Request(`http://localhost:8081${path}`, init), { address: from });
  };
  return Object.assign(call, { api, table });
}

const json = async (response: Response | Promise<Response>) => {
  const text = await (await response).text();
  return JSON.parse(text) as Record<string, unknown>;
};
const later = (ms = 10) => new Promise((resolve) => setTimeout(resolve, ms));

beforeEach(async () => {
  log = fakeLog();
  programs = [];
  answers = [answer("main", [set(FULL)])];
  archives = [];
  tokens = null;
  notReady = [];
  jobs = await makeJobs();
});

describe("who may ask", () => {
  const paths = (table: readonly Route[]) =>
    table.map(({ method, path, isPublic }) => ({ request: `${method} ${path.replace(":label", "latest")}`, isPublic }));

  test("nothing but the public routes answers without the token, and nothing is started", async () => {
    tokens = [TOKEN];
    const call = client();
    for (const { request, isPublic } of paths(call.table)) {
      const response = await call(request);
      expect(response.status === 401, request).toBe(!isPublic);
      if (isPublic) continue;
      expect(response.headers.get("WWW-Authenticate"), request).toMatch(/^Bearer\b/);
      expect(await json(response)).toEqual({
        error: "a bearer token is needed",
        hint: "Authorization: Bearer <token>",
      });
    }
    expect(programs).toEqual([]);
    expect(call.table.filter(({ isPublic }) => isPublic).map(({ path }) => path)).toEqual(["/healthz", "/readyz"]);
  });

  test("the page and the document are for everybody", async () => {
    tokens = [TOKEN];
    const call = client();
    expect((await call("GET /")).status).toBe(200);
    expect((await call("GET /openapi.json")).status).toBe(200);
  });

  test.each(["", "Bearer", `Basic ${TOKEN}`, TOKEN, `Bearer ${TOKEN}x`, `Bearer ${TOKEN.slice(1)}`])(
    "%j does not open",
    async (authorization) => {
      tokens = [TOKEN];
      const response = await client()("GET /backups", { headers: { authorization } });
      expect(response.status).toBe(401);
      expect(await response.text()).not.toContain(TOKEN.slice(2));
    },
  );

  test("tokens are asked for each time: the new one is valid, then the old one is not", async () => {
    const call = client({ stanzas: ["main"] });
    tokens = ["old-old-old-old-old"];
    const locked = client();
    const status = async (token: string) =>
      (await locked("GET /backups", { headers: { authorization: `Bearer ${token}` } })).status;
    expect(await status("old-old-old-old-old")).toBe(200);
    tokens = ["old-old-old-old-old", "new-new-new-new-new"];
    expect([await status("old-old-old-old-old"), await status("new-new-new-new-new")]).toEqual([200, 200]);
    tokens = ["new-new-new-new-new"];
    expect([await status("old-old-old-old-old"), await status("new-new-new-new-new")]).toEqual([401, 200]);
    expect((await call("GET /backups")).status).toBe(200);
  });

  test("a token file that cannot be read lets nobody in", async () => {
    tokens = new RestoreError("PREFLIGHT_FAILED", "--token-file /t cannot be used: it holds no token");
    const response = await client()("GET /backups", { headers: { authorization: `Bearer ${TOKEN}` } });
    expect(response.status).toBe(503);
    expect((await client()("GET /healthz")).status).toBe(200);
  });

  test("a method that is not there says nothing more than the document does", async () => {
    tokens = [TOKEN];
    expect((await client()("PUT /backups")).status).toBe(405);
    expect((await client()("GET /backups/backup/x/y/z")).status).toBe(404);
  });
});

describe("what cannot be understood", () => {
  test.each([
    { request: "POST /backups", body: '{"typ": "full"}', says: 'unknown key "typ"', hint: 'did you mean "type"' },
    { request: "POST /backups", body: '{"type": "ful"}', says: "type is not one of full, diff, incr" },
    { request: "POST /backups", body: '{"type": "FULL"}', says: "type is not one of full, diff, incr" },
    { request: "POST /backups", body: '{"type": null}', says: "type is not one of full, diff, incr" },
    { request: "POST /backups", body: '{"type": ["full"]}', says: "type is not one of full, diff, incr" },
    { request: "POST /backups", body: '{"command": "restore"}', says: 'command can only be "backup"' },
    { request: "POST /backups", body: '{"type": "full"', says: "the body is not JSON: " },
    { request: "POST /backups", body: "type=full", says: "the body is not JSON: ", hint: 'such as {"type": "full"}' },
    { request: "POST /backups", body: '["full"]', says: "the body is not a JSON object" },
    { request: "POST /backups", body: "[]", says: "the body is not a JSON object" },
    { request: "POST /backups", body: '"full"', says: "the body is not a JSON object" },
    { request: "POST /backups", body: "7", says: "the body is not a JSON object" },
    {
      request: "POST /backups",
      body: '{"stanza": "other"}',
      says: 'stanza "other" is not served here',
      hint: "one of main",
    },
    { request: "POST /backups", body: '{"stanza": ""}', says: 'stanza "" is not served here' },
    { request: "POST /backups", body: '{"__proto__": 1, "x": 1}', says: "unknown key" },
    { request: "POST /expire", body: '{"type": "full"}', says: 'unknown key "type"', hint: "there is stanza" },
    { request: "POST /backups?wait=soon", says: "wait is not a number of seconds" },
    { request: "POST /backups?wait=-1", says: "wait is less than 0" },
    { request: "POST /backups?wait=86401", says: "wait is more than 86400" },
    { request: "POST /backups?wait=Infinity", says: "wait is not a number of seconds" },
    { request: "POST /backups?wait=1&wait=2", says: "wait is not a number of seconds" },
    { request: "POST /backups?wiat=1", says: 'unknown key "wiat"', hint: 'did you mean "wait"' },
    { request: "GET /backups?wait=1", says: 'unknown key "wait"', hint: "there is status, stanza" },
    {
      request: "GET /backups?status=BROKEN",
      says: "status is not one of REQUESTED, RUNNING, FINISHED, ERROR, CANCELLED",
    },
    { request: "GET /info?x=1", says: 'unknown key "x"', hint: "there is none" },
    { request: "GET /metrics?x=1", says: 'unknown key "x"' },
  ])("$request $body → $says", async ({ request, body, says, hint }) => {
    const response = await client()(request, body === undefined ? {} : { body });
    expect(response.status).toBe(400);
    const problem = await json(response);
    expect(problem.error).toMatch(new RegExp(`^${says.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`));
    if (hint !== undefined) expect(problem.hint).toBe(hint);
    expect(programs).toEqual([]);
    expect(jobs.list()).toEqual([]);
  });

  test.each([
    undefined,
    "",
    "  \n",
    "{}",
    "null",
    '{"type": "full"}',
    '{"type": "full", "stanza": "main"}',
    '{"type":"full","command":"backup"}',
  ])("%j is a full backup", async (body) => {
    const response = await client()("POST /backups?wait=0", body === undefined ? {} : { body });
    expect(response.status).toBe(202);
    expect(await json(response)).toMatchObject({ type: "full", stanza: "main", by: "request" });
  });

  test.each(["application/x-www-form-urlencoded", "application/json", "text/plain", "multipart/form-data"])(
    "the body is JSON, also when the client says that it is %s",
    async (type) => {
      const options = { body: '{"type": "diff"}', headers: { "content-type": type } };
      expect(await json(client()("POST /backups?wait=0", options))).toMatchObject({ type: "diff" });
    },
  );

  test("a body that is too long is refused, with and without its length", async () => {
    const body = JSON.stringify({ type: "full", stanza: "x".repeat(20_000) });
    const response = await client()("POST /backups", { body, headers: { "content-length": String(body.length) } });
    expect(response.status).toBe(413);
    expect(await json(response)).toEqual({ error: "the body is longer than 16384 bytes" });
    expect((await client()("POST /backups", { body })).status).toBe(413);
    expect(jobs.list()).toEqual([]);
  });
});

describe("paths and methods", () => {
  test.each([
    "GET /backup",
    "GET /backups/backup",
    "GET /backups/20261123010000",
    "GET /favicon.ico",
    "POST /backups/latest/x",
  ])("%s is not there", async (request) => {
    const response = await client()(request);
    expect(response.status).toBe(404);
    expect(await json(response)).toMatchObject({ hint: "GET / shows what there is" });
  });

  test.each([
    { request: "PUT /backups", allow: "POST, GET" },
    { request: "DELETE /backups", allow: "POST, GET" },
    { request: "PATCH /backups/backup/20261123010000", allow: "GET, DELETE" },
    { request: "POST /backups/latest", allow: "GET" },
    { request: "POST /info", allow: "GET" },
    { request: "POST /healthz", allow: "GET" },
    { request: "OPTIONS /verify", allow: "POST, GET" },
    { request: "POST /", allow: "GET" },
    { request: "DELETE /openapi.json", allow: "GET" },
  ])("$request is not allowed, $allow is", async ({ request, allow }) => {
    const response = await client()(request);
    expect(response.status).toBe(405);
    expect(response.headers.get("Allow")).toBe(allow);
    expect(jobs.list()).toEqual([]);
  });

  test("a slash at the end is nothing", async () => {
    expect((await client()("POST /backups/?wait=0")).status).toBe(202);
    expect((await client()("GET /backups/")).status).toBe(200);
    expect((await client()("GET /backups/backup/latest/")).status).toBe(200);
  });

  test("HEAD is GET without a body", async () => {
    const response = await client()("HEAD /backups");
    expect([response.status, await response.text()]).toEqual([200, ""]);
  });

  test.each(["%E0%A4", "%00", "..%2F..%2Fetc", "<script>", "%0d%0aX: y", "a".repeat(3000)])(
    "an odd label is one that there is not: %s",
    async (label) => {
      const response = await client()(`GET /backups/backup/${label}`);
      expect(response.status).toBe(404);
      expect(response.headers.get("Content-Type")).toBe("application/json");
    },
  );

  test("too many requests of one address are put off, those of another are not", async () => {
    const call = client({ rateLimit: 3 });
    const statuses = await Promise.all(Array.from({ length: 5 }, async () => (await call("GET /healthz")).status));
    expect(statuses.sort()).toEqual([200, 200, 200, 429, 429]);
    const response = await call("GET /healthz");
    expect(response.headers.get("Retry-After")).toBe("1");
    expect(await json(response)).toEqual({ error: "more than 3 requests in a second" });
    expect((await call("GET /healthz", { from: "10.0.0.2" })).status).toBe(200);
  });

  test("tokens cannot be guessed faster than that", async () => {
    tokens = [TOKEN];
    const call = client({ rateLimit: 2 });
    const statuses = [];
    for (let i = 0; i < 4; i++)
      statuses.push((await call("GET /info", { headers: { authorization: `Bearer ${i}` } })).status);
    expect(statuses).toEqual([401, 401, 429, 429]);
  });

  test("answers are JSON that no browser guesses about or keeps", async () => {
    const response = await client()("GET /backups");
    expect(response.headers.get("Content-Type")).toBe("application/json");
    expect(response.headers.get("X-Content-Type-Options")).toBe("nosniff");
    expect(response.headers.get("Cache-Control")).toBe("no-store");
    expect((await response.text()).endsWith("]\n")).toBe(true);
  });
});

describe("starting a backup", () => {
  test("202 and its place while it runs, at once when nobody wants to wait", async () => {
    const response = await client()("POST /backups?wait=0", { body: '{"type": "incr"}' });
    expect(response.status).toBe(202);
    const started = await json(response);
    expect(started).toMatchObject({ type: "incr", stanza: "main", finished: null, returncode: null, error: null });
    expect(started.status).toMatch(/^(REQUESTED|RUNNING)$/);
    expect(response.headers.get("Location")).toBe(`/backups/backup/${started.label}`);
  });

  test("500 with the reason when it fails at once", async () => {
    const answering = client()("POST /backups");
    await later();
    programs[0]?.line("P00  ERROR: [062]: stop file exists for all stanzas");
    programs[0]?.end(62);
    const response = await answering;
    expect(response.status).toBe(500);
    expect(await json(response)).toMatchObject({
      status: "ERROR",
      returncode: 62,
      error: "pgbackrest backup ended with code 62: [062]: stop file exists for all stanzas",
      hint: expect.stringContaining("pgbackrest start"),
    });
  });

  test("200 with its set when it ended well while the request waited", async () => {
    const answering = client()("POST /backups?wait=60");
    await later();
    answers = [answer("main", [set(FULL), set("20261123-020000F")])];
    programs[0]?.line("P00   INFO: new backup label = 20261123-020000F");
    programs[0]?.end(0);
    const response = await answering;
    expect(response.status).toBe(200);
    expect(await json(response)).toMatchObject({
      status: "FINISHED",
      returncode: 0,
      pgbackrest: { label: "20261123-020000F", type: "full", error: false },
    });
  });

  test("a program that is not there is a failure that says so", async () => {
    jobs = await openJobs({
      remembered: [],
      journal: fakeJournal(),
      launch() {
        throw new RestoreError("PREFLIGHT_FAILED", 'cannot run "pgbackrest": not found', { hint: "install it" });
      },
      timeoutMs: 1000,
      log,
    });
    const response = await client()("POST /backups");
    expect(response.status).toBe(500);
    expect(await json(response)).toMatchObject({ error: 'cannot run "pgbackrest": not found', hint: "install it" });
  });

  test("409 and the place of the one that runs, and only one program", async () => {
    const call = client();
    const first = await json(call("POST /backups?wait=0"));
    const response = await call("POST /backups?wait=0", { body: '{"type": "diff"}' });
    expect(response.status).toBe(409);
    expect(response.headers.get("Location")).toBe(`/backups/backup/${first.label}`);
    expect(await json(response)).toEqual({ error: "backup in progress", label: first.label });
    await later();
    expect(programs).toHaveLength(1);
  });

  test("an expire shares the backup's lock, a verify does not", async () => {
    const call = client();
    const first = await json(call("POST /backups?wait=0"));
    const expire = await call("POST /expire?wait=0");
    expect(expire.status).toBe(409);
    expect(expire.headers.get("Location")).toBe(`/backups/backup/${first.label}`);
    expect(await json(expire)).toEqual({ error: "backup in progress, which shares its lock", label: first.label });
    const verify = await call("POST /verify?wait=0");
    expect(verify.status).toBe(202);
    expect(verify.headers.get("Location")).toMatch(/^\/verify\/\d{14}$/);
    expect((await call("POST /restore-tests?wait=0")).status).toBe(202);
  });

  test("of many at the same moment one is started", async () => {
    const call = client();
    const statuses = await Promise.all(
      Array.from({ length: 30 }, async () => (await call("POST /backups?wait=0")).status),
    );
    expect(statuses.filter((status) => status === 202)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(29);
    await later();
    expect(programs).toHaveLength(1);
  });

  test("while everything is being ended: 503", async () => {
    await jobs.stop(0);
    const response = await client()("POST /backups");
    expect(response.status).toBe(503);
    expect(await json(response)).toMatchObject({ error: "backup-api is being stopped" });
  });
});

describe("several stanzas", () => {
  test("have to be named, and each has its own backup", async () => {
    const call = client({ stanzas: ["main", "other"] });
    const unnamed = await call("POST /backups", { body: "{}" });
    expect(unnamed.status).toBe(400);
    expect(await json(unnamed)).toEqual({ error: "stanza is missing", hint: "one of main, other" });
    expect((await call("POST /backups?wait=0", { body: '{"stanza": "main"}' })).status).toBe(202);
    expect((await call("POST /backups?wait=0", { body: '{"stanza": "other"}' })).status).toBe(202);
    expect((await call("POST /backups?wait=0", { body: '{"stanza": "other"}' })).status).toBe(409);
    expect(await json(call("GET /backups?stanza=other&status=requested&status=running"))).toHaveLength(1);
  });

  test("one alone need not be", async () => {
    expect(await json(client()("POST /verify?wait=0"))).toMatchObject({ stanza: "main" });
  });
});

describe("asking for backups", () => {
  const old = (label: string, change: Partial<Job> = {}) =>
    job({
      label,
      status: "FINISHED",
      pid: 1,
      startedAt: "2026-11-23T01:00:00.250Z",
      finishedAt: "2026-11-23T01:00:07.750Z",
      exitCode: 0,
      ...change,
    });

  beforeEach(async () => {
    jobs = await makeJobs([
      old("20261123010000", { set: FULL }),
      old("20261123020000", {
        status: "ERROR",
        startedAt: "2026-11-23T02:00:00.000Z",
        exitCode: 50,
        error: "no",
        hint: "h",
        warnings: ["w"],
      }),
    ]);
  });

  test("the list has what a client of pgbackrest-rest.py reads", async () => {
    const response = await client()("GET /backups");
    expect(response.headers.get("X-Repository-Error")).toBeNull();
    expect(await response.text()).toBe(
      `${JSON.stringify(
        [
          {
            finished: "2026-11-23T01:00:07+00:00",
            label: "20261123010000",
            pgbackrest: { label: FULL },
            stanza: "main",
            started: "2026-11-23T01:00:00+00:00",
            status: "FINISHED",
            type: "full",
          },
          {
            finished: "2026-11-23T01:00:07+00:00",
            label: "20261123020000",
            pgbackrest: { label: null },
            stanza: "main",
            started: "2026-11-23T02:00:00+00:00",
            status: "ERROR",
            type: "full",
          },
        ],
        null,
        4,
      )}\n`,
    );
  });

  test.each([
    { query: "?status=error", labels: ["20261123020000"] },
    { query: "?status=ERROR&status=FINISHED", labels: ["20261123010000", "20261123020000"] },
    { query: "?status=running", labels: [] },
    { query: "?stanza=main", labels: ["20261123010000", "20261123020000"] },
    { query: "?stanza=other", labels: [] },
  ])("$query", async ({ query, labels }) => {
    const list = (await json(client()(`GET /backups${query}`))) as unknown as { label: string }[];
    expect(list.map(({ label }) => label)).toEqual(labels);
  });

  test.each(["20261123010000", FULL])("one by the label %s", async (label) => {
    expect(await json(client()(`GET /backups/backup/${label}`))).toMatchObject({
      label: "20261123010000",
      status: "FINISHED",
      duration: 7.5,
      returncode: 0,
      progress: null,
      pgbackrest: { label: FULL, lsn: { start: "0/17000028" } },
    });
  });

  test("one that failed says why, restarts of the API survived", async () => {
    expect(await json(client()("GET /backups/backup/20261123020000"))).toMatchObject({
      status: "ERROR",
      returncode: 50,
      error: "no",
      hint: "h",
      warnings: ["w"],
      pgbackrest: {},
    });
  });

  test.each(["GET /backups/latest", "GET /backups/backup/latest"])("%s", async (request) => {
    expect(await json(client()(request))).toMatchObject({ label: "20261123020000" });
    expect(await json(client()(`${request}?status=finished`))).toMatchObject({ label: "20261123010000" });
    expect((await client()(`${request}?status=cancelled`)).status).toBe(404);
  });

  test("just after the start the latest is that of the repository already", async () => {
    answers = [answer("main", [set(FULL), set("20261123-030000F")])];
    expect(await json(client()("GET /backups/latest"))).toMatchObject({ label: "20261123030000" });
  });

  test("a label that there is not is 404, never another one's answer", async () => {
    for (const label of ["20261123010001", "20261123-010000F", "20261123", "x"]) {
      const response = await client()(`GET /backups/backup/${label}`);
      expect(response.status, label).toBe(404);
      expect(await json(response)).toEqual({ error: `there is no "${label}"` });
    }
  });

  test("a set that somebody else has just made is found", async () => {
    const call = client();
    await call("GET /backups");
    answers = [answer("main", [set(FULL), set("20261123-030000F")])];
    // Newer than what was read just now.
    await later(5);
    await call.api.repository.info.read(0);
    expect(await json(call("GET /backups/backup/20261123-030000F"))).toMatchObject({ by: null, status: "FINISHED" });
  });

  test("while pgBackRest cannot be asked, the list is what is known and says so", async () => {
    answers = new RestoreError("PREFLIGHT_FAILED", "pgbackrest info failed: [055]: ü\nnew line");
    const response = await client()("GET /backups");
    expect(response.status).toBe(200);
    expect(await json(response)).toHaveLength(2);
    expect(response.headers.get("X-Repository-Error")).toMatch(/^pgbackrest info failed: \[055\]: +new line$/);
  });

  test("while pgBackRest cannot be asked, an unknown label is 503: it may exist", async () => {
    answers = new RestoreError("PREFLIGHT_FAILED", "pgbackrest info failed: [055]: no");
    const response = await client()("GET /backups/backup/20261101010000");
    expect(response.status).toBe(503);
    expect(await json(response)).toMatchObject({ error: "pgbackrest info failed: [055]: no" });
    expect((await client()("GET /backups/backup/20261123010000")).status).toBe(200);
  });
});

describe("waiting, following and cancelling", () => {
  test("?wait ends with the backup", async () => {
    const call = client();
    const { label } = await json(call("POST /backups?wait=0"));
    const waiting = call(`GET /backups/backup/${label}?wait=60`);
    await later();
    programs[0]?.end(0);
    expect(await json(waiting)).toMatchObject({ status: "FINISHED" });
  });

  test("?wait ends with its own limit, and the backup goes on", async () => {
    const call = client();
    const { label } = await json(call("POST /backups?wait=0"));
    expect(await json(call(`GET /backups/backup/${label}?wait=0.02`))).toMatchObject({ status: "RUNNING" });
    expect(programs[0]?.killed).toEqual([]);
  });

  test("progress is shown while it runs", async () => {
    const call = client();
    const { label } = await json(call("POST /backups?wait=0"));
    await later();
    programs[0]?.line("P01 DETAIL: backup file /data/1 (8KB, 25.00%) checksum a");
    const { progress } = await json(call(`GET /backups/backup/${label}`));
    expect(progress).toMatchObject({ percent: 25, bytes: 8192 });
  });

  test("DELETE ends it, and it is CANCELLED", async () => {
    const call = client();
    const { label } = await json(call("POST /backups?wait=0"));
    await later();
    const response = await call(`DELETE /backups/backup/${label}`);
    expect(response.status).toBe(200);
    expect(await json(response)).toMatchObject({ label, status: "CANCELLED", error: "cancelled on request" });
    expect(programs[0]?.killed).toEqual(["SIGTERM"]);
    const again = await call(`DELETE /backups/backup/${label}`);
    expect(again.status).toBe(409);
    expect(await json(again)).toEqual({ error: `backup ${label} has ended: CANCELLED` });
  });

  test("DELETE of what is not there, of a set, or of latest ends nothing", async () => {
    const call = client();
    await call("POST /backups?wait=0");
    await later();
    expect((await call("DELETE /backups/backup/20200101000000")).status).toBe(404);
    expect((await call("DELETE /backups/backup/latest")).status).toBe(404);
    expect((await call(`DELETE /backups/backup/${FULL}`)).status).toBe(409);
    expect(programs[0]?.killed).toEqual([]);
  });

  test("a verify has the same, with what it found", async () => {
    const call = client();
    const started = await call("POST /verify?wait=0");
    const place = started.headers.get("Location");
    await later();
    for (const line of ["P00   INFO: stanza: main", "            status: ok", "stanza: main", "status: ok"])
      programs[0]?.line(line);
    programs[0]?.end(0);
    expect(await json(call(`GET ${place}?wait=10`))).toMatchObject({
      command: "verify",
      status: "FINISHED",
      output: ["stanza: main", "status: ok"],
    });
    expect(await json(call("GET /verify"))).toHaveLength(1);
    expect((await call("GET /verify/latest")).status).toBe(200);
    expect((await call("GET /expire/latest")).status).toBe(404);
    expect((await call(`GET ${place?.replace("verify", "expire")}`)).status).toBe(404);
    expect((await call(`GET ${place?.replace("verify", "backups/backup")}`)).status).toBe(404);
    expect((await call(`DELETE ${place}`)).status).toBe(409);
  });

  test("events tell progress and end, then the stream ends", async () => {
    const call = client();
    const { label } = await json(call("POST /backups?wait=0"));
    await later();
    const response = await call(`GET /backups/backup/${label}/events`);
    expect(response.headers.get("Content-Type")).toContain("text/event-stream");
    await later(100);
    programs[0]?.line("P01 DETAIL: backup file /data/1 (8KB, 25.00%) checksum a");
    await later(600);
    programs[0]?.end(0);
    const events = (await response.text())
      .split("\n\n")
      .filter((event) => event !== "")
      .map((event) => Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2))));
    expect(events.map(({ event }) => event)).toEqual(["status", "progress", "status"]);
    expect(events.map(({ data }) => JSON.parse(data).status)).toEqual(["RUNNING", "RUNNING", "FINISHED"]);
    expect(JSON.parse(events[1]?.data).progress.percent).toBe(25);
  });

  test("events of one that has ended are its end alone; of none 404", async () => {
    const call = client();
    const text = await (await call(`GET /backups/backup/${FULL}/events`)).text();
    expect(text.match(/^event: /gm)).toHaveLength(1);
    expect(text).toContain('"status":"FINISHED"');
    expect((await call("GET /backups/backup/20200101000000/events")).status).toBe(404);
  });
});

describe("info, archive and readiness", () => {
  test("/info is pgBackRest's own text, digits and all", async () => {
    const id = "7711147517477380914";
    answers = [readAnswer("main", answer("main", [set(FULL)]).text.replace("7711427999638", id))];
    const response = await client()("GET /info");
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain(`"system-id":${id}`);
    expect(JSON.parse(text)).toMatchObject({ ok: true, problems: [], stanzas: [{ name: "main" }] });
  });

  test("/info is 503 when anything is wrong, although pgBackRest ended with 0", async () => {
    answers = [readAnswer("nope", MISSING_STANZA)];
    const response = await client({ stanzas: ["nope"] })("GET /info");
    expect(response.status).toBe(503);
    expect(await json(response)).toMatchObject({
      ok: false,
      problems: ['stanza "nope": missing stanza path (code 1) in repo1'],
      stanzas: [{ status: { code: 1 } }],
    });
  });

  test.each(["/info", "/wal"])("%s is 503 when pgBackRest cannot be asked", async (path) => {
    answers = new RestoreError("PREFLIGHT_FAILED", "pgbackrest info failed: no answer within 120 s", { hint: "h" });
    const response = await client()(`GET ${path}`);
    expect(response.status).toBe(503);
    expect(await json(response)).toEqual({ error: "pgbackrest info failed: no answer within 120 s", hint: "h" });
  });

  const file = (segment: string) => ({ segment, path: segment, storedAt: 1795458466, size: 1 });
  const archive = (change: Partial<StanzaArchive["state"]> = {}, repo = 1): StanzaArchive => ({
    stanza: "main",
    repo,
    archiveId: "15-1",
    lastCommitAt: "2026-11-23T18:27:40.123456Z",
    state: {
      segmentSize: 16777216,
      segments: 7,
      newest: file("a"),
      restorable: file("b"),
      gaps: [],
      unusable: [],
      ...change,
    },
  });

  test("/wal is 200 when nothing is missing", async () => {
    archives = [archive()];
    const response = await client()("GET /wal");
    expect(response.status).toBe(200);
    expect(await json(response)).toMatchObject({
      ok: true,
      problems: [],
      archives: [
        {
          stanza: "main",
          repo: 1,
          archive_id: "15-1",
          newest: { segment: "a", stored: "2026-11-23T18:27:46+00:00" },
          restorable: { until: { segment: "b" }, last_commit: "2026-11-23T18:27:40.123456Z" },
        },
      ],
    });
  });

  test("/wal is 503 when a segment is, but not for what retention has removed", async () => {
    const gap = (first: string, segments: number, isRetention: boolean) => ({
      timeline: 1,
      first,
      last: `${first}Z`,
      segments,
      isRetention,
      nextStoredAt: 0,
    });
    archives = [archive({ gaps: [gap("R", 9, true)] })];
    expect((await client()("GET /wal")).status).toBe(200);
    archives = [archive({ gaps: [gap("R", 9, true), gap("A", 1, false), gap("B", 3, false)], unusable: [FULL] })];
    const response = await client()("GET /wal");
    expect(response.status).toBe(503);
    expect((await json(response)).problems).toEqual([
      'stanza "main" in repo1: WAL segment A is missing',
      'stanza "main" in repo1: 3 WAL segments are missing, B to BZ',
      `stanza "main" in repo1: backup ${FULL} cannot be restored: its own WAL is not complete`,
    ]);
  });

  test("/wal is 503 when no backup set is there to restore, although no segment is missing", async () => {
    archives = [archive({ restorable: null })];
    const response = await client()("GET /wal");
    expect(response.status).toBe(503);
    expect((await json(response)).problems).toEqual([
      'stanza "main" in repo1: nothing can be restored: no backup set has its WAL there',
    ]);
  });

  test("/wal is 503 when there is nothing that could be looked at", async () => {
    answers = [readAnswer("nope", MISSING_STANZA)];
    const response = await client({ stanzas: ["nope"] })("GET /wal");
    expect(response.status).toBe(503);
    expect(await json(response)).toEqual({
      ok: false,
      problems: ['stanza "nope": missing stanza path (code 1) in repo1'],
      archives: [],
    });
  });

  test("/wal is 503 when one repository of two could not be looked at", async () => {
    const repo = (key: number, code: number, message: string) => ({ cipher: "none", key, status: { code, message } });
    answers = [answer("main", [set(FULL)], { repo: [repo(1, 0, "ok"), repo(2, 99, "[HostConnectError] no")] })];
    archives = [archive()];
    expect((await json(client()("GET /wal"))).problems).toEqual([
      'stanza "main": [HostConnectError] no (code 99) in repo2',
    ]);
  });

  test("/healthz is alive whatever is wrong, /readyz says what", async () => {
    answers = new RestoreError("PREFLIGHT_FAILED", "no");
    expect(await json(client()("GET /healthz"))).toEqual({ alive: true });
    expect((await client()("GET /readyz")).status).toBe(200);
    notReady = ["it is being stopped"];
    const response = await client()("GET /readyz");
    expect(response.status).toBe(503);
    expect(await json(response)).toEqual({ ready: false, reasons: ["it is being stopped"] });
  });

  test("/metrics is what Prometheus reads", async () => {
    const response = await client()("GET /metrics");
    expect(response.headers.get("Content-Type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  });
});

describe("what goes wrong inside", () => {
  test("is told to the log, not to the client", async () => {
    answers = new TypeError("secret-internal is undefined") as Error;
    const response = await client()("GET /info");
    expect(response.status).toBe(500);
    const text = await response.text();
    expect(text).not.toMatch(/secret-internal|\.ts|at /);
    expect(log.lines).toContainEqual(
      expect.objectContaining({
        level: "error",
        message: "secret-internal is undefined",
        fields: { stack: expect.stringContaining("TypeError") },
      }),
    );
  });

  test("no token is in any answer or in the log", async () => {
    tokens = [TOKEN];
    const call = client();
    const headers = { authorization: `Bearer ${TOKEN}` };
    const texts: string[] = [];
    for (const request of [
      "POST /backups?wait=0",
      `GET /backups?x=${"y"}`,
      "GET /nowhere",
      "PUT /backups",
      "GET /info",
      "POST /verify?wait=x",
    ]) {
      const response = await call(request, { headers });
      texts.push(await response.text(), JSON.stringify([...response.headers]));
    }
    expect(texts.join("\n")).not.toContain(TOKEN);
    expect(JSON.stringify(log.lines)).not.toContain(TOKEN);
  });

  test("queries are not logged, and a long path is cut", async () => {
    await client()(`POST /backups?password=hunter2`);
    await client()(`DELETE /${"x".repeat(5000)}`);
    expect(JSON.stringify(log.lines)).not.toContain("hunter2");
    for (const { message } of log.lines) expect(message.length).toBeLessThan(300);
  });

  test("requests that change something, and those that fail, are logged with their address", async () => {
    const call = client();
    await call("GET /backups", { from: "10.9.9.9" });
    expect(log.lines.filter(({ phase }) => phase === "http")).toEqual([]);
    await call("POST /backups?wait=0", { from: "10.9.9.9" });
    expect(log.lines).toContainEqual(
      expect.objectContaining({
        phase: "http",
        message: "POST /backups",
        fields: expect.objectContaining({ status: 202, from: "10.9.9.9" }),
      }),
    );
  });
});
