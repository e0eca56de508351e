/** A table against its indexes, a part of its rows at a time, with the pages of a real PostgreSQL. */

import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readClog } from "../../lib/checks/data/page-clog.ts";
import { findDatadir } from "../../lib/checks/data/page-files.ts";
import { readMultiRange } from "../../lib/checks/data/page-multixact.ts";
import { readTable, type TablePages } from "../../lib/checks/data/page-table.ts";
import { Pool } from "../../lib/checks/pool.ts";
import { withDatabase } from "../../lib/io/database.ts";
import { withChecksum } from "../../lib/pages/checksum.ts";
import { lineOffset, linePointer, pagesOf } from "../../lib/pages/page.ts";
import { type Lab, openLab } from "../lab/lab.ts";
import { query, type Source, startPostgres, startSource, value } from "../lab/source.ts";

/** Of 8 KB, which are read before anybody looks at the memory again. */
const STEP = 1024;
/** For the bits of two steps at once; the keys of one take more. */
const MEMORY = 450_000;

let lab: Lab;
let source: Awaited<ReturnType<typeof startSource>>;

beforeAll(async () => {
  lab = await openLab("page-table");
  source = await startSource(lab, { parameters: { archive_mode: "off", autovacuum: "off" } });
  for (const sql of [
    "CREATE EXTENSION pageinspect",
    "CREATE TABLE t AS SELECT g AS id, g % 1000 AS k FROM generate_series(1, 900000) AS g",
    "ALTER TABLE t ADD PRIMARY KEY (id)",
    "CREATE INDEX other ON t (k, id)",
    "CHECKPOINT",
  ]) {
    await query(source, sql);
  }
});

afterAll(() => lab.close());

async function look(of: Source): Promise<TablePages> {
  const conninfo = { host: of.socketDir, port: String(of.port), user: "postgres", dbname: "postgres" };
  const about = await withDatabase(conninfo, {}, async (database) => ({
    clog: await readClog(database),
    multis: await readMultiRange(database),
    datadir: await findDatadir(database),
    oid: (await database.row<{ oid: string }>("SELECT 't'::regclass::oid::text AS oid")).oid,
  }));
  const around = { ...about, segmentBlocks: 131_072, memory: MEMORY };
  const pool = new Pool({
    ...{ jobs: 1, budgetMs: null, signal: new AbortController().signal },
    open: (database, use) => withDatabase({ ...conninfo, dbname: database }, {}, use),
  });
  const found: unknown[] = [];
  await pool.work(
    [{ database: "postgres", relations: [], bytes: 1, rank: 0 }],
    (session) => readTable(session, { oid: about.oid, name: "public.t" }, around),
    (_, outcome) => found.push(outcome),
  );
  expect(found).toMatchObject([{ kind: "done", value: { rows: { lines: 900_000 } } }]);
  return (found[0] as { value: TablePages }).value;
}

const problemsOf = ({ table, indexes }: TablePages) => [
  ...table,
  ...indexes.flatMap(({ index, problems }) => problems.map((problem) => ({ index, ...problem }))),
];

test("nothing is said of a sound one, and every key was compared", async () => {
  expect(Number(await value(source, "SELECT pg_relation_size('t') / 8192"))).toBeGreaterThan(3 * STEP);
  const found = await look(source);
  expect(problemsOf(found)).toEqual([]);
  expect(found.indexes.map(({ keysCompared }) => keysCompared)).toEqual([true, true]);
});

test("two entries of one index that exchanged their rows are named, and no other", async () => {
  const block = 2300;
  expect(await value(source, `SELECT type FROM bt_page_stats('t_pkey', ${block})`)).toBe("l");
  const items = await query(source, `SELECT ctid FROM bt_page_items('t_pkey', ${block}) WHERE itemoffset IN (50, 51)`);
  const path = join(source.dataDir, await value(source, "SELECT pg_relation_filepath('t_pkey')"));
  await source.service.stop("SIGINT");
  expect((await stat(path)).size).toBeGreaterThan(block * 8192);
  const file = await open(path, "r+");
  const page = Buffer.alloc(8192);
  await file.read(page, 0, 8192, block * 8192);
  const tid = (offset: number) => page.subarray(lineOffset(linePointer(pagesOf(page), 0, offset))).subarray(0, 6);
  const first = Buffer.from(tid(50));
  tid(51).copy(tid(50));
  first.copy(tid(51));
  await file.write(withChecksum(page, block), 0, 8192, block * 8192);
  await file.close();
  source.service = await startPostgres(lab, source);

  const places = items.map(({ ctid }) => (ctid as string).replace(/\((\d+),(\d+)\)/, "block $1 item $2"));
  const problems = problemsOf(await look(source));
  expect(problems).toMatchObject([{ index: expect.stringMatching(/t_pkey$/), where: `block ${block}` }]);
  expect(problems[0]?.what).toMatch(/^2 entries with another key than their rows of public\.t: /);
  for (const place of places) expect(problems[0]?.what).toContain(place);
});
