/** Values that are held long and looked at once: as compressed JSON, outside of the heap that V8 collects. */

import { deflateRawSync, inflateRawSync } from "node:zlib";

/** What repeats is most of it; more work, or more memory for it, would save little. */
const OPTIONS = { level: 1, memLevel: 6 };

export class Packed<T> {
  private readonly bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  static of<T>(value: T): Packed<T> {
    return Packed.ofJson(Buffer.from(JSON.stringify(value)));
  }

  static ofJson<T>(json: Buffer): Packed<T> {
    const packed = deflateRawSync(json, OPTIONS);
    // A copy, because what zlib gives is the beginning of a larger piece of memory; and in memory of its own, because a part of
    // Node's pool keeps all 8 kB of it, with whatever was there for a moment.
    const own = Buffer.allocUnsafeSlow(packed.length);
    packed.copy(own);
    return new Packed<T>(own);
  }

  /** Made anew each time. */
  read(): T {
    return JSON.parse(inflateRawSync(this.bytes).toString()) as T;
  }
}

const TOGETHER = 64;

/** A list that only grows, and of which neighbours are looked at together. */
export class PackedTexts {
  private readonly packed: Packed<string[]>[] = [];
  private open: string[] = [];
  private last: { chunk: number; texts: string[] } | undefined;

  /** Returns its number. */
  add(text: string): number {
    const number = this.packed.length * TOGETHER + this.open.push(text) - 1;
    if (this.open.length === TOGETHER) {
      this.packed.push(Packed.of(this.open));
      this.open = [];
    }
    return number;
  }

  get(number: number): string {
    const chunk = Math.floor(number / TOGETHER);
    if (this.last?.chunk !== chunk) this.last = { chunk, texts: this.packed[chunk]?.read() ?? this.open };
    return this.last.texts[number % TOGETHER] as string;
  }
}

/** Of a list that has more than FEW rows. */
const PARTS = 64;
const FEW = 1000;

/**
 * Rows that begin with their name. Of very many they come in parts, and what has one name is in the same part of every list:
 * two lists can be compared without ever having the whole of them in memory.
 */
export class PackedRows<Row extends readonly [name: string | null, ...rest: unknown[]]> {
  readonly length: number;
  private readonly lists: readonly Packed<Row[]>[];

  /** `lists`: each of a part of another one, in their order. */
  constructor(length: number, lists: readonly Packed<Row[]>[]) {
    this.length = length;
    this.lists = lists;
  }

  static of<Row extends readonly [string | null, ...unknown[]]>(rows: readonly Row[]): PackedRows<Row> {
    const lists: Row[][] = Array.from({ length: rows.length > FEW ? PARTS : 1 }, () => []);
    for (const row of rows) lists[partOf(row[0], lists.length)]?.push(row);
    return new PackedRows(rows.length, lists.map(Packed.of));
  }

  get parts(): number {
    return this.lists.length;
  }

  /** The part with this number, of that many. */
  part(n: number, parts: number): Row[] {
    const list = this.lists[n % this.lists.length]?.read() ?? [];
    return parts === this.lists.length ? list : list.filter(([name]) => partOf(name, parts) === n);
  }

  *[Symbol.iterator](): Generator<Row> {
    for (let n = 0; n < this.parts; n++) yield* this.part(n, this.parts);
  }
}

/** Takes each row as its JSON, so that it never is more than its text. */
export class PackedRowsBuilder<Row extends readonly [string | null, ...unknown[]]> {
  /** All rows, one after another. */
  private text = Buffer.alloc(0);
  private readonly ends: number[] = [];
  private readonly parts: number[] = [];

  get length(): number {
    return this.ends.length;
  }

  add(json: Buffer, name = (JSON.parse(json.toString()) as [string | null])[0]): void {
    const at = this.ends.at(-1) ?? 0;
    const end = at + json.length;
    if (end > this.text.length) {
      const text = Buffer.allocUnsafeSlow(Math.max(1024, 2 * end));
      this.text.copy(text, 0, 0, at);
      this.text = text;
    }
    json.copy(this.text, at);
    this.ends.push(end);
    this.parts.push(partOf(name, PARTS));
  }

  pack(): PackedRows<Row> {
    const rows = this.ends.map((_, i) => i);
    const { length } = rows;
    const part = (n: number) => this.packed(rows.filter((i) => this.parts[i] === n));
    return new PackedRows(
      length,
      length > FEW ? Array.from({ length: PARTS }, (_, n) => part(n)) : [this.packed(rows)],
    );
  }

  private packed(rows: readonly number[]): Packed<Row[]> {
    const startOf = (row: number) => this.ends[row - 1] ?? 0;
    const length = rows.reduce((sum, row) => sum + (this.ends[row] as number) - startOf(row) + 1, 1);
    const list = Buffer.allocUnsafeSlow(Math.max(2, length));
    list[0] = OPEN;
    let at = 1;
    for (const row of rows) {
      at += this.text.copy(list, at, startOf(row), this.ends[row]);
      list[at++] = COMMA;
    }
    // Instead of the last comma.
    list[list.length - 1] = CLOSE;
    return Packed.ofJson<Row[]>(list);
  }
}

const [OPEN, COMMA, CLOSE] = [0x5b, 0x2c, 0x5d];

/** Of rows that have one name all but the first get a number, ` (2)`: they stay together. By FNV-1a. */
function partOf(name: string | null, parts: number): number {
  const text = name?.endsWith(")") === true ? name.replace(/( \(\d+\))+$/, "") : (name ?? "");
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % parts;
}
