import { describe, expect, test } from "vitest";
import { type KeyColumns, keyLayout } from "../../../lib/checks/data/page-files.ts";
import { ABORTED, COMMITTED } from "../../../lib/pages/clog.ts";
import { heapPage } from "../../../lib/pages/heap.ts";
import { IndexScan } from "../../../lib/pages/index-scan.ts";
import { type KeyLayout, KeyReader, KeySum, LineKeys, type RowKeys } from "../../../lib/pages/keys.ts";
import { lineOffset, linePointer, pagesOf } from "../../../lib/pages/page.ts";
import { captured } from "./captured.ts";

/**
 * Of 34 rows with NULLs, values in TOAST, compressed and not, a dropped column and one that came later, and of the index
 * (n DESC, flag, small, id, later, big) INCLUDE (at, ratio, code, mac) over them. As pg_attribute has it.
 */
const COLUMNS: KeyColumns = {
  table: [
    [-1, "i", false],
    [1, "c", false],
    [-1, "i", false],
    [2, "s", false],
    [8, "d", false],
    [16, "c", false],
    [8, "d", false],
    [8, "d", false],
    [1, "c", false],
    [6, "i", false],
    [4, "i", false],
    [4, "i", false],
  ],
  index: [
    [11, 4],
    [2, 1],
    [4, 2],
    [6, 16],
    [12, 4],
    [5, 8],
    [7, 8],
    [8, 8],
    [9, 1],
    [10, 6],
  ],
};
const LAYOUT = keyLayout(COLUMNS) as KeyLayout;
const hints = { xid() {} };

/** What the index has that the rows do not have, as `block,offset`; the keys of the rows; and what their sum says. */
function compare(heap: Buffer, index: Buffer, layout = LAYOUT) {
  const reader = new KeyReader(layout);
  const [keys, sum] = [new LineKeys(reader), new KeySum(reader)];
  const range = heapPage(pagesOf(heap), 0, hints, [keys, sum]);
  const scanWith = (of: RowKeys) => {
    const missing = range.needed.copy();
    const scan = new IndexScan({ method: "btree", range, heapBlocks: 1, missing, keys: of, blocks: 2 });
    scan.page(pagesOf(index), 0, 1);
    return { suspects: scan.suspects, entries: scan.entries, missing: missing.count(), unknown: of.unknown };
  };
  scanWith(sum);
  const values = range.needed.first(100).map((line) => keys.of(line));
  return { ...scanWith(keys), values, isEven: sum.isEven };
}

const heap = () => captured("heap-keys").bytes;
const index = () => captured("btree-keys").bytes;
const itemAt = (bytes: Buffer, offset: number) => lineOffset(linePointer(pagesOf(bytes), 0, offset));

describe("the keys of a table and its index", () => {
  test("are the same for every row, and different for different rows", () => {
    const { values, ...found } = compare(heap(), index());
    expect(found).toEqual({ suspects: [], entries: 34, missing: 0, unknown: 0, isEven: true });
    expect(new Set(values).size).toBe(34);
  });

  test("differ when one bit of any column differs", () => {
    // The last entry has no NULL: the rows' keys follow each other from the eighth byte on.
    const lengths = [4, 1, 2, 16, 4, 8, 8, 8, 1, 6];
    const aligns = [4, 1, 2, 1, 4, 8, 8, 8, 1, 4];
    const last = (bytes: Buffer) => {
      for (let offset = 1; offset <= 34; offset++) {
        const at = itemAt(bytes, offset);
        if ((bytes.readUInt16LE(at + 6) & 0x8000) === 0) return at;
      }
      throw new Error("every entry has a NULL");
    };
    let place = 8;
    for (const [i, length] of lengths.entries()) {
      place = Math.ceil(place / (aligns[i] as number)) * (aligns[i] as number);
      const bytes = index();
      const at = last(bytes) + place + length - 1;
      bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
      const { suspects, isEven } = compare(heap(), bytes);
      expect(suspects).toHaveLength(1);
      expect(isEven).toBe(false);
      place += length;
    }
  });

  test("differ when a NULL became a value or a value a NULL", () => {
    const bytes = index();
    const at = Array.from({ length: 34 }, (_, i) => itemAt(bytes, i + 1)).find(
      (start) => (bytes.readUInt16LE(start + 6) & 0x8000) !== 0,
    ) as number;
    bytes.writeUInt8(bytes.readUInt8(at + 8) ^ 0x01, at + 8);
    expect(compare(heap(), bytes).suspects).toHaveLength(1);
  });

  test("their sum sees two entries that exchanged their rows, one that is gone, and one that is there twice", () => {
    const tid = (bytes: Buffer, offset: number) => bytes.subarray(itemAt(bytes, offset), itemAt(bytes, offset) + 6);
    const exchanged = index();
    const first = Buffer.from(tid(exchanged, 3));
    tid(exchanged, 4).copy(tid(exchanged, 3));
    first.copy(tid(exchanged, 4));
    expect(compare(heap(), exchanged)).toMatchObject({ missing: 0, isEven: false });
    expect(compare(heap(), exchanged).suspects).toHaveLength(2);

    const fewer = index();
    fewer.writeUInt16LE(fewer.readUInt16LE(12) - 4, 12);
    expect(compare(heap(), fewer)).toMatchObject({ suspects: [], missing: 1, isEven: false });

    const twice = index();
    twice.copy(twice, 24, 28, 32);
    expect(compare(heap(), twice)).toMatchObject({ suspects: [], missing: 1, isEven: false });
  });

  test("a row whose bytes end too early has none, and is counted", () => {
    const bytes = heap();
    // A column that takes more bytes than the rows have.
    const layout = { ...LAYOUT, table: LAYOUT.table.map((c, i) => (i === 2 ? { length: 5000, align: 1 } : c)) };
    const { unknown, values } = compare(bytes, index(), layout);
    expect(unknown).toBeGreaterThan(0);
    expect(values).toContain(0);
  });

  test("noise in a row never throws and never ends in an endless loop", () => {
    let seed = 7;
    const random = () => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed >>> 8;
    };
    const bytes = heap();
    for (let i = 0; i < 2000; i++) {
      bytes[200 + (random() % 7992)] = random() & 0xff;
      const { suspects, isEven } = compare(bytes, index());
      if (suspects.some(({ key }) => key !== undefined)) expect(isEven).toBe(false);
    }
  });
});

describe("keys are only compared where both sides have the same bytes", () => {
  const table = (changed: [number, string, boolean]): KeyColumns["table"] => [[4, "i", false], changed];
  test.each<{ why: string; columns: KeyColumns }>([
    { why: "a text", columns: { table: table([-1, "i", false]), index: [[2, -1]] } },
    {
      why: "a name, which an index holds as a C string",
      columns: { table: table([64, "c", false]), index: [[2, -2]] },
    },
    { why: "a column with a default for rows before it", columns: { table: table([4, "i", true]), index: [[2, 4]] } },
    { why: "an expression", columns: { table: table([4, "i", false]), index: [[0, 4]] } },
    { why: "an alignment that is not known", columns: { table: table([4, "x", false]), index: [[2, 4]] } },
    { why: "no columns at all", columns: { table: null, index: [[2, 4]] } },
  ])("not $why", ({ columns }) => {
    expect(keyLayout(columns)).toBeNull();
  });

  test("a text before the key is no matter", () => {
    expect(
      keyLayout({
        table: [
          [-1, "i", false],
          [8, "d", false],
        ],
        index: [[2, 8]],
      })?.columns,
    ).toEqual([1]);
  });
});

describe("rows without hint bits are judged by pg_xact", () => {
  const XMIN = 700;
  const XMAX = 701;
  const row = (mask: number, xmax = 0) => {
    const bytes = heap();
    const tuple = itemAt(bytes, 1);
    bytes.writeUInt32LE(XMIN, tuple);
    bytes.writeUInt32LE(xmax, tuple + 4);
    bytes.writeUInt16LE((bytes.readUInt16LE(tuple + 20) & 0x000f) | mask, tuple + 20);
    return pagesOf(bytes);
  };
  const judge = (pages: ReturnType<typeof row>, statuses: Record<number, number>) => {
    const range = heapPage(pages, 0, { xid() {}, status: (xid) => statuses[xid] });
    return { needed: range.needed.has(0), uncertain: range.uncertain };
  };
  const ALIVE = { needed: true, uncertain: 0 };
  const GONE = { needed: false, uncertain: 0 };
  const UNCERTAIN = { needed: false, uncertain: 1 };
  test.each([
    { what: "inserted", mask: 0x0800, statuses: { [XMIN]: COMMITTED }, is: ALIVE },
    { what: "inserted and undone", mask: 0x0800, statuses: { [XMIN]: ABORTED }, is: GONE },
    { what: "undone, by its hint", mask: 0x0a00, statuses: {}, is: GONE },
    { what: "being inserted", mask: 0x0800, statuses: {}, is: UNCERTAIN },
    { what: "deleted", mask: 0x0100, xmax: XMAX, statuses: { [XMAX]: COMMITTED }, is: GONE },
    { what: "deleted, by its hint", mask: 0x0500, xmax: XMAX, statuses: {}, is: GONE },
    { what: "deleted and undone", mask: 0x0100, xmax: XMAX, statuses: { [XMAX]: ABORTED }, is: ALIVE },
    { what: "being deleted", mask: 0x0100, xmax: XMAX, statuses: {}, is: UNCERTAIN },
    { what: "locked", mask: 0x01c0, xmax: XMAX, statuses: {}, is: ALIVE },
    { what: "locked or updated by several", mask: 0x1100, xmax: 5, statuses: {}, is: UNCERTAIN },
    { what: "locked by several", mask: 0x1190, xmax: 5, statuses: {}, is: ALIVE },
    { what: "moved by VACUUM FULL of PostgreSQL 8.4", mask: 0x4100, statuses: {}, is: UNCERTAIN },
  ])("$what", ({ mask, xmax, statuses, is }) => {
    expect(judge(row(mask, xmax), statuses)).toEqual(is);
  });
});
