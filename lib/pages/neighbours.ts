/** Whether no two neighbours among the live entries of a B-tree have the same key: of what is in order, none is there twice. */

import { NO_KEY } from "./keys.ts";

const NOT_A_LEAF = -1;

export class Neighbours {
  /** By block of the index: the leaf to the right, 0 for none. */
  private readonly right: Int32Array;
  /** Keys of its first and last live entry; NO_KEY when it has none. */
  private readonly first: Int32Array;
  private readonly last: Int32Array;
  private leaves = 0;
  private readonly leftmost: number[] = [];
  private isCertain = true;

  constructor(blocks: number) {
    this.right = new Int32Array(blocks).fill(NOT_A_LEAF);
    this.first = new Int32Array(blocks);
    this.last = new Int32Array(blocks);
  }

  leaf(block: number, left: number, right: number): void {
    // Split or deleted while it was read.
    if (this.right[block] !== NOT_A_LEAF) this.isCertain = false;
    this.right[block] = right;
    this.leaves++;
    if (left === 0) this.leftmost.push(block);
  }

  /** Entries of a leaf come in their order. */
  entry(block: number, key: number): void {
    if (key === NO_KEY || this.last[block] === key) this.isCertain = false;
    if (this.first[block] === NO_KEY) this.first[block] = key;
    this.last[block] = key;
  }

  /** False also when it cannot be told. */
  areDistinct(): boolean {
    if (!this.isCertain || this.leftmost.length > 1) return false;
    let block = this.leftmost[0] ?? 0;
    let before = NO_KEY;
    let seen = 0;
    for (; block !== 0; block = this.right[block] as number) {
      if ((this.right[block] ?? NOT_A_LEAF) === NOT_A_LEAF || ++seen > this.leaves) return false;
      if (this.first[block] === NO_KEY) continue;
      if (this.first[block] === before) return false;
      before = this.last[block] as number;
    }
    return seen === this.leaves;
  }
}
