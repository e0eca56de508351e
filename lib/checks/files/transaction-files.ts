/** The transaction status (pg_xact, pg_multixact) of every transaction that a row may still name is on disk. */

import type { Database } from "../../io/database.ts";
import { quoteLiteral } from "../../io/database.ts";
import { type Check, EVERY_LEVEL, enumerate, type Judgement } from "../check.ts";
import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import { describeFinding, type Finding } from "../findings.ts";
import { missingSegments, type Need, neededOf, type Positions } from "./slru.ts";

export interface TransactionFilesFacts {
  positions: Positions;
  /** By directory and file name. */
  sizes: Record<string, Record<string, number>>;
  /** All-zero pages, but for a last one that has hardly been begun. */
  zeroPages: { directory: string; file: string; page: number }[];
  /** Missing files of pg_xact that held transactions which rows of catalogs are from. */
  used: string[];
}

export const transactionFiles: Check<TransactionFilesFacts> = {
  id: "transaction-files",
  claim: "consistency",
  levels: EVERY_LEVEL,
  stage: "databases",
  async collect(edge) {
    const facts = await edge.sql(MAINTENANCE_DATABASE, (database) => readFacts(database, edge.serverVersion));
    return { ...facts, used: await readUsed(edge, facts) };
  },
  judge: judgeTransactionFiles,
};

export function judgeTransactionFiles({ positions, sizes, zeroPages, used }: TransactionFilesFacts): Judgement {
  const needed = neededOf(positions);
  const missing = needed.flatMap((need): Finding[] =>
    missingSegments(need, sizes[need.directory] ?? {}, positions.blockSize).map(({ file, what }) => ({
      database: null,
      object: `${need.directory}/${file}`,
      what,
    })),
  );
  // pg_resetwal -x leaves out as many transactions as it is told to, and none of the files that they would be in.
  const skipped = missing.filter(
    ({ object }) => object.startsWith("pg_xact/") && !used.includes(object.slice("pg_xact/".length)),
  );
  const findings = missing.filter((finding) => !skipped.includes(finding));
  const segments = needed.reduce((sum, need) => sum + need.segments.length, 0);
  const coverage = { "transaction-files": { segments, directories: needed.map((need) => need.directory) } };
  const facts = {
    positions,
    findings: findings.slice(0, 100),
    found: findings.length,
    zero_pages: zeroPages.slice(0, 100),
  };
  if (findings.length > 0) {
    return {
      status: "fail",
      summary: `${findings.length} of ${segments} segments are missing or cut: ${enumerate(findings.map(describeFinding), 3)}`,
      hint:
        "whether the transactions in them committed is not known any more, so rows can neither be read nor be ignored. " +
        "Restore again; if it is the same, restore an older backup",
      facts,
      coverage,
    };
  }
  if (skipped.length > 0) {
    return {
      status: "warn",
      summary: `no row of a catalog needs it, but ${enumerate(skipped.map(describeFinding), 3)}`,
      hint: "right only where pg_resetwal -x skipped transactions on the source: compare its directory pg_xact",
      facts: { ...facts, skipped: skipped.slice(0, 100) },
      coverage,
    };
  }
  const good = `the status of every transaction since ${positions.oldestXid} is on disk`;
  if (zeroPages.length > 0) {
    const list = zeroPages.map(({ directory, file, page }) => `${directory}/${file} page ${page}`);
    return {
      status: "warn",
      summary: `${good}, but pages of it are all zero: ${enumerate(list, 3)}`,
      hint:
        "as if none of hundreds of transactions in a row had ended: right only where pg_resetwal skipped them; otherwise rows are lost. " +
        "Compare the source's file",
      facts,
      coverage,
    };
  }
  return { status: "pass", summary: good, facts, coverage };
}

const DIRECTORIES = ["pg_xact", "pg_multixact/offsets", "pg_multixact/members"];

/**
 * The order matters while the server runs: what a checkpoint has written before the directories are listed is in them, and
 * what was removed before is older than what is asked afterwards.
 */
async function readFacts(database: Database, serverVersion: number): Promise<Omit<TransactionFilesFacts, "used">> {
  const checkpoint = await database.row(
    `SELECT split_part(c.next_xid, ':', 1) AS epoch, split_part(c.next_xid, ':', 2) AS xid,
            c.next_multixact_id::text AS multi, c.next_multi_offset::text AS "offset",
            i.database_block_size::text AS block_size
       FROM pg_control_checkpoint() AS c, pg_control_init() AS i`,
  );
  const sizes: TransactionFilesFacts["sizes"] = {};
  for (const directory of DIRECTORIES) {
    const rows = await database.query<{ file: string; size: string }>(
      `SELECT f.file, s.size::text AS size FROM pg_ls_dir('${directory}', true, false) AS f(file)
        CROSS JOIN LATERAL pg_stat_file('${directory}/' || f.file, true) AS s WHERE s.size IS NOT NULL AND NOT s.isdir`,
    );
    sizes[directory] = Object.fromEntries(rows.map((row) => [row.file, Number(row.size)]));
  }
  // A database that DROP DATABASE left behind does not hold anything back.
  const oldest = await database.row(
    `SELECT (SELECT datfrozenxid::text FROM pg_database WHERE datconnlimit <> -2 ORDER BY age(datfrozenxid) DESC LIMIT 1) AS xid,
            (SELECT datminmxid::text FROM pg_database WHERE datconnlimit <> -2 ORDER BY mxid_age(datminmxid) DESC LIMIT 1) AS multi,
            txid_snapshot_xmax(txid_current_snapshot())::text AS next`,
  );
  const positions: Positions = {
    blockSize: Number(checkpoint.block_size),
    serverVersion,
    checkpointNextXid: Number(checkpoint.epoch) * 2 ** 32 + Number(checkpoint.xid),
    nextXid: Number(oldest.next),
    oldestXid: Number(oldest.xid),
    nextMulti: Number(checkpoint.multi),
    oldestMulti: Number(oldest.multi),
    nextOffset: Number(checkpoint.offset),
    oldestOffset: null,
  };
  positions.oldestOffset = await readOffset(database, positions);
  return {
    positions,
    sizes,
    zeroPages: await readZeroPages(database, neededOf(positions), sizes, positions.blockSize),
  };
}

/** Catalogs that every kind of work writes to. */
const WRITTEN = [
  "pg_class",
  "pg_attribute",
  "pg_type",
  "pg_depend",
  "pg_statistic",
  "pg_proc",
  "pg_database",
  "pg_authid",
];

/**
 * Row versions from the transactions of a missing file prove that it once was there. In a later epoch an old frozen row may
 * have the same number, so that none is proof.
 */
async function readUsed(edge: Edge, { positions, sizes }: Omit<TransactionFilesFacts, "used">): Promise<string[]> {
  const [xact] = neededOf(positions).filter((need) => need.directory === "pg_xact") as [Need];
  const missing = missingSegments(xact, sizes.pg_xact ?? {}, positions.blockSize);
  if (missing.length === 0 || positions.nextXid >= 2 ** 32) return [];
  const perPage = positions.blockSize * 4;
  const list = missing.map(
    (m) => `(${quoteLiteral(m.file)}, ${m.firstPage * perPage}::int8, ${(m.lastPage + 1) * perPage}::int8)`,
  );
  const rows = WRITTEN.map((catalog) => `SELECT xmin::text::int8 AS xid FROM ${catalog}`).join(" UNION ALL ");
  const sql = `SELECT DISTINCT m.file FROM (VALUES ${list.join(", ")}) AS m(file, first, after)
    JOIN (${rows}) AS r ON r.xid >= greatest(m.first, 3) AND r.xid < m.after`;
  const used = await edge.eachDatabase(await edge.databases(), (name) =>
    edge.sql(name, async (database) => {
      await database.query("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off");
      return (await database.query<{ file: string }>(sql)).map((row) => row.file);
    }),
  );
  return [...new Set(used.flat())];
}

/** Where the members of the oldest multixact begin; null when that is not to be known. */
async function readOffset(database: Database, { oldestMulti, blockSize }: Positions): Promise<number | null> {
  const perSegment = (blockSize / 4) * 32;
  const file = Math.floor(oldestMulti / perSegment)
    .toString(16)
    .toUpperCase()
    .padStart(4, "0");
  const { bytes, little } = await database.row<{ bytes: string | null; little: string }>(
    `SELECT encode(pg_read_binary_file('pg_multixact/offsets/${file}', ${(oldestMulti % perSegment) * 4}, 4, true), 'hex') AS bytes,
            (get_byte(pg_read_binary_file('global/pg_control', 8, 4), 0) <> 0)::text AS little`,
  );
  if (bytes === null || !/^[0-9a-f]{8}$/.test(bytes)) return null;
  const buffer = Buffer.from(bytes, "hex");
  const offset = little === "true" ? buffer.readUInt32LE() : buffer.readUInt32BE();
  return offset === 0 ? null : offset;
}

/** So many on a page that some of them have surely ended. */
const BEGUN = 256;

async function readZeroPages(
  database: Database,
  needed: readonly Need[],
  sizes: TransactionFilesFacts["sizes"],
  blockSize: number,
): Promise<TransactionFilesFacts["zeroPages"]> {
  const zeroPages: TransactionFilesFacts["zeroPages"] = [];
  for (const { directory, segments, inLastPage } of needed) {
    if (directory === "pg_multixact/members") continue;
    const inside = segments
      .flatMap(({ files, firstPage, lastPage }) => {
        const file = files.find((name) => sizes[directory]?.[name] !== undefined);
        return file === undefined ? [] : [{ file, firstPage, lastPage }];
      })
      .map((segment, i, all) => ({
        ...segment,
        lastPage: segment.lastPage - (i === all.length - 1 && inLastPage < BEGUN ? 1 : 0),
      }))
      .filter(({ firstPage, lastPage }) => firstPage <= lastPage);
    if (inside.length === 0) continue;
    const list = inside.map((s) => `(${quoteLiteral(s.file)}, ${s.firstPage}, ${s.lastPage})`).join(", ");
    const rows = await database.query<{ file: string; page: string }>(
      `SELECT s.file, g.page::text AS page FROM (VALUES ${list}) AS s(file, first, last)
        CROSS JOIN LATERAL generate_series(s.first, s.last) AS g(page)
        WHERE pg_read_binary_file('${directory}/' || s.file, g.page * ${blockSize}::bigint, ${blockSize}, true)
              = decode(repeat('00', ${blockSize}), 'hex') ORDER BY 1, g.page`,
    );
    zeroPages.push(...rows.map((row) => ({ directory, file: row.file, page: Number(row.page) })));
  }
  return zeroPages;
}
