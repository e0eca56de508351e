import { describe, expect, test } from "vitest";
import { z } from "zod";
import { type Api, about, type Route } from "../../../lib/backup-api/route.ts";
import { routes } from "../../../lib/backup-api/routes.ts";
import { openApiDocument } from "../../../lib/http/openapi.ts";
import { renderPage } from "../../../lib/http/page.ts";

const api = {
  stanzas: ["main"],
  jobs: {},
  repository: { info: {}, archive: {} },
  hasRestoreTest: true,
} as unknown as Api;
const table = routes(api);
const document = openApiDocument(table, about("1.2.3"));
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
);

describe("the document is OpenAPI 3.1", () => {
  test("with its required members", () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    expect(document.info).toMatchObject({ title: expect.any(String), version: "1.2.3" });
    expect(JSON.parse(JSON.stringify(document))).toEqual(document);
  });

  test("every path begins with a slash, and each of its templates is a parameter", () => {
    for (const { path, operation } of operations) {
      expect(path).toMatch(/^\/[\w/{}-]*$/);
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      const parameters = operation.parameters.filter((one) => one.in === "path");
      expect(parameters.map(({ name }) => name)).toEqual(names);
      for (const { required } of parameters) expect(required).toBe(true);
    }
  });

  test("methods, parameters and answers are what the specification knows", () => {
    for (const { path, method, operation } of operations) {
      expect(["get", "post", "delete"]).toContain(method);
      expect(operation.summary.length).toBeGreaterThan(3);
      const keys = operation.parameters.map((one) => `${one.in} ${one.name}`);
      expect(new Set(keys).size, `${method} ${path}`).toBe(keys.length);
      for (const parameter of operation.parameters) {
        expect(["path", "query"]).toContain(parameter.in);
        expect(Object.keys(parameter.schema).length, `${method} ${path} ${parameter.name}`).toBeGreaterThan(0);
      }
      expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
      for (const [status, { description }] of Object.entries(operation.responses)) {
        expect(status).toMatch(/^[2-5]\d\d$/);
        expect(description.length).toBeGreaterThan(0);
      }
    }
  });

  test("schemas have no $schema and no reference that leads nowhere", () => {
    expect(JSON.stringify(document)).not.toMatch(/"\$(schema|ref)"/);
  });

  test("security names a scheme that is there, and only the public routes need none", () => {
    const { securitySchemes } = document.components as { securitySchemes: object };
    expect(securitySchemes).toEqual({ bearer: { type: "http", scheme: "bearer" } });
    expect(document.security).toEqual([{ bearer: [] }]);
    const open = operations.filter(({ operation }) => operation.security !== undefined);
    expect(open.map(({ path, operation }) => [path, operation.security])).toEqual([
      ["/healthz", []],
      ["/readyz", []],
    ]);
    for (const { path, operation } of operations) {
      expect("401" in operation.responses, path).toBe(operation.security === undefined);
    }
  });
});

describe("the document is complete", () => {
  test.each(table)("$method $path", ({ method, path, answers }) => {
    const operation = document.paths[path.replace(":label", "{label}")]?.[method.toLowerCase()];
    expect(operation?.responses).toMatchObject(
      Object.fromEntries(Object.entries(answers).map(([status, description]) => [status, { description }])),
    );
  });

  test("and has nothing else", () => {
    expect(operations).toHaveLength(table.length);
  });

  test("restore tests are there when there is one", () => {
    const without = openApiDocument(routes({ ...api, hasRestoreTest: false }), about("1"));
    expect(Object.keys(document.paths)).toContain("/restore-tests");
    expect(Object.keys(without.paths)).not.toContain("/restore-tests");
  });

  test("bodies and parameters say what is valid", () => {
    expect(document.paths["/backups"]?.post?.requestBody).toMatchObject({
      content: {
        "application/json": {
          schema: {
            type: "object",
            properties: { type: { enum: ["full", "diff", "incr"], default: "full" }, stanza: { type: "string" } },
            additionalProperties: false,
          },
        },
      },
    });
    expect(document.paths["/backups"]?.post?.parameters).toEqual([
      expect.objectContaining({
        name: "wait",
        in: "query",
        required: false,
        schema: expect.objectContaining({ minimum: 0, maximum: 86400 }),
      }),
    ]);
    expect(document.paths["/backups"]?.get?.parameters.map(({ name }) => name)).toEqual(["status", "stanza"]);
  });
});

describe("the page", () => {
  test("has every route", () => {
    const page = renderPage(document);
    for (const { path, method, operation } of operations) {
      expect(page).toContain(`<b>${method.toUpperCase()}</b> ${path}</h2>`);
      expect(page).toContain(operation.summary);
    }
    expect(page).toContain("full, diff, incr");
  });

  test("loads nothing from anywhere and runs nothing", () => {
    expect(renderPage(document)).not.toMatch(/<script|<link|\bsrc=|https?:\/\/|@import|\bon\w+=/i);
  });

  test("shows what looks like HTML as text", () => {
    const evil = '<script>alert("1")</script>&amp;';
    const route: Route = {
      method: "POST",
      path: "/x",
      summary: evil,
      query: z.strictObject({ wait: z.string().describe(evil) }),
      body: z.strictObject({ [evil]: z.string().describe(evil) }),
      answers: { 200: evil },
      handle: () => ({ status: 200, text: "" }),
    };
    const page = renderPage(openApiDocument([route], about(evil)));
    expect(page).not.toContain("<script");
    expect(page.split("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;amp;").length).toBeGreaterThanOrEqual(6);
  });
});
