/** What was seen of the pages before the server ran: by pg_checksums on the stopped instance, and by pgBackRest in the backup. */

import type { Report } from "../../report/report.ts";
import { formatSize } from "../../units.ts";
import { type Check, EVERY_LEVEL, enumerate, type Judgement, plural } from "../check.ts";
import type { Edge } from "../edge.ts";
import { describeFinding, type Finding, SHOWN } from "../findings.ts";

export interface PageChecksumFacts {
  findings: Finding[];
}

const NO_EVIDENCE = "pages are looked at while the instance is stopped, by bootstrap or guard; this one was not";

export const pageChecksums: Check<PageChecksumFacts> = {
  id: "page-checksums",
  claim: "consistency",
  levels: EVERY_LEVEL,
  skip({ evidence }) {
    const checked = evidence?.pageChecksums ?? null;
    if (checked === null) return NO_EVIDENCE;
    return checked.status === "off" ? `${checked.why}: damage in a page may look like data` : null;
  },
  collect: async (edge) => ({ findings: await namePages(edge, edge.asked.evidence?.pageChecksums?.pages ?? []) }),
  judge({ findings }, { evidence }): Judgement {
    const checked = evidence?.pageChecksums;
    if (!checked) return { status: "skipped", summary: NO_EVIDENCE };
    const coverage = { "page-checksums": { files: checked.files, blocks: checked.blocks } };
    if (checked.status === "not-checked") {
      return {
        status: "unverified",
        summary: `the pages could not be checked: ${checked.why}`,
        hint: "see whether pg_checksums of the server's version is there, or give --page-checksums skip",
      };
    }
    if (checked.bad > 0) {
      return {
        status: "fail",
        summary: `${plural(checked.bad, "page")} of ${checked.blocks} with a wrong checksum: ${enumerate(findings.map(describeFinding))}`,
        hint: "the pages are damaged in the backup or were damaged here: restore again to tell, and see pgbackrest verify",
        facts: { ...checked, pages: checked.pages.slice(0, SHOWN), findings: findings.slice(0, SHOWN) },
        coverage,
      };
    }
    return {
      status: "pass",
      summary: `${checked.blocks} pages (${formatSize(checked.blocks * 8192)}) of ${plural(checked.files, "file")} with right checksums`,
      coverage,
    };
  },
};

/** Relation and database by the file's name, where the catalog still knows them. */
async function namePages(edge: Edge, pages: (Report["page_checksums"] & object)["pages"]): Promise<Finding[]> {
  const byFile = new Map<string, number[]>();
  for (const { file, block } of pages) byFile.set(file, [...(byFile.get(file) ?? []), block]);
  const databases = byFile.size === 0 ? [] : await databaseNames(edge);
  const findings: Finding[] = [];
  for (const [file, blocks] of [...byFile].slice(0, SHOWN)) {
    const place = placeOf(file);
    const database = databases.find((d) => d.oid === place?.database)?.datname ?? null;
    const relation = place === null ? null : await nameRelation(edge, database ?? "postgres", place);
    findings.push({
      database,
      object: relation === null ? `file ${file}` : `${relation} (file ${file})`,
      where: `${blocks.length === 1 ? "block" : "blocks"} ${enumerate(blocks.map(String), 10)}`,
      what: "wrong checksum",
    });
  }
  return findings;
}

const databaseNames = (edge: Edge) =>
  edge
    .sql(null, (db) => db.query<{ oid: string; datname: string }>("SELECT oid::text, datname FROM pg_database"))
    .catch(() => []);

export interface FilePlace {
  /** OID; 0 for the shared catalogs. */
  database: string;
  /** OID; 0 for the database's default. */
  tablespace: string;
  filenode: string;
}

/** Null for a file that belongs to no relation. https://www.postgresql.org/docs/15/storage-file-layout.html */
export function placeOf(file: string): FilePlace | null {
  const match = /^(?:(global)|base\/(\d+)|pg_tblspc\/(\d+)\/[^/]+\/(\d+))\/(\d+)(?:_(?:fsm|vm|init))?(?:\.\d+)?$/.exec(
    file,
  );
  if (match === null) return null;
  const [, global, base, tablespace, other, filenode] = match;
  return {
    database: global === undefined ? (base ?? other ?? "0") : "0",
    tablespace: global === undefined ? (tablespace ?? "0") : "1664",
    filenode: filenode as string,
  };
}

async function nameRelation(edge: Edge, database: string, { tablespace, filenode }: FilePlace): Promise<string | null> {
  try {
    const { name } = await edge.sql(database, (db) =>
      db.row<{ name: string | null }>("SELECT pg_filenode_relation($1, $2)::regclass::text AS name", [
        tablespace,
        filenode,
      ]),
    );
    return name;
  } catch {
    // The check reports the file then: the catalog itself may be what is damaged.
    edge.signal.throwIfAborted();
    return null;
  }
}

export const backupPageErrors: Check<null> = {
  id: "backup-page-errors",
  claim: "consistency",
  levels: EVERY_LEVEL,
  skip: ({ evidence }) => (evidence?.backup ? null : "nobody says which backup set was restored"),
  collect: async () => null,
  judge(_, { evidence }): Judgement {
    const errors = evidence?.backup?.page_errors ?? null;
    if (errors === null) {
      return { status: "unverified", summary: "nobody says whether pgBackRest found page errors in the backup" };
    }
    if (errors.length === 0) return { status: "pass", summary: "pgBackRest found no page error in the backup" };
    const summary = `pgBackRest found wrong page checksums in the backup: ${enumerate(errors)}`;
    const { pageChecksums: checked } = evidence ?? {};
    // Recovery writes whole pages again, and files may be gone by the target.
    if (checked?.status === "checked" && checked.bad === 0) {
      return {
        status: "warn",
        summary: `${summary}; after recovery every page is right`,
        hint: "look at the source's storage, and make a full backup",
      };
    }
    return {
      status: "fail",
      summary,
      hint: "the source's pages were damaged when this backup was made: look at its storage, restore an older set",
    };
  },
};
