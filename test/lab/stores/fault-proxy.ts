/**
 * What may happen on the way to an object store: a TLS proxy before the real one that passes requests on, or does to each
 * what it is told. It runs in the test's own process, so a test can change its mind between two requests.
 */

import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Agent, createServer, request } from "node:https";
import type { Socket } from "node:net";
import { Transform } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Lab } from "../lab.ts";
import type { Certificates } from "./tls.ts";

export type Fault =
  | "pass"
  /** The store answers so instead, with an error of S3's form. */
  | 403
  | 500
  | 503
  /** The connection is reset after half of the answer's body. */
  | "cut"
  /** No answer, and the connection stays open. */
  | "stall"
  /** The port is closed from here on, with every connection: as if the store were gone, until `accept()`. */
  | "refuse"
  | { bytesPerSecond: number };

export interface FaultProxy {
  port: number;
  /** Asked for each request; "pass" from the beginning. */
  decide: (request: { method: string; path: string }) => Fault;
  /** Requests to which something was done. */
  faults: number;
  refuse(): Promise<void>;
  accept(): Promise<void>;
  close(): Promise<void>;
}

const CODES = { 403: "AccessDenied", 500: "InternalError", 503: "SlowDown" } as const;

/** `certificates`: for its own side, and the store's must be of the same authority. */
export async function startFaultProxy(lab: Lab, storePort: number, certificates: Certificates): Promise<FaultProxy> {
  const ca = readFileSync(certificates.caFile);
  const agent = new Agent({ keepAlive: true, ca, servername: "localhost" });
  const server = createServer({ cert: readFileSync(certificates.certFile), key: readFileSync(certificates.keyFile) });
  const sockets = new Set<Socket>();
  // The TCP connections below TLS: only those can be reset.
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  server.on("tlsClientError", () => {});
  const port = await lab.freePort();

  const proxy: FaultProxy = {
    port,
    decide: () => "pass",
    faults: 0,
    refuse: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.resetAndDestroy();
      }),
    accept: () => (server.listening ? Promise.resolve() : listen()),
    async close() {
      if (server.listening) await proxy.refuse();
      agent.destroy();
    },
  };
  const listen = () =>
    new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host: "127.0.0.1", port }, () => resolve());
    });

  server.on("request", (asked: IncomingMessage, answer: ServerResponse) => {
    const fault = proxy.decide({ method: asked.method ?? "", path: asked.url ?? "" });
    if (fault !== "pass") proxy.faults++;
    answer.on("error", () => {});
    asked.on("error", () => {});
    if (fault === "stall") return;
    if (fault === "refuse") return void proxy.refuse();
    if (typeof fault === "number") return refuseRequest(asked, answer, fault);
    passOn(asked, answer, fault);
  });

  function passOn(asked: IncomingMessage, answer: ServerResponse, fault: "pass" | "cut" | { bytesPerSecond: number }) {
    const { method, url: path, headers } = asked;
    // Headers as they are: the signature covers them.
    const upstream = request({ host: "127.0.0.1", port: storePort, method, path, headers, agent }, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.on("error", () => answer.destroy());
      if (fault === "pass") response.pipe(answer);
      else if (fault === "cut") cutInTheMiddle(response, answer);
      else response.pipe(throttle(fault.bytesPerSecond)).pipe(answer);
    });
    upstream.on("error", () => answer.destroy());
    answer.on("close", () => {
      if (!answer.writableFinished) upstream.destroy();
    });
    asked.pipe(upstream);
  }

  await listen();
  return proxy;
}

function refuseRequest(asked: IncomingMessage, answer: ServerResponse, status: keyof typeof CODES): void {
  const text = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${CODES[status]}</Code></Error>`;
  // Only when the whole request was read: an answer in its middle is another kind of failure.
  asked.resume().once("end", () => {
    answer.writeHead(status, { "content-type": "application/xml", "content-length": Buffer.byteLength(text) });
    answer.end(text);
  });
}

function cutInTheMiddle(response: IncomingMessage, answer: ServerResponse): void {
  const half = Number(response.headers["content-length"] ?? 0) / 2;
  let passed = 0;
  response.on("data", (chunk: Buffer) => {
    answer.write(chunk.subarray(0, Math.max(half - passed, 0)));
    passed += chunk.length;
    if (passed < half) return;
    response.destroy();
    // What was written has left this process by then.
    setTimeout(() => answer.socket?.destroy(), 50);
  });
}

function throttle(bytesPerSecond: number): Transform {
  return new Transform({
    async transform(chunk: Buffer, _encoding, done) {
      const tenth = Math.ceil(bytesPerSecond / 10);
      for (let at = 0; at < chunk.length && !this.destroyed; at += tenth) {
        const piece = chunk.subarray(at, at + tenth);
        this.push(piece);
        await sleep((piece.length / bytesPerSecond) * 1000);
      }
      done();
    },
  });
}
