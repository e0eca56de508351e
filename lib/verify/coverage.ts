/** What was proven, and what was not looked at: a healthy verdict says no more than this. */

import type { CheckLevel, CheckOutcome } from "../checks/check.ts";
import { type Ledger, leaderOf, objectKey, type Relation } from "../checks/relations.ts";
import type { CheckResult, Report } from "../report/report.ts";

export interface CoverageInput {
  outcomes: readonly CheckOutcome[];
  level: CheckLevel;
  /** Empty at a level that looks at no relation. */
  relations: readonly Relation[];
  ledger: Ledger;
  now: Date;
}

export function coverageOf(input: CoverageInput): Record<string, unknown> {
  const { outcomes, level } = input;
  const merged: Record<string, unknown> = { level };
  for (const { coverage } of outcomes) Object.assign(merged, coverage);
  const count = (status: CheckResult["status"]) => outcomes.filter((o) => o.result.status === status).length;
  const notCovered = outcomes.flatMap(({ result }) =>
    result.status === "skipped" ? [`${result.id}: ${result.summary}`] : describeLeft(result),
  );
  const total = totalOf(input);
  return {
    ...merged,
    ...(total === null ? {} : { total: total.sizes }),
    checks_passed: count("pass"),
    checks_skipped: count("skipped"),
    not_covered: notCovered,
    ...(total === null ? {} : { proven_at: total.provenAt }),
  };
}

/** Of a check of many relations: how many it did not reach, and why the first. */
function describeLeft({ id, facts }: CheckResult): string[] {
  const relations = facts.not_covered_relations;
  const list = facts.not_covered;
  if (typeof relations !== "number" || relations === 0 || !Array.isArray(list)) return [];
  const whys = [...new Set(list.map((entry) => String((entry as { why?: unknown }).why)))];
  return [`${id}: ${relations} relations: ${whys.slice(0, 3).join("; ")}`];
}

/** A table is proven with its indexes and TOAST, or it is not. */
function totalOf({ relations, ledger, now }: CoverageInput) {
  const groups = new Map<Relation, { bytes: number; done: boolean; asked: boolean }>();
  for (const relation of relations) {
    const leader = leaderOf(relation);
    const group = groups.get(leader) ?? { bytes: 0, done: true, asked: false };
    groups.set(leader, {
      bytes: group.bytes + relation.bytes,
      done: group.done && relation.proven !== false,
      asked: group.asked || relation.proven !== null,
    });
  }
  const tables = [...groups].filter(([table]) => !table.system && ["r", "m"].includes(table.kind));
  if (tables.length === 0) return null;
  const done = tables.filter(([, group]) => group.asked && group.done);
  const sum = (list: typeof tables) => list.reduce((bytes, [, group]) => bytes + group.bytes, 0);
  const provenAt: Record<string, Record<string, string>> = {};
  for (const { database } of relations) provenAt[database] = {};
  for (const [table, group] of tables) {
    const at =
      group.asked && group.done
        ? now.toISOString()
        : ledger[objectKey({ database: table.database, object: table.name })];
    const ofDatabase = provenAt[table.database];
    if (at !== undefined && ofDatabase !== undefined) ofDatabase[table.name] = at;
  }
  return {
    sizes: { relations: done.length, bytes: sum(done), of_relations: tables.length, of_bytes: sum(tables) },
    provenAt,
  };
}

/** From an earlier report; empty when it says nothing. */
export function ledgerOf(report: Pick<Report, "coverage"> | null): Ledger {
  const provenAt = report?.coverage?.proven_at;
  if (typeof provenAt !== "object" || provenAt === null) return {};
  return Object.fromEntries(
    Object.entries(provenAt).flatMap(([database, tables]) =>
      Object.entries((tables ?? {}) as object).flatMap(([object, at]) =>
        typeof at === "string" ? [[objectKey({ database, object }), at]] : [],
      ),
    ),
  );
}
