/** Every object readable: each database dumped without its rows, and the globals, to nowhere. */

import { messageOf } from "../../errors.ts";
import { type CommandResult, runCommand } from "../../io/command.ts";
import type { Database } from "../../io/database.ts";
import { exists } from "../../io/files.ts";
import { FIRST_NORMAL_OID, HELD_RELATIONS, readsLocked } from "../../manifest/question.ts";
import { inParallel } from "../../parallel.ts";
import { type Conninfo, formatConninfo } from "../../postgres/conninfo.ts";
import { type Check, EVERY_LEVEL, enumerate, type Judgement, plural } from "../check.ts";
import { type Edge, MAINTENANCE_DATABASE, readServerRun } from "../edge.ts";
import { describeFailure, isAway, isDamage, OUT_OF_MEANS } from "../failure.ts";

export interface Dump {
  /** Database, or `globals`. */
  of: string;
  outcome: "ok" | "failed" | "not-run";
  duration_ms: number;
  /** Tables that a prepared transaction holds for itself alone: not dumped. */
  left_out?: readonly string[];
  /** The program's own last lines. */
  error?: string;
  hint?: string;
}

export interface SchemaDumpFacts {
  dumps: Dump[];
  /** Databases that nobody can connect to (template0, invalid ones). */
  not_connectable: string[];
}

export const schemaDump: Check<SchemaDumpFacts> = {
  id: "schema-dump",
  claim: "consistency",
  levels: EVERY_LEVEL,
  async collect(edge) {
    const { databases, isHeld } = await edge.sql(MAINTENANCE_DATABASE, lookAtDatabases);
    const connectable = databases.filter((d) => d.connectable === "true").map((d) => d.datname);
    const work = [
      ...connectable.map((name) => () => dump(edge, "pg_dump", name, isHeld)),
      ...(connectable.length > 0 ? [() => dump(edge, "pg_dumpall", null, isHeld)] : []),
    ];
    return {
      dumps: await inParallel(work, edge.jobs, (run) => run()),
      not_connectable: databases.filter((d) => d.connectable !== "true").map((d) => d.datname),
    };
  },
  judge({ dumps }): Judgement {
    const databases = dumps.filter((d) => d.of !== GLOBALS);
    const coverage = {
      databases_dumped: databases.filter((d) => d.outcome === "ok").length,
      globals_dumped: dumps.some((d) => d.of === GLOBALS && d.outcome === "ok"),
    };
    if (databases.length === 0) {
      return { status: "fail", summary: "there is no database to dump", coverage };
    }
    const failed = dumps.filter((d) => d.outcome === "failed");
    const notRun = dumps.filter((d) => d.outcome === "not-run");
    const first = failed[0] ?? notRun[0];
    if (first !== undefined) {
      const what = failed.length > 0 ? "cannot be dumped" : "could not be dumped";
      const bad = failed.length > 0 ? failed : notRun;
      return {
        status: failed.length > 0 ? "fail" : "unverified",
        summary: `${enumerate(bad.map((d) => d.of))} ${what}: ${first.error}`,
        hint: first.hint,
        coverage,
      };
    }
    const dumped = `${plural(databases.length, "database")} and the globals were dumped without rows`;
    const leftOut = databases.flatMap((d) => (d.left_out ?? []).map((table) => `${d.of}: ${table}`));
    if (leftOut.length > 0) {
      return {
        status: "warn",
        summary: `${dumped}, but for what prepared transactions hold locked: ${enumerate(leftOut)}`,
        hint: RESOLVE,
        coverage,
      };
    }
    return { status: "pass", summary: `${dumped}: every object is readable`, coverage };
  },
};

/** Locks are seen in whichever database they are. Most often there are none, and no database need be asked for its own. */
async function lookAtDatabases(maintenance: Database) {
  const databases = await maintenance.query<{ datname: string; connectable: string }>(
    `SELECT datname, (datallowconn AND datconnlimit <> -2)::text AS connectable
       FROM pg_database ORDER BY pg_database_size(oid) DESC`,
  );
  const held = await maintenance.query(
    `SELECT FROM pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND pid IS NULL LIMIT 1`,
  );
  return { databases, isHeld: held.length > 0 };
}

const GLOBALS = "globals";
const RESOLVE = "see prepared-transactions: commit or roll back what was left in doubt";

async function dump(
  edge: Edge,
  program: "pg_dump" | "pg_dumpall",
  database: string | null,
  isHeld: boolean,
): Promise<Dump> {
  const of = database ?? GLOBALS;
  const file = await findProgram(program, edge);
  const command = dumpCommand(program, edge.conninfo, database, edge.statementTimeoutMs);
  const { tables: locked, functions } =
    database !== null && isHeld ? await whatIsLocked(edge, database) : NOTHING_LOCKED;
  if (functions.length > 0) {
    const error = `pg_dump would wait for tables that prepared transactions hold locked, because of ${enumerate(functions)}`;
    return { of, outcome: "not-run", duration_ms: 0, error, hint: RESOLVE };
  }
  const args = [...command.args, ...locked.map((pattern) => `--exclude-table=${pattern}`)];
  const { env } = command;
  let result: CommandResult;
  const startedAt = performance.now();
  try {
    result = await runCommand(file, args, { signal: edge.signal, env, discardStdout: true });
  } catch (error) {
    edge.signal.throwIfAborted();
    return { of, outcome: "not-run", duration_ms: Math.round(performance.now() - startedAt), error: messageOf(error) };
  }
  const duration_ms = Math.round(result.durationMs);
  const left = locked.length > 0 ? { left_out: locked } : {};
  if (result.exitCode === 0) return { of, outcome: "ok", duration_ms, ...left };
  const error = lastLines(result.stderr) || `${program} ended with ${result.signal ?? result.exitCode}`;
  return { of, duration_ms, ...(await blame(edge, database, program, result, error)) };
}

interface Locked {
  /** As pg_dump's patterns. */
  tables: string[];
  /** pg_dump cannot be told to leave them out. */
  functions: string[];
}

const NOTHING_LOCKED: Locked = { tables: [], functions: [] };

const WHAT_IS_LOCKED = `
SELECT 'tables' AS kind, format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""')) AS name
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND (c.oid IN (${HELD_RELATIONS})
        OR EXISTS (SELECT FROM pg_rewrite AS r WHERE r.ev_class = c.oid
                      AND ${readsLocked(["'pg_rewrite'::regclass", "r.oid"], HELD_RELATIONS)})
        OR EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid
                      AND ${readsLocked(["'pg_policy'::regclass", "p.oid"], HELD_RELATIONS)}))
UNION ALL
SELECT 'functions', p.oid::regprocedure::text FROM pg_proc AS p
 WHERE p.oid >= ${FIRST_NORMAL_OID} AND ${readsLocked(["'pg_proc'::regclass", "p.oid"], HELD_RELATIONS)}`;

/**
 * What a prepared transaction holds for itself alone, and whatever has a query that reads it: pg_dump would wait for ever,
 * because only its LOCK TABLE has a limit.
 */
async function whatIsLocked(edge: Edge, database: string): Promise<Locked> {
  const rows = await edge
    .sql(database, (db) => db.query<{ kind: keyof Locked; name: string }>(WHAT_IS_LOCKED))
    .catch((error) => {
      edge.signal.throwIfAborted();
      // The dump itself will say what is wrong.
      edge.failures.push(error);
      return [];
    });
  const of = (kind: keyof Locked) => rows.filter((row) => row.kind === kind).map((row) => row.name);
  return { tables: of("tables"), functions: of("functions") };
}

/** libpq's own form, without anything secret: argv shows in ps. */
export function dumpCommand(
  program: "pg_dump" | "pg_dumpall",
  conninfo: Conninfo,
  database: string | null,
  lockTimeoutMs: number,
): { args: string[]; env: NodeJS.ProcessEnv } {
  const { password, sslpassword: _, ...open } = conninfo;
  const target = { ...open, dbname: database ?? open.dbname ?? MAINTENANCE_DATABASE };
  return {
    args: [
      program === "pg_dump" ? "--schema-only" : "--globals-only",
      "--no-password",
      `--lock-wait-timeout=${Math.min(lockTimeoutMs, 2 ** 31 - 1)}`,
      `--dbname=${formatConninfo(target)}`,
    ],
    // The programs' own messages in English, whatever the machine speaks: they are read below.
    env: { ...process.env, LC_ALL: "C", ...(password === undefined ? {} : { PGPASSWORD: password }) },
  };
}

/** A dump failed: the data's fault only if the server is the same as at the beginning and lets this role read. */
async function blame(
  edge: Edge,
  database: string | null,
  program: string,
  result: CommandResult,
  error: string,
): Promise<Pick<Dump, "outcome" | "error" | "hint">> {
  if (/server version mismatch/.test(result.stderr)) {
    const hint = `${program} is older than the server: give --bin-dir with the programs of the server's version`;
    return { outcome: "not-run", error, hint };
  }
  if (/permission denied/.test(result.stderr)) {
    return { outcome: "not-run", error, hint: "connect as a superuser of the restored instance" };
  }
  if (/lock timeout|could not obtain lock/.test(result.stderr)) {
    return { outcome: "not-run", error, hint: "another session holds a lock: see pg_locks" };
  }
  if (result.signal !== null || OUT_OF_MEANS.test(result.stderr)) {
    const hint = "that says nothing about the data: see the memory and the space of this machine, and test again";
    return { outcome: "not-run", error, hint };
  }
  try {
    const run = await edge.sql(database, readServerRun);
    if (!sameRun(run, edge.begin)) {
      return { outcome: "not-run", error, hint: "the server restarted or crashed meanwhile" };
    }
    if (/connection to server .* failed|could not connect/.test(result.stderr)) {
      return { outcome: "not-run", error, hint: `${program} could not connect, though the other checks can` };
    }
  } catch (failure) {
    edge.signal.throwIfAborted();
    edge.failures.push(failure);
    const { message, hint } = describeFailure(failure);
    const readable = isAway(failure) || !isDamage(failure);
    return { outcome: readable ? "not-run" : "failed", error: `${error}; ${message}`, ...(hint ? { hint } : {}) };
  }
  return {
    outcome: "failed",
    error,
    hint: "the catalog of the restored instance is damaged: the statement that failed is in the server log",
  };
}

export const sameRun = (a: Edge["begin"], b: Edge["begin"]) =>
  a.postmasterStartedAt === b.postmasterStartedAt && a.checkpointer === b.checkpointer;

/** The server's own version first: a wrapper in PATH may choose another (Debian's pg_wrapper). */
async function findProgram(program: string, edge: Edge): Promise<string> {
  const major = Math.floor(edge.serverVersion / 10_000);
  const directories =
    edge.binDir === undefined
      ? [`/usr/lib/postgresql/${major}/bin`, `/usr/pgsql-${major}/bin`, `/usr/local/pgsql/bin`]
      : [edge.binDir];
  for (const directory of directories) {
    if (await exists(`${directory}/${program}`)) return `${directory}/${program}`;
  }
  return edge.binDir === undefined ? program : `${edge.binDir}/${program}`;
}

function lastLines(text: string): string {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
    .slice(-3)
    .join("; ");
}
