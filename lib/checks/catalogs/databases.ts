/** Every database lets a session in, and there is something in them. Nothing restored is a failure, never a pass. */

import { MARKER_SCHEMA } from "../../mark/marker.ts";
import type { Receipt } from "../../mark/receipt.ts";
import { type Check, EVERY_LEVEL, enumerate, type Judgement, plural } from "../check.ts";
import { MAINTENANCE_DATABASE } from "../edge.ts";
import { describeFailure, isDamage } from "../failure.ts";

export interface DatabaseFacts {
  name: string;
  template: boolean;
  connectable: boolean;
  /** Left by a DROP DATABASE that did not finish (`datconnlimit` -2). */
  invalid: boolean;
  /** The user's tables, partitions, materialised views and foreign tables; null when nobody could look. */
  relations: number | null;
  error: string | null;
  damaged: boolean;
}

type Look = Pick<DatabaseFacts, "relations" | "error" | "damaged">;

export interface DatabasesFacts {
  databases: DatabaseFacts[];
}

export const databasesReadable: Check<DatabasesFacts> = {
  id: "databases-readable",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  async collect(edge) {
    const found = await edge.sql(MAINTENANCE_DATABASE, (database) =>
      database.query<{ name: string; template: string; connectable: string; invalid: string }>(
        `SELECT datname AS name, datistemplate::text AS template, (datconnlimit = -2)::text AS invalid,
                (datallowconn AND datconnlimit <> -2)::text AS connectable
           FROM pg_database ORDER BY datname`,
      ),
    );
    const names = found.filter(({ connectable }) => connectable === "true").map(({ name }) => name);
    const looks = await edge.eachDatabase(names, async (name): Promise<Look> => {
      try {
        const { relations } = await edge.sql(name, (database) =>
          database.row<{ relations: string }>(COUNT_RELATIONS, [MARKER_SCHEMA]),
        );
        return { relations: Number(relations), error: null, damaged: false };
      } catch (error) {
        edge.signal.throwIfAborted();
        edge.failures.push(error);
        return { relations: null, error: describeFailure(error).message, damaged: isDamage(error) };
      }
    });
    const lookOf = new Map(names.map((name, i) => [name, looks[i] as Look]));
    const databases = found.map(
      ({ name, template, connectable, invalid }): DatabaseFacts => ({
        name,
        template: template === "true",
        connectable: connectable === "true",
        invalid: invalid === "true",
        ...(lookOf.get(name) ?? { relations: null, error: null, damaged: false }),
      }),
    );
    return { databases };
  },
  judge({ databases }, { receipt }): Judgement {
    const readable = databases.filter((d) => d.relations !== null && !d.template);
    const relations = databases.reduce((sum, d) => sum + (d.relations ?? 0), 0);
    const coverage = { databases: readable.length, relations };
    const result = (status: Judgement["status"], summary: string, hint?: string): Judgement => ({
      status,
      summary,
      hint,
      coverage,
    });

    const broken = databases.filter((d) => d.error !== null);
    const damaged = broken.find((d) => d.damaged);
    if (damaged !== undefined) {
      return result("fail", `database ${damaged.name} is damaged: ${damaged.error}`, "see the server log");
    }
    const names = new Set(databases.map((d) => d.name));
    const missing = requiredDatabases(receipt).filter((name) => !names.has(name));
    if (missing.length > 0) {
      return result(
        "fail",
        `of the source's ${plural(receipt?.databases.length ?? 0, "database")} ${enumerate(missing)} is missing`,
      );
    }
    if (broken[0] !== undefined) {
      return result("unverified", `cannot look into ${enumerate(broken.map((d) => d.name))}: ${broken[0].error}`);
    }
    if (readable.length === 0) return result("fail", "there is no database to connect to");
    if (relations === 0) {
      return result(
        "fail",
        `there is not one table in ${plural(readable.length, "database")}`,
        "an empty instance was restored, or Patroni made a new one with initdb: is bootstrap.method spelt as its section",
      );
    }
    const summary = `${plural(readable.length, "database")} with ${plural(relations, "relation")}`;
    const invalid = databases.filter((d) => d.invalid).map((d) => d.name);
    if (invalid.length > 0) {
      return result(
        "warn",
        `${summary}; ${enumerate(invalid)} is invalid and cannot be read`,
        "a DROP DATABASE was under way on the source: drop it again",
      );
    }
    return result("pass", `${summary}, all of them let a session in`);
  },
};

const COUNT_RELATIONS = `
  SELECT count(*)::text AS relations
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'm', 'f')
     AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> $1
     AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`;

/** Those that the source had at the target for certain: mark lists them before, and the manifest tells what stood still. */
function requiredDatabases(receipt: Receipt | null): string[] {
  if (receipt === null) return [];
  const answer = receipt.manifest.objects.find(({ question }) => question === "databases");
  if (answer?.complete) return receipt.databases.filter((name) => Object.hasOwn(answer.objects, name));
  return receipt.databases.filter((name) => !answer?.moved.includes(name));
}
