/**
 * Pages that nothing else reads to the last one: indexes, sequences, initial forks, free space and visibility maps. Those of
 * tables are read by `heap`.
 */

import { quoteLiteral } from "../../io/database.ts";
import { type Check, plural } from "../check.ts";
import { type Edge, MAINTENANCE_DATABASE } from "../edge.ts";
import { type Finding, type FoundFacts, judgeFindings, Tally } from "../findings.ts";
import type { Relation } from "../relations.ts";
import type { Session } from "../session.ts";
import { describeBlockError, isHeap, type Range, rangesOf } from "./heap.ts";
import { type BlockError, byHalves, lookAtAll, lookAtParts, partsOf, regclasses, type Way } from "./relation-units.ts";

/** 512 MB. */
const RANGE_BLOCKS = 65_536;
/** A page that was written while it was read is whole by then. */
const AGAIN_AFTER_MS = 200;

export interface Server {
  blockSize: number;
  /** Blocks in a file of 1 GB. */
  segmentBlocks: number;
  checksums: boolean;
}

export interface BadPage {
  fork: string;
  block: string;
}

interface Seen {
  errors: (BlockError & { fork: string })[];
  bad: BadPage[];
}

const SOUND: Seen = { errors: [], bad: [] };

export const pages: Check<FoundFacts> = {
  id: "pages",
  claim: "consistency",
  levels: ["full"],
  stage: "data",
  async collect(edge) {
    const server = await readServer(edge);
    const relations = await edge.relations();
    const rangesFor = (relation: Relation) => (isHeap(relation) ? [] : rangesOf(relation.bytes, RANGE_BLOCKS));
    const tally = new Tally<Seen>(({ errors, bad }, relation) => [
      ...errors.map((error) => {
        const finding = describeBlockError(relation, error);
        return error.fork === "main" ? finding : { ...finding, where: `${error.fork} fork` };
      }),
      ...describeBadPages(bad, relation),
    ]);
    const look = async (session: Session, relation: Relation, range: Range | undefined): Promise<Seen> => {
      const errors = range === undefined ? [] : await readFork(session, relation, "main", range);
      if (range !== undefined && range.first > 0) return { errors, bad: [] };
      if (relation.persistence === "u") {
        errors.push(...(await readFork(session, relation, "init", { first: 0, last: null, bytes: 0 })));
      }
      return { errors, bad: hasMaps(relation) ? await readMaps(session, relation, server) : [] };
    };
    const way: Way<Seen> = {
      bytes: (relation) => rangesFor(relation)[0]?.bytes ?? 0,
      one: (session, relation) => look(session, relation, rangesFor(relation)[0]),
      async together(session, small) {
        await session.need("pg_prewarm");
        await session.need("pageinspect");
        const read = (fork: string, which: readonly Relation[]) =>
          which.length === 0
            ? []
            : [
                `SELECT pg_temp.pg_prewarm(relation, 'buffer', '${fork}', NULL, NULL) FROM ${regclasses(which)} AS relation`,
              ];
        const unlogged = small.filter(({ persistence }) => persistence === "u");
        const statements = [
          ...read(
            "main",
            small.filter((relation) => !isHeap(relation)),
          ),
          ...read("init", unlogged),
          badMapPagesSql(small, server),
        ];
        const bad = await session.query(statements.join("; "));
        return bad.length === 0 ? small.map(() => SOUND) : null;
      },
    };
    const isBig = (relation: Relation) => rangesFor(relation).length > 1;
    const parts = relations.filter(isBig).flatMap((relation) => partsOf(relation, rangesFor(relation)));
    const others = relations.filter((relation) => !isBig(relation));
    await Promise.all([
      lookAtParts(edge, parts, (session, part) => look(session, part.relations[0], part), tally.add),
      lookAtAll(edge, others, way, tally.add),
    ]);
    return tally.sorted();
  },
  judge(facts) {
    return judgeFindings("pages", facts, {
      good: `every page of the indexes, sequences and maps of ${plural(facts.coverage.relations, "relation")} is whole`,
      meaning:
        "storage changed these pages after PostgreSQL had written them. An index is repaired by REINDEX, a free space or " +
        "visibility map by VACUUM; look for the fault in the storage of the source or of the backup first",
    });
  },
};

async function readServer(edge: Edge): Promise<Server> {
  const row = await edge.sql(MAINTENANCE_DATABASE, (database) =>
    database.row<Record<"block_size" | "segment_blocks" | "checksums", string>>(
      `SELECT current_setting('block_size') AS block_size, current_setting('data_checksums') AS checksums,
              (SELECT setting FROM pg_settings WHERE name = 'segment_size') AS segment_blocks`,
    ),
  );
  return {
    blockSize: Number(row.block_size),
    segmentBlocks: Number(row.segment_blocks),
    checksums: row.checksums === "on",
  };
}

/** Indexes have a free space map too. */
const hasMaps = ({ kind }: Relation) => kind !== "S";

/** Through shared buffers, as every reader: header and checksum of a page are verified when it comes in. */
async function readFork(session: Session, relation: Relation, fork: string, range: Range): Promise<Seen["errors"]> {
  await session.need("pg_prewarm");
  const name = quoteLiteral(relation.name);
  const last = range.last ?? Math.max(range.first, Math.ceil(relation.bytes / 8192) - 1);
  const { errors } = await byHalves(range.first, last, (from, to) => {
    const read = (first: string, end: string) =>
      `pg_temp.pg_prewarm(${name}::regclass, 'buffer', '${fork}', ${first}, ${end})`;
    if (from === 0 && to === last && range.last === null) return session.query(`SELECT ${read("NULL", "NULL")}`);
    const end = to === last && range.last === null ? "blocks - 1" : `least(${to}, blocks - 1)`;
    return session.query(
      `SELECT ${read(`${from}`, end)}
         FROM (SELECT pg_relation_size(${name}::regclass, '${fork}') / current_setting('block_size')::bigint AS blocks OFFSET 0) AS s
        WHERE blocks > ${from}`,
    );
  });
  return errors.map((error) => ({ ...error, fork }));
}

/** From the files: the server takes a damaged page of a map for an empty one, and says so only in its log. */
async function readMaps(session: Session, relation: Relation, server: Server): Promise<BadPage[]> {
  await session.need("pageinspect");
  const sql = badMapPagesSql([relation], server);
  const look = async () =>
    new Map((await session.query<BadPage>(sql)).map((page) => [`${page.fork} ${page.block}`, page]));
  let found = await look();
  for (const settle of [pause, () => session.query("CHECKPOINT")]) {
    if (found.size === 0) return [];
    // A page in memory that is newer than the one in the file replaces it: then nothing was lost.
    await settle();
    const again = await look();
    found = new Map([...found].filter(([key]) => again.has(key)));
  }
  return [...found.values()];
}

const pause = () => new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER_MS));

function badMapPagesSql(relations: readonly Relation[], { blockSize, segmentBlocks, checksums }: Server): string {
  const number = (byte: number) => `(get_byte(page, ${byte}) + get_byte(page, ${byte + 1}) * 256)`;
  return `
    SELECT fork, block
      FROM ${regclasses(relations)} AS relation, (VALUES ('fsm'), ('vm')) AS forks (fork),
           LATERAL (SELECT pg_relation_filepath(relation) || '_' || fork AS path,
                           pg_relation_size(relation, fork) / ${blockSize} AS blocks OFFSET 0) AS file,
           LATERAL generate_series(0, blocks - 1) AS block,
           LATERAL (SELECT pg_read_binary_file(
                      path || CASE WHEN block < ${segmentBlocks} THEN '' ELSE '.' || (block / ${segmentBlocks})::text END,
                      block % ${segmentBlocks} * ${blockSize}, ${blockSize}, true) AS page OFFSET 0) AS raw
     WHERE length(page) = ${blockSize}
       AND CASE WHEN ${number(14)} = 0 THEN page <> decode(repeat('00', ${blockSize}), 'hex')
                ELSE ${checksums ? `(pg_temp.page_checksum(page, block)::integer & 65535) <> ${number(8)} OR` : ""}
                     get_byte(page, 10) & 248 <> 0 OR get_byte(page, 11) <> 0
                     OR ${number(12)} > ${number(14)} OR ${number(14)} > ${number(16)}
                     OR ${number(16)} > ${blockSize} OR ${number(16)} % 8 <> 0 END`;
}

const FORKS: Readonly<Record<string, string>> = { fsm: "free space map", vm: "visibility map" };

export function describeBadPages(bad: readonly BadPage[], relation: Relation): Finding[] {
  return [...new Set(bad.map(({ fork }) => fork))].map((fork) => {
    const list = bad.filter((page) => page.fork === fork).map(({ block }) => block);
    return {
      database: relation.database,
      object: relation.name,
      where: `${FORKS[fork] ?? fork}, ${list.length === 1 ? "block" : "blocks"} ${list.slice(0, 10).join(", ")}${list.length > 10 ? ", …" : ""}`,
      what: "the page does not pass PostgreSQL's page check (header and checksum)",
    };
  });
}
