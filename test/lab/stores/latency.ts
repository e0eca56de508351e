/** A TCP relay that makes the way to a store longer: every piece of data arrives later, and no work is done to it. */

import { connect, createServer, type Socket } from "node:net";
import type { Lab } from "../lab.ts";

export interface Relay {
  port: number;
  close(): Promise<void>;
}

/** `roundTripMs` is what a question and its answer take longer; opening a connection takes one round trip more too. */
export async function startRelay(lab: Lab, storePort: number, roundTripMs: number): Promise<Relay> {
  const port = await lab.freePort();
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (client) => {
    const store = connect({ host: "127.0.0.1", port: storePort, noDelay: true });
    for (const socket of [client, store]) {
      sockets.add(socket);
      socket.on("error", () => {}).once("close", () => sockets.delete(socket));
    }
    // The client already counts as connected: the time of that is paid by its first words.
    relay(client, store, roundTripMs / 2, roundTripMs);
    relay(store, client, roundTripMs / 2, 0);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen({ host: "127.0.0.1", port }, () => resolve());
  });
  return {
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** As much as a fast line holds on its way. */
const IN_FLIGHT = 8 * 1024 ** 2;

function relay(from: Socket, to: Socket, delayMs: number, firstMs: number): void {
  const openedAt = performance.now();
  let inFlight = 0;
  let last = 0;
  const later = (deed: () => void) => {
    const now = performance.now();
    last = Math.max(last, now + delayMs, openedAt + firstMs + delayMs);
    // Timers of different length may overtake each other by a fraction: what came first is done first.
    queue.push(deed);
    setTimeout(() => queue.shift()?.(), Math.max(0, last - now));
  };
  const queue: (() => void)[] = [];
  const readOn = () => {
    if (from.isPaused() && inFlight < IN_FLIGHT && !to.writableNeedDrain) from.resume();
  };
  to.on("drain", readOn).once("close", readOn);
  from.on("data", (piece: Buffer) => {
    inFlight += piece.length;
    if (inFlight > IN_FLIGHT) from.pause();
    later(() => {
      inFlight -= piece.length;
      if (!to.destroyed && !to.write(piece)) from.pause();
      readOn();
    });
  });
  from.once("end", () => later(() => to.end()));
  from.once("close", (hadError) => hadError && to.destroy());
}
