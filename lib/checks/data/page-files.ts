/** Pages of relations: from their files, fast and maybe a moment old, or as the server itself sees them. */

import { type Database, quoteLiteral } from "../../io/database.ts";
import { readPart, seesSameFile } from "../../io/local-pages.ts";
import type { KeyLayout } from "../../pages/keys.ts";
import { PAGE_SIZE, type Pages, pagesOf } from "../../pages/page.ts";
import type { Session } from "../session.ts";

/** Bytes of one row: small enough to keep the event loop alive, large enough to cost little each. */
const CHUNK_BLOCKS = 16;
/** Bytes of one statement: far within any statement timeout. */
const PIECE_BLOCKS = 8192;

export interface IndexFile {
  oid: string;
  name: string;
  method: string;
  path: string;
  blocks: number;
  /** Not of all rows, by its definition. */
  partial: boolean;
  /** The first column (attnum, 0 is an expression), and whether it may be NULL. */
  column: number;
  nullable: boolean;
  /** Null when its keys cannot be compared with the rows byte by byte, or when it does not have every row. */
  keys: KeyLayout | null;
}

export interface TableFiles {
  path: string;
  blocks: number;
  indexes: IndexFile[];
}

/** By table; without those that are gone, or are not stored in files of their own. */
export async function readTableFiles(session: Session, tables: readonly string[]): Promise<Map<string, TableFiles>> {
  const oids = `{${tables.join(",")}}`;
  const rows = await session.query<Record<string, string | null>>(
    `SELECT c.oid::text, coalesce(i.indrelid, c.oid)::text AS table, format('%I.%I', n.nspname, c.relname) AS name, a.amname AS method,
            pg_relation_filepath(c.oid) AS path, pg_relation_size(c.oid)::text AS bytes,
            (i.indpred IS NOT NULL)::text AS partial, i.indkey[0]::text AS column,
            CASE WHEN a.amname = 'btree' AND i.indpred IS NULL AND i.indexprs IS NULL THEN json_build_object(
              'table', (SELECT json_agg(json_build_array(attlen, attalign, atthasmissing) ORDER BY attnum) FROM pg_attribute
                         WHERE attrelid = i.indrelid AND attnum BETWEEN 1 AND (SELECT max(k) FROM unnest(i.indkey) AS k)),
              'index', (SELECT json_agg(json_build_array(i.indkey[attnum - 1], attlen) ORDER BY attnum) FROM pg_attribute
                         WHERE attrelid = c.oid AND attnum > 0)) END::text AS keys,
            (NOT coalesce(t.attnotnull, false))::text AS nullable
       FROM (SELECT unnest('${oids}'::oid[]) AS oid UNION
             SELECT indexrelid FROM pg_index
              WHERE indrelid = ANY ('${oids}'::oid[]) AND indisvalid AND indisready AND indislive) AS wanted
       JOIN pg_class AS c USING (oid) JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_am AS a ON a.oid = c.relam
       LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
       LEFT JOIN pg_attribute AS t ON t.attrelid = i.indrelid AND t.attnum = i.indkey[0]
      WHERE i.indexrelid IS NULL OR c.relkind = 'i'
      ORDER BY i.indexrelid IS NOT NULL, c.oid`,
  );
  const blocks = (row: Record<string, string | null>) => Math.floor(Number(row.bytes) / PAGE_SIZE);
  const found = new Map<string, TableFiles>();
  for (const row of rows) {
    if (row.path === null || row.bytes === null) continue;
    if (row.oid === row.table)
      found.set(row.oid as string, { path: row.path as string, blocks: blocks(row), indexes: [] });
    else {
      found.get(row.table as string)?.indexes.push({
        oid: row.oid as string,
        name: row.name as string,
        method: row.method as string,
        path: row.path as string,
        blocks: blocks(row),
        partial: row.partial === "true",
        column: Number(row.column),
        nullable: row.nullable === "true",
        keys: typeof row.keys === "string" ? keyLayout(JSON.parse(row.keys)) : null,
      });
    }
  }
  return found;
}

const ALIGNMENT: Readonly<Record<string, number>> = { c: 1, s: 2, i: 4, d: 8 };

/** As the catalogs have it: attlen, attalign and atthasmissing of the table's columns, attnum and attlen of the index's. */
export interface KeyColumns {
  table: [length: number, align: string, hasMissing: boolean][] | null;
  index: [attnum: number, length: number][] | null;
}

/** Null unless every column has a fixed length, and the same one in both. */
export function keyLayout({ table, index }: KeyColumns): KeyLayout | null {
  if (table === null || index === null) return null;
  const isPlain = index.every(([attnum, length]) => {
    const [ofTable, , hasMissing] = table[attnum - 1] ?? [0, "", true];
    return length > 0 && length === ofTable && !hasMissing;
  });
  const columns = table.map(([length, align]) => ({ length, align: ALIGNMENT[align] ?? 0 }));
  if (!isPlain || columns.some(({ align }) => align === 0)) return null;
  return { table: columns, columns: index.map(([attnum]) => attnum - 1) };
}

/** A file is gone or shorter than it was a moment ago: the relation was rewritten, truncated or dropped. */
export class FileMoved extends Error {}

/** How the files of a cluster are read. */
export interface PageSource {
  segmentBlocks: number;
  /** The server's data directory, when it is on this machine and can be read; otherwise the server reads. */
  datadir: string | null;
}

/** Whether the data directory of the server is the one at this place of this machine: a container may have its own there. */
export async function findDatadir(database: Database): Promise<string | null> {
  const { datadir } = await database.row<{ datadir: string | null }>(
    "SELECT (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS datadir",
  );
  if (datadir === null) return null;
  const control = "global/pg_control";
  for (let n = 0; n < ATTEMPTS; n++) {
    let bytes = Buffer.alloc(0);
    await database.bytes(`COPY (SELECT pg_read_binary_file('${control}')) TO STDOUT (FORMAT binary)`, (value) => {
      bytes = Buffer.from(value ?? []);
    });
    // A checkpoint may come in between.
    if (bytes.length > 0 && seesSameFile(datadir, control, bytes)) return datadir;
  }
  return null;
}

const ATTEMPTS = 3;

/** Bytes of one read of this process: the event loop waits that long. */
const LOCAL_BLOCKS = 128;

async function readLocal(
  file: { path: string; segmentBlocks: number; datadir: string },
  from: number,
  to: number,
  use: (pages: Pages, at: number, block: number) => void,
): Promise<void> {
  const pages = pagesOf(new Uint8Array(Math.min(LOCAL_BLOCKS, to - from) * PAGE_SIZE));
  for (let next = from; next < to; ) {
    const segment = Math.floor(next / file.segmentBlocks);
    const end = Math.min(to, (segment + 1) * file.segmentBlocks, next + LOCAL_BLOCKS);
    const path = `${file.datadir}/${file.path}${segment === 0 ? "" : `.${segment}`}`;
    const into = pages.u8.subarray(0, (end - next) * PAGE_SIZE);
    const whole = Math.floor(readPart(path, (next - segment * file.segmentBlocks) * PAGE_SIZE, into) / PAGE_SIZE);
    for (let i = 0; i < whole; i++) use(pages, i * PAGE_SIZE, next + i);
    next += whole;
    if (next < end) throw new FileMoved(`${file.path} ends before block ${next}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Some blocks, in order. `use` gets pages that are valid during the call only. */
export async function readFile(
  session: Session,
  file: { path: string } & PageSource,
  from: number,
  to: number,
  use: (pages: Pages, at: number, block: number) => void,
): Promise<void> {
  const { datadir } = file;
  if (datadir !== null) return await readLocal({ ...file, datadir }, from, to, use);
  const aligned = pagesOf(new Uint8Array(CHUNK_BLOCKS * PAGE_SIZE));
  let next = from;
  while (next < to) {
    const segment = Math.floor(next / file.segmentBlocks);
    const end = Math.min(to, (segment + 1) * file.segmentBlocks, next + PIECE_BLOCKS);
    const path = quoteLiteral(segment === 0 ? file.path : `${file.path}.${segment}`);
    const offset = (next - segment * file.segmentBlocks) * PAGE_SIZE;
    const length = (end - next) * PAGE_SIZE;
    const step = CHUNK_BLOCKS * PAGE_SIZE;
    await session.bytes(
      `COPY (SELECT pg_read_binary_file(${path}, o, least(${step}, ${offset + length} - o), true)
               FROM generate_series(${offset}::bigint, ${offset + length - 1}::bigint, ${step}) AS o)
         TO STDOUT (FORMAT binary)`,
      (chunk) => {
        const whole = chunk === null ? 0 : Math.floor(chunk.length / PAGE_SIZE);
        if (chunk === null || whole === 0) return;
        aligned.u8.set(chunk.subarray(0, whole * PAGE_SIZE));
        for (let i = 0; i < whole; i++) use(aligned, i * PAGE_SIZE, next + i);
        next += whole;
      },
    );
    if (next < end) throw new FileMoved(`${file.path} ends before block ${next}`);
  }
}

/** Pages through shared buffers: null beyond the end. Needs pageinspect. */
export async function readBuffers(
  session: Session,
  name: string,
  blocks: string,
  use: (pages: Pages | null) => void,
  fork = "main",
): Promise<void> {
  const [relation, forkName] = [quoteLiteral(name), quoteLiteral(fork)];
  await session.bytes(
    `COPY (SELECT CASE WHEN b < pg_relation_size(${relation}::regclass, ${forkName}) / ${PAGE_SIZE}
                       THEN pg_temp.get_raw_page(${relation}, ${forkName}, b) END
             FROM ${blocks} AS b) TO STDOUT (FORMAT binary)`,
    (page) => use(page === null ? null : pagesOf(new Uint8Array(page))),
  );
}

export const blockList = (blocks: readonly number[]) => `unnest('{${blocks.join(",")}}'::bigint[])`;

/** By block. */
export async function readBufferPages(
  session: Session,
  name: string,
  blocks: Iterable<number>,
  fork = "main",
): Promise<Map<number, Pages | null>> {
  const wanted = [...new Set(blocks)].sort((a, b) => a - b);
  const found = new Map<number, Pages | null>();
  let i = 0;
  if (wanted.length === 0) return found;
  await readBuffers(session, name, blockList(wanted), (pages) => found.set(wanted[i++] as number, pages), fork);
  return found;
}
