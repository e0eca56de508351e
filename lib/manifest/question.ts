/** What one question about objects is made of. */

import { quoteLiteral } from "../io/database.ts";
import { precedes } from "./horizon.ts";

export interface Question {
  /** Also its key in a receipt: `tables`. */
  name: string;
  /** SQL: what people call the object; unique within the question. */
  key: string;
  /** SQL: the values that make its definition. */
  line: string;
  /** Aliases of the catalog rows that it consists of and is named by: while none of them changed, neither did the answer. */
  rows: readonly string[];
  /** SQL: versions of further rows, such as a table's columns. */
  more?: string;
  /** SQL: class as regclass, and OID, because its text may borrow from other objects. */
  object: string;
  from: string;
  /** SQL: OID of the relation that is locked to describe it, if any; `from` then ends with a condition. */
  relation?: string;
  /** SQL: class as regclass, and OID, of a query in it: to describe one, all relations that it reads are locked. */
  query?: readonly [string, string];
}

/** Everything that people made; `pg_` is reserved and covers the temporary schemas and TOAST. */
export const OURS = (namespace: string) =>
  `${namespace}.nspname !~ '^pg_' AND ${namespace}.nspname <> 'information_schema'`;

export const OWNER = (column: string) => `pg_get_userbyid(${column})`;

/** The first OID that is not PostgreSQL's own (access/transam.h, FirstNormalObjectId). */
export const FIRST_NORMAL_OID = 16384;

/**
 * A row of JSON per object: `name`, `digest` (64 bits of SHA-256 of its definition), `version` (of all catalog rows behind it),
 * `old` (all of them made before the horizon), `calm` (none of them deleted since)
 * and `object`. `isPartial` leaves out what is locked. `encoding` is the database's own, in which convert_to gives
 * the bytes as they are stored, in SQL_ASCII too.
 */
export function questionSql(question: Question, horizon: string, encoding: string, isPartial = false): string {
  const versions = question.rows.flatMap((row) => [`${row}.xmin::text`, `${row}.ctid::text`]);
  const all = (conditions: readonly string[]) => conditions.map((c) => `coalesce(${c}, true)`).join(" AND ") || "false";
  const old = all(question.rows.map((row) => precedes(`${row}.xmin`, horizon)));
  const calm = all(["true", ...question.rows.map((row) => precedes(`${row}.xmax`, horizon))]);
  const { relation, query } = question;
  const unlocked = [
    ...(relation ? [` AND (${relation} IS NULL OR ${relation} NOT IN (${LOCKED_RELATIONS}))`] : []),
    ...(query ? [` AND NOT ${readsLocked(query)}`] : []),
  ];
  return `
SELECT json_build_array(
       ${question.key},
       left(encode(sha256(convert_to(ROW(${question.line})::text, ${quoteLiteral(encoding)})), 'hex'), 16),
       md5(concat_ws(' ', ${[...versions, question.more ?? "''"].join(", ")})),
       (${old}),
       (${calm}),
       format('%s:%s', ${question.object}))::text
  FROM ${question.from}${isPartial ? unlocked.join("") : ""}`;
}

/** SQL: whether the query reads one of the relations. */
export const readsLocked = ([of, oid]: readonly [string, string], locked = LOCKED_RELATIONS) =>
  `EXISTS (SELECT FROM pg_depend AS reads WHERE reads.classid = ${of} AND reads.objid = ${oid}
             AND reads.refclassid = 'pg_class'::regclass AND reads.refobjid IN (${locked}))`;

/** SQL: relations that somebody holds for himself alone; to ask about them would be to wait. */
export const LOCKED_RELATIONS = `
  SELECT l.relation FROM pg_locks AS l
   WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
     AND l.database IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))`;

/** SQL: those that a prepared transaction holds; it never ends by itself. */
export const HELD_RELATIONS = `${LOCKED_RELATIONS} AND l.pid IS NULL`;
