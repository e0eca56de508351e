/** The HTTP server below an application: TLS with certificates that change, limits, and a clean end. */

import { createServer } from "node:http";
import { createServer as createTlsServer, type Server as TlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createSecureContext } from "node:tls";
import { getRequestListener } from "@hono/node-server";
import { messageOf, RestoreError } from "../errors.ts";
import { watchFile } from "./watched-file.ts";

export interface HttpServerOptions {
  listen: { host: string; port: number };
  tls: { certFile: string; keyFile: string } | null;
  /** The Fetch API's request and response, with the address of the client. */
  handle(request: Request, client: { address: string }): Response | Promise<Response>;
  /** A new certificate that cannot be used; the old one stays. */
  onTlsProblem(message: string): void;
}

export interface HttpServer {
  /** The one that it got when 0 was asked for. */
  port: number;
  /** Takes no more connections; those that still wait for an answer have so long. */
  close(limitMs: number): Promise<void>;
}

/** Slow clients, and those that only open connections, must not keep others out. */
const LIMITS = { headersTimeout: 10_000, requestTimeout: 30_000, keepAliveTimeout: 10_000, maxConnections: 1000 };

const LOOK_FOR_CERTIFICATE_MS = 5000;

/** Throws SETTINGS_INVALID when it cannot listen there, or the certificate cannot be used. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const listener = getRequestListener(
    (request, { incoming }) => options.handle(request, { address: incoming.socket?.remoteAddress ?? "" }),
    { hostname: "localhost" },
  );
  const { server, stopLooking } =
    options.tls === null
      ? { server: createServer(listener), stopLooking: () => {} }
      : tlsServer(options.tls, listener, options.onTlsProblem);
  Object.assign(server, LIMITS);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(cannotListen(options.listen, error)));
    server.listen({ host: options.listen.host, port: options.listen.port }, () => {
      server.removeAllListeners("error");
      server.on("error", () => {});
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    close(limitMs) {
      stopLooking();
      return new Promise((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), limitMs);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        server.closeIdleConnections();
      });
    },
  };
}

type Listener = ReturnType<typeof getRequestListener>;

function tlsServer(
  { certFile, keyFile }: { certFile: string; keyFile: string },
  listener: Listener,
  onProblem: (message: string) => void,
): { server: TlsServer; stopLooking: () => void } {
  const [cert, key] = [watchFile(certFile), watchFile(keyFile)];
  const read = () => ({ cert: cert.read(), key: key.read() });
  let current: { cert: string; key: string };
  try {
    current = read();
    createSecureContext(current);
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `cannot use ${certFile} with ${keyFile}: ${messageOf(error)}`, {
      hint: "both must be PEM files that this user can read, and the key must be the certificate's",
    });
  }
  const server = createTlsServer({ ...current, minVersion: "TLSv1.2" }, listener);
  const timer = setInterval(() => {
    try {
      const next = read();
      if (next.cert === current.cert && next.key === current.key) return;
      // Told once; certificate and key are two files, and for a moment only one of them may be new.
      current = next;
      createSecureContext(next);
      server.setSecureContext({ ...next, minVersion: "TLSv1.2" });
    } catch (error) {
      onProblem(`the new certificate in ${certFile} is not used: ${messageOf(error)}`);
    }
  }, LOOK_FOR_CERTIFICATE_MS).unref();
  return { server, stopLooking: () => clearInterval(timer) };
}

function cannotListen({ host, port }: HttpServerOptions["listen"], error: Error): RestoreError {
  const code = (error as NodeJS.ErrnoException).code;
  const reasons: Record<string, string> = {
    EADDRINUSE: "another process listens there",
    EACCES: "ports below 1024 need the privilege",
    EADDRNOTAVAIL: "this machine has no such address",
    ENOTFOUND: "there is no host of that name",
  };
  return new RestoreError(
    "SETTINGS_INVALID",
    `cannot listen on ${host} port ${port}: ${reasons[code ?? ""] ?? messageOf(error)}`,
    {
      hint: "give --listen HOST:PORT",
    },
  );
}
