/** Sequences are in a possible state, and not behind the columns that they number. */

import { type Database, quoteLiteral } from "../../io/database.ts";
import { type Check, enumerate, type Judgement, plural } from "../check.ts";
import { describeFailure, isDamage } from "../failure.ts";
import { type Finding, type FoundFacts, judgeFindings, type NotCovered, Tally } from "../findings.ts";
import { HELD, type Outcome } from "../pool.ts";
import { type Relation, unitOf } from "../relations.ts";

export interface SequenceState {
  /** Of the sequence's relation; one in a sound one. */
  rows: number;
  /** Numbers as text: they do not fit into JavaScript's. */
  last: string | null;
  called: boolean;
  min: string;
  max: string;
  increment: string;
  cycle: boolean;
}

export interface NumberedColumn {
  table: string;
  column: string;
  /** The highest value of the column, or the lowest one of a descending sequence; null when there is none. */
  furthest: string | null;
}

export interface SequenceAnswer {
  /** Null when the catalogs have no such sequence. */
  state: SequenceState | null;
  columns: NumberedColumn[];
  /** Columns that were not asked. */
  left: { column: string; why: string }[];
}

export interface SequencesFacts extends FoundFacts {
  behind: { database: string; sequence: string; value: string; column: string; furthest: string }[];
}

export const sequences: Check<SequencesFacts, ReadonlyMap<Relation, UsedColumn[]>> = {
  id: "sequences",
  claim: "consistency",
  stage: "data",
  levels: ["standard", "full"],
  plan: (database, relations) => readUsedColumns(database, relations.filter(isSequence)),
  async collect(edge, planned) {
    const relations = await edge.relations();
    const held = new Set(relations.filter((r) => r.held).map((r) => `${r.database} ${r.name}`));
    const tally = new SequenceTally();
    const all = relations.filter(isSequence);
    const columns = new Map(all.map((sequence) => [sequence, planned(sequence.database).get(sequence)]));
    await edge.pool.work(
      all.map((relation) => ({ ...unitOf(relation), relation })),
      async (session, { relation }): Promise<SequenceAnswer> => {
        const answer: SequenceAnswer = { state: null, columns: [], left: [] };
        // Before the sequence: it goes on while somebody works with the instance, and rows only follow it.
        for (const used of columns.get(relation) ?? []) {
          if (held.has(`${relation.database} ${used.table}`)) {
            answer.left.push({ column: `${used.table}.${used.column}`, why: HELD });
            continue;
          }
          try {
            const [row] = await session.query<{ furthest: string | null }>(furthestOf(used));
            answer.columns.push({ table: used.table, column: used.column, furthest: row?.furthest ?? null });
          } catch (error) {
            // Damage of the table is found by the checks of tables, and their message says more.
            if (!isDamage(error)) throw error;
            answer.left.push({ column: `${used.table}.${used.column}`, why: describeFailure(error).message });
          }
        }
        const [row] = await session.query<Record<string, string | null>>(stateOf(relation));
        if (row !== undefined) {
          answer.state = {
            rows: Number(row.rows),
            last: row.last ?? null,
            called: row.called === "true",
            min: row.min ?? "",
            max: row.max ?? "",
            increment: row.increment ?? "1",
            cycle: row.cycle === "true",
          };
        }
        return answer;
      },
      ({ relation }, outcome) => tally.add(relation, outcome),
    );
    return tally.facts();
  },
  judge: judgeSequences,
};

const isSequence = ({ kind }: Relation) => kind === "S";

/** All of one database. */
async function readUsedColumns(database: Database, its: readonly Relation[]): Promise<Map<Relation, UsedColumn[]>> {
  const byOid = new Map(its.map((r) => [r.oid, r]));
  const columns = new Map<Relation, UsedColumn[]>();
  if (its.length === 0) return columns;
  for (const { oid, ...row } of await database.query<Record<keyof UsedColumn | "oid", string>>(USED)) {
    const sequence = byOid.get(oid);
    if (sequence !== undefined) columns.set(sequence, [...(columns.get(sequence) ?? []), row]);
  }
  return columns;
}

export class SequenceTally {
  private readonly tally = new Tally(findingsOf);
  private readonly behind: SequencesFacts["behind"] = [];
  private readonly left: NotCovered[] = [];

  add(relation: Relation, outcome: Outcome<SequenceAnswer>): void {
    this.tally.add(relation, outcome);
    if (outcome.kind !== "done") return;
    const { database } = relation;
    this.behind.push(...behindOf(outcome.value, relation));
    this.left.push(...outcome.value.left.map((l) => ({ database, object: l.column, bytes: 0, why: l.why })));
  }

  facts(): SequencesFacts {
    const sorted = this.tally.sorted();
    return { ...sorted, notCovered: [...sorted.notCovered, ...this.left], behind: this.behind };
  }
}

export function findingsOf({ state }: SequenceAnswer, { database, name }: Relation): Finding[] {
  const finding = (what: string): Finding[] => [{ database, object: `sequence ${name}`, what }];
  if (state === null) return finding("it has no row in pg_sequence");
  if (state.rows !== 1) return finding(`it has ${plural(state.rows, "row")} where every sequence has one`);
  if (state.last === null) return finding("it has no last value");
  const last = BigInt(state.last);
  if (last < BigInt(state.min) || last > BigInt(state.max)) {
    return finding(`its value ${state.last} is outside of ${state.min} to ${state.max}`);
  }
  return [];
}

function behindOf({ state, columns }: SequenceAnswer, { database, name }: Relation): SequencesFacts["behind"] {
  if (state === null || state.last === null || state.cycle) return [];
  const up = BigInt(state.increment) > 0n;
  const last = BigInt(state.last);
  return columns.flatMap(({ table, column, furthest }) => {
    if (furthest === null || !/^-?\d+$/.test(furthest)) return [];
    const value = BigInt(furthest);
    // A value that was not called yet is the next one that will be given.
    const taken = up ? value > last : value < last;
    if (!taken && !(value === last && !state.called)) return [];
    return [{ database, sequence: name, value: state.last ?? "", column: `${table}.${column}`, furthest }];
  });
}

export function judgeSequences(facts: SequencesFacts): Judgement {
  const judged = judgeFindings("sequences", facts, {
    good: `${plural(facts.coverage.relations, "sequence")} ahead of the columns that they number`,
    meaning: "such a state cannot come about by SQL: the file of the sequence or its row in the catalogs is damaged",
  });
  const full = {
    ...judged,
    facts: { ...judged.facts, behind: facts.behind.slice(0, 100), behind_count: facts.behind.length },
  };
  if (judged.status !== "pass" || facts.behind.length === 0) return full;
  const [first] = facts.behind;
  const list = facts.behind.map((b) => `${b.database}: ${b.sequence} is at ${b.value}, ${b.column} at ${b.furthest}`);
  return {
    ...full,
    status: "warn",
    summary: `${plural(facts.behind.length, "sequence")} behind: ${enumerate(list, 3)}`,
    hint:
      "rows inserted with numbers of their own do that on the source too; otherwise the next inserts fail or give duplicates: " +
      `SELECT setval(${quoteLiteral(first?.sequence ?? "")}, ${first?.furthest})`,
  };
}

interface UsedColumn {
  table: string;
  column: string;
  quoted: string;
  only: string;
  descending: string;
}

const furthestOf = ({ table, quoted, only, descending }: UsedColumn) =>
  `SELECT ${descending === "true" ? "min" : "max"}(${quoted})::text AS furthest FROM ${only}${table}`;

const stateOf = ({ name, oid }: Relation) =>
  `SELECT s.seqmin::text AS min, s.seqmax::text AS max, s.seqincrement::text AS increment, s.seqcycle::text AS cycle,
          r.rows::text AS rows, r.last::text AS last, r.called::text AS called
     FROM pg_sequence AS s,
          (SELECT count(*) AS rows, max(last_value) AS last, bool_or(is_called) AS called FROM ${name}) AS r
    WHERE s.seqrelid = ${oid}`;

/** Owned by a column (serial, identity), or called in its default. */
const USED = `
WITH used AS (
  SELECT d.objid AS sequence, d.refobjid AS relation, d.refobjsubid AS attnum
    FROM pg_depend AS d
   WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
     AND d.deptype IN ('a', 'i')
  UNION
  SELECT d.refobjid, a.adrelid, a.adnum
    FROM pg_depend AS d JOIN pg_attrdef AS a ON a.oid = d.objid
   WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass)
SELECT s.oid::text, format('%I.%I', n.nspname, t.relname) AS table, a.attname AS column, quote_ident(a.attname) AS quoted,
       CASE WHEN t.relkind = 'p' THEN '' ELSE 'ONLY ' END AS only, (q.seqincrement < 0)::text AS descending
  FROM used AS u
  JOIN pg_class AS s ON s.oid = u.sequence AND s.relkind = 'S'
  JOIN pg_sequence AS q ON q.seqrelid = s.oid
  JOIN pg_class AS t ON t.oid = u.relation AND t.relkind IN ('r', 'p')
  JOIN pg_namespace AS n ON n.oid = t.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = u.attnum AND NOT a.attisdropped
  -- A default like 'A' || nextval(...) makes no number of it.
  LEFT JOIN pg_type AS base ON base.oid = a.atttypid
 WHERE coalesce(nullif(base.typbasetype, 0), base.oid) IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype)
   -- A partition's column is asked with its table.
   AND NOT t.relispartition`;
