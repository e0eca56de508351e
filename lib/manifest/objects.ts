/** Objects one by one: what the source answered twice, and what the restore answers. */

import { messageOf } from "../errors.ts";
import { sqlState } from "../io/database.ts";
import { PackedRows, PackedRowsBuilder } from "../packed.ts";
import { isConnectionLost } from "../postgres/connection-error.ts";
import { settled } from "./horizon.ts";
import { type Question, questionSql } from "./question.ts";
import { CLUSTER_QUESTIONS, DATABASE_QUESTIONS } from "./questions.ts";
import type { Session } from "./session.ts";

export interface ObjectAnswer {
  digest: string;
  version: string;
  /** Nothing of it was made since the horizon. */
  old: boolean;
  /** None of its rows is being deleted. */
  calm: boolean;
  /** `pg_class:16402`. */
  object: string;
}

export interface Problem {
  sqlState: string | undefined;
  message: string;
}

/** Name, and what `ObjectAnswer` holds, as the question gives it. */
export type ObjectRow = [
  name: string | null,
  digest: string,
  version: string,
  old: boolean,
  calm: boolean,
  object: string,
];

export interface QuestionAnswers {
  /** Null for what belongs to the whole cluster. */
  database: string | null;
  question: string;
  objects: PackedRows<ObjectRow>;
  /** Some objects are locked by somebody and left out. */
  isPartial?: boolean;
  /** Why it could not be answered. */
  problem?: Problem;
}

/** Objects that vanish while they are described fail once, not twice. */
const ATTEMPTS = 3;

/** `database` null: what belongs to the whole cluster. */
export async function askObjects(
  session: Session,
  database: string | null,
  horizon: string,
): Promise<QuestionAnswers[]> {
  const answers: QuestionAnswers[] = [];
  for (const question of database === null ? CLUSTER_QUESTIONS : DATABASE_QUESTIONS) {
    answers.push(await askQuestion(session, database, question, horizon));
  }
  return answers;
}

async function askQuestion(
  session: Session,
  database: string | null,
  question: Question,
  horizon: string,
): Promise<QuestionAnswers> {
  const of = { database, question: question.name };
  let isPartial = false;
  for (let n = 1; ; n++) {
    try {
      const rows = new PackedRowsBuilder<ObjectRow>();
      const sql = questionSql(question, horizon, session.encoding, isPartial);
      await session.database.bytes(`COPY (${sql}) TO STDOUT (FORMAT binary)`, (value) => value && rows.add(value));
      return { ...of, objects: rows.pack(), ...(isPartial ? { isPartial } : {}) };
    } catch (error) {
      const state = sqlState(error);
      if (isConnectionLost(error)) throw error;
      // Somebody alters a table, or a prepared transaction did: all others can still be described.
      if (state === "55P03" && n < ATTEMPTS && (question.relation ?? question.query) !== undefined) {
        isPartial = true;
        continue;
      }
      // "cache lookup failed" and the like: the catalog changed under the question.
      if (state === "XX000" && n < ATTEMPTS) continue;
      return { ...of, objects: NONE, problem: { sqlState: state, message: messageOf(error) } };
    }
  }
}

export const unanswered = (database: string | null, problem: Problem): QuestionAnswers[] =>
  (database === null ? CLUSTER_QUESTIONS : DATABASE_QUESTIONS).map((question) => ({
    database,
    question: question.name,
    objects: NONE,
    problem,
  }));

const NONE = PackedRows.of<ObjectRow>([]);

/** Names are unique in sound catalogs; two rows of one name are told apart by their number. */
export function byName(rows: readonly ObjectRow[]): Map<string, ObjectAnswer> {
  const objects = new Map<string, ObjectAnswer>();
  const isUnique = new Set(rows.map(([name]) => name)).size === rows.length;
  for (const [text, digest, version, old, calm, object] of isUnique ? rows : [...rows].sort(byDigest)) {
    let name = text ?? "";
    for (let n = 2; objects.has(name); n++) name = `${text} (${n})`;
    objects.set(name, { digest, version, old, calm, object });
  }
  return objects;
}

const byDigest = (a: ObjectRow, b: ObjectRow) => (a[1] < b[1] ? -1 : 1);

/** Catalogs whose rows give names, types or options to the text of other objects, or are objects themselves. */
const NAMING = [
  "pg_class", "pg_type", "pg_proc", "pg_namespace", "pg_operator", "pg_collation", "pg_opclass", "pg_opfamily",
  "pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template", "pg_language", "pg_am", "pg_extension",
  "pg_foreign_server", "pg_foreign_data_wrapper", "pg_constraint", "pg_rewrite", "pg_trigger", "pg_policy",
  "pg_publication", "pg_statistic_ext", "pg_event_trigger", "pg_conversion", "pg_cast", "pg_transform",
  "pg_database", "pg_tablespace",
]; // biome-ignore format: a list

/** Catalogs whose rows are parts of an object: of which, and where its OID is. */
const PARTS = [
  ["pg_attribute", "pg_class", "attrelid"], ["pg_attrdef", "pg_class", "adrelid"], ["pg_inherits", "pg_class", "inhrelid"],
  ["pg_index", "pg_class", "indexrelid"], ["pg_sequence", "pg_class", "seqrelid"],
  ["pg_partitioned_table", "pg_class", "partrelid"], ["pg_foreign_table", "pg_class", "ftrelid"],
  ["pg_enum", "pg_type", "enumtypid"], ["pg_range", "pg_type", "rngtypid"], ["pg_aggregate", "pg_proc", "aggfnoid"],
  ["pg_amop", "pg_opfamily", "amopfamily"], ["pg_amproc", "pg_opfamily", "amprocfamily"],
  ["pg_ts_config_map", "pg_ts_config", "mapcfg"], ["pg_publication_rel", "pg_publication", "prpubid"],
]; // biome-ignore format: a list

/**
 * Objects that changed since the horizon or are about to, and all that depends on them: their text may have been another in
 * between although their own rows are the same (a column that is renamed and renamed back shows in the text of every view on
 * it). About to: a commit is in the WAL, and in the restore, before the source shows it.
 */
export async function movedObjects(session: Session, horizon: string): Promise<Set<string>> {
  const unsettled = `NOT ${settled("x", horizon)}`;
  const changed = [
    ...NAMING.map(
      (catalog) => `SELECT '${catalog}'::regclass::oid AS class, oid AS id FROM ${catalog} AS x WHERE ${unsettled}`,
    ),
    ...PARTS.map(
      ([catalog, of, oid]) => `SELECT '${of}'::regclass::oid, ${oid}::oid FROM ${catalog} AS x WHERE ${unsettled}`,
    ),
    `SELECT refclassid, refobjid FROM pg_depend AS x WHERE deptype = 'e' AND ${unsettled}`,
    `SELECT d.classid, d.objid FROM pg_shdepend AS d JOIN pg_authid AS x ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = x.oid
      WHERE d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) AND ${unsettled}`,
  ];
  const { database } = session;
  // By its guess of what a recursion finds the server clears up to 50 MB before it begins; never more than this allows.
  await database.query("SET work_mem = '256kB'");
  const rows = await database.query<{ object: string }>(`
WITH RECURSIVE moved(class, id) AS (
  SELECT * FROM (${changed.join("\nUNION ALL\n")}) AS changed
  UNION
  SELECT n.class, n.id FROM moved AS m CROSS JOIN LATERAL (
    SELECT d.classid, d.objid FROM pg_depend AS d WHERE d.refclassid = m.class AND d.refobjid = m.id
    UNION ALL
    -- A view's query, a column's default and a domain's check are part of what they depend on.
    SELECT d.refclassid, d.refobjid FROM pg_depend AS d
     WHERE d.classid = m.class AND d.objid = m.id AND d.deptype IN ('i', 'a')
       AND m.class IN ('pg_rewrite'::regclass, 'pg_attrdef'::regclass, 'pg_constraint'::regclass)) AS n (class, id)
)
SELECT format('%s:%s', class::regclass, id) AS object FROM moved`);
  await database.query("RESET work_mem");
  return new Set(rows.map((row) => row.object));
}
