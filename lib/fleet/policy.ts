/** What the fleet's settings say of every service, and a service's own words that override it. */

import { z } from "zod";
import { messageOf } from "../errors.ts";
import { parseDuration } from "../units.ts";
import type { Policy } from "./service.ts";
import { parseWindow } from "./window.ts";

function converted<T>(convert: (text: string) => T) {
  return z
    .union([z.string(), z.number(), z.boolean()], { error: "is not a single value" })
    .transform((value, context) => {
      try {
        return convert(String(value));
      } catch (error) {
        context.addIssue({ code: "custom", message: messageOf(error) });
        return z.NEVER;
      }
    });
}

function wholeNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text) || text === "0") throw new Error(`"${text}" is not a whole number from 1`);
  return Number(text);
}

function interval(text: string): number {
  const ms = parseDuration(text);
  if (ms < 1000) throw new Error(`"${text}" is less than a second`);
  return ms;
}

function truth(text: string): boolean {
  if (/^(true|yes|on|1)$/i.test(text)) return true;
  if (/^(false|no|off|0)$/i.test(text)) return false;
  throw new Error(`"${text}" is neither true nor false`);
}

/** `;` or a list separates several, as a comma may stand between days. */
export const windowsSchema = z.preprocess(
  (value) => (typeof value === "string" ? value.split(";").filter((part) => part.trim() !== "") : value),
  z.array(converted(parseWindow), { error: "is not a list of windows" }),
);

/** By the names of a services file; an annotation has the same with dashes. */
export const policySchema = z.strictObject({
  interval: converted(interval).optional(),
  jitter: converted(parseDuration).optional(),
  windows: windowsSchema.optional(),
  after_backups: converted(wholeNumber).optional(),
  paused: converted(truth).optional(),
  weight: converted(wholeNumber).optional(),
});
export type PolicyWords = z.infer<typeof policySchema>;

export function overridden(policy: Policy, words: PolicyWords): Policy {
  return {
    intervalMs: words.interval ?? policy.intervalMs,
    jitterMs: words.jitter ?? policy.jitterMs,
    windows: words.windows ?? policy.windows,
    afterBackups: words.after_backups ?? policy.afterBackups,
    isPaused: words.paused ?? policy.isPaused,
    weight: words.weight ?? policy.weight,
  };
}
