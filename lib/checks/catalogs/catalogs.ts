/** What the checks of catalogs share: the same questions in every database, and one judgement of the answers. */

import { type Database, sqlState } from "../../io/database.ts";
import { enumerate, type Judgement, plural } from "../check.ts";
import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import { describeFailure, isDamage } from "../failure.ts";
import { describeFinding, type Finding, SHOWN } from "../findings.ts";

export interface CatalogAnswer {
  findings: Finding[];
  /** Legitimate, but somebody should know. */
  notes?: Finding[];
  /** Further members of the coverage; added up over the databases. */
  counts?: Record<string, number>;
}

export interface CatalogFacts {
  databases: number;
  findings: Finding[];
  notes: Finding[];
  /** Databases that could not be asked. */
  failed: { database: string; message: string; hint?: string | undefined }[];
  counts: Record<string, number>;
}

/** `cluster`: true in exactly one database, where shared catalogs are asked. */
export async function askEveryDatabase(
  edge: Edge,
  ask: (database: Database, name: string, cluster: boolean) => Promise<CatalogAnswer>,
): Promise<CatalogFacts> {
  const names = await edge.databases();
  const clusterIn = names.includes(MAINTENANCE_DATABASE) ? MAINTENANCE_DATABASE : names[0];
  const facts: CatalogFacts = { databases: 0, findings: [], notes: [], failed: [], counts: {} };
  await edge.eachDatabase(names, async (name) => {
    try {
      const { findings, notes, counts } = await edge.sql(name, (database) => ask(database, name, name === clusterIn));
      facts.databases++;
      facts.findings.push(...findings);
      facts.notes.push(...(notes ?? []));
      for (const [what, count] of Object.entries(counts ?? {})) facts.counts[what] = (facts.counts[what] ?? 0) + count;
    } catch (error) {
      edge.signal.throwIfAborted();
      if (await wasDropped(edge, name, error)) return;
      const { message, hint } = describeFailure(error);
      if (isDamage(error)) {
        facts.findings.push({ database: name, object: "catalogs", what: message });
      } else {
        edge.failures.push(error);
        facts.failed.push({ database: name, message, hint });
      }
    }
  });
  return facts;
}

/** Since the databases were listed. */
const wasDropped = async (edge: Edge, name: string, error: unknown) =>
  ["3D000", "57P01"].includes(sqlState(error) ?? "") &&
  (await edge
    .sql(MAINTENANCE_DATABASE, (database) => database.query(`SELECT FROM pg_database WHERE datname = $1`, [name]))
    .then(
      (rows) => rows.length === 0,
      () => false,
    ));

/** `noted`: what the notes mean; they are a warning. */
export function judgeCatalogs(
  id: string,
  { databases, findings, notes, failed, counts }: CatalogFacts,
  words: { good: string; meaning: string; noted?: string },
): Judgement {
  const facts = {
    findings: findings.slice(0, SHOWN),
    found: findings.length,
    notes: notes.slice(0, SHOWN),
    noted: notes.length,
    failed,
  };
  const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
    status,
    summary,
    hint,
    facts,
    coverage: { [id]: { databases, of_databases: databases + failed.length, ...counts } },
  });
  if (findings.length > 0) {
    const list = enumerate(findings.map(describeFinding), 3);
    return result("fail", `${plural(findings.length, "finding")}: ${list}`, words.meaning);
  }
  const [first] = failed;
  if (first !== undefined) {
    const all = enumerate(failed.map((f) => f.database));
    return result("unverified", `cannot look into ${all}: ${first.message}`, first.hint);
  }
  if (databases === 0) return result("unverified", "there is no database to look into");
  const good = `${words.good} in ${plural(databases, "database")}`;
  if (notes.length > 0) {
    return result("warn", `${good}; but ${enumerate(notes.map(describeFinding), 3)}`, words.noted);
  }
  return result("pass", good);
}

/**
 * For a session that must see the rows of the catalogs as they are in the heap, whatever the catalogs' indexes say. Without
 * indexes a nested loop reads a whole catalog for every row, and statistics of catalogs are seldom right.
 */
export const WITHOUT_INDEXES =
  "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SET enable_nestloop = off; " +
  "SET work_mem = '64MB'; SET jit = off; SET max_parallel_workers_per_gather = 0";
