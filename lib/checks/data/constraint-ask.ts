/** Asks a table whether its constraints hold for every row. */

import { isExpression } from "../failure.ts";
import type { Relation } from "../relations.ts";
import type { Session } from "../session.ts";
import {
  brokenRows,
  conflicts,
  duplicates,
  duplicatesForPerson,
  type ExclusionRule,
  type ForeignKeyRule,
  orphans,
  orphansForPerson,
  type Part,
  type RowRule,
  type Rule,
  rowsForPerson,
  rowsPass,
  settingsFor,
  type UniqueRule,
} from "./constraint-questions.ts";
import type { Group } from "./constraint-rules.ts";

export interface Violation {
  kind: Rule["kind"];
  /** The constraint, column or index. */
  name: string;
  table: string;
  /** All whose rows it depends on. */
  tables: readonly string[];
  count: number;
  /** Some of them, by place. */
  tids: string[];
  /** For a person, on the source. */
  question: string;
}

export interface TableAnswer {
  rules: number;
  violations: Violation[];
  /** Constraints that could not be asked, and why. */
  unasked: { name: string; why: string }[];
}

/** Beyond, an exclusion constraint is left out: it is asked through its index, row by row. */
const EXCLUSION_ROWS = 500_000;
/** Shown of each. */
export const TIDS = 5;
const WORK_MEM_KB = 128 * 1024;
/** Functions of the user's may rely on the search_path of the database. */
async function asked<T extends object>(
  session: Session,
  kind: Parameters<typeof settingsFor>[0],
  sql: string,
): Promise<T[]> {
  try {
    return await session.query<T>(`${settingsFor(kind, WORK_MEM_KB, false)}${sql}`);
  } catch (error) {
    if (!isExpression(error)) throw error;
    return session.query<T>(`${settingsFor(kind, WORK_MEM_KB, true)}${sql}`);
  }
}

const begin = ({ rules, part }: Group): TableAnswer => ({
  rules: part === null || part.from === 0 ? rules.length : 0,
  violations: [],
  unasked: [],
});

/** What one unit asks. */
interface Asked {
  relation: Relation;
  group: Group;
}

export async function askTable(session: Session, { relation, group }: Asked): Promise<TableAnswer> {
  const table = relation.name;
  const { rules, part } = group;
  const answer = begin(group);
  await askRows(session, table, rules.filter(isOfPass), part, answer);
  for (const rule of rules) {
    if (rule.kind === "unique" && !rule.usual) {
      answer.unasked.push({ name: rule.name, why: "its operator class has an equality of its own" });
    } else if (rule.kind === "exclusion" || rule.kind === "foreign-key") {
      await askWhole(session, table, rule, answer);
    }
  }
  return answer;
}

/** Small tables in one statement; null when one of them must be asked by itself. */
export async function askTables(session: Session, tables: readonly Asked[]): Promise<TableAnswer[] | null> {
  const passes = tables.map(({ relation, group }, i) => {
    const rules = group.rules.filter(isOfPass);
    const pass = rowsPass(relation.name, rules.filter(isRowRule), rules.filter(isUnique), group.part);
    return `SELECT ${i} AS i, to_jsonb(pass)::text AS counts FROM (${pass}) AS pass`;
  });
  const rows = await asked<{ counts: string }>(session, "pass", `${passes.join(" UNION ALL ")} ORDER BY i`);
  const hold = tables.every(({ group }, i) => holds(group, JSON.parse(rows[i]?.counts ?? "{}")));
  return hold ? tables.map(({ group }) => begin(group)) : null;
}

/** By the counts of `rowsPass`; what is not in them does not hold. Exported for its test. */
export function holds({ rules }: Pick<Group, "rules">, counts: Readonly<Record<string, string | undefined>>): boolean {
  return (
    rules.filter(isRowRule).every((_, i) => counts[`n${i}`] === "0") &&
    rules.filter(isUnique).every((_, i) => counts[`r${i}`] !== undefined && counts[`r${i}`] === counts[`d${i}`])
  );
}

/** Whether one pass over its rows answers all of it. */
export const isOnePass = ({ rules }: Group) => rules.every(isOfPass);

async function askWhole(
  session: Session,
  table: string,
  rule: UniqueRule | ExclusionRule | ForeignKeyRule,
  answer: TableAnswer,
): Promise<void> {
  const [sql, question] =
    rule.kind === "unique"
      ? [duplicates(table, rule), duplicatesForPerson(table, rule)]
      : rule.kind === "exclusion"
        ? [conflicts(table, rule), conflicts(table, rule)]
        : [orphans(rule), orphansForPerson(rule)];
  try {
    if (rule.kind === "exclusion") {
      const [size] = await asked<{ n: string }>(session, "check", `SELECT count(*)::text AS n FROM ONLY ${table}`);
      if (Number(size?.n) > EXCLUSION_ROWS) {
        answer.unasked.push({ name: rule.name, why: "too many rows to compare" });
        return;
      }
    }
    const [row] = await asked<{ n: string; tids: string | null }>(session, rule.kind, sql);
    if (row === undefined || row.n === "0") return;
    answer.violations.push({
      kind: rule.kind,
      name: rule.name,
      table,
      tables: rule.kind === "foreign-key" ? rule.tables : [table],
      count: Number(row.n),
      tids: JSON.parse(row.tids ?? "[]") as string[],
      question,
    });
  } catch (error) {
    if (!isExpression(error)) throw error;
    answer.unasked.push({ name: rule.name, why: `it cannot be evaluated here: ${(error as Error).message}` });
  }
}

type PassRule = RowRule | UniqueRule;

const isRowRule = (rule: Rule): rule is RowRule =>
  rule.kind === "not-null" || rule.kind === "check" || rule.kind === "domain" || rule.kind === "partition";
const isUnique = (rule: Rule): rule is UniqueRule => rule.kind === "unique";
const isOfPass = (rule: Rule): rule is PassRule => (rule.kind === "unique" ? rule.usual : isRowRule(rule));

/** All in one pass; each by itself when one of them cannot be evaluated. */
async function askRows(
  session: Session,
  table: string,
  rules: readonly PassRule[],
  part: Part,
  answer: TableAnswer,
): Promise<void> {
  const [only] = rules;
  if (only === undefined) return;
  const ofRows = rules.filter(isRowRule);
  const uniques = rules.filter(isUnique);
  let row: Record<string, string> | undefined;
  try {
    [row] = await asked<Record<string, string>>(session, "pass", rowsPass(table, ofRows, uniques, part));
  } catch (error) {
    if (!isExpression(error)) throw error;
    if (rules.length > 1) {
      for (const rule of rules) await askRows(session, table, [rule], part, answer);
      return;
    }
    // A type without hashing can still be sorted.
    if (only.kind === "unique") await askWhole(session, table, only, answer);
    else answer.unasked.push({ name: only.name, why: `it cannot be evaluated here: ${(error as Error).message}` });
    return;
  }
  for (const [i, rule] of uniques.entries()) {
    if (row?.[`r${i}`] !== row?.[`d${i}`]) await askWhole(session, table, rule, answer);
  }
  for (const [i, rule] of ofRows.entries()) {
    const count = Number(row?.[`n${i}`] ?? 0);
    if (count === 0) continue;
    const rows = await asked<{ tid: string }>(session, "check", brokenRows(table, rule, part));
    answer.violations.push({
      kind: rule.kind,
      name: rule.name,
      table,
      tables: [table],
      count,
      tids: rows.map((r) => r.tid),
      question: rowsForPerson(table, rule),
    });
  }
}
