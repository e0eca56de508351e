/** What was expected of a kind of damage, and whether it came so. Pure. */

import type { CheckLevel } from "../../../lib/checks/check.ts";
import type { Kind } from "./kind.ts";

export interface Pass {
  level: CheckLevel;
  receipt: boolean;
}

/** The first is the one that must find everything. */
export const PASSES: readonly Pass[] = [
  { level: "full", receipt: true },
  { level: "full", receipt: false },
  { level: "standard", receipt: true },
  { level: "standard", receipt: false },
  { level: "quick", receipt: true },
];

export interface Verdict {
  pass: Pass;
  exitCode: number | null;
  /** `broken`: it ended without a verdict, by a bug or a limit of the laboratory. */
  outcome: "healthy" | "caught" | "broken";
  by: string[];
  findings: string[];
  message: string;
  ms: number;
  /** Of a lower level: a higher one runs every check of it too. */
  implied?: true;
}

export interface RivalVerdict {
  rival: string;
  caught: boolean;
  /** The programs that complained. */
  by: string[];
  message: string;
  ms: number;
}

export interface Result {
  kind: Kind;
  /** Why the kind could not be tried: a bug of the laboratory. */
  problem: string | null;
  damageMs: number;
  verdicts: Verdict[];
  rivals: RivalVerdict[];
}

export type Expected = "caught" | "healthy" | "anything";
export type Judgement = "right" | "missed" | "false alarm" | "broken" | "more than asked" | "not asked";

const DEPTH: readonly CheckLevel[] = ["quick", "standard", "full"];

export function expected({ area, level, withoutReceipt }: Kind, pass: Pass): Expected {
  if (area === "sound") return "healthy";
  const lowest = pass.receipt ? level : withoutReceipt;
  if (lowest === null) return "anything";
  return DEPTH.indexOf(pass.level) >= DEPTH.indexOf(lowest) ? "caught" : "anything";
}

export function judge(kind: Kind, { pass, outcome }: Verdict): Judgement {
  if (outcome === "broken") return "broken";
  const wanted = expected(kind, pass);
  if (wanted === "anything") return outcome === "caught" ? "more than asked" : "not asked";
  if (wanted === "healthy") return outcome === "healthy" ? "right" : "false alarm";
  return outcome === "caught" ? "right" : "missed";
}

/** Caught, and by a check that is meant to. */
export function byTheRightOne({ caughtBy }: Kind, { by }: Verdict): boolean {
  return by.some((id) => caughtBy.includes(id));
}

/** In the order in which a verdict saves others. */
export const cheapestFirst = (passes: readonly Pass[]): Pass[] =>
  [...passes].sort((a, b) => DEPTH.indexOf(a.level) - DEPTH.indexOf(b.level));

/** What is caught at a lower level is caught at this one. */
export function impliedBy(verdicts: readonly Verdict[], pass: Pass): Verdict | undefined {
  const lower = verdicts.find(
    (verdict) =>
      verdict.outcome === "caught" &&
      verdict.pass.receipt === pass.receipt &&
      DEPTH.indexOf(verdict.pass.level) < DEPTH.indexOf(pass.level),
  );
  return lower && { ...lower, pass, findings: [], message: "", ms: 0, implied: true };
}

export const isRight = (judgement: Judgement) =>
  judgement !== "missed" && judgement !== "false alarm" && judgement !== "broken";

export interface Totals {
  /** Damage that was tried, and caught. */
  caught: number;
  of: number;
  falseAlarms: number;
  sound: number;
}

export const passName = ({ level, receipt }: Pass) => `${level}${receipt ? " + receipt" : ""}`;

/** By the name of the pass or the rival. */
export function totals(results: readonly Result[]): Map<string, Totals> {
  const all = new Map<string, Totals>();
  const count = (name: string, isSound: boolean, caught: boolean) => {
    const so_far = all.get(name) ?? { caught: 0, of: 0, falseAlarms: 0, sound: 0 };
    all.set(name, {
      caught: so_far.caught + (!isSound && caught ? 1 : 0),
      of: so_far.of + (isSound ? 0 : 1),
      falseAlarms: so_far.falseAlarms + (isSound && caught ? 1 : 0),
      sound: so_far.sound + (isSound ? 1 : 0),
    });
  };
  for (const { kind, verdicts, rivals } of results) {
    for (const { pass, outcome } of verdicts) count(passName(pass), kind.area === "sound", outcome === "caught");
    for (const { rival, caught } of rivals) count(rival, kind.area === "sound", caught);
  }
  return all;
}
