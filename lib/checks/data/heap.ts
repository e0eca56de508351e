/** Every row of every table as amcheck's verify_heapam sees it: headers, line pointers, transactions, TOASTed values. */

import { quoteLiteral } from "../../io/database.ts";
import type { Check } from "../check.ts";
import { describeFailure } from "../failure.ts";
import { type Finding, type FoundFacts, judgeFindings, Tally } from "../findings.ts";
import type { Relation } from "../relations.ts";
import type { Session } from "../session.ts";
import {
  type BlockError,
  blocks,
  byHalves,
  lookAtAll,
  lookAtParts,
  partsOf,
  regclasses,
  type Way,
} from "./relation-units.ts";

const BLOCK = 8192;
/** 128 MB: small enough to share a big table among the sessions, big enough that asking costs nothing. */
export const RANGE_BLOCKS = 16_384;
/** A page of garbage gives a message for each of its items. */
const MOST_MESSAGES = 100;

export interface HeapMessage {
  blkno: string;
  offnum: string | null;
  attnum: string | null;
  msg: string;
}

interface Seen {
  values: HeapMessage[];
  errors: BlockError[];
}

export const heap: Check<FoundFacts> = {
  id: "heap",
  claim: "consistency",
  levels: ["standard", "full"],
  stage: "data",
  async collect(edge) {
    const relations = (await edge.relations()).filter(isHeap);
    const isBig = ({ bytes }: Relation) => rangesOf(bytes).length > 1;
    const tally = new Tally<Seen>(({ values, errors }, relation) => [
      ...errors.map((error) => describeBlockError(relation, error)),
      ...values.map((message) => describeMessage(relation, message)),
    ]);
    const parts = relations.filter(isBig).flatMap((relation) => partsOf(relation, rangesOf(relation.bytes)));
    const small = relations.filter((relation) => !isBig(relation));
    await Promise.all([
      lookAtParts(edge, parts, (session, part) => verifyRange(session, part.relations[0], part), tally.add),
      lookAtAll(edge, small, WAY, tally.add),
    ]);
    return tally.sorted();
  },
  judge(facts) {
    return judgeFindings("heap", facts, {
      good: `${facts.coverage.relations} tables are sound row by row`,
      meaning:
        "rows of these tables are damaged: restore another backup set, or look for the fault in the source's storage; " +
        "pg_amcheck on the source tells whether they are damaged there too",
    });
  },
};

const WAY: Way<Seen> = {
  bytes: ({ bytes }) => bytes,
  one: (session, relation) => verifyRange(session, relation, { first: 0, last: null, bytes: relation.bytes }),
  async together(session, small) {
    await session.need("amcheck");
    const verify = "pg_temp.verify_heapam(relation, false, true, 'none', NULL, NULL)";
    const messages = await session.query(
      `SELECT FROM ${regclasses(small)} AS relation, LATERAL ${verify} AS v LIMIT 1`,
    );
    return messages.length === 0 ? small.map(() => SOUND) : null;
  },
};
const SOUND: Seen = { values: [], errors: [] };

export const isHeap = ({ kind, method, persistence }: Relation) =>
  (kind === "r" || kind === "m" || kind === "t") && method === "heap" && persistence === "p";

export interface Range {
  first: number;
  /** Null: whatever is at the end by then. */
  last: number | null;
  bytes: number;
}

/** At least one, so that a table whose file is missing is opened too. */
export function rangesOf(bytes: number, size = RANGE_BLOCKS): Range[] {
  const total = Math.ceil(bytes / BLOCK);
  const ranges: Range[] = [];
  for (let first = 0; first === 0 || first < total; first += size) {
    const last = first + size < total ? first + size - 1 : null;
    ranges.push({ first, last, bytes: (last === null ? total - first : size) * BLOCK });
  }
  return ranges;
}

async function verifyRange(session: Session, relation: Relation, range: Range): Promise<Seen> {
  await session.need("amcheck");
  const last = range.last ?? Math.max(range.first, Math.ceil(relation.bytes / BLOCK) - 1);
  return byHalves(range.first, last, (from, to) =>
    session.query<HeapMessage>(verifySql(relation, from, range.last === null && to === last ? null : to)),
  );
}

/** The table may have become shorter meanwhile; an empty one is opened without block numbers. */
function verifySql(relation: Relation, first: number, last: number | null): string {
  const name = `${quoteLiteral(relation.name)}::regclass`;
  const verify = (from: string, to: string) =>
    `pg_temp.verify_heapam(${name}, false, true, 'none', ${from}, ${to}) AS v`;
  const columns = "SELECT v.blkno, v.offnum, v.attnum, v.msg FROM";
  if (first === 0 && last === null) return `${columns} ${verify("NULL", "NULL")} LIMIT ${MOST_MESSAGES}`;
  return `${columns} (SELECT pg_relation_size(${name}) / current_setting('block_size')::bigint AS blocks OFFSET 0) AS s,
    LATERAL ${verify(`least(${first}, blocks - 1)`, `least(${last ?? "NULL"}, blocks - 1)`)}
    WHERE blocks > ${first} LIMIT ${MOST_MESSAGES}`;
}

export function describeMessage(relation: Relation, { blkno, offnum, attnum, msg }: HeapMessage): Finding {
  const where = [
    `block ${blkno}`,
    ...(offnum === null ? [] : [`item ${offnum}`]),
    // amcheck counts from 0, as its messages do.
    ...(attnum === null ? [] : [`attribute ${attnum}`]),
  ].join(", ");
  return { database: relation.database, object: relation.name, where, what: msg };
}

export function describeBlockError(relation: Relation, { first, last, error }: BlockError): Finding {
  return {
    database: relation.database,
    object: relation.name,
    ...(relation.bytes === 0 ? {} : { where: blocks(first, last) }),
    what: describeFailure(error).message,
  };
}
