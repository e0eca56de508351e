/** The settings of restore-test that a service may bring along, checked before anything is started with them. */

import { messageOf } from "../errors.ts";
import { OPTIONS, type Option, type OptionName, snake } from "../options.ts";
import { RESTORE_TEST_OPTIONS } from "../restore-test/options.ts";
import { didYouMean } from "../settings.ts";

/** The fleet itself decides these. */
const OWN: readonly OptionName[] = [
  ...(["source", "receipt", "report", "previousReport", "keep", "keepFailed"] as const),
  ...(["json", "dryRun", "deadline", "testId", "workDir"] as const),
];
const ALLOWED = RESTORE_TEST_OPTIONS.filter((name) => !OWN.includes(name));

/** A sentence for each that is wrong. */
export function settingsProblems(settings: Readonly<Record<string, unknown>>): string[] {
  const names = new Map(ALLOWED.map((name) => [snake(name), name]));
  return Object.entries(settings).flatMap(([key, value]) => {
    const name = names.get(key);
    if (name === undefined) {
      const isOwn = OWN.some((own) => snake(own) === key);
      const hint = isOwn ? "the fleet decides it" : didYouMean(key, [...names.keys()]);
      return [`settings.${key} is not a setting of a restore test${hint === undefined ? "" : ` (${hint})`}`];
    }
    try {
      const result = (OPTIONS[name] as Option).schema.safeParse(value);
      return result.success ? [] : result.error.issues.map(({ message }) => `settings.${key}: ${message}`);
    } catch (error) {
      return [`settings.${key}: ${messageOf(error)}`];
    }
  });
}
