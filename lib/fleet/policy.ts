/** What a service says itself of when and how often it is tested: in the services file, or in annotations. Pure. */

import { z } from "zod";
import { messageOf } from "../errors.ts";
import { parseDuration } from "../units.ts";
import type { Policy } from "./service.ts";
import { parseWindow, type Window } from "./window.ts";

/** By their names in a file; an annotation has dashes instead. Each throws a plain Error with the sentence to show. */
export const POLICY_WORDS = {
  interval: (text: string) => ({ intervalMs: positive(parseDuration(text), text) }),
  jitter: (text: string) => ({ jitterMs: parseDuration(text) }),
  windows: (text: string) => ({ windows: parseWindows(text) }),
  weight: (text: string) => ({ weight: wholeNumber(text, 0) }),
  after_backups: (text: string) => ({ afterBackups: text === "never" ? null : wholeNumber(text, 1) }),
  paused: (text: string) => ({ isPaused: truth(text) }),
} satisfies Record<string, (text: string) => Partial<Policy>>;

/** Several are separated by semicolons or lines: commas stand between days. */
export function parseWindows(text: string): Window[] {
  const parts = text.split(/[;\n]/).map((part) => part.trim());
  return parts.filter((part) => part !== "").map(parseWindow);
}

function positive(value: number, text: string): number {
  if (value < 1000) throw new Error(`"${text}" is less than a second`);
  return value;
}

function wholeNumber(text: string, minimum: number): number {
  if (!/^\d{1,9}$/.test(text) || Number(text) < minimum)
    throw new Error(`"${text}" is not a whole number from ${minimum}`);
  return Number(text);
}

function truth(text: string): boolean {
  if (/^(true|yes|on|1)$/i.test(text)) return true;
  if (/^(false|no|off|0)$/i.test(text)) return false;
  throw new Error(`"${text}" is neither true nor false`);
}

/** A value of a file: text, a number, a truth, or a list of such. */
export const asText = <T>(convert: (text: string) => T) => {
  const scalar = z.union([z.string(), z.number(), z.boolean()]);
  const value = z.union([scalar, z.array(scalar)], { error: "is not a single value" });
  return value.transform((given, context) => {
    try {
      return convert(Array.isArray(given) ? given.join(";") : String(given));
    } catch (error) {
      context.addIssue({ code: "custom", message: messageOf(error) });
      return z.NEVER;
    }
  });
};

export const policySchema = z.strictObject({
  interval: asText(POLICY_WORDS.interval).optional(),
  jitter: asText(POLICY_WORDS.jitter).optional(),
  windows: asText(POLICY_WORDS.windows).optional(),
  weight: asText(POLICY_WORDS.weight).optional(),
  after_backups: asText(POLICY_WORDS.after_backups).optional(),
  paused: asText(POLICY_WORDS.paused).optional(),
});

export const overridden = (policy: Policy, words: z.infer<typeof policySchema>): Policy => ({
  ...policy,
  ...words.interval,
  ...words.jitter,
  ...words.windows,
  ...words.weight,
  ...words.after_backups,
  ...words.paused,
});
