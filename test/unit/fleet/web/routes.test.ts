/** The API of the fleet as its clients see it: requests in, responses out. */

import { beforeEach, describe, expect, test } from "vitest";
import { RestoreError } from "../../../../lib/errors.ts";
import type { FleetView, ServiceView } from "../../../../lib/fleet/view.ts";
import type { FleetApi } from "../../../../lib/fleet/web/api.ts";
import { about, createFleetApp, fleetRoutes } from "../../../../lib/fleet/web/routes.ts";
import { openApiDocument } from "../../../../lib/http/openapi.ts";
import {
  EVIL,
  fleet,
  HOUR,
  healthy,
  pastTest,
  report,
  SERVICES,
  service,
  standing,
  view,
} from "../../../fixtures/fleet.ts";
import { fakeLog } from "../../backup-api/samples.ts";

const TOKEN = "0123456789abcdef0123456789abcdef";

let shown: FleetView;
let asked: string[];
let away: string | null;
let tokens: (() => readonly string[]) | null;

const recorded = <T>(value: T): T => {
  if (away !== null) throw new RestoreError("SOURCE_UNREACHABLE", away, { hint: "start it" });
  return value;
};
const shop = () => shown.services[0] as ServiceView;

const api: FleetApi = {
  view: () => shown,
  history: {
    tests: async (id, limit) => {
      asked.push(`tests of ${id}, ${limit}`);
      return recorded([pastTest(shop(), "t1", "healthy", HOUR)]);
    },
    test: async (id) =>
      recorded(
        id === "t1"
          ? {
              ...pastTest(shop(), "t1", "unhealthy", HOUR),
              statuses: [{ status: "requested", at: new Date(0) }],
              report: report(),
            }
          : null,
      ),
  },
  want: async (id, by) => void asked.push(recorded(`want ${id} by ${by}`)),
  countBackup: async (id, label) => void asked.push(recorded(`count ${id} ${label}`)),
  explain: () => ["it is due", "2 tests are in progress, and no more than 2 may be"],
  metrics: async () => "up 1\n",
};

beforeEach(() => {
  [shown, asked, away, tokens] = [fleet(), [], null, null];
});

async function call(request: string, body?: unknown, headers: Record<string, string> = {}) {
  const [method = "", path = ""] = request.split(" ");
  const app = createFleetApp({ api, tokens, rateLimit: 1000, version: "1.2.3", log: fakeLog() });
  const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
  const response = await app(new Request(`http://localhost${path}`, init), { address: "10.0.0.1" });
  const text = await response.text();
  const isJson = response.headers.get("content-type") === "application/json";
  return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : null };
}

describe("GET /services", () => {
  test("the whole fleet", async () => {
    const { status, json } = await call("GET /services");
    expect(status).toBe(200);
    expect(json.services.map(({ id }: { id: string }) => id)).toEqual(SERVICES.map((one) => one.service.id));
  });

  test("by namespace and verdict", async () => {
    const { json } = await call("GET /services?namespace=archive&verdict=source&verdict=NEVER");
    expect(json.services.map(({ id }: { id: string }) => id)).toEqual(["archive/users", "archive/new"]);
  });

  test("a verdict that is none is refused by name", async () => {
    const { status, json } = await call("GET /services?verdict=good");
    expect(status).toBe(400);
    expect(json.error).toBe("verdict is not one of healthy, unhealthy, restore, source, infra, cancelled, never");
  });

  test("a long answer is compressed for whoever takes it", async () => {
    shown = fleet(Array.from({ length: 200 }, (_, n) => healthy(`a/${n}`, HOUR)));
    const app = createFleetApp({ api, tokens, rateLimit: 1000, version: "1", log: fakeLog() });
    const response = await app(new Request("http://localhost/services", { headers: { "Accept-Encoding": "gzip" } }), {
      address: "::1",
    });
    expect(response.headers.get("content-encoding")).toBe("gzip");
    const plain = response.body?.pipeThrough(new DecompressionStream("gzip"));
    expect(await new Response(plain ?? null).json()).toMatchObject({ counts: { total: 200 } });
  });
});

describe("GET /service", () => {
  test("what is decided, why, and its tests", async () => {
    const { status, json } = await call("GET /service?id=databases%2Fshop&limit=3");
    expect(status).toBe(200);
    expect(json).toMatchObject({
      id: "databases/shop",
      explanation: api.explain(""),
      tests: [{ id: "t1" }],
      tests_problem: null,
    });
    expect(asked).toEqual(["tests of databases/shop, 3"]);
  });

  test("without the record, what is known without it", async () => {
    away = "no connection";
    const { status, json } = await call("GET /service?id=databases/shop");
    expect(status).toBe(200);
    expect(json).toMatchObject({ verdict: "healthy", tests: null, tests_problem: "no connection" });
  });

  test("a service that is misspelt is guessed", async () => {
    expect((await call("GET /service?id=web/sesions")).json).toMatchObject({ hint: 'did you mean "web/sessions"' });
    expect((await call(`GET /service?id=${"x".repeat(500)}`)).json.hint).toContain("fleet status");
  });

  test.each([
    ["GET /service?id=nobody", 404, 'there is no service "nobody"'],
    ["GET /service", 400, "id must be text"],
    ["GET /service?id=a&limit=0", 400, "limit is less than 1"],
    ["GET /service?id=a&limit=501", 400, "limit is more than 500"],
  ])("%s: %i", async (request, status, error) => {
    expect(await call(request)).toMatchObject({ status, json: { error } });
  });
});

describe("GET /tests", () => {
  test("of all, or of one", async () => {
    expect((await call("GET /tests")).json).toMatchObject([{ id: "t1" }]);
    await call("GET /tests?service=a%2Fb&limit=7");
    expect(asked).toEqual(["tests of null, 50", "tests of a/b, 7"]);
  });

  test("one with its statuses and its report", async () => {
    const { json } = await call("GET /tests/t1");
    expect(json).toMatchObject({ id: "t1", statuses: [{ status: "requested" }], report: { verdict: "unhealthy" } });
    expect(await call("GET /tests/t2")).toMatchObject({ status: 404, json: { error: 'there is no test "t2"' } });
  });

  test("503 with the reason while the record is away", async () => {
    away = "no connection";
    expect(await call("GET /tests")).toMatchObject({ status: 503, json: { error: "no connection", hint: "start it" } });
  });
});

describe("POST /tests", () => {
  test("of a service", async () => {
    const { status, headers, json } = await call("POST /tests", { service: "databases/shop" });
    expect(status).toBe(202);
    expect(headers.get("location")).toBe("/service?id=databases%2Fshop");
    expect(json).toEqual({ wanted: ["databases/shop"], counted: [], refused: [] });
    expect(asked).toEqual(["want databases/shop by a request"]);
  });

  test("of a stanza: of every service that has it", async () => {
    const { status, json } = await call("POST /tests", { stanza: "shared" });
    expect(status).toBe(202);
    expect(json.wanted).toEqual(["databases/cart", "databases/billing"]);
  });

  test("a new backup is counted where tests follow backups, and is a wish elsewhere", async () => {
    const { status, json } = await call("POST /tests", { stanza: "shared", backup: "20261123-010001F" });
    expect(status).toBe(202);
    expect(json).toEqual({ wanted: ["databases/cart"], counted: ["databases/billing"], refused: [] });
    expect(asked).toEqual([
      "want databases/cart by backup 20261123-010001F",
      "count databases/billing 20261123-010001F",
    ]);
  });

  test("a backup whose label pgBackRest did not say is one all the same", async () => {
    const { json } = await call("POST /tests", { stanza: "shared", backup: null });
    expect(json.counted).toEqual(["databases/billing"]);
    expect(asked[1]).toMatch(/^count databases\/billing unknown \d{4}-/);
  });

  test.each([
    [{ service: "nobody" }, 404, 'there is no service "nobody"'],
    [{ stanza: "nothing" }, 404, 'no service has the stanza "nothing"'],
    [{ service: "web/sessions" }, 409, 'a test of "web/sessions" is in progress: 11112222'],
    [{ service: "web/misspelt" }, 409, '"web/misspelt" can\'t be tested: the annotation interval is "1 dya"'],
    [{}, 400, "service is missing"],
    [{ service: "a", stanza: "b" }, 400, "service and stanza do not go together"],
    [{ service: "a", backup: "b" }, 400, "backup goes together with stanza"],
    [{ servce: "a" }, 400, 'unknown key "servce"'],
    [{ service: "" }, 400, "service is empty"],
  ])("%j: %i", async (body, status, error) => {
    const answer = await call("POST /tests", body);
    expect(answer.status).toBe(status);
    expect(answer.json.error).toContain(error);
    expect(asked).toEqual([]);
  });

  test("of several, one that is in progress does not keep the others", async () => {
    const running = { test: "1", status: "marking", since: new Date() } as const;
    shown = fleet([healthy("a", HOUR, { stanza: "s" }), { ...healthy("b", HOUR, { stanza: "s" }), running }]);
    const { status, json } = await call("POST /tests", { stanza: "s" });
    expect(status).toBe(202);
    expect(json).toEqual({ wanted: ["a"], counted: [], refused: ['a test of "b" is in progress: 1'] });
  });

  test("503 with the reason while the record is away", async () => {
    away = "no connection";
    expect(await call("POST /tests", { service: "databases/shop" })).toMatchObject({
      status: 503,
      json: { error: away },
    });
  });

  test("a name that looks like something else leads to its own place", async () => {
    shown = fleet([view(service(EVIL), standing())]);
    const { headers } = await call("POST /tests", { service: EVIL });
    expect(headers.get("location")).toBe(`/service?id=${encodeURIComponent(EVIL)}`);
  });
});

describe("probes", () => {
  test("it is ready while it is a standby too", async () => {
    shown = fleet(SERVICES, { leads: false });
    expect(await call("GET /readyz")).toMatchObject({ status: 200, json: { ready: true, reasons: [] } });
  });

  test("it is not while the record or the watch is away, and lives all the same", async () => {
    shown = fleet(SERVICES, { problems: ["the record is away"] });
    expect(await call("GET /readyz")).toMatchObject({
      status: 503,
      json: { ready: false, reasons: ["the record is away"] },
    });
    expect((await call("GET /healthz")).status).toBe(200);
  });
});

describe("tokens", () => {
  const routes = fleetRoutes(api).map(({ method, path, isPublic }) => ({ request: `${method} ${path}`, isPublic }));

  test.each(routes.filter(({ isPublic }) => !isPublic))("$request needs one", async ({ request }) => {
    tokens = () => [TOKEN];
    const { status, headers } = await call(request);
    expect(status).toBe(401);
    expect(headers.get("www-authenticate")).toBe('Bearer realm="fleet"');
    expect((await call(request, undefined, { Authorization: `Bearer ${TOKEN}` })).status).not.toBe(401);
  });

  test("public is what holds nothing of the fleet", async () => {
    tokens = () => [TOKEN];
    for (const { request } of routes.filter(({ isPublic }) => isPublic)) {
      const { text } = await call(request);
      expect(text, request).not.toContain("databases/shop");
    }
  });
});

describe("the page", () => {
  test("may load and run nothing but its own files, which are there and not empty", async () => {
    const { headers, text } = await call("GET /");
    const policy = headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("script-src 'self'");
    expect(policy).not.toContain("unsafe");
    expect(text).not.toMatch(/https?:|\bstyle=|\son\w+=|<script(?! type="module" src=")/);
    const files = [...text.matchAll(/(?:src|href)="(page\/[^"]+)"/g)].map(([, path]) => path);
    const script = await call("GET /page/main.js");
    const imported = [...script.text.matchAll(/from "\.\/([^"]+)"/g)].map(([, name]) => `page/${name}`);
    expect(imported.length).toBeGreaterThan(3);
    for (const path of [...files, ...imported]) {
      const file = await call(`GET /${path}`);
      expect(file.status, path).toBe(200);
      expect(file.text.length, path).toBeGreaterThan(300);
      expect(file.headers.get("content-type"), path).toMatch(/^text\/(css|javascript); charset=utf-8$/);
    }
  });

  test("no script makes elements from text", async () => {
    for (const { path } of fleetRoutes(api).filter((route) => route.path.endsWith(".js"))) {
      const { text } = await call(`GET ${path}`);
      expect(text, path).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/);
    }
  });
});

test("the document has every route, and the page of it is at /api", async () => {
  const { paths } = openApiDocument(fleetRoutes(api), about("1.2.3"));
  expect((await call("GET /openapi.json")).json.paths).toEqual(JSON.parse(JSON.stringify(paths)));
  expect(Object.keys(paths)).toEqual(
    expect.arrayContaining(["/services", "/service", "/tests", "/tests/{id}", "/metrics"]),
  );
  expect((await call("GET /api")).text).toContain("fleet of patroni-restore 1.2.3");
  expect(await call("GET /nothing")).toMatchObject({ status: 404, json: { hint: "GET /api shows what there is" } });
  expect((await call("DELETE /tests")).headers.get("allow")).toBe("GET, POST");
});
