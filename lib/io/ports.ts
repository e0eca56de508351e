/** TCP ports of 127.0.0.1 that nobody listens on. */

import { randomInt } from "node:crypto";
import { createServer } from "node:net";

/** Above the services that have a number of their own, below those that Linux gives to outgoing connections (32768). */
const FIRST = 12_000;
const LAST = 32_767;
const ATTEMPTS = 1000;

/**
 * `count` different free ports. They are free when this returns; somebody else can still take one before its server
 * starts, which then says so.
 */
export async function freePorts(count: number): Promise<number[]> {
  const found = new Set<number>();
  for (let attempt = 0; attempt < ATTEMPTS && found.size < count; attempt++) {
    const port = randomInt(FIRST, LAST + 1);
    if (await isFree(port)) found.add(port);
  }
  if (found.size < count) throw new Error(`no ${count} free ports between ${FIRST} and ${LAST} on 127.0.0.1`);
  return [...found];
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
