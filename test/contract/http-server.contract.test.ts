/** lib/io/http-server.ts with real sockets: what the API relies on below its routes. */

import http from "node:http";
import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { type HttpServer, type HttpServerOptions, startHttpServer } from "../../lib/io/http-server.ts";

const servers: HttpServer[] = [];
afterEach(() => Promise.all(servers.splice(0).map((server) => server.close(0))));

async function start(handle: HttpServerOptions["handle"], host = "127.0.0.1", port = 0): Promise<HttpServer> {
  const server = await startHttpServer({ listen: { host, port }, tls: null, handle, onTlsProblem() {} });
  servers.push(server);
  return server;
}

const ok = () => new Response("ok");

function get(port: number, options: http.RequestOptions = {}): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    http
      .get({ port, host: "127.0.0.1", path: "/", agent: false, ...options }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk) => {
          text += chunk;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
        response.on("error", reject);
      })
      .on("error", reject);
  });
}

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test("tells the port that it got and the address that asks", async () => {
  const { port } = await start((request, { address }) => new Response(`${new URL(request.url).pathname} ${address}`));
  expect(port).toBeGreaterThan(0);
  expect(await get(port, { path: "/a/b?c=d" })).toEqual({ status: 200, text: "/a/b 127.0.0.1" });
});

test("a request without a host's name, or with an odd one, is answered", async () => {
  const { port } = await start((request) => new Response(new URL(request.url).pathname));
  for (const host of ["db-1:8081", "[::1]:8081", "", "x y"]) {
    const { status } = await get(port, { headers: { host } });
    expect([200, 400], host).toContain(status);
  }
  expect((await get(port)).status).toBe(200);
});

test("a handler that throws costs one answer, not the server", async () => {
  let calls = 0;
  const { port } = await start(() => {
    if (calls++ === 0) throw new Error("no");
    return ok();
  });
  expect((await get(port)).status).toBe(500);
  expect(await get(port)).toEqual({ status: 200, text: "ok" });
});

test("the request is aborted when its client has gone", async () => {
  let gone: () => void = () => {};
  const isGone = new Promise<void>((resolve) => {
    gone = resolve;
  });
  const { port } = await start((request) => {
    request.signal.addEventListener("abort", () => gone());
    return new Promise<Response>(() => {});
  });
  const asked = http.get({ port, host: "127.0.0.1", path: "/", agent: false }).on("error", () => {});
  await later(100);
  asked.destroy();
  await isGone;
});

describe("where it cannot listen", () => {
  test.each([
    { host: "192.0.2.1", says: "this machine has no such address" },
    { host: "no-such-host.invalid", says: /no host of that name|EAI_AGAIN/ },
  ])("$host: $says", async ({ host, says }) => {
    const error = await start(ok, host).catch((thrown: Error) => thrown);
    expect(error).toMatchObject({ code: "SETTINGS_INVALID", hint: "give --listen HOST:PORT" });
    expect((error as Error).message).toMatch(says);
  });

  test("a port that is taken", async () => {
    const { port } = await start(ok);
    await expect(start(ok, "127.0.0.1", port)).rejects.toMatchObject({
      code: "SETTINGS_INVALID",
      message: `cannot listen on 127.0.0.1 port ${port}: another process listens there`,
    });
  });
});

describe("its end", () => {
  test("an answer that is under way arrives", async () => {
    let answer: () => void = () => {};
    const server = await start(
      () =>
        new Promise<Response>((resolve) => {
          answer = () => resolve(ok());
        }),
    );
    const asking = get(server.port);
    await later(100);
    const closed = server.close(10_000);
    answer();
    expect(await asking).toEqual({ status: 200, text: "ok" });
    await closed;
  });

  test("who waits longer is cut off after the limit", async () => {
    const server = await start(() => new Promise<Response>(() => {}));
    const asking = get(server.port).catch((error: NodeJS.ErrnoException) => error.code);
    await later(100);
    await server.close(50);
    expect(await asking).toBe("ECONNRESET");
  });

  test("connections that only stand there do not keep it", async () => {
    const server = await start(ok);
    const agent = new http.Agent({ keepAlive: true });
    await get(server.port, { agent });
    const silent = connect(server.port, "127.0.0.1").on("error", () => {});
    await new Promise((resolve) => silent.once("connect", resolve));
    await server.close(100);
    await expect(get(server.port)).rejects.toThrow("ECONNREFUSED");
    agent.destroy();
    silent.destroy();
  });
});
