/** The checksum of a page in a file: PostgreSQL's variant of FNV-1a over 32 columns, with the block number in it. */

const PRIME = 16777619;
const COLUMNS = 32;

/** Where each column starts: arbitrary, and part of the format. */
const BASIS = Int32Array.of(
  ...[
    0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
    0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
    0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
    0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
  ],
);

/** pd_checksum is the lower half of the page's third word. */
const CHECKSUM_OFFSET = 8;
const CHECKSUM_WORD = CHECKSUM_OFFSET / 4;

/** What pd_checksum should be. An all-zero page has none: ask before whether it is one. */
export function pageChecksum(page: Uint8Array, blockNumber: number): number {
  const words = wordsOf(page);
  const length = words.length;
  let folded = 0;
  // Four columns at a time: each is a chain of multiplications that has to wait for the one before.
  for (let column = 0; column < COLUMNS; column += 4) {
    let a = BASIS[column] as number;
    let b = BASIS[column + 1] as number;
    let c = BASIS[column + 2] as number;
    let d = BASIS[column + 3] as number;
    for (let i = column; i < length; i += COLUMNS) {
      a ^= words[i] as number;
      b ^= words[i + 1] as number;
      c ^= i + 2 === CHECKSUM_WORD ? (words[i + 2] as number) & 0xffff0000 : (words[i + 2] as number);
      d ^= words[i + 3] as number;
      a = Math.imul(a, PRIME) ^ (a >>> 17);
      b = Math.imul(b, PRIME) ^ (b >>> 17);
      c = Math.imul(c, PRIME) ^ (c >>> 17);
      d = Math.imul(d, PRIME) ^ (d >>> 17);
    }
    for (let round = 0; round < 2; round++) {
      a = Math.imul(a, PRIME) ^ (a >>> 17);
      b = Math.imul(b, PRIME) ^ (b >>> 17);
      c = Math.imul(c, PRIME) ^ (c >>> 17);
      d = Math.imul(d, PRIME) ^ (d >>> 17);
    }
    folded ^= a ^ b ^ c ^ d;
  }
  return (((folded ^ blockNumber) >>> 0) % 65535) + 1;
}

/** What the page says about itself. */
export const storedChecksum = (page: Uint8Array): number =>
  (page[CHECKSUM_OFFSET] as number) | ((page[CHECKSUM_OFFSET + 1] as number) << 8);

/** A copy of the page with its checksum in it. */
export function withChecksum(page: Uint8Array, blockNumber: number): Buffer {
  const copy = Buffer.from(page);
  copy.writeUInt16LE(pageChecksum(copy, blockNumber), CHECKSUM_OFFSET);
  return copy;
}

/** PostgreSQL extends a relation by such pages; they carry no checksum. */
export function isZeroPage(page: Uint8Array): boolean {
  // Nearly every other page is told by its first words.
  for (const word of wordsOf(page)) if (word !== 0) return false;
  return true;
}

/** Pages of PostgreSQL are in the machine's byte order; every machine that Node runs on here has the same. */
function wordsOf(page: Uint8Array): Int32Array {
  const { buffer, byteOffset, byteLength } = page.byteOffset % 4 === 0 ? page : new Uint8Array(page);
  return new Int32Array(buffer, byteOffset, byteLength >>> 2);
}
