/**
 * The user's queries, which must give the same result on the source and on its restore. Whatever cannot (writes, the clock,
 * chance, sequences, unlogged and foreign tables, the server's own state) is refused on the source, before it is a false alarm.
 */

import { messageOf } from "../errors.ts";
import { type Database, sqlState } from "../io/database.ts";
import type { UserQuery } from "../options.ts";

export interface QueryProblem {
  message: string;
  hint: string | undefined;
}

/**
 * Rows count as a set: a query without ORDER BY has no order, and with it the sorting is the server's work and no data.
 * The alias is unlikely to be a column's name, which would win over the row.
 */
export const userQueryDigestSql = (query: UserQuery) =>
  digestSql(query.sql.replace(/;\s*$/, ""), "patroni_restore_answer::text");

/**
 * The number of rows and a SHA-256 over the rows' sorted SHA-256s: a few bytes travel, and memory stays small whatever the
 * length of a row. convert_to into the database's own encoding gives the bytes as they are stored, in SQL_ASCII too.
 * `rows` is a subquery's text and `row` the expression for one row's text.
 */
function digestSql(rows: string, row: string): string {
  return `
SELECT count(*) AS count,
       encode(sha256(coalesce(string_agg(hash, ''::bytea ORDER BY hash), ''::bytea)), 'hex') AS digest
  FROM (SELECT sha256(convert_to(${row}, $1::text)) AS hash FROM (
${rows}
) AS patroni_restore_answer) AS hashes`;
}

/** Read-only, one snapshot, and the same search path whoever asks. Always rolled back. */
export async function inQueryTransaction<T>(database: Database, use: () => Promise<T>): Promise<T> {
  await database.query("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
  try {
    await database.query("SET LOCAL search_path TO public");
    return await use();
  } finally {
    await database.query("ROLLBACK").catch(() => {});
  }
}

/** Everything that is wrong with one query, without its full cost where its plan already tells. */
export async function checkUserQuery(database: Database, encoding: string, query: UserQuery): Promise<QueryProblem[]> {
  try {
    return await inQueryTransaction(database, async () => {
      const plan = await explain(database, encoding, query);
      const problems = judgePlan(query, plan, {
        volatileFunctions: await findVolatile(database, plan.functions),
        relations: await findRelations(database, plan.relations),
      });
      if (problems.length > 0) return problems;
      const first = await database.row(userQueryDigestSql(query), [encoding]);
      const second = await database.row(userQueryDigestSql(query), [encoding]);
      if (first.digest === second.digest) return [];
      return [notDeterministic(query, "two runs on one snapshot gave two results")];
    });
  } catch (error) {
    return [explainQueryError(query, sqlState(error), error)];
  }
}

/** A parameter makes it a prepared statement, and that cannot hold a second statement. */
async function explain(database: Database, encoding: string, query: UserQuery): Promise<QueryPlan> {
  const [row] = await database.query(`EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) ${userQueryDigestSql(query)}`, [
    encoding,
  ]);
  return readPlan(JSON.parse(row?.["QUERY PLAN"] ?? "[]"));
}

/** Tables, partitions and materialized views that its plan reads; in the query's own transaction. */
export async function relationsOf(
  database: Database,
  encoding: string,
  query: UserQuery,
): Promise<QueryPlan["relations"]> {
  return (await explain(database, encoding, query)).relations;
}

export function explainQueryError(query: UserQuery, state: string | undefined, error: unknown): QueryProblem {
  const message = messageOf(error);
  const place = `query "${query.name}" in database "${query.database}"`;
  if (
    state === "25006" ||
    /^\s*(insert|update|delete|merge|truncate|create|drop|alter|grant|call|do|copy)\b/i.test(query.sql)
  ) {
    return {
      message: `query "${query.name}" writes; only a SELECT can be compared`,
      hint: "change it or leave it out",
    };
  }
  if (state === "57014") {
    return { message: `${place} did not end within the limit`, hint: "raise --timeout or ask for less" };
  }
  if (state === "42501") {
    return {
      message: `${place} is not allowed: ${message}`,
      hint: "grant SELECT to the role that marks, or use a superuser",
    };
  }
  if (state?.startsWith("42") || state?.startsWith("0A")) {
    return {
      message: `${place} is not valid: ${message}`,
      hint: "write one SELECT; the schema public is searched, name any other",
    };
  }
  return { message: `${place} failed: ${message}`, hint: "correct the query" };
}

export interface FunctionName {
  /** Null when the search path finds it. */
  schema: string | null;
  name: string;
}

/** What a plan of `EXPLAIN (VERBOSE, FORMAT JSON)` calls and reads. Views and simple SQL functions are expanded in it. */
export interface QueryPlan {
  functions: FunctionName[];
  /** SQL's functions without parentheses, such as CURRENT_DATE. */
  keywords: string[];
  relations: { schema: string; name: string }[];
  /** TABLESAMPLE without REPEATABLE. */
  samples: boolean;
}

export function readPlan(json: unknown): QueryPlan {
  const functions = new Map<string, FunctionName>();
  const keywords = new Set<string>();
  const relations = new Map<string, { schema: string; name: string }>();
  let samples = false;
  const visit = (value: unknown, key: string): void => {
    if (typeof value === "string") {
      if (NAME_KEYS.has(key)) return;
      for (const call of calledFunctions(value)) functions.set(`${call.schema}.${call.name}`, call);
      for (const keyword of usedKeywords(value)) keywords.add(keyword);
    } else if (Array.isArray(value)) {
      for (const item of value) visit(item, key);
    } else if (typeof value === "object" && value !== null) {
      const node = value as Record<string, unknown>;
      if (typeof node["Relation Name"] === "string" && typeof node.Schema === "string") {
        const relation = { schema: node.Schema, name: node["Relation Name"] };
        relations.set(JSON.stringify(relation), relation);
      }
      if (node["Node Type"] === "Sample Scan" && node["Repeatable Seed"] === undefined) samples = true;
      for (const [name, child] of Object.entries(node)) visit(child, name);
    }
  };
  visit(json, "");
  return { functions: [...functions.values()], keywords: [...keywords], relations: [...relations.values()], samples };
}

/** Keys of a plan that hold a name or a word, not an expression. */
const NAME_KEYS = new Set([
  "Node Type", "Relation Name", "Schema", "Alias", "Index Name", "Function Name", "CTE Name", "Subplan Name",
  "Parent Relationship", "Strategy", "Partial Mode", "Join Type", "Scan Direction", "Command", "Operation",
]); // biome-ignore format: a list

const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)`;
const CALL = new RegExp(String.raw`(?:(${IDENTIFIER})\.)?(${IDENTIFIER})\s*\(`, "g");
const STRING = /E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'/gs;

/** Names before an opening parenthesis: functions, and a few words that no function is called by. */
export function calledFunctions(expression: string): FunctionName[] {
  return [...expression.replace(STRING, "''").matchAll(CALL)].map(([, schema, name = ""]) => ({
    schema: schema === undefined ? null : unquote(schema),
    name: unquote(name),
  }));
}

export function usedKeywords(expression: string): string[] {
  const bare = expression.replace(STRING, "''").replace(/"(?:[^"]|"")+"/g, '""');
  return [
    ...bare.matchAll(/\b(CURRENT_(?:DATE|TIME|TIMESTAMP|USER|ROLE)|LOCALTIME(?:STAMP)?|SESSION_USER|USER)\b/g),
  ].map(([word]) => word);
}

const unquote = (name: string) => (name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name);

/** Not volatile in PostgreSQL's sense, and yet another answer at another time or on another server. */
const CHANGING_FUNCTION =
  /^(now|statement_timestamp|transaction_timestamp|current_setting|version|pg_backend_pid|pg_is_in_recovery|pg_postmaster_start_time|pg_conf_load_time|pg_stat_.*|pg_last_.*|pg_control_.*|pg_current_.*|txid_.*|inet_(client|server)_.*|pg_show_all_settings|pg_get_replication_slots|pg_.*_size|pg_my_temp_schema|pg_listening_channels|pg_safe_snapshot_blocking_pids|pg_blocking_pids)$/;

/** `'today'::date` becomes a constant before any plan shows it. */
const CLOCK_LITERAL =
  /\b(?:date|time|timestamp|timestamptz|timetz|zone)\s*'\s*(now|today|tomorrow|yesterday)\s*'|'\s*(now|today|tomorrow|yesterday)\s*'\s*(?:::\s*|\bas\s+)(?:date|time)/i;

export interface PlanFacts {
  /** Those of the called functions that are VOLATILE. `own`: not PostgreSQL's, so its owner may mark it otherwise. */
  volatileFunctions: { name: string; own: boolean }[];
  relations: { schema: string; name: string; kind: string; persistence: string }[];
}

/** A view over statistics calls twenty functions; a few say enough. */
const CAUSES_SHOWN = 3;

/** At most one problem, with every cause in it. */
export function judgePlan(query: UserQuery, plan: QueryPlan, facts: PlanFacts): QueryProblem[] {
  const functions = new Set([
    ...facts.volatileFunctions.map((f) => f.name),
    ...plan.functions.map((f) => f.name).filter((name) => CHANGING_FUNCTION.test(name)),
  ]);
  const literal = CLOCK_LITERAL.exec(query.sql);
  const causes = [
    ...[...functions].sort().map((name) => `volatile function ${name}()`),
    ...plan.keywords.map((word) => `${word} changes`),
    ...(literal ? [`'${literal[1] ?? literal[2]}' is the time of the query`] : []),
    ...(plan.samples ? ["TABLESAMPLE without REPEATABLE"] : []),
    ...facts.relations.flatMap((relation) => changingRelation(relation) ?? []),
  ];
  if (causes.length === 0) return [];
  const shown = causes.slice(0, CAUSES_SHOWN).join(", ");
  const more = causes.length > CAUSES_SHOWN ? ` and ${causes.length - CAUSES_SHOWN} more` : "";
  const hint = facts.volatileFunctions.some((f) => f.own)
    ? "a function whose result depends on nothing but the data may be marked STABLE"
    : undefined;
  return [notDeterministic(query, shown + more, hint)];
}

function changingRelation({ schema, name, kind, persistence }: PlanFacts["relations"][number]): string | undefined {
  if (kind === "S") return `sequence ${schema}.${name} jumps in recovery`;
  if (kind === "f") return `foreign table ${schema}.${name} is not part of a restore`;
  if (persistence === "u") return `unlogged table ${schema}.${name} is empty after recovery`;
  if (persistence === "t") return `temporary table ${schema}.${name} is not part of a restore`;
  return undefined;
}

function notDeterministic(query: UserQuery, cause: string, hint?: string): QueryProblem {
  return { message: `query "${query.name}" is not deterministic (${cause}); mark it or change it`, hint };
}

async function findVolatile(
  database: Database,
  functions: readonly FunctionName[],
): Promise<PlanFacts["volatileFunctions"]> {
  const rows = await database.query<{ name: string; own: string }>(
    `SELECT DISTINCT p.proname AS name, n.nspname <> 'pg_catalog' AS own
       FROM jsonb_to_recordset($1::jsonb) AS f(schema text, name text)
       JOIN pg_proc AS p ON p.proname = f.name AND p.provolatile = 'v'
       JOIN pg_namespace AS n ON n.oid = p.pronamespace
      WHERE n.nspname = f.schema OR (f.schema IS NULL AND pg_function_is_visible(p.oid))`,
    [JSON.stringify(functions)],
  );
  return rows.map((row) => ({ name: row.name, own: row.own === "t" }));
}

async function findRelations(
  database: Database,
  relations: readonly { schema: string; name: string }[],
): Promise<PlanFacts["relations"]> {
  return await database.query<PlanFacts["relations"][number]>(
    `SELECT n.nspname AS schema, c.relname AS name, c.relkind AS kind, c.relpersistence AS persistence
       FROM jsonb_to_recordset($1::jsonb) AS f(schema text, name text)
       JOIN pg_namespace AS n ON n.nspname = f.schema
       JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = f.name
      ORDER BY 1, 2`,
    [JSON.stringify(relations)],
  );
}
