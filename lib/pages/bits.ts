/** Bits that grow: one for each line pointer of a heap is small enough to keep. */
export class Bits {
  private words = new Int32Array(256);

  /** Room for bits below `count`. */
  reserve(count: number): void {
    const words = (count >>> 5) + 1;
    if (words <= this.words.length) return;
    const larger = new Int32Array(words);
    larger.set(this.words);
    this.words = larger;
  }

  set(i: number): void {
    (this.words[i >>> 5] as number) |= 1 << (i & 31);
  }

  clear(i: number): void {
    (this.words[i >>> 5] as number) &= ~(1 << (i & 31));
  }

  has(i: number): boolean {
    return ((this.words[i >>> 5] as number) & (1 << (i & 31))) !== 0;
  }

  copy(): Bits {
    const copy = new Bits();
    copy.words = this.words.slice();
    return copy;
  }

  /** Clears what is set in `other`. */
  without(other: Bits): void {
    for (let i = 0; i < Math.min(this.words.length, other.words.length); i++) {
      (this.words[i] as number) &= ~(other.words[i] as number);
    }
  }

  any(): boolean {
    return this.words.some((word) => word !== 0);
  }

  count(): number {
    let count = 0;
    for (let word of this.words) for (; word !== 0; word &= word - 1) count++;
    return count;
  }

  /** The first ones, in order. */
  first(most: number): number[] {
    const found: number[] = [];
    for (let i = 0; i < this.words.length && found.length < most; i++) {
      const word = this.words[i] as number;
      if (word === 0) continue;
      for (let bit = 0; bit < 32 && found.length < most; bit++) if ((word & (1 << bit)) !== 0) found.push(i * 32 + bit);
    }
    return found;
  }
}
