/** What a check of many objects found, as one judgement: which database, object, blocks or rows, and what it means. */

import type { Judgement } from "./check.ts";
import { enumerate, plural } from "./check.ts";
import { describeFailure, errorCode, isDamage } from "./failure.ts";
import { type Outcome, ToolMissing } from "./pool.ts";
import type { Relation } from "./relations.ts";

export interface Finding {
  /** Null for what belongs to the whole cluster. */
  database: string | null;
  /** `public.orders`, `index public.orders_pkey`, `function public.f(integer)`. */
  object: string;
  /** `block 17, item 3`, `rows with id 5, 6`; undefined when it is the whole object. */
  where?: string | undefined;
  /** What is wrong with it, in PostgreSQL's words where there are some. */
  what: string;
}

export interface NotCovered {
  database: string | null;
  object: string;
  bytes: number;
  why: string;
}

/** How much a check proved, and of how much. */
export interface Coverage {
  relations: number;
  bytes: number;
  rows?: number;
  of_relations: number;
  of_bytes: number;
}

/** In a throwaway instance nobody works, but a prepared transaction keeps its locks. */
const LOCK_NOT_AVAILABLE = "55P03";

/** Lists in a report end somewhere; the counts do not. */
export const SHOWN = 100;

export const describeFinding = ({ database, object, where, what }: Finding) =>
  `${database === null ? "" : `${database}: `}${object}${where === undefined ? "" : ` (${where})`}: ${what}`;

/** Results of a check's units, sorted: damage among the failures is a finding, the rest could not run. */
export function sortOutcomes<T>(
  items: readonly { relation: Relation; outcome: Outcome<T> }[],
  toFindings: (value: T, relation: Relation) => readonly Finding[],
): {
  findings: Finding[];
  failed: { relation: Relation; error: unknown }[];
  notCovered: NotCovered[];
  coverage: Coverage;
} {
  const findings: Finding[] = [];
  const failed: { relation: Relation; error: unknown }[] = [];
  const notCovered: NotCovered[] = [];
  const done = new Set<Relation>();
  const incomplete = new Set<Relation>();
  for (const { relation, outcome } of items) {
    const { database, name: object, bytes } = relation;
    if (outcome.kind === "done") {
      done.add(relation);
      findings.push(...toFindings(outcome.value, relation));
    } else {
      incomplete.add(relation);
      if (outcome.kind === "left-out") notCovered.push({ database, object, bytes, why: outcome.why });
      else if (errorCode(outcome.error) === LOCK_NOT_AVAILABLE) {
        notCovered.push({ database, object, bytes, why: "locked, perhaps by a prepared transaction left in doubt" });
      } else if (isDamage(outcome.error))
        findings.push({ database, object, what: describeFailure(outcome.error).message });
      else {
        failed.push({ relation, error: outcome.error });
        notCovered.push({ database, object, bytes, why: describeFailure(outcome.error).message });
      }
    }
  }
  const proven = [...done].filter((relation) => !incomplete.has(relation));
  const all = [...new Set(items.map((item) => item.relation))];
  const sum = (relations: readonly Relation[]) => relations.reduce((bytes, relation) => bytes + relation.bytes, 0);
  return {
    findings,
    failed,
    notCovered,
    coverage: {
      relations: proven.length,
      bytes: sum(proven),
      of_relations: all.length,
      of_bytes: sum(all),
    },
  };
}

export interface FoundFacts {
  findings: readonly Finding[];
  /** What could not be asked, for other reasons than damage or a spent budget. */
  failed: readonly { error: unknown }[];
  notCovered: readonly NotCovered[];
  coverage: Coverage;
}

/**
 * `id` is the check's. `good`: the sentence when nothing was found. `meaning`: what findings mean and what to do about them.
 * A library that is missing in the image makes the check unverified, like everything else that kept it from being run.
 */
export function judgeFindings(
  id: string,
  { findings, failed, notCovered, coverage }: FoundFacts,
  words: { good: string; meaning: string },
): Judgement {
  const facts = {
    findings: findings.slice(0, SHOWN),
    found: findings.length,
    not_covered: notCovered.slice(0, SHOWN),
    not_covered_relations: notCovered.length,
    not_covered_bytes: notCovered.reduce((bytes, n) => bytes + n.bytes, 0),
  };
  const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
    status,
    summary,
    hint,
    facts,
    coverage: { [id]: coverage },
  });
  if (findings.length > 0) {
    const list = enumerate(findings.map(describeFinding), 3);
    return result("fail", `${plural(findings.length, "finding")}: ${list}`, words.meaning);
  }
  const [first] = failed;
  if (first !== undefined) {
    const { message, hint } = describeFailure(first.error);
    const missing = first.error instanceof ToolMissing || errorCode(first.error) === "58P01";
    return result(
      "unverified",
      `could not look at ${plural(failed.length, "relation")}: ${message}`,
      missing ? "install PostgreSQL's contrib modules (postgresql-contrib) in this image" : hint,
    );
  }
  const left =
    notCovered.length === 0 ? "" : `; ${plural(notCovered.length, "relation")} not covered: ${notCovered[0]?.why}`;
  if (coverage.relations === 0 && notCovered.some((n) => n.why.startsWith("locked"))) {
    return result("unverified", `nothing was looked at${left}`, "end the prepared transactions, or see pg_locks");
  }
  if (coverage.relations === 0 && notCovered.length > 0) return result("skipped", `nothing was looked at${left}`);
  return result("pass", `${words.good}${left}`);
}
