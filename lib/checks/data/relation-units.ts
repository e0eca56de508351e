/** Units over one relation of a database that may be in use: what was dropped meanwhile says nothing. */

import { quoteLiteral, sqlState } from "../../io/database.ts";
import type { Edge } from "../edge.ts";
import { isAway, isDamage } from "../failure.ts";
import { type Outcome, type Session, ToolMissing, type Unit } from "../pool.ts";
import { type Relation, unitOf } from "../relations.ts";

export interface Looked<T> {
  relation: Relation;
  outcome: Outcome<T>;
}

/** Where a statement costs more than what it looks at, many relations share one. */
const SMALL_BYTES = 1024 ** 2;
const MOST_TOGETHER = 40;

export interface Way<T> {
  /** What will be read for a relation. */
  bytes(relation: Relation): number;
  one(session: Session, relation: Relation): Promise<T>;
  /** With few statements, in their order. When it is null or fails, each is looked at by itself. */
  together(session: Session, relations: readonly Relation[]): Promise<readonly T[] | null>;
}

/** Every relation in a unit of the pool, small ones together; without those that were dropped meanwhile. */
export async function lookAtAll<T>(edge: Edge, relations: readonly Relation[], way: Way<T>): Promise<Looked<T>[]> {
  const isSmall = (relation: Relation) => way.bytes(relation) <= SMALL_BYTES && !relation.held;
  const alone = relations.filter((relation) => !isSmall(relation));
  const looked = await Promise.all([
    ...alone.map((relation) =>
      lookAt(edge, relation, unitOf(relation, way.bytes(relation)), (session) => way.one(session, relation)),
    ),
    ...batches(relations.filter(isSmall)).map((batch) => lookTogether(edge, batch, way)),
  ]);
  return looked.flat().filter((l) => l !== null);
}

/** As `Pool.run`; null when the relation is not there any more. */
export async function lookAt<T>(
  edge: Edge,
  relation: Relation,
  unit: Unit,
  use: (session: Session) => Promise<T>,
): Promise<Looked<T> | null> {
  const outcome = await edge.pool.run(unit, (session) => unlessGone(session, relation, use));
  if (outcome.kind === "done" && outcome.value === null) return null;
  return { relation, outcome: outcome as Outcome<T> };
}

async function lookTogether<T>(edge: Edge, relations: readonly Relation[], way: Way<T>): Promise<Looked<T>[]> {
  const [{ database, name: object, rank } = { database: "", name: "", rank: 0 }, ...others] = relations;
  const bytes = relations.reduce((sum, relation) => sum + way.bytes(relation), 0);
  const unit = { database, object, also: others.map(({ name }) => name), bytes, rank };
  const outcome = await edge.pool.run(unit, async (session) => {
    try {
      const values = await way.together(session, relations);
      if (values !== null) {
        return relations.map((relation, i): Looked<T> => {
          return { relation, outcome: { kind: "done", value: values[i] as T } };
        });
      }
    } catch (error) {
      if (isAway(error) || error instanceof ToolMissing) throw error;
    }
    const looked: Looked<T>[] = [];
    for (const relation of relations) {
      try {
        const value = await unlessGone(session, relation, () => way.one(session, relation));
        if (value !== null) looked.push({ relation, outcome: { kind: "done", value } });
      } catch (error) {
        if (isAway(error)) throw error;
        looked.push({ relation, outcome: { kind: "failed", error } });
      }
    }
    return looked;
  });
  if (outcome.kind === "done") return outcome.value;
  return relations.map((relation) => ({ relation, outcome }));
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

async function unlessGone<T>(session: Session, relation: Relation, use: (session: Session) => Promise<T>) {
  try {
    return await use(session);
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
