/** Free TCP ports on 127.0.0.1, found at run time. */

import { createServer } from "node:net";

/** Below the kernel's ephemeral range (32768), whose ports any outgoing connection may take in between. */
const [FIRST = 20_000, LAST = 29_999] = (process.env.LAB_PORTS ?? "20000-29999").split("-").map(Number);

const given = new Set<number>();

/** A random start keeps labs that run side by side apart. */
export async function freePort(): Promise<number> {
  const size = LAST - FIRST + 1;
  const start = Math.floor(Math.random() * size);
  for (let step = 0; step < size; step++) {
    const port = FIRST + ((start + step) % size);
    if (!given.has(port) && (await isFree(port))) {
      given.add(port);
      return port;
    }
  }
  throw new Error(`no free port between ${FIRST} and ${LAST}`);
}

export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}
