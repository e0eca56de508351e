/** What a check of many objects found, as one judgement: which database, object, blocks or rows, and what it means. */

import type { Judgement } from "./check.ts";
import { enumerate, plural } from "./check.ts";
import { describeFailure, errorCode, isDamage } from "./failure.ts";
import type { Outcome } from "./pool.ts";
import { byPlace, type Relation } from "./relations.ts";
import { ToolMissing } from "./session.ts";

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

/**
 * Takes what the units of a check came to, relation by relation, and keeps only what is worth telling: damage among the
 * failures is a finding, the rest could not run.
 */
export class Tally<T> {
  private readonly toFindings: (value: T, relation: Relation) => readonly Finding[];
  private readonly told: { relation: Relation; findings: Finding[]; failed: unknown[]; notCovered: NotCovered[] }[] =
    [];
  private readonly coverage: Coverage = { relations: 0, bytes: 0, of_relations: 0, of_bytes: 0 };

  constructor(toFindings: (value: T, relation: Relation) => readonly Finding[]) {
    this.toFindings = toFindings;
  }

  /** Once for each relation, with the outcomes of all its units. */
  readonly add = (relation: Relation, ...outcomes: readonly Outcome<T>[]): void => {
    if (outcomes.length === 0) return;
    const { database, name: object, bytes } = relation;
    const told = { relation, findings: [] as Finding[], failed: [] as unknown[], notCovered: [] as NotCovered[] };
    for (const outcome of outcomes) {
      if (outcome.kind === "done") told.findings.push(...this.toFindings(outcome.value, relation));
      else if (outcome.kind === "left-out") told.notCovered.push({ database, object, bytes, why: outcome.why });
      else if (errorCode(outcome.error) === LOCK_NOT_AVAILABLE) {
        const why = "locked, perhaps by a prepared transaction left in doubt";
        told.notCovered.push({ database, object, bytes, why });
      } else if (isDamage(outcome.error)) {
        told.findings.push({ database, object, what: describeFailure(outcome.error).message });
      } else {
        told.failed.push(outcome.error);
        told.notCovered.push({ database, object, bytes, why: describeFailure(outcome.error).message });
      }
    }
    if (told.findings.length + told.notCovered.length > 0) this.told.push(told);
    this.coverage.of_relations++;
    this.coverage.of_bytes += bytes;
    if (outcomes.some(({ kind }) => kind !== "done")) return;
    this.coverage.relations++;
    this.coverage.bytes += bytes;
  };

  /** By database and OID, in whatever order they came. */
  sorted(): {
    findings: Finding[];
    failed: { relation: Relation; error: unknown }[];
    notCovered: NotCovered[];
    coverage: Coverage;
  } {
    const told = this.told.sort((a, b) => byPlace(a.relation, b.relation));
    return {
      findings: told.flatMap(({ findings }) => findings),
      failed: told.flatMap(({ relation, failed }) => failed.map((error) => ({ relation, error }))),
      notCovered: told.flatMap(({ notCovered }) => notCovered),
      coverage: this.coverage,
    };
  }
}

/** All at once, of a check of few relations. */
export function sortOutcomes<T>(
  items: readonly { relation: Relation; outcome: Outcome<T> }[],
  toFindings: (value: T, relation: Relation) => readonly Finding[],
): ReturnType<Tally<T>["sorted"]> {
  const byRelation = new Map<Relation, Outcome<T>[]>();
  for (const { relation, outcome } of items) {
    byRelation.set(relation, [...(byRelation.get(relation) ?? []), outcome]);
  }
  const tally = new Tally(toFindings);
  for (const [relation, outcomes] of byRelation) tally.add(relation, ...outcomes);
  return tally.sorted();
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
