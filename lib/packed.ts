/** Values that are held long and looked at once: as compressed JSON, outside of the heap that V8 collects. */

import { deflateRawSync, inflateRawSync } from "node:zlib";

/** What repeats is most of it; more work would save little. */
const LEVEL = 1;

export class Packed<T> {
  private readonly bytes: Buffer;

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  static of<T>(value: T): Packed<T> {
    return Packed.ofJson(Buffer.from(JSON.stringify(value)));
  }

  static ofJson<T>(json: Buffer): Packed<T> {
    return new Packed<T>(deflateRawSync(json, { level: LEVEL }));
  }

  /** Made anew each time. */
  read(): T {
    return JSON.parse(inflateRawSync(this.bytes).toString()) as T;
  }
}

const BLOCK_BYTES = 256 * 1024;

/** A JSON array, item by item: each is never more than its text. */
export class PackedList<T> {
  length = 0;
  private blocks: Buffer[] = [];
  private block = Buffer.alloc(0);
  private at = 0;

  add(item: Buffer): void {
    if (this.at + item.length + 1 > this.block.length) {
      if (this.at > 0) this.blocks.push(this.block.subarray(0, this.at));
      this.block = Buffer.allocUnsafe(Math.max(BLOCK_BYTES, item.length + 1));
      this.at = 0;
    }
    this.block[this.at] = this.length === 0 ? OPEN : COMMA;
    item.copy(this.block, this.at + 1);
    this.at += item.length + 1;
    this.length++;
  }

  pack(): Packed<T[]> {
    const text = this.length === 0 ? [Buffer.from("[]")] : [...this.blocks, this.block.subarray(0, this.at), CLOSE];
    return Packed.ofJson(Buffer.concat(text));
  }
}

const OPEN = 0x5b;
const COMMA = 0x2c;
const CLOSE = Buffer.from("]");
