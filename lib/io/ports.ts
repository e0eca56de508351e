/** TCP ports of 127.0.0.1 that nobody listens on. */

import { createServer, type Server } from "node:net";

/**
 * `count` different free ports, chosen by the kernel. They are free when this returns; somebody else can still take one
 * before its server starts, which then says so.
 */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listen));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function listen(): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server));
  });
}
