/** Before all lab tests: one source with a stanza, a full and an incremental backup, in a lab of its own. */

import type { TestProject } from "vitest/node";
import "./fixture.ts";
import { openLab } from "./lab.ts";
import { useFastestPlace } from "./place.ts";
import { freeSharedMemory, sharedMemory } from "./shared-memory.ts";
import { APP_DATABASE, archiveWal, backup, createStanza, loadSchema, query, startSource } from "./source.ts";

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await useFastestPlace();
  const memory = sharedMemory();
  const lab = await openLab("shared");
  try {
    const { service: _, ...source } = await startSource(lab, { stanza: "shared" });
    await loadSchema(lab, source);
    await createStanza(lab, source);
    await backup(lab, source, "full");
    await query(source, "UPDATE pgbench_accounts SET abalance = 1 WHERE aid % 100 = 0", { database: APP_DATABASE });
    await backup(lab, source, "incr");
    await archiveWal(source);
    project.provide("sharedSource", source);
  } catch (error) {
    await lab.keepEvidence("shared source");
    await lab.close();
    throw error;
  }
  return async () => {
    await lab.close();
    freeSharedMemory(memory);
  };
}
