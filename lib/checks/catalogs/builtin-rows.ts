/** Rows of PostgreSQL's own, which initdb makes and nobody can drop: all that the server's postgres.bki lists are there. */

import type { Database } from "../../io/database.ts";
import { quoteIdentifier, quoteLiteral } from "../../io/database.ts";
import { type Check, EVERY_LEVEL, type Judgement } from "../check.ts";
import { MAINTENANCE_DATABASE } from "../edge.ts";
import { describeFailure } from "../failure.ts";
import { type BuiltinRows, parseBki } from "./bki.ts";
import { askEveryDatabase, type CatalogAnswer, type CatalogFacts, judgeCatalogs, WITHOUT_INDEXES } from "./catalogs.ts";

export interface BuiltinRowsFacts extends CatalogFacts {
  /** Why postgres.bki could not be read; null when it was. */
  problem: string | null;
}

export const builtinRows: Check<BuiltinRowsFacts> = {
  id: "builtin-rows",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  async collect(edge) {
    const nothing: CatalogFacts = { databases: 0, findings: [], notes: [], failed: [], counts: {} };
    const text = await edge.sql(MAINTENANCE_DATABASE, readBki).catch((error: unknown) => {
      edge.signal.throwIfAborted();
      return { problem: describeFailure(error).message };
    });
    if (typeof text !== "string") return { ...nothing, problem: text.problem };
    const listed = parseBki(text, Math.floor(edge.serverVersion / 10_000));
    if (listed === null)
      return {
        ...nothing,
        problem: "postgres.bki is not of the server's version, or of a form that is not known here",
      };
    const facts = await askEveryDatabase(edge, (database, name, cluster) => compare(database, name, cluster, listed));
    return { ...facts, problem: null };
  },
  judge({ problem, ...facts }): Judgement {
    if (problem !== null) {
      return {
        status: "unverified",
        summary: `cannot read which rows are PostgreSQL's own: ${problem}`,
        hint: "postgres.bki belongs to the server's programs: see SHAREDIR in pg_config, and connect as a superuser",
      };
    }
    return judgeCatalogs("builtin-rows", facts, {
      good: "every row that PostgreSQL itself needs is in its catalogs",
      meaning:
        "rows that initdb made and that no command can remove are gone: the catalogs are damaged, or somebody deleted them " +
        "by hand. Restore again from an older backup; a dump of the database may still be possible",
    });
  },
};

async function readBki(database: Database): Promise<string> {
  const { text } = await database.row<{ text: string | null }>(
    `SELECT pg_read_file((SELECT setting FROM pg_config WHERE name = 'SHAREDIR') || '/postgres.bki', 0, 100000000, true) AS text`,
  );
  if (text === null) throw new Error("the server has no postgres.bki");
  return text;
}

async function compare(
  database: Database,
  name: string,
  cluster: boolean,
  listed: BuiltinRows,
): Promise<CatalogAnswer> {
  await database.query(WITHOUT_INDEXES);
  const shared = new Set(
    (
      await database.query<{ relname: string }>(
        `SELECT relname FROM pg_class WHERE relisshared AND relkind = 'r' AND relnamespace = 11`,
      )
    ).map((row) => row.relname),
  );
  const catalogs = [...listed].filter(([catalog]) => cluster || !shared.has(catalog));
  const found = await database.query<{ catalog: string; keys: string | null }>(
    catalogs
      .map(([catalog, { key, first }]) => {
        const value = key.map((column) => `${quoteIdentifier(column)}::${column === "attnum" ? "text" : "oid::text"}`);
        return `SELECT ${quoteLiteral(catalog)} AS catalog, string_agg(${value.join(" || ' ' || ")}, ',') AS keys
                  FROM ${quoteIdentifier(catalog)} WHERE ${quoteIdentifier(first)} < 12000`;
      })
      .join("\nUNION ALL\n"),
  );
  const there = new Map(found.map((row) => [row.catalog, new Set((row.keys ?? "").split(","))]));
  const findings = catalogs.flatMap(([catalog, { key, rows }]) =>
    [...rows]
      .filter(([value]) => there.get(catalog)?.has(value) !== true)
      .map(([value, label]) => ({
        database: shared.has(catalog) ? null : name,
        object: `${catalog}: ${label}`,
        where: `${key.join(", ")} ${value}`,
        what: "this row of PostgreSQL's own is missing",
      })),
  );
  return { findings, counts: { rows: catalogs.reduce((sum, [, { rows }]) => sum + rows.size, 0) } };
}
