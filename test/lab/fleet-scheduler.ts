/**
 * A scheduler that only keeps the record busy, in a process that can be killed: while it leads it begins tests, takes them
 * through their statuses and ends them, those of a dead scheduler too. One argument, JSON.
 */

import type { Limits } from "../../lib/fleet/decide.ts";
import { openStore } from "../../lib/fleet/record/open.ts";
import { newTestId, type Status, type Test } from "../../lib/fleet/test.ts";
import type { Log } from "../../lib/log.ts";
import { parseConninfo } from "../../lib/postgres/conninfo.ts";

export interface SchedulerSettings {
  name: string;
  conninfo: string;
  limits: Limits;
  /** It starts tests of these; none for one that only leads. */
  services: readonly string[];
}

const settings = JSON.parse(process.argv[2] ?? "{}") as SchedulerSettings;
const say = (text: string) => console.log(`${settings.name}: ${text}`);
const log: Log = {
  info: (_phase, message) => say(message),
  warn: (_phase, message) => say(message),
  error: (_phase, message) => say(message),
  progress: () => ({ update: () => {}, end: () => {} }),
};
const store = await openStore({
  conninfo: parseConninfo(settings.conninfo),
  scheduler: settings.name,
  retention: { reportsMs: 86_400_000, historyMs: 86_400_000 },
  log,
});
process.on("SIGTERM", () => void store.close().then(() => process.exit(0)));

const namespaceOf = (service: string) => service.slice(0, service.indexOf("/"));

function newTest(service: string): Test {
  const now = Date.now();
  return {
    id: newTestId(),
    service,
    namespace: namespaceOf(service),
    scope: service,
    stanza: "demo",
    groups: { node: `n${service.length % 3}` },
    weight: 1,
    reason: "because",
    requestedAt: new Date(now),
    deadlineAt: new Date(now + 60_000),
    scheduler: settings.name,
  };
}

async function takeThrough(test: Test): Promise<void> {
  for (const status of ["marking", "restoring", "recovering", "verifying"] as const satisfies readonly Status[]) {
    void store.record({ test: test.id, service: test.service, status, at: new Date() });
  }
  const end = { outcome: "healthy", error: null, report: null } as const;
  await store.record({ test: test.id, service: test.service, status: "healthy", at: new Date(), end });
}

const busy = new Set<string>();
async function adopt(test: Test): Promise<void> {
  if (busy.has(test.id)) return;
  busy.add(test.id);
  await takeThrough(test);
  busy.delete(test.id);
}

for (;;) {
  await new Promise((resolve) => setTimeout(resolve, settings.services.length === 0 ? 100 : 1));
  if (!store.leads() || settings.services.length === 0) continue;
  try {
    const service = settings.services[Math.floor(Math.random() * settings.services.length)] as string;
    const test = newTest(service);
    if ((await store.begin(test, settings.limits)) === null && Math.random() < 0.5) void adopt(test);
    if (Math.random() < 0.2) for (const left of (await store.changes()).running) void adopt(left);
  } catch {
    // Away; the next leader, or this one later, finds what is left.
  }
}
