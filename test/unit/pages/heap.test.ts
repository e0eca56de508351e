import { describe, expect, test } from "vitest";
import { Bits } from "../../../lib/pages/bits.ts";
import { segmentName, xidPrecedes, xidStatus } from "../../../lib/pages/clog.ts";
import { HeapRange, type HintSink, heapPage, lineProblem } from "../../../lib/pages/heap.ts";
import { KeyReader, LineKeys } from "../../../lib/pages/keys.ts";
import { pagesOf } from "../../../lib/pages/page.ts";
import { captured } from "./captured.ts";

const noHints: HintSink = { xid() {} };
const lines = (bits: Bits) => bits.first(1000).map((line) => line + 1);
const heap = () => captured("heap-chains").bytes;

/** Rows after HOT updates, pruning, an undone insert and update, and deletes; 18 of them are alive. */
describe("a page of a heap", () => {
  test("an index may point at all but free lines and the inside of chains", () => {
    const { allowed } = heapPage(pagesOf(heap()), 0, noHints);
    expect(lines(allowed)).toEqual([1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 26, 28]);
  });

  test("an index must know the lines of live rows, at the start of their chains", () => {
    const { needed, orphans } = heapPage(pagesOf(heap()), 0, noHints);
    expect(lines(needed)).toEqual([1, 2, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 28]);
    expect(orphans).toEqual([]);
  });

  test("each line that an index must know leads to one live row, unless an updated one came back to life", () => {
    const bytes = heap();
    const counts = () => {
      const { live, needed } = heapPage(pagesOf(bytes), 0, noHints);
      return { live, needed: needed.count() };
    };
    expect(counts()).toEqual({ live: 18, needed: 18 });
    const updated = Array.from({ length: 35 }, (_, i) => bytes.readUInt32LE(24 + 4 * i))
      .filter((pointer) => ((pointer >>> 15) & 3) === 1)
      .map((pointer) => pointer & 0x7fff)
      .find(
        (tuple) =>
          (bytes.readUInt16LE(tuple + 18) & 0xc000) === 0x4000 && (bytes.readUInt16LE(tuple + 20) & 0x0400) !== 0,
      ) as number;
    // Its xmax committed; now it is said to be invalid.
    bytes.writeUInt16LE((bytes.readUInt16LE(updated + 20) & ~0x0400) | 0x0800, updated + 20);
    expect(counts()).toEqual({ live: 19, needed: 18 });
  });

  test("what hint bits say of transactions", () => {
    const said = new Set<string>();
    heapPage(pagesOf(heap()), 0, { xid: (xid, claim) => said.add(`${xid} ${claim}`) });
    // 806 inserted and was undone, as was the update of 805.
    expect(said).toContain("806 1");
    expect(said).toContain("800 0");
    expect(said).toContain("804 2");
    expect(said).not.toContain("805 2");
  });

  test("multixacts that rows name, but for lockers of PostgreSQL 9.2", () => {
    const bytes = heap();
    const tuple = bytes.readUInt32LE(24) & 0x7fff;
    const named = (mask: number) => {
      bytes.writeUInt32LE(77, tuple + 4);
      bytes.writeUInt16LE(mask, tuple + 20);
      const multis: string[] = [];
      heapPage(pagesOf(bytes), 0, { xid() {}, multi: (...place) => multis.push(place.join()) });
      return multis;
    };
    expect(named(0x1100)).toEqual(["77,0,1"]);
    expect(named(0x1190)).toEqual(["77,0,1"]);
    expect(named(0x1180)).toEqual([]);
    expect(named(0x1900)).toEqual([]);
    expect(named(0x0100)).toEqual([]);
  });

  test("rows with a NULL are told apart", () => {
    const range = new HeapRange(0, { nullable: [2] });
    range.add(pagesOf(heap()), 0, noHints);
    // The second column was NULL in every fourth row until an update set it.
    expect(lines(range.nulls.get(2) as Bits)).toEqual([]);
  });

  test("a live row whose chain lost its start", () => {
    const bytes = heap();
    bytes.writeUInt32LE(0, 24 + 4);
    expect(heapPage(pagesOf(bytes), 0, noHints).orphans).toEqual([{ block: 0, offset: 22 }]);
  });

  test("why an index may not point at a line", () => {
    const pages = pagesOf(heap());
    expect(lineProblem(pages, 1)).toBeUndefined();
    expect(lineProblem(pages, 2)).toBeUndefined();
    expect(lineProblem(pages, 30)).toBe("unused");
    expect(lineProblem(pages, 36)).toBe("unused");
    expect(lineProblem(pages, 22)).toBe("inside a chain of updates");
    expect(lineProblem(null, 1)).toBe("beyond the end of the table");
    expect(lineProblem(pagesOf(new Uint8Array(8192)), 1)).toBe("in a block that is all zeros");
  });
});

describe("a range of blocks", () => {
  test("finds a line's place again, over blocks without lines", () => {
    const range = new HeapRange(7);
    for (const bytes of [Buffer.alloc(8192), heap(), Buffer.alloc(8192), Buffer.alloc(8192), heap()]) {
      range.add(pagesOf(bytes), 0, noHints);
    }
    expect(range.zero).toEqual([7, 9, 10]);
    expect(range.lines).toBe(70);
    for (const [block, offset] of [
      [8, 1],
      [8, 35],
      [11, 1],
      [11, 35],
    ] as const) {
      expect(range.placeOf(range.line(block, offset))).toEqual({ block, offset });
    }
    expect(range.line(7, 1)).toBe(-1);
    expect(range.line(8, 36)).toBe(-1);
    expect(range.line(11, 0)).toBe(-1);
  });

  test.each([0, 3, 60, 10_000])(
    "of which %d blocks were likely keeps all that it knows as it grows to 60",
    (likelyBlocks) => {
      const keys = new LineKeys(new KeyReader({ table: [{ length: 4, align: 4 }], columns: [0] }));
      for (let n = 0; n < 2; n++) {
        keys.clear();
        const range = new HeapRange(0, { nullable: [2], keys: [keys], likelyBlocks });
        for (let block = 0; block < 60; block++) range.add(pagesOf(heap()), 0, noHints);
        const alone = heapPage(pagesOf(heap()), 0, noHints);
        expect(range.needed.count()).toBe(60 * alone.needed.count());
        expect(range.allowed.count()).toBe(60 * alone.allowed.count());
        const known = new Set(range.needed.first(2000).map((line) => `${line % 35}: ${keys.of(line)}`));
        expect(known.size).toBe(alone.needed.count());
        expect(keys.of(0)).not.toBe(0);
      }
      keys.clear();
      expect(keys.of(0)).toBe(0);
    },
  );

  test("has room for what stays within its memory, even of blocks as full as they can be", () => {
    // Three bits for each line: of two such blocks, but for the 35 of this one.
    const range = new HeapRange(0, { memory: (2 * 291 * 3) / 8 });
    expect([range.hasRoomFor(2), range.hasRoomFor(3)]).toEqual([true, false]);
    range.add(pagesOf(heap()), 0, noHints);
    expect([range.hasRoomFor(1), range.hasRoomFor(2)]).toEqual([true, false]);
  });

  test("a block that no server would have written", () => {
    const bytes = heap();
    bytes.writeUInt16LE(9000, 16);
    expect(heapPage(pagesOf(bytes), 3, noHints).broken).toMatchObject([{ block: 3 }]);
  });
});

describe("bits", () => {
  test("grow, are counted and taken away", () => {
    const [bits, other] = [new Bits(), new Bits()];
    for (const b of [bits, other]) b.reserve(100_001);
    for (const i of [0, 31, 32, 100_000]) bits.set(i);
    other.set(31);
    const copy = bits.copy();
    bits.without(other);
    expect(bits.first(9)).toEqual([0, 32, 100_000]);
    expect(copy.count()).toBe(4);
    expect(bits.has(31)).toBe(false);
    expect(new Bits().any()).toBe(false);
  });
});

describe("pg_xact", () => {
  test("two bits for each transaction, a file for each million", () => {
    expect(segmentName(0)).toBe("0000");
    expect(segmentName(4_294_967_295)).toBe("0FFF");
    const segment = Uint8Array.of(0b11_10_01_00);
    expect([0, 1, 2, 3, 4].map((xid) => xidStatus(segment, 1048576 * 5 + xid))).toEqual([0, 1, 2, 3, undefined]);
  });

  test("the order of transactions goes round", () => {
    expect(xidPrecedes(3, 4)).toBe(true);
    expect(xidPrecedes(4, 3)).toBe(false);
    expect(xidPrecedes(4_294_967_290, 5)).toBe(true);
  });
});
