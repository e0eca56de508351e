/** What lab test files have in common: a lab per file, evidence when a test fails, nothing left at the end. */

import { afterAll, afterEach, beforeAll, inject } from "vitest";
import { assertNothingRuns, type Lab, openLab } from "./lab.ts";
import type { Source } from "./source.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** Set by `global-setup.ts`: one source with stanza and backups for every test file. */
    sharedSource: Source;
  }
}

/** Real services take their time on a busy machine; a test that hangs still ends. */
export const SETUP_LIMIT_MS = 180_000;

/**
 * Opens a lab for this test file and closes it after. `setUp` prepares what its tests share; what it returns, and the lab,
 * are there as soon as tests run:
 *
 *     const lab = useLab("detach", async (lab) => ({ source: await startSource(lab) }));
 *     test("…", async () => { await lab().runScript("bootstrap", […]); lab().source });
 */
export function useLab<T extends object>(name: string, setUp: (lab: Lab) => Promise<T>): () => Lab & T {
  let ready: (Lab & T) | undefined;
  let lab: Lab | undefined;
  beforeAll(async () => {
    lab = await openLab(name);
    try {
      ready = Object.assign(lab, await setUp(lab));
    } catch (error) {
      await lab.keepEvidence(`${name} set-up`);
      await lab.close();
      throw error;
    }
  }, SETUP_LIMIT_MS);
  afterEach(async ({ task }) => {
    if (task.result?.state === "fail") await lab?.keepEvidence(`${name} ${task.name}`);
  });
  afterAll(async () => {
    await lab?.close();
    if (lab) assertNothingRuns(lab);
  }, SETUP_LIMIT_MS);
  return () => {
    if (ready === undefined) throw new Error(`the lab "${name}" is there only while tests run`);
    return ready;
  };
}

/** The source that all lab tests share: to be read and marked, never to be damaged (`copyRepository` for that). */
export const sharedSource = (): Source => inject("sharedSource");
