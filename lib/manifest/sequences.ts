/**
 * Where sequences stand. Recovery may find a value ahead of the source's, by what PostgreSQL logs in advance (SEQ_LOG_VALS, 32,
 * in commands/sequence.c, and the sequence's cache), and never one behind it.
 */

import { type Database, quoteLiteral } from "../io/database.ts";
import { LOCKED_RELATIONS } from "./question.ts";

export interface SequenceValue {
  oid: string;
  /** `public.orders_id_seq`, as SQL wants it. */
  name: string;
  /** Text of a bigint, as are the others. */
  lastValue: string;
  isCalled: boolean;
  increment: string;
  cache: string;
  cycle: boolean;
  /** With its place in the WAL: equal while nobody touched the sequence. */
  state: string;
}

const LIST = `
SELECT c.oid::text AS oid, format('%I.%I', n.nspname, c.relname) AS name, s.seqincrement::text AS increment, s.seqcache::text AS cache,
       s.seqcycle::text AS cycle
  FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relpersistence = 'p' AND n.nspname !~ '^pg_' AND c.oid NOT IN (${LOCKED_RELATIONS}) ORDER BY c.oid`;

/** One statement for that many. */
const BATCH = 200;

export async function readSequences(database: Database): Promise<SequenceValue[]> {
  const list = await database.query<Record<string, string>>(LIST);
  const values: SequenceValue[] = [];
  for (let from = 0; from < list.length; from += BATCH) {
    const batch = list.slice(from, from + BATCH);
    const one = (row: Record<string, string>) =>
      `SELECT ${quoteLiteral(row.name as string)} AS name, last_value::text, is_called::text, log_cnt::text FROM ${row.name}`;
    const found = await database.query<Record<string, string>>(batch.map(one).join(" UNION ALL "));
    const byName = new Map(found.map((row) => [row.name, row]));
    for (const row of batch) {
      const value = byName.get(row.name);
      if (value === undefined) continue;
      values.push({
        oid: row.oid as string,
        name: row.name as string,
        lastValue: value.last_value as string,
        isCalled: value.is_called === "true",
        increment: row.increment as string,
        cache: row.cache as string,
        cycle: row.cycle === "true",
        state: `${row.oid} ${value.last_value} ${value.is_called} ${value.log_cnt} ${row.increment} ${row.cache}`,
      });
    }
  }
  return values;
}

export interface ExpectedSequence {
  last_value: string;
  is_called: boolean;
  increment: string;
  cache: string;
  cycle: boolean;
}

const LOGGED_AHEAD = 32n;

/** Null when the value fits; otherwise what is wrong, for people. */
export function judgeSequence(
  expected: ExpectedSequence,
  found: { lastValue: string; isCalled: boolean },
): string | null {
  const increment = BigInt(expected.increment);
  const [source, here] = [BigInt(expected.last_value), BigInt(found.lastValue)];
  const ahead = increment > 0n ? here - source : source - here;
  const is = `is at ${found.lastValue}${found.isCalled ? "" : " (not called)"}`;
  const was = `${expected.last_value}${expected.is_called ? "" : " (not called)"}`;
  if (ahead < 0n && !expected.cycle) return `${is}, behind the source's ${was}`;
  if (ahead === 0n && expected.is_called && !found.isCalled) return `${is}, behind the source's ${was}`;
  const step = increment > 0n ? increment : -increment;
  const most = (LOGGED_AHEAD + BigInt(expected.cache)) * step;
  if (ahead > most && !expected.cycle) return `${is}, ${ahead} ahead of the source's ${was}; recovery explains ${most}`;
  return null;
}
