/** What both runners share. */

import { readTextIfExists } from "../io/files.ts";
import type { Log } from "../log.ts";
import type { Receipt } from "../mark/receipt.ts";
import type { Report } from "../report/report.ts";
import type { PatroniConfigInput } from "./patroni-config.ts";
import type { Preparation } from "./prepare.ts";
import type { Running } from "./teardown.ts";

export interface Run {
  preparation: Preparation;
  receipt: Receipt | null;
  /** Filled while things are started, so that the teardown knows them at every moment. */
  running: Running;
  /** The servers go on when this process ends. */
  keep: boolean;
  environment: NodeJS.ProcessEnv;
  config: Pick<PatroniConfigInput, "layout" | "template" | "node" | "binDir" | "superuser" | "sharedPreloadLibraries">;
  /** The etcd that was given. */
  etcd: string | undefined;
  log: Log;
  logFormat: "text" | "json";
  signal: AbortSignal;
}

/** Null when there is none, or none that can be read: a killed process cannot leave half a file. */
export async function readReport(path: string): Promise<Report | null> {
  const text = await readTextIfExists(path);
  if (text === undefined) return null;
  try {
    return JSON.parse(text) as Report;
  } catch {
    return null;
  }
}
