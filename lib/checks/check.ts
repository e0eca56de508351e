/** A check collects facts at the edge and judges them with a pure function; this runs many of them, each with a limit. */

import { RestoreError } from "../errors.ts";
import type { Database } from "../io/database.ts";
import type { Receipt } from "../mark/receipt.ts";
import type { Settings, UserQuery } from "../options.ts";
import { inParallel } from "../parallel.ts";
import type { CheckResult, CheckStatus, PageChecksums, Report } from "../report/report.ts";
import { formatDuration } from "../units.ts";
import type { Edge } from "./edge.ts";
import { describeFailure, isDamage } from "./failure.ts";
import { type Planned, Plans } from "./plans.ts";
import type { Ledger, Relation } from "./relations.ts";
import { Stopwatch } from "./stopwatch.ts";

export type CheckLevel = Settings["level"];

export const EVERY_LEVEL: readonly CheckLevel[] = ["quick", "standard", "full"];

/** What the bootstrap knows about the restore; nothing can find it out later. */
export interface Evidence {
  target: Report["target"];
  recovered: Report["recovered"];
  /** The source's stanza. */
  stanza: string | null;
  backup: Report["backup"];
  pageChecksums: PageChecksums | null;
}

export const evidenceOf = (report: Report): Evidence => ({
  target: report.target,
  recovered: report.recovered,
  stanza: report.stanza,
  backup: report.backup,
  pageChecksums: report.page_checksums ?? null,
});

/** What was asked for: all that a judgement may depend on besides the facts. */
export interface Asked {
  /** Null when the source is gone, or nobody gave one. */
  receipt: Receipt | null;
  /** Null for an instance that `bootstrap` did not make, or whose report cannot be read. */
  evidence: Evidence | null;
  level: CheckLevel;
  detach: Settings["detach"];
  /** Without a receipt: how old the newest marker may be, in milliseconds. */
  maxRpoMs: number;
  /** Start of the restore, or of these checks when that is not known. */
  startedAt: Date;
  /** The user's queries of the settings file; the receipt holds what the source was really asked. */
  queries: readonly UserQuery[];
  /** What earlier reports of this service proved, and when. */
  ledger: Ledger;
}

export interface Judgement {
  status: CheckStatus;
  /** One sentence with the values, without its period. */
  summary: string;
  hint?: string | undefined;
  /** For the report, instead of all that was collected. */
  facts?: Record<string, unknown>;
  /** Members of the report's `coverage`. */
  coverage?: Record<string, unknown>;
}

export interface Check<Facts = unknown, Plan = unknown> {
  /** Stable, kebab-case. */
  id: string;
  claim: CheckResult["claim"];
  levels: readonly CheckLevel[];
  /**
   * `databases`: it asks every database, so all of them start together, and share the sessions. `data`: its units share the
   * pool, so all of them start together, after those; each unit has the limit, not the whole. `last`: alone, after all others.
   */
  stage?: "databases" | "data" | "last";
  /** Why it was not asked for; null when it was. */
  skip?(asked: Asked): string | null;
  /**
   * At stage `data`: what to look at in a database, asked in the session that has just read its relations, while others ask it
   * too.
   */
  plan?(database: Database, relations: readonly Relation[]): Promise<Plan>;
  /** An exception means that the check could not run. */
  collect(edge: Edge, planned: Planned<Plan>): Promise<Facts>;
  /** Pure; an exception is a bug. */
  judge(facts: Facts, asked: Asked): Judgement;
}

export interface CheckOutcome {
  result: CheckResult;
  coverage: Record<string, unknown>;
}

export interface RunOptions {
  /** Checks at the same time. */
  jobs: number;
  /** Limit for each check, in milliseconds, without what it waits for others. */
  timeoutMs: number;
  onStart?(check: Check): void;
  onResult?(result: CheckResult): void;
}

/** Results in the order of the checks. Throws only the reason of the edge's signal, or a bug of a judgement. */
export async function runChecks(
  checks: readonly Check[],
  asked: Asked,
  edge: Edge,
  options: RunOptions,
): Promise<CheckOutcome[]> {
  const outcomes = new Map<Check, CheckOutcome>();
  const plans = new Plans(checks.filter((check) => whyNot(check, asked) === null));
  const run = async (check: Check) => {
    options.onStart?.(check);
    const timeoutMs = check.stage === "data" ? null : options.timeoutMs;
    const outcome = await runCheck(check, asked, { edge, planned: plans.of(check), timeoutMs });
    outcomes.set(check, outcome);
    options.onResult?.(outcome.result);
  };
  const of = (stage: Check["stage"]) => checks.filter((check) => check.stage === stage);
  const together = (list: readonly Check[]) => inParallel(list, list.length, run);
  await inParallel(of(undefined), options.jobs, run);
  edge.lookAhead((...its) => plans.make(...its));
  await together(of("databases"));
  edge.forgetManifestAnswers();
  await together(of("data"));
  for (const check of of("last")) await run(check);
  return checks.flatMap((check) => outcomes.get(check) ?? []);
}

/** Also what others get who waited for the answers of the check that it stopped. */
class CheckTimedOut extends Error {
  constructor(limitMs: number | null) {
    super(`did not finish within ${formatDuration(limitMs ?? 0)}`);
  }
}

/** Null when it runs. */
const whyNot = (check: Check, asked: Asked): string | null =>
  check.levels.includes(asked.level) ? (check.skip?.(asked) ?? null) : `not part of level ${asked.level}`;

interface Means {
  edge: Edge;
  planned: Planned<unknown>;
  timeoutMs: number | null;
}

async function runCheck(check: Check, asked: Asked, means: Means): Promise<CheckOutcome> {
  const { timeoutMs } = means;
  const limit = new AbortController();
  const watch = new Stopwatch(timeoutMs, () => limit.abort(new CheckTimedOut(timeoutMs)));
  try {
    const { facts, ...judgement } = await judgementOf(check, asked, means, watch, limit.signal);
    return {
      result: {
        id: check.id,
        claim: check.claim,
        status: judgement.status,
        summary: judgement.summary,
        facts: facts ?? {},
        duration_ms: Math.round(watch.elapsedMs),
        hint: judgement.hint ?? null,
      },
      coverage: judgement.coverage ?? {},
    };
  } finally {
    watch.end();
  }
}

async function judgementOf(
  check: Check,
  asked: Asked,
  { edge, planned }: Means,
  watch: Stopwatch,
  limit: AbortSignal,
): Promise<Judgement> {
  const reason = whyNot(check, asked);
  if (reason !== null) return { status: "skipped", summary: reason };

  const signal = AbortSignal.any([edge.signal, limit]);
  let collected: unknown;
  try {
    collected = await orAborted(check.collect(edge.forCheck(signal, watch), planned), signal);
  } catch (error) {
    edge.signal.throwIfAborted();
    if (error instanceof CheckTimedOut) {
      return {
        status: "unverified",
        summary: error.message,
        hint: "raise --check-timeout, or see what the instance is waiting for in pg_stat_activity",
      };
    }
    edge.failures.push(error);
    const failure = describeFailure(error);
    const damaged = isDamage(error);
    return {
      // The server's own word that data or catalogs are damaged is a finding, whatever was being asked.
      status: damaged ? "fail" : "unverified",
      summary: `${damaged ? "stopped by damage" : "could not run"}: ${failure.message}`,
      hint: error instanceof RestoreError ? error.hint : failure.hint,
      facts: failure.facts,
    };
  }
  const judgement = check.judge(collected, asked);
  return { ...judgement, facts: judgement.facts ?? (isPlainObject(collected) ? collected : {}) };
}

/** A collector that does not look at its signal must not hold up the limit. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `a, b, c and 7 more`. */
export function enumerate(names: readonly string[], most = 5): string {
  const shown = names.slice(0, most).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}

export const plural = (count: number, word: string, words = `${word}s`) => `${count} ${count === 1 ? word : words}`;
