/** `fleet status`, `explain` and `test`: questions to a fleet that runs. */

import { messageOf, RestoreError } from "../errors.ts";
import { describeFileError } from "../io/files.ts";
import { type Answer, requestJson } from "../io/http-client.ts";
import { watchFile } from "../io/watched-file.ts";
import type { Settings } from "../options.ts";
import type { FleetJson, ServiceDetailsJson } from "./web/present.ts";
import { describeExplanation, describeStatus } from "./web/status-table.ts";

export const FLEET_ASK_OPTIONS = ["url", "tokenFile", "json"] as const;
export type FleetAskSettings = Settings<(typeof FLEET_ASK_OPTIONS)[number]>;

export interface Asking {
  settings: FleetAskSettings;
  signal: AbortSignal;
  print(text: string): void;
  /** Standard output is a terminal. */
  color: boolean;
}

export async function showStatus(asking: Asking): Promise<void> {
  const fleet = await ask<FleetJson>(asking, "GET", "/services");
  show(asking, fleet, () => describeStatus(fleet, { color: asking.color }));
}

export async function showService(asking: Asking, service: string): Promise<void> {
  const details = await ask<ServiceDetailsJson>(asking, "GET", `/service?id=${encodeURIComponent(service)}`);
  show(asking, details, () => describeExplanation(details, { color: asking.color }));
}

export async function requestTest(asking: Asking, service: string): Promise<void> {
  const answer = await ask<object>(asking, "POST", "/tests", { service });
  show(asking, answer, () => `a test of ${service} is asked for; fleet explain ${service} says when it starts`);
}

function show({ settings, print }: Asking, value: object, describe: () => string): void {
  print(settings.json ? JSON.stringify(value, null, 2) : describe());
}

async function ask<T>({ settings, signal }: Asking, method: "GET" | "POST", path: string, body?: object): Promise<T> {
  const token = settings.tokenFile === undefined ? undefined : readToken(settings.tokenFile);
  const url = `${settings.url.replace(/\/+$/, "")}${path}`;
  const answer = await requestJson(url, { method, body, token, signal }).catch((error) => {
    signal.throwIfAborted();
    throw new RestoreError("SOURCE_UNREACHABLE", messageOf(error), {
      hint: "does fleet run, and listen there? --url says where it does",
      cause: error,
    });
  });
  if (answer.status >= 200 && answer.status < 300) return JSON.parse(answer.text) as T;
  throw refusal(answer, settings.url);
}

function readToken(path: string): string | undefined {
  try {
    return watchFile(path).read().split("\n")[0]?.trim();
  } catch (error) {
    throw new RestoreError("SETTINGS_INVALID", `--token-file ${path} cannot be used: ${describeFileError(error)}`, {
      hint: "it holds the fleet's token on its first line, and this user must be able to read it",
    });
  }
}

function refusal({ status, text }: Answer, url: string): RestoreError {
  let said: { error?: string; hint?: string } = {};
  try {
    said = JSON.parse(text);
  } catch {
    said = { error: text.trim().slice(0, 300) };
  }
  const hint = status === 401 ? "give the token with --token-file" : said.hint;
  return new RestoreError("PREFLIGHT_FAILED", said.error ?? `${url} answered ${status}`, { hint });
}
