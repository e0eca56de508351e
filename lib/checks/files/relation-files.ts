/** The files of the data directory agree with the catalogs: databases, tablespaces, and every segment of every relation. */

import type { Database } from "../../io/database.ts";
import { quoteLiteral } from "../../io/database.ts";
import {
  askEveryDatabase,
  type CatalogAnswer,
  type CatalogFacts,
  judgeCatalogs,
  WITHOUT_INDEXES,
} from "../catalogs/catalogs.ts";
import { type Check, EVERY_LEVEL } from "../check.ts";
import type { Finding } from "../findings.ts";

export const relationFiles: Check<CatalogFacts> = {
  id: "relation-files",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  collect: (edge) =>
    askEveryDatabase(edge, async (database, name, cluster) => {
      await database.query(WITHOUT_INDEXES);
      const look = () => readFiles(database, name, cluster, edge.serverVersion);
      const first = await look();
      if (first.findings.length + (first.notes?.length ?? 0) === 0) return first;
      // Somebody may be dropping or truncating: what is wrong stays wrong.
      await new Promise((resolve) => setTimeout(resolve, 200));
      const second = await look();
      const again = (list: readonly Finding[] = []) => new Set(list.map((f) => JSON.stringify(f)));
      const [findings, notes] = [again(second.findings), again(second.notes)];
      return {
        ...first,
        findings: first.findings.filter((f) => findings.has(JSON.stringify(f))),
        notes: first.notes?.filter((f) => notes.has(JSON.stringify(f))) ?? [],
      };
    }),
  judge: (facts) =>
    judgeCatalogs("relation-files", facts, {
      good: "every relation has its files, in their full length",
      meaning:
        "files of the data directory are missing or cut, and their rows with them. Restore again; if it is the same, check the " +
        "backup (pgbackrest verify) and restore an older one",
      noted: "a crash of the source can leave such; compare with the source if you do not know of one",
    }),
};

export interface RelationFile {
  oid: string;
  name: string;
  kind: string;
  /** Access method; null for a sequence. */
  method: string | null;
  unlogged: boolean;
  /** False for an index that is still to be built. */
  ready: boolean;
  /** What the last VACUUM or ANALYZE has seen; null where it says nothing. */
  pages: number | null;
  /** Null when the server does not find the relation that its catalog holds. */
  path: string | null;
  /** Of an incomplete last block: whether there is anything in it. */
  tail?: "empty" | "filled";
}

interface Geometry {
  blockSize: number;
  segmentBlocks: number;
}

/** Indexes of these begin with a page that is written when they are built. */
const WITH_FIRST_PAGE = new Set(["btree", "hash", "gin", "gist", "spgist", "brin"]);

/** By path without its `.1`: the size of each segment, undefined for one that is not there. */
export type FileSizes = ReadonlyMap<string, readonly (number | undefined)[]>;

export function judgeRelation(
  relation: RelationFile,
  files: FileSizes,
  { blockSize, segmentBlocks }: Geometry,
): { findings: Omit<Finding, "database">[]; notes: Omit<Finding, "database">[] } {
  const findings: Omit<Finding, "database">[] = [];
  const notes: Omit<Finding, "database">[] = [];
  const { path, kind, method, name: object } = relation;
  const find = (file: string, what: string) => findings.push({ object, where: `file ${file}`, what });
  // A table access method of an extension may keep its rows elsewhere.
  if (kind !== "i" && kind !== "S" && method !== "heap") return { findings, notes };
  if (path === null) {
    findings.push({ object, what: "the server does not find this relation by its OID, although pg_class holds it" });
    return { findings, notes };
  }
  const sizes = files.get(path) ?? [];
  if (sizes[0] === undefined) {
    find(path, "its file is missing");
    return { findings, notes };
  }
  if (relation.unlogged && files.get(`${path}_init`)?.[0] === undefined) {
    find(`${path}_init`, "the file that an unlogged relation starts from is missing");
  }
  if (sizes[0] === 0 && (kind === "S" || (kind === "i" && relation.ready && WITH_FIRST_PAGE.has(method ?? "")))) {
    find(path, "its file is empty, without even its first page");
  }
  const full = blockSize * segmentBlocks;
  // Truncation leaves empty segments behind, never one with something in it.
  const last = Math.max(
    sizes.findLastIndex((size) => (size ?? 0) > 0),
    0,
  );
  const short = Array.from(sizes).findIndex((size, n) => n < last && size !== full);
  if (short >= 0) {
    const size = sizes[short];
    const has = size === undefined ? "this segment is missing" : `this segment has ${size} bytes instead of ${full}`;
    find(segmentPath(path, short), `${has} although segment ${last} is there: all behind it is lost`);
  }
  const blocks = last * segmentBlocks + Math.floor((sizes[last] ?? 0) / blockSize);
  const rest = (sizes[last] ?? 0) % blockSize;
  const where = `file ${segmentPath(path, last)}`;
  if (rest !== 0) {
    const what = `its file ends ${rest} bytes into a block`;
    // Blocks are added to a table as zeros, so one with contents was whole once.
    const cut = relation.tail === "filled" && kind !== "i";
    if (cut) find(segmentPath(path, last), `${what}, which was cut off`);
    else notes.push({ object, where, what });
  } else if (findings.length === 0 && relation.pages !== null && relation.pages > blocks) {
    const what = `it has ${blocks} blocks, and had ${relation.pages} when it was last vacuumed or analyzed`;
    notes.push({ object, where, what });
  }
  return { findings, notes };
}

const segmentPath = (path: string, segment: number) => (segment === 0 ? path : `${path}.${segment}`);

async function readFiles(
  database: Database,
  name: string,
  cluster: boolean,
  serverVersion: number,
): Promise<CatalogAnswer> {
  const control = await database.row<{ block_size: string; segment_blocks: string; version_directory: string }>(
    `SELECT i.database_block_size::text AS block_size, i.blocks_per_segment::text AS segment_blocks,
            'PG_' || ${Math.floor(serverVersion / 10_000)} || '_' || s.catalog_version_no AS version_directory
       FROM pg_control_init() AS i, pg_control_system() AS s`,
  );
  const geometry = { blockSize: Number(control.block_size), segmentBlocks: Number(control.segment_blocks) };
  const answer = { findings: [] as Finding[], notes: [] as Finding[], counts: { relations: 0 } };
  const tell = (relation: RelationFile, files: FileSizes) => {
    const judged = judgeRelation(relation, files, geometry);
    answer.findings.push(...judged.findings.map((f) => ({ ...f, database: name })));
    answer.notes.push(...judged.notes.map((f) => ({ ...f, database: name })));
  };
  const torn: [RelationFile, FileSizes][] = [];
  await database.bytes(`COPY (${filesSql(cluster)}) TO STDOUT (FORMAT binary)`, (value) => {
    const row = JSON.parse(value?.toString() ?? "") as FileRow;
    const { persistence, sizes, init, ...of } = row;
    // Statistics can be imported since 18; an unlogged relation is emptied after a crash.
    const pages = serverVersion >= 180_000 || persistence === "u" || of.kind === "i" ? null : of.pages;
    const relation = { ...of, pages, unlogged: persistence === "u" };
    const files = new Map<string, (number | undefined)[]>();
    if (sizes !== null) files.set(relation.path ?? "", segmentsOf(sizes));
    if (init !== null) files.set(`${relation.path}_init`, segmentsOf(init));
    answer.counts.relations++;
    if (tailOf(relation, files, geometry) === null) tell(relation, files);
    else torn.push([relation, files]);
  });
  for (const [relation, files] of torn) tell(await withTail(database, relation, files, geometry), files);
  if (cluster) {
    const places = await database.query<Record<keyof Place, string>>(PLACES, [control.version_directory]);
    const judged = judgePlaces(places as unknown as Place[], String(Math.floor(serverVersion / 10_000)));
    answer.findings.push(...judged.findings);
    answer.notes.push(...judged.notes);
  }
  return answer;
}

/** Sizes by number of the segment. */
type Segments = Readonly<Record<string, number>>;

type FileRow = Omit<RelationFile, "unlogged" | "tail" | "pages"> & {
  persistence: string;
  pages: number;
  sizes: Segments | null;
  /** Of its initial fork. */
  init: Segments | null;
};

function segmentsOf(sizes: Segments): (number | undefined)[] {
  const segments: (number | undefined)[] = [];
  for (const [segment, size] of Object.entries(sizes)) segments[Number(segment)] = size;
  return segments;
}

/** Bytes behind the last whole block, and where they are; null when there are none. */
function tailOf({ path }: RelationFile, files: FileSizes, { blockSize }: Geometry) {
  const sizes = path === null ? undefined : files.get(path);
  if (path === null || sizes === undefined) return null;
  const last = Math.max(
    sizes.findLastIndex((size) => (size ?? 0) > 0),
    0,
  );
  const size = sizes[last] ?? 0;
  const bytes = size % blockSize;
  return bytes === 0 ? null : { file: segmentPath(path, last), at: size - bytes, bytes };
}

async function withTail(
  database: Database,
  relation: RelationFile,
  files: FileSizes,
  geometry: Geometry,
): Promise<RelationFile> {
  const tail = tailOf(relation, files, geometry);
  if (tail === null) return relation;
  const { filled } = await database.row<{ filled: string | null }>(
    `SELECT (ltrim(encode(pg_read_binary_file(${quoteLiteral(tail.file)}, ${tail.at}, ${tail.bytes}, true), 'hex'), '0')
             <> '')::text AS filled`,
  );
  return { ...relation, tail: filled === "true" ? "filled" : "empty" };
}

export interface Place {
  kind: "database" | "tablespace" | "orphan-database" | "orphan-tablespace";
  name: string;
  path: string;
  /** Of a database: its PG_VERSION. Of a tablespace: `there`, `no link` or `no directory`. */
  state: string | null;
  /** Size of pg_filenode.map. */
  map: string | null;
}

export function judgePlaces(places: readonly Place[], majorVersion: string) {
  const findings: Finding[] = [];
  const notes: Finding[] = [];
  for (const { kind, name, path, state, map } of places) {
    const at = { database: null, where: path };
    if (kind === "database") {
      const object = `database ${name}`;
      if (state === null) findings.push({ ...at, object, what: "its directory or the PG_VERSION in it is missing" });
      else if (state.trim() !== majorVersion) {
        findings.push({ ...at, object, what: `its PG_VERSION says "${state.trim()}" instead of ${majorVersion}` });
      }
      if (state !== null && (map === null || map === "0")) {
        findings.push({ ...at, object, what: "its pg_filenode.map is missing or empty" });
      }
    } else if (kind === "tablespace") {
      if (state !== "there") {
        const what =
          state === "no link" ? "its link is missing or leads nowhere" : "its directory of this version is missing";
        findings.push({ ...at, object: `tablespace ${name}`, what });
      }
    } else {
      const what = kind === "orphan-database" ? "no database has this directory" : "no tablespace has this link";
      notes.push({ ...at, object: kind === "orphan-database" ? "directory" : "link", what });
    }
  }
  return { findings, notes };
}

/** A row of JSON for each relation, with the sizes of its files: there may be very many of both. */
const filesSql = (cluster: boolean) => `
WITH relations AS MATERIALIZED (
  SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind AS kind, a.amname AS method, c.relpersistence AS persistence,
         coalesce(i.indisready AND i.indisvalid, true) AS ready, c.relpages AS pages, pg_relation_filepath(c.oid) AS path
    FROM pg_class AS c
    LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_am AS a ON a.oid = c.relam
    LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
   WHERE c.relkind IN ('r', 'm', 't', 'i', 'S') AND c.relpersistence <> 't' AND (NOT c.relisshared OR ${cluster})),
directories AS MATERIALIZED (
  SELECT DISTINCT regexp_replace(path, '/[^/]*$', '') AS directory FROM relations WHERE path IS NOT NULL),
files AS MATERIALIZED (
  SELECT d.directory || '/' || split_part(f.file, '.', 1) AS path,
         json_object_agg(coalesce(nullif(split_part(f.file, '.', 2), ''), '0'), s.size) AS sizes
    FROM directories AS d
   CROSS JOIN LATERAL pg_ls_dir(d.directory, true, false) AS f(file)
   CROSS JOIN LATERAL pg_stat_file(d.directory || '/' || f.file, true) AS s
   WHERE f.file ~ '^[0-9]+(_[a-z]+)?([.][0-9]{1,6})?$' AND s.size IS NOT NULL AND NOT s.isdir
   GROUP BY 1)
SELECT json_build_object('oid', r.oid::text, 'name', r.name, 'kind', r.kind, 'method', r.method, 'persistence', r.persistence,
                         'ready', r.ready, 'pages', r.pages, 'path', r.path, 'sizes', f.sizes, 'init', i.sizes)::text
  FROM relations AS r LEFT JOIN files AS f ON f.path = r.path LEFT JOIN files AS i ON i.path = r.path || '_init'
 ORDER BY r.oid`;

const PLACES = `
SELECT 'database' AS kind, d.datname AS name, p.path,
       encode(pg_read_binary_file(p.path || '/PG_VERSION', 0, 20, true), 'escape') AS state,
       (pg_stat_file(p.path || '/pg_filenode.map', true)).size::text AS map
  FROM pg_database AS d
 CROSS JOIN LATERAL (SELECT CASE d.dattablespace WHEN 1663 THEN 'base/' || d.oid
                                 ELSE 'pg_tblspc/' || d.dattablespace || '/' || $1::text || '/' || d.oid END AS path) AS p
 WHERE d.datconnlimit <> -2
UNION ALL
SELECT 'tablespace', t.spcname, 'pg_tblspc/' || t.oid,
       CASE WHEN (pg_stat_file('pg_tblspc/' || t.oid, true)).isdir IS NOT TRUE THEN 'no link'
            WHEN (pg_stat_file('pg_tblspc/' || t.oid || '/' || $1::text, true)).isdir IS NOT TRUE THEN 'no directory'
            ELSE 'there' END, NULL
  FROM pg_tablespace AS t WHERE t.oid NOT IN (1663, 1664)
UNION ALL
SELECT 'orphan-database', f.name, 'base/' || f.name, NULL, NULL
  FROM pg_ls_dir('base') AS f(name) WHERE f.name ~ '^[0-9]+$' AND f.name NOT IN (SELECT oid::text FROM pg_database)
UNION ALL
SELECT 'orphan-tablespace', f.name, 'pg_tblspc/' || f.name, NULL, NULL
  FROM pg_ls_dir('pg_tblspc') AS f(name) WHERE f.name ~ '^[0-9]+$' AND f.name NOT IN (SELECT oid::text FROM pg_tablespace)`;
