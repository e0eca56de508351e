/** What rows say of the transactions that made and deleted them, against pg_xact and pg_multixact. */

import { ABORTED, COMMITTED, IN_PROGRESS, SUB_COMMITTED, xidPrecedes } from "../../pages/clog.ts";
import {
  type Claim,
  type HintSink,
  heapPage,
  XMAX_WAS_COMMITTED,
  XMIN_WAS_ABORTED,
  XMIN_WAS_COMMITTED,
} from "../../pages/heap.ts";
import { enumerate, plural } from "../check.ts";
import { describeFailure, isDamage } from "../failure.ts";
import type { Session } from "../session.ts";
import type { Clog } from "./page-clog.ts";
import { readBufferPages } from "./page-files.ts";
import type { PageProblem } from "./page-index.ts";
import { inRange, lostMultis, type MultiRange } from "./page-multixact.ts";

const ROUNDS = 3;
const PAUSE_MS = 250;
const MOST_ASKED = 1000;
const MOST_MULTIS = 20_000;

interface HintSuspect {
  xid: number;
  claim: Claim;
  block: number;
  offset: number;
}

/** Compares with pg_xact's files; what does not agree is asked of the server. */
export class HintJudge implements HintSink {
  /** For looking again at what was judged. */
  readonly statusOnly: HintSink = { xid() {}, status: (xid) => this.status(xid) };
  readonly suspects: HintSuspect[] = [];
  suspected = 0;
  private lastXid = 0;
  private lastClaim = -1;
  /** Each with one of the rows that name it. */
  readonly multis = new Map<number, { block: number; offset: number }>();
  moreMultis = false;
  private readonly clog: Clog;
  readonly range: MultiRange;

  constructor(clog: Clog, range: MultiRange) {
    this.clog = clog;
    this.range = range;
  }

  multi(multi: number, block: number, offset: number): void {
    if (this.multis.has(multi) || !inRange(multi, this.range)) return;
    if (this.multis.size < MOST_MULTIS) this.multis.set(multi, { block, offset });
    else this.moreMultis = true;
  }

  status(xid: number): number | undefined {
    const { clog } = this;
    if (xidPrecedes(xid, clog.from) || !xidPrecedes(xid, clog.nextXid)) return undefined;
    const status = clog.status(xid);
    const isOver = xidPrecedes(xid, clog.oldestRunning);
    return isOver && (status === IN_PROGRESS || status === SUB_COMMITTED) ? ABORTED : status;
  }

  xid(xid: number, claim: Claim, block: number, offset: number): void {
    // Neighbours were mostly written by the same transaction.
    if (xid === this.lastXid && claim === this.lastClaim) return;
    const { clog } = this;
    if (xidPrecedes(xid, clog.from) || !xidPrecedes(xid, clog.nextXid)) return;
    const status = clog.status(xid);
    if (claim === XMIN_WAS_ABORTED ? status !== COMMITTED && status !== undefined : status === COMMITTED) {
      this.lastXid = xid;
      this.lastClaim = claim;
      return;
    }
    this.suspected++;
    if (this.suspects.length < MOST_ASKED) this.suspects.push({ xid, claim, block, offset });
  }
}

/** Null when there was more to suspect than to ask, and what was asked was refuted. */
export async function confirmHints(session: Session, table: string, hints: HintJudge): Promise<PageProblem[] | null> {
  let suspects = hints.suspects;
  if (suspects.length === 0) return [];
  await session.need("pageinspect");
  let said = new Map<number, string | null>();
  try {
    for (let round = 0; round < ROUNDS && suspects.length > 0; round++) {
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const blocks = suspects.map(({ block }) => block);
      const pages = await readBufferPages(session, table, blocks);
      const claims = new Set<string>();
      for (const [block, page] of pages) {
        if (page === null) continue;
        heapPage(page, block, {
          xid: (xid, claim, b, offset) => claims.add([xid, claim, b, offset].join()),
        });
      }
      suspects = suspects.filter(({ xid, claim, block, offset }) => claims.has([xid, claim, block, offset].join()));
      said = await askStatus(session, [...new Set(suspects.map(({ xid }) => xid))]);
      suspects = suspects.filter(({ xid, claim }) => contradicts(said.get(xid) ?? null, claim));
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    return [{ what: describeFailure(error).message }];
  }
  if (suspects.length === 0) return hints.suspected > hints.suspects.length ? null : [];
  return describeHints(suspects, said, hints.suspected);
}

/** Multixacts that rows name, and of which pg_multixact has lost the members. */
export async function confirmMultis(session: Session, table: string, hints: HintJudge): Promise<PageProblem[]> {
  let lost = await lostMultis(session, [...hints.multis.keys()], hints.range);
  if (lost.size === 0) return [];
  await session.need("pageinspect");
  let places: { multi: number; block: number; offset: number }[] = [];
  try {
    for (let round = 0; round < ROUNDS && lost.size > 0; round++) {
      if (round > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      places = [...lost.keys()].flatMap((multi) => {
        const place = hints.multis.get(multi);
        return place === undefined ? [] : [{ multi, ...place }];
      });
      const pages = await readBufferPages(
        session,
        table,
        places.map(({ block }) => block),
      );
      const named = new Set<string>();
      for (const [block, page] of pages) {
        if (page === null) continue;
        heapPage(page, block, { xid() {}, multi: (multi, b, offset) => named.add([multi, b, offset].join()) });
      }
      places = places.filter(({ multi, block, offset }) => named.has([multi, block, offset].join()));
      lost = await lostMultis(
        session,
        places.map(({ multi }) => multi),
        hints.range,
      );
      places = places.filter(({ multi }) => lost.has(multi));
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    return [{ what: describeFailure(error).message }];
  }
  if (places.length === 0) return [];
  return [
    {
      where: enumerate(places.map(({ block, offset }) => `block ${block} item ${offset}`)),
      what:
        `${plural(places.length, "row")} updated, deleted or locked by multixacts of which pg_multixact has lost the ` +
        `members: ${enumerate(places.map(({ multi }) => `${multi} (${lost.get(multi)})`))}`,
    },
  ];
}

/** `committed`, `aborted`, `in progress`, or null when the server knows nothing of it any more. */
async function askStatus(session: Session, xids: readonly number[]): Promise<Map<number, string | null>> {
  if (xids.length === 0) return new Map();
  const rows = await session.query<{ xid: string; status: string | null }>(
    `SELECT x.xid::text, pg_xact_status(x.full_xid::text::xid8) AS status
       FROM (SELECT xid, CASE WHEN next - next % 4294967296 + xid < next THEN next - next % 4294967296 + xid
                              ELSE next - next % 4294967296 + xid - 4294967296 END AS full_xid
               FROM unnest('{${xids.join(",")}}'::bigint[]) AS xid,
                    (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) AS n) AS x
      WHERE x.full_xid >= 3`,
  );
  return new Map(rows.map(({ xid, status }) => [Number(xid), status]));
}

const contradicts = (status: string | null, claim: Claim) =>
  status !== null && (claim === XMIN_WAS_ABORTED) === (status === "committed");

function describeHints(
  suspects: readonly HintSuspect[],
  said: ReadonlyMap<number, string | null>,
  suspected: number,
): PageProblem[] {
  const claims: [Claim, string][] = [
    [XMIN_WAS_COMMITTED, "of a transaction that committed, by their own hint bits"],
    [XMIN_WAS_ABORTED, "of a transaction that was undone, by their own hint bits"],
    [XMAX_WAS_COMMITTED, "deleted or updated by a transaction that committed, by their own hint bits"],
  ];
  return claims.flatMap(([claim, words]) => {
    const of = suspects.filter((suspect) => suspect.claim === claim);
    if (of.length === 0) return [];
    const xids = [...new Set(of.map(({ xid }) => xid))];
    const statuses = xids.map((xid) => `${xid} ${said.get(xid)}`);
    return [
      {
        where: enumerate(of.map(({ block, offset }) => `block ${block} item ${offset}`)),
        what:
          `${plural(of.length, "row")}${suspected > suspects.length ? ` of ${suspected}` : ""} ${words}, ` +
          `but pg_xact has ${enumerate(statuses)}`,
      },
    ];
  });
}
