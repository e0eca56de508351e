/** What the catalogs say of the rows is true of them: NOT NULL, CHECK, domains, partition bounds, unique, exclusion, foreign keys. */

import { type Check, enumerate, type Judgement, plural } from "../check.ts";
import type { Edge } from "../edge.ts";
import { describeFinding, type Finding, type FoundFacts, judgeFindings, type NotCovered, Tally } from "../findings.ts";
import { HELD, type Outcome } from "../pool.ts";
import { byPlace, type Relation } from "../relations.ts";
import { askTable, askTables, isOnePass, type TableAnswer, TIDS, type Violation } from "./constraint-ask.ts";
import type { Rule } from "./constraint-questions.ts";
import {
  canSplit,
  type DescribedTables,
  describeRules,
  type Group,
  groupsOf,
  provenRules,
} from "./constraint-rules.ts";
import { distinctIndexes } from "./page-facts.ts";
import { receiptCovers } from "./receipt-tables.ts";
import {
  inTurns,
  isSmall,
  lookAtAll,
  lookAtParts,
  type Part,
  partsOf,
  type Settle,
  type Way,
} from "./relation-units.ts";

export interface ConstraintsFacts extends FoundFacts {
  violations: readonly (Violation & { database: string })[];
  constraints: number;
}

export const constraints: Check<ConstraintsFacts, DescribedTables> = {
  id: "constraints",
  claim: "consistency",
  stage: "data",
  levels: ["standard", "full"],
  plan: (database, relations) => describeRules(database, relations.filter(isAsked)),
  async collect(edge, planned) {
    const tables = (await edge.relations()).filter(isAsked);
    const isDescribed = (table: Relation) => planned(table.database).has(table);
    const rulesOf = (table: Relation) => planned(table.database).get(table);
    const tally = new ConstraintTally();
    let sizes: ReadonlyMap<string, number> | undefined;
    /** Asked by foreign keys only. */
    const bytesOf = (database: string, oid: string) => {
      sizes ??= new Map(tables.map((table) => [`${table.database} ${table.oid}`, table.bytes]));
      return sizes.get(`${database} ${oid}`) ?? 0;
    };
    const look = async (which: readonly Relation[], distinct: ReadonlySet<string>, settle: Settle<TableAnswer>) => {
      const groupsFor = (table: Relation) =>
        groupsOf(rulesOf(table), table, canSplit(edge), (oid) => bytesOf(table.database, oid), distinct);
      const nthOf = (relation: Relation, nth: number) => ({ relation, group: groupsFor(relation)[nth] as Group });
      const { small, parts, nothing } = await planTables(which, groupsFor);
      for (const table of nothing) settle(table);
      const way: Way<TableAnswer> = {
        bytes: (table) => table.bytes,
        one: (session, table) => askTable(session, nthOf(table, 0)),
        together: (session, list) =>
          askTables(
            session,
            list.map((table) => nthOf(table, 0)),
          ),
      };
      await Promise.all([
        lookAtAll(edge, small, way, settle),
        lookAtParts(
          edge,
          parts,
          (session, { relations: [table], nth }) => askTable(session, nthOf(table, nth)),
          settle,
        ),
      ]);
    };
    const described = tables.filter(isDescribed);
    for (const table of tables) {
      if (isDescribed(table)) continue;
      tally.add(table, { kind: "left-out", why: table.held ? HELD : "it was dropped or locked meanwhile" });
    }
    const late = new Set(described.filter((table) => waitsForPages(edge, table)));
    await Promise.all([
      look(
        described.filter((table) => !late.has(table)),
        new Set(),
        tally.add,
      ),
      ...[...late].map(async (table) => {
        const distinct = await distinctIndexes(edge, table);
        const proven = provenRules(rulesOf(table), distinct);
        const done: Outcome<TableAnswer> = { kind: "done", value: { rules: proven, violations: [], unasked: [] } };
        await look([table], distinct, (of, ...outcomes) => tally.add(of, ...(proven === 0 ? [] : [done]), ...outcomes));
      }),
    ]);
    return tally.facts();
  },
  judge: (facts, asked) => judgeConstraints(facts, receiptCovers(asked)),
};

const isAsked = ({ kind, system, populated }: Relation) => (kind === "r" || kind === "m") && !system && populated;

/**
 * Where to look for duplicates takes longer than to wait for the pages of the indexes, which are read anyway and may show
 * that there are none. That stands on the order that B-trees are proven to have at level full.
 */
const waitsForPages = (edge: Edge, table: Relation) =>
  edge.asked.level === "full" &&
  table.persistence === "p" &&
  !isSmall(table, table.bytes) &&
  table.indexes.some(({ fixedKeys }) => fixedKeys);

/** Small tables whose constraints one pass answers, the parts of all others, and those of which there is nothing to ask. */
async function planTables(tables: readonly Relation[], groupsFor: (table: Relation) => Group[]) {
  const small: Relation[] = [];
  const nothing: Relation[] = [];
  const parts: Part[] = [];
  await inTurns(tables, (table) => {
    const groups = groupsFor(table);
    const [only] = groups;
    const isOne = groups.length === 1 && only !== undefined && isOnePass(only);
    if (only === undefined) nothing.push(table);
    else if (isOne && isSmall(table, only.bytes)) small.push(table);
    else
      parts.push(
        ...partsOf(
          table,
          groups.map((group) => ({ bytes: group.bytes })),
        ),
      );
  });
  return { small, parts, nothing };
}

export class ConstraintTally {
  private readonly tally = new Tally<TableAnswer>(() => []);
  private readonly found: { relation: Relation; violations: Violation[] }[] = [];
  private readonly unasked: NotCovered[] = [];
  private constraints = 0;

  readonly add = (relation: Relation, ...outcomes: readonly Outcome<TableAnswer>[]): void => {
    this.tally.add(relation, ...outcomes);
    const { database, name, bytes } = relation;
    const violations: Violation[] = [];
    for (const outcome of outcomes) {
      if (outcome.kind !== "done") continue;
      const { rules, unasked } = outcome.value;
      this.constraints += rules - unasked.length;
      this.unasked.push(...unasked.map((u) => ({ database, object: `${u.name} of ${name}`, bytes, why: u.why })));
      for (const violation of outcome.value.violations) {
        const same = violations.find((v) => v.kind === violation.kind && v.name === violation.name);
        if (same === undefined) violations.push({ ...violation, tids: [...violation.tids] });
        else {
          same.count += violation.count;
          same.tids = [...same.tids, ...violation.tids].slice(0, TIDS);
        }
      }
    }
    if (violations.length > 0) this.found.push({ relation, violations });
  };

  facts(): ConstraintsFacts {
    const sorted = this.tally.sorted();
    const violations = this.found
      .sort((a, b) => byPlace(a.relation, b.relation))
      .flatMap((f) => f.violations.map((v) => ({ ...v, database: f.relation.database })));
    return {
      ...sorted,
      findings: [...sorted.findings, ...violations.map((v) => findingOf(v, v.database))],
      notCovered: [...sorted.notCovered, ...this.unasked],
      violations,
      constraints: this.constraints,
    };
  }
}

const WHAT: Record<Rule["kind"], (v: Violation) => string> = {
  "not-null": (v) => `${plural(v.count, "row")} with NULL in the NOT NULL column ${v.name}`,
  check: (v) => `${plural(v.count, "row")} against the validated CHECK constraint ${v.name}`,
  domain: (v) => `${plural(v.count, "row")} against the domain constraint ${v.name}`,
  partition: (v) => `${plural(v.count, "row")} outside of the partition's bound`,
  unique: (v) => `${plural(v.count, "value")} more than once in spite of the unique index ${v.name}`,
  exclusion: (v) => `${plural(v.count, "pair")} of rows against the exclusion constraint ${v.name}`,
  "foreign-key": (v) => `${plural(v.count, "row")} without the row that the foreign key ${v.name} refers to`,
};

const findingOf = (v: Violation, database: string): Finding => ({
  database,
  object: v.table,
  where: v.tids.length > 0 ? `rows at ${enumerate(v.tids)}` : undefined,
  what: WHAT[v.kind](v),
});

/** A source can have broken these itself: triggers switched off, a function of a CHECK replaced. */
const MAY_BE_LEGITIMATE: readonly Rule["kind"][] = ["foreign-key", "check", "domain"];

/** `compared`: `table-data` tells of these tables whether all their rows are the source's. */
export function judgeConstraints(
  facts: ConstraintsFacts,
  compared: (database: string, tables: readonly string[]) => boolean = () => false,
): Judgement {
  const own = facts.violations.filter((v) => MAY_BE_LEGITIMATE.includes(v.kind) && compared(v.database, v.tables));
  const legitimate = new Set(own.map((v) => describeFinding(findingOf(v, v.database))));
  const findings = facts.findings.filter((f) => !legitimate.has(describeFinding(f)));
  const first = facts.violations.find((v) => !own.includes(v));
  const judged = judgeFindings(
    "constraints",
    { ...facts, findings },
    {
      good: `${plural(facts.constraints, "constraint")} of ${plural(facts.coverage.relations, "table")} hold for every row`,
      meaning:
        "PostgreSQL never lets such rows in by itself: rows are lost, too many or changed, or the source has them too (triggers " +
        "switched off, catalogs changed by hand)" +
        (first === undefined ? "" : `. If this gives rows on the source, the fault is there: ${first.question}`),
    },
  );
  const withFacts = { ...judged, facts: { ...judged.facts, violations: facts.violations.slice(0, 100) } };
  if (own.length === 0 || judged.status === "fail" || judged.status === "unverified") return withFacts;
  return {
    ...withFacts,
    status: "warn",
    summary: `${plural(own.length, "finding")}, probably the source's own: ${enumerate(
      own.map((v) => describeFinding(findingOf(v, v.database))),
      3,
    )}`,
    hint:
      "table-data compares all rows of these tables with the receipt; when it finds no difference, the source has these rows " +
      `too (triggers switched off, a function replaced): ${own[0]?.question}`,
  };
}
