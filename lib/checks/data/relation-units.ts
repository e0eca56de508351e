/** Units over one relation of a database that may be in use: what was dropped meanwhile says nothing. */

import { setImmediate as turn } from "node:timers/promises";
import { quoteLiteral, sqlState } from "../../io/database.ts";
import type { Edge } from "../edge.ts";
import { isAway, isDamage } from "../failure.ts";
import type { Outcome, Unit } from "../pool.ts";
import { type Relation, unitOf } from "../relations.ts";
import { type Session, ToolMissing } from "../session.ts";

/** Gets each relation once, with the outcomes of all its units; none when it is not there any more. */
export type Settle<T> = (relation: Relation, ...outcomes: Outcome<T>[]) => void;

/** Where a statement costs more than what it looks at, many relations share one. */
const SMALL_BYTES = 1024 ** 2;
const MOST_TOGETHER = 40;

/** Of very many relations, that others get their turn and garbage can be collected meanwhile. */
export async function inTurns(relations: readonly Relation[], use: (relation: Relation) => void): Promise<void> {
  for (const [i, relation] of relations.entries()) {
    if (i % RELATIONS_A_TURN === RELATIONS_A_TURN - 1) await turn();
    use(relation);
  }
}

const RELATIONS_A_TURN = 1000;

export const isSmall = (relation: Relation, bytes: number) => bytes <= SMALL_BYTES && !relation.held;

export interface Way<T> {
  /** What will be read for a relation. */
  bytes(relation: Relation): number;
  one(session: Session, relation: Relation): Promise<T>;
  /** See `Unit.always`. */
  always?: boolean;
  /** With few statements, in their order. When it is null or fails, each is looked at by itself. */
  together(session: Session, relations: readonly Relation[]): Promise<readonly T[] | null>;
}

/** Every relation in a unit of the pool, small ones together. */
export async function lookAtAll<T>(
  edge: Edge,
  relations: readonly Relation[],
  way: Way<T>,
  settle: Settle<T>,
): Promise<void> {
  const always = way.always === true;
  const small: Relation[] = [];
  const big: Relation[] = [];
  await inTurns(relations, (relation) => (isSmall(relation, way.bytes(relation)) ? small : big).push(relation));
  const units = [
    ...big.map((relation) => ({ ...unitOf(relation, way.bytes(relation)), always, isBatch: false })),
    ...batches(small).map((batch) => ({ ...batchOf(batch, way), always, isBatch: true })),
  ];
  await edge.pool.work(
    units,
    async (session, { isBatch, relations: of }): Promise<(Outcome<T> | null)[]> => {
      if (isBatch) return lookTogether(session, of, way);
      const [relation] = of as [Relation];
      return [found(await unlessGone(session, relation, () => way.one(session, relation)))];
    },
    ({ relations: of }, outcome) => {
      for (const [i, relation] of of.entries()) {
        const its = outcome.kind === "done" ? (outcome.value[i] ?? null) : outcome;
        if (its?.kind === "failed") relation.proven = false;
        if (its !== null) settle(relation, its);
      }
    },
  );
}

/** A unit of a relation that has several. */
export interface Part extends Unit {
  relations: readonly [Relation];
  /** Of its relation's, from 0. */
  nth: number;
  of: number;
}

export const partsOf = <P extends object>(relation: Relation, parts: readonly (P & { bytes: number })[]) =>
  parts.map((part, nth) => ({
    ...part,
    ...unitOf(relation, part.bytes),
    relations: [relation] as const,
    nth,
    of: parts.length,
  }));

/** Big relations in parts, which several sessions can share. */
export async function lookAtParts<P extends Part, T>(
  edge: Edge,
  parts: readonly P[],
  use: (session: Session, part: P) => Promise<T>,
  settle: Settle<T>,
): Promise<void> {
  const begun = new Map<Relation, { left: number; outcomes: Outcome<T>[] }>();
  await edge.pool.work(
    parts,
    (session, part) => unlessGone(session, part.relations[0], () => use(session, part)),
    ({ relations: [relation], nth, of }, outcome) => {
      const its = begun.get(relation) ?? { left: of, outcomes: [] };
      begun.set(relation, its);
      if (outcome.kind !== "done") its.outcomes[nth] = outcome;
      else if (outcome.value !== null) its.outcomes[nth] = { kind: "done", value: outcome.value };
      if (--its.left > 0) return;
      begun.delete(relation);
      // Parts of a relation that went away leave gaps.
      settle(relation, ...Object.values(its.outcomes));
    },
  );
}

async function lookTogether<T>(
  session: Session,
  relations: readonly Relation[],
  way: Way<T>,
): Promise<(Outcome<T> | null)[]> {
  try {
    const values = await way.together(session, relations);
    // An answer that is not there would pass for a relation that went away.
    if (values?.length === relations.length) return values.map((value) => ({ kind: "done", value }));
  } catch (error) {
    if (isAway(error) || error instanceof ToolMissing) throw error;
  }
  const outcomes: (Outcome<T> | null)[] = [];
  for (const relation of relations) {
    try {
      outcomes.push(found(await unlessGone(session, relation, () => way.one(session, relation))));
    } catch (error) {
      if (isAway(error)) throw error;
      outcomes.push({ kind: "failed", error });
    }
  }
  return outcomes;
}

const found = <T>(value: T | null): Outcome<T> | null => (value === null ? null : { kind: "done", value });

function batchOf<T>(relations: readonly Relation[], way: Way<T>): Unit {
  const { database = "", rank = 0 } = relations[0] ?? {};
  return { database, relations, bytes: relations.reduce((sum, relation) => sum + way.bytes(relation), 0), rank };
}

function batches(relations: readonly Relation[]): Relation[][] {
  const open = new Map<string, Relation[]>();
  const all: Relation[][] = [];
  for (const relation of [...relations].sort((a, b) => a.rank - b.rank)) {
    const batch = open.get(relation.database);
    if (batch !== undefined && batch.length < MOST_TOGETHER) batch.push(relation);
    else {
      const begun = [relation];
      open.set(relation.database, begun);
      all.push(begun);
    }
  }
  return all;
}

/** For a statement about several relations. */
export const regclasses = (relations: readonly Relation[]) =>
  `unnest(ARRAY[${relations.map(({ name }) => quoteLiteral(name)).join(", ")}]::regclass[])`;

async function unlessGone<T>(session: Session, relation: Relation, use: () => Promise<T>): Promise<T | null> {
  try {
    return await use();
  } catch (error) {
    // Another one may have its name by now, and be refused for reasons of its own.
    const ofServer = sqlState(error) !== undefined && !isAway(error);
    if (ofServer && (await isGone(session, relation))) return null;
    throw error;
  }
}

/** Asked of the catalog's rows and not of its index, which may be the damage. */
async function isGone(session: Session, relation: Relation): Promise<boolean> {
  const rows = await session.query(
    `SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off;
     SELECT FROM pg_class WHERE oid = ${relation.oid}`,
  );
  return rows.length === 0;
}

export interface BlockError {
  first: number;
  last: number;
  error: unknown;
}

/** Blocks that cannot be read are named one by one, up to this many in a range. */
const MOST_ERRORS = 10;

/** Does `work` for a range of blocks; where damage stops it, for its halves, until the blocks that stop it stand alone. */
export async function byHalves<T>(
  first: number,
  last: number,
  work: (first: number, last: number) => Promise<T[]>,
): Promise<{ values: T[]; errors: BlockError[] }> {
  const values: T[] = [];
  const errors: BlockError[] = [];
  const look = async (from: number, to: number): Promise<void> => {
    try {
      values.push(...(await work(from, to)));
    } catch (error) {
      if (!isDamage(error)) throw error;
      if (from >= to || errors.length >= MOST_ERRORS) errors.push({ first: from, last: to, error });
      else {
        const middle = Math.floor((from + to) / 2);
        await look(from, middle);
        await look(middle + 1, to);
      }
    }
  };
  await look(first, last);
  return { values, errors };
}

export const blocks = (first: number, last: number) => (first >= last ? `block ${first}` : `blocks ${first}-${last}`);
