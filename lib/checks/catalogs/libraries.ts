/** Every C library that a function needs can be loaded in this image and has the function's symbol. */

import { inParallel } from "../../parallel.ts";
import { type Check, EVERY_LEVEL, enumerate, type Judgement, plural } from "../check.ts";
import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import { describeFailure, errorCode } from "../failure.ts";
import { describeFinding, type Finding, SHOWN } from "../findings.ts";

/** Below it are the functions that initdb made. */
const FIRST_NORMAL_OID = 16_384;

export interface LibraryFunction {
  database: string;
  oid: string;
  /** With its arguments' types. */
  name: string;
  library: string;
  symbol: string;
}

export interface LibraryProblem {
  kind: "broken" | "preload" | "unknown";
  library: string;
  /** The first of each database. */
  functions: LibraryFunction[];
  message: string;
  hint?: string | undefined;
}

export interface LibrariesFacts {
  libraries: number;
  symbols: number;
  databases: number;
  problems: LibraryProblem[];
  /** Extensions of a version that this image has no files for. */
  extensions: { database: string; name: string; version: string; available: boolean }[];
}

export const libraries: Check<LibrariesFacts> = {
  id: "libraries",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  async collect(edge) {
    const names = await edge.databases();
    const found = await edge.eachDatabase(names, (name) => readFunctions(edge, name));
    const functions = found.flatMap((f) => f.functions);
    const byLibrary = groupBy(functions, (f) => f.library);
    const own = [...byLibrary.values()].filter((of) => of.every((f) => Number(f.oid) < FIRST_NORMAL_OID));
    const tried = new Set(await tryOwn(edge, own));
    const problems = await inParallel(
      [...byLibrary.values()].filter((of) => !tried.has(of)),
      edge.jobs,
      (of) => tryLibrary(edge, of),
    );
    const available = await edge.sql(names.includes(MAINTENANCE_DATABASE) ? MAINTENANCE_DATABASE : null, (database) =>
      database.query<{ name: string; version: string }>("SELECT name, version FROM pg_available_extension_versions"),
    );
    const versions = new Set(available.map((a) => JSON.stringify([a.name, a.version])));
    const extensionNames = new Set(available.map((a) => a.name));
    return {
      libraries: byLibrary.size,
      symbols: new Set(functions.map((f) => JSON.stringify([f.library, f.symbol]))).size,
      databases: names.length,
      problems: problems.flat(),
      extensions: found
        .flatMap((f) => f.extensions)
        .filter((e) => !versions.has(JSON.stringify([e.name, e.version])))
        .map((e) => ({ ...e, available: extensionNames.has(e.name) })),
    };
  },
  judge: judgeLibraries,
};

export function judgeLibraries({ libraries, symbols, databases, problems, extensions }: LibrariesFacts): Judgement {
  const of = (kind: LibraryProblem["kind"]) => problems.filter((p) => p.kind === kind);
  const findings = of("broken").flatMap(findingsOf);
  const facts = {
    findings: findings.slice(0, SHOWN),
    found: findings.length,
    problems: problems.map(({ kind, library, message }) => ({ kind, library, message })).slice(0, SHOWN),
    extensions: extensions.slice(0, SHOWN),
  };
  const bad = new Set(problems.map((p) => p.library)).size;
  const coverage = { libraries: { libraries: libraries - bad, of_libraries: libraries, symbols, databases } };
  const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
    status,
    summary,
    hint,
    facts,
    coverage,
  });
  if (findings.length > 0) {
    return result(
      "fail",
      `${plural(findings.length, "finding")}: ${enumerate(findings.map(describeFinding), 3)}`,
      "whatever uses these functions fails in this image: install the source's packages of extensions, in the source's " +
        "version (mind the major version of PostgreSQL), and verify again",
    );
  }
  const [unknown] = of("unknown");
  if (unknown !== undefined) {
    return result(
      "unverified",
      `could not try ${enumerate(of("unknown").map((p) => p.library))}: ${unknown.message}`,
      unknown.hint,
    );
  }
  if (databases === 0) return result("unverified", "there is no database to look into");
  const notes: string[] = [];
  const preload = of("preload");
  if (preload.length > 0) {
    notes.push(
      `${enumerate(preload.map((p) => p.library))} was not covered, because it is only loaded at the start: ${preload[0]?.message}`,
    );
  }
  if (extensions.length > 0) {
    const list = extensions.map(
      (e) => `${e.name} ${e.version} in ${e.database}${e.available ? "" : " (no control file at all)"}`,
    );
    notes.push(`this image has no files of the extension's version: ${enumerate(list)}`);
  }
  const good = `${plural(libraries - bad, "C library", "C libraries")} with ${plural(symbols, "symbol")} can be loaded`;
  if (notes.length === 0) return result("pass", good);
  return result(
    "warn",
    `${good}; ${notes.join("; ")}`,
    extensions.length > 0
      ? "the functions work, but pg_dump's CREATE EXTENSION and ALTER EXTENSION UPDATE may not work here: install the source's packages"
      : "name the library in shared_preload_libraries, as on the source",
  );
}

const findingsOf = ({ library, functions, message }: LibraryProblem): Finding[] =>
  functions.map((f) => ({
    database: f.database,
    object: `function ${f.name}`,
    where: `library ${library}`,
    what: message,
  }));

async function readFunctions(edge: Edge, name: string) {
  return edge
    .sql(name, async (database) => ({
      functions: await database.query<Omit<LibraryFunction, "database">>(
        // regprocedure would look types up: a lost one is another check's.
        `SELECT p.oid::text AS oid, coalesce(n.nspname || '.', '') || p.proname || '(' || p.pronargs || ' arguments)' AS name,
              p.probin AS library, p.prosrc AS symbol
         FROM pg_proc AS p LEFT JOIN pg_namespace AS n ON n.oid = p.pronamespace
        WHERE p.prolang = 13 AND p.probin IS NOT NULL ORDER BY p.probin, p.oid`,
      ),
      extensions: await database.query<{ name: string; version: string }>(
        "SELECT extname AS name, extversion AS version FROM pg_extension ORDER BY extname",
      ),
    }))
    .then(({ functions, extensions }) => ({
      functions: functions.map((f): LibraryFunction => ({ ...f, database: name })),
      extensions: extensions.map((e) => ({ ...e, database: name })),
    }));
}

/** PostgreSQL's own libraries are made for each other, so one session takes them all; those that it could not are left. */
async function tryOwn(edge: Edge, libraries: readonly LibraryFunction[][]): Promise<readonly LibraryFunction[][]> {
  const asked = libraries.flatMap((of) =>
    [...groupBy(of, (f) => f.symbol).values()].map((same) => same[0] as LibraryFunction),
  );
  try {
    for (const [database, functions] of groupBy(asked, (f) => f.database)) {
      await edge.newSession(database, (session) => session.query(validate(functions)));
    }
    return libraries;
  } catch {
    edge.signal.throwIfAborted();
    return [];
  }
}

const validate = (functions: readonly LibraryFunction[]) =>
  functions.map((f) => `SELECT fmgr_c_validator(${f.oid})`).join(" UNION ALL ");

/** In a session of its own: what a library does when it is loaded stays there. */
async function tryLibrary(edge: Edge, functions: readonly LibraryFunction[]): Promise<LibraryProblem[]> {
  const library = (functions[0] as LibraryFunction).library;
  const bySymbol = groupBy(functions, (f) => f.symbol);
  const problems: LibraryProblem[] = [];
  // One database asks for all the symbols that it knows, the next for the rest.
  const byDatabase = groupBy(
    [...bySymbol.values()].map((same) => same[0] as LibraryFunction),
    (f) => f.database,
  );
  for (const [database, asked] of byDatabase) {
    try {
      await edge.newSession(database, async (session) => {
        await session.query("SET lc_messages = 'C'");
        const well = await session.query(validate(asked)).then(
          () => true,
          () => false,
        );
        if (well) return;
        for (const f of asked) {
          try {
            await session.query(`SELECT fmgr_c_validator(${f.oid})`);
          } catch (error) {
            const kind = kindOf(error);
            if (kind === "ended") throw error;
            const { message, hint } = describeFailure(error);
            const known = problems.find((p) => p.kind === kind && p.message === message);
            const users = bySymbol.get(f.symbol) ?? [];
            if (known === undefined) problems.push({ kind, library, functions: firstOfEach(users), message, hint });
            else known.functions = firstOfEach([...known.functions, ...users]);
          }
        }
      });
    } catch (error) {
      edge.signal.throwIfAborted();
      edge.failures.push(error);
      const { message, hint } = describeFailure(error);
      problems.push({ kind: "unknown", library, functions: firstOfEach(functions), message, hint });
      break;
    }
  }
  return problems;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

const firstOfEach = (functions: readonly LibraryFunction[]): LibraryFunction[] => [
  ...new Map([...functions].reverse().map((f) => [f.database, f])).values(),
];

/** Messages of the server in English. `ended`: the session is no more, so nothing was learnt of the library. */
export function kindOf(error: unknown): LibraryProblem["kind"] | "ended" {
  const { message } = describeFailure(error);
  if (/preload/i.test(message)) return "preload";
  const code = errorCode(error);
  if (code === null || !/^[0-9A-Z]{5}$/.test(code) || code.startsWith("57P") || code.startsWith("08")) return "ended";
  if (/^(could not (access|load|find)|incompatible library|unrecognized API version)/.test(message)) return "broken";
  return "unknown";
}
