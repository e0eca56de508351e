/**
 * The key of a row, as its table and as a B-tree hold it, as a number: of columns with a fixed length only, whose bytes are
 * the same in both (access/common/heaptuple.c and indextuple.c copy them as they are).
 */

import { type Pages, tupleInfo } from "./page.ts";

/** pg_attribute.attlen (-1 is a varlena, -2 a C string) and attalign in bytes. */
export interface Column {
  length: number;
  align: number;
}

export interface KeyLayout {
  /** Columns of the table, from the first to the last one that the index has; dropped ones too. */
  table: readonly Column[];
  /** In the order of the index: which of them, from 0. */
  columns: readonly number[];
}

/** Neither a row nor an entry has this key: it could not be read, or nobody asked. */
export const NO_KEY = 0;

const HAS_NULL = 0x0001;
const ATTRIBUTES = 0x07ff;
const HEAP_BITS = 23;
const INDEX_HAS_NULL = 0x8000;
const INDEX_BITS = 8;
/** From the start of an entry, without and with a bitmap of NULLs. */
const INDEX_DATA = 8;
const INDEX_DATA_AFTER_NULLS = 16;
const VALUE_OF_NULL = 0x5bd1e995;

const aligned = (at: number, align: number) => (at + align - 1) & -align;
/** Each step can be undone, so that keys of one word never share a number. */
function mixed(hash: number): number {
  const product = Math.imul(hash, 0x9e3779b1);
  return product ^ (product >>> 15);
}

export class KeyReader {
  private readonly table: readonly Column[];
  private readonly wanted: readonly number[];
  private readonly columns: readonly Column[];
  /** Where they are in a row without NULLs, from the start of its data; null when that depends on the row. */
  private readonly fixed: readonly number[] | null;
  private readonly inEntry: readonly number[];
  private readonly places: Int32Array;

  constructor({ table, columns }: KeyLayout) {
    this.table = table;
    this.wanted = columns;
    this.columns = columns.map((i) => table[i] as Column);
    this.fixed = fixedPlaces(table, columns);
    this.inEntry = fixedPlaces(
      this.columns,
      this.columns.map((_, i) => i),
    ) as number[];
    this.places = new Int32Array(table.length);
  }

  /** Of a row of the table. `end` is where its bytes end. */
  row(pages: Pages, tuple: number, end: number): number {
    const data = tuple + (pages.u8[tuple + 22] as number);
    const mask = pages.u16[(tuple + 20) >>> 1] as number;
    const count = (pages.u16[(tuple + 18) >>> 1] as number) & ATTRIBUTES;
    if (this.fixed !== null && (mask & HAS_NULL) === 0 && count >= this.table.length) {
      return this.fold(pages, data, this.fixed, end);
    }
    if (!this.walk(pages, tuple, data, end, (mask & HAS_NULL) !== 0, count)) return NO_KEY;
    let hash = 0;
    for (let i = 0; i < this.wanted.length; i++) {
      const place = this.places[this.wanted[i] as number] as number;
      if (place < 0) hash = mixed(hash ^ VALUE_OF_NULL);
      else if (place + (this.columns[i] as Column).length > end) return NO_KEY;
      else hash = foldValue(pages, place, this.columns[i] as Column, hash);
    }
    return hash === NO_KEY ? 1 : hash;
  }

  /** Of an entry of a leaf. `end` is where its key ends. */
  entry(pages: Pages, start: number, end: number): number {
    const info = tupleInfo(pages, start);
    if ((info & INDEX_HAS_NULL) === 0) return this.fold(pages, start + INDEX_DATA, this.inEntry, end);
    let place = start + INDEX_DATA_AFTER_NULLS;
    let hash = 0;
    for (let i = 0; i < this.columns.length; i++) {
      const column = this.columns[i] as Column;
      if (isNull(pages, start + INDEX_BITS, i)) {
        hash = mixed(hash ^ VALUE_OF_NULL);
        continue;
      }
      place = aligned(place, column.align);
      if (place + column.length > end) return NO_KEY;
      hash = foldValue(pages, place, column, hash);
      place += column.length;
    }
    return hash === NO_KEY ? 1 : hash;
  }

  private fold(pages: Pages, data: number, places: readonly number[], end: number): number {
    let hash = 0;
    for (let i = 0; i < places.length; i++) {
      const column = this.columns[i] as Column;
      const place = data + (places[i] as number);
      if (place + column.length > end) return NO_KEY;
      hash = foldValue(pages, place, column, hash);
    }
    return hash === NO_KEY ? 1 : hash;
  }

  /** Finds every column of a row; -1 for NULL. False when its bytes end before. */
  private walk(pages: Pages, tuple: number, data: number, end: number, hasNull: boolean, count: number): boolean {
    const { u8, u32 } = pages;
    let place = data;
    for (let i = 0; i < this.table.length; i++) {
      const { length, align } = this.table[i] as Column;
      // Columns that were added later: those with a default that is not NULL have no layout.
      if (i >= count || (hasNull && isNull(pages, tuple + HEAP_BITS, i))) {
        this.places[i] = -1;
        continue;
      }
      if (place >= end) return false;
      // A short varlena is not aligned, and what fills up to the next one is zero.
      if (length !== -1 || u8[place] === 0) place = aligned(place, align);
      if (place >= end) return false;
      this.places[i] = place;
      if (length > 0) place += length;
      else if (length === -2) place = u8.indexOf(0, place) + 1;
      else if (u8[place] === 1) place += EXTERNAL_LENGTH;
      else if (((u8[place] as number) & 1) === 1) place += (u8[place] as number) >>> 1;
      else if ((place & 3) !== 0) return false;
      else place += (u32[place >>> 2] as number) >>> 2;
      if (place <= (this.places[i] as number)) return false;
    }
    return true;
  }
}

/** A pointer to the TOAST table: tag, kind and a varatt_external. */
const EXTERNAL_LENGTH = 18;

/** A bit that is set stands for a value. */
const isNull = ({ u8 }: Pages, bits: number, i: number) => (((u8[bits + (i >>> 3)] as number) >>> (i & 7)) & 1) === 0;

function foldValue({ u8, u32 }: Pages, place: number, { length, align }: Column, hash: number): number {
  let folded = hash;
  if (align >= 4 && length % 4 === 0) {
    for (let at = place; at < place + length; at += 4) folded = mixed(folded ^ (u32[at >>> 2] as number));
  } else for (let at = place; at < place + length; at++) folded = mixed(folded ^ (u8[at] as number));
  return folded;
}

function fixedPlaces(table: readonly Column[], wanted: readonly number[]): number[] | null {
  const places: number[] = [];
  let place = 0;
  for (const { length, align } of table) {
    if (length < 0) return null;
    place = aligned(place, align);
    places.push(place);
    place += length;
  }
  return wanted.map((i) => places[i] as number);
}

/** The keys of the rows of a range of a heap, to hold an index against. */
export interface RowKeys {
  readonly reader: KeyReader;
  /** Rows whose key could not be read. */
  readonly unknown: number;
  /** What a line takes, in bytes. */
  readonly bytesPerLine: number;
  /** Room for this many lines. */
  reserve(lines: number): void;
  /** Of a line that an index must know. */
  note(pages: Pages, tuple: number, end: number, line: number): void;
  /** An index says that such a line has this key; false when it is known to have another one. */
  entry(line: number, key: number): boolean;
}

/** One by one, by number of the line. */
export class LineKeys implements RowKeys {
  readonly reader: KeyReader;
  readonly bytesPerLine = 4;
  private values = new Int32Array(1024);
  unknown = 0;

  constructor(reader: KeyReader) {
    this.reader = reader;
  }

  /** For the lines of another range, in the same memory. */
  clear(): void {
    this.values.fill(NO_KEY);
    this.unknown = 0;
  }

  reserve(lines: number): void {
    if (lines <= this.values.length) return;
    const larger = new Int32Array(lines);
    larger.set(this.values);
    this.values = larger;
  }

  note(pages: Pages, tuple: number, end: number, line: number): void {
    const key = this.reader.row(pages, tuple, end);
    if (key === NO_KEY) this.unknown++;
    this.values[line] = key;
  }

  entry(line: number, key: number): boolean {
    const expected = this.of(line);
    return expected === NO_KEY || expected === key;
  }

  /** NO_KEY when its row has none that could be read. */
  of(line: number): number {
    return this.values[line] as number;
  }
}

/**
 * All at once, however many lines there are: what each line makes of its key is added up for the rows and taken off for the
 * entries. What is left over tells that some entry is wrong, missing or there twice, but not which.
 */
export class KeySum implements RowKeys {
  readonly reader: KeyReader;
  readonly bytesPerLine = 0;
  unknown = 0;
  private one = 0;
  private other = 0;

  constructor(reader: KeyReader) {
    this.reader = reader;
  }

  reserve(): void {}

  note(pages: Pages, tuple: number, end: number, line: number): void {
    const key = this.reader.row(pages, tuple, end);
    if (key === NO_KEY) this.unknown++;
    this.add(line, key, 1);
  }

  entry(line: number, key: number): boolean {
    this.add(line, key, -1);
    return true;
  }

  /** Every noted line has one entry, with its own key: certain of one that differs, and of more but for one case in 2^64. */
  get isEven(): boolean {
    return this.one === 0 && this.other === 0;
  }

  private add(line: number, key: number, times: 1 | -1): void {
    this.one = (this.one + times * scattered(key ^ Math.imul(line, 0x9e3779b1))) | 0;
    this.other = (this.other + times * scattered(Math.imul(key, 0x27d4eb2f) + line)) | 0;
  }
}

/** Every bit of the number acts on every bit of the result, and no two numbers share one (murmur3's finalizer). */
function scattered(number: number): number {
  let hash = Math.imul(number ^ (number >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
