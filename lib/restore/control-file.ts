/** `global/pg_control` for pgBackRest alone: archive-get reads from it whose WAL it may fetch, before there is a restored one. */

/**
 * The same control file as if it were of the system with this identifier. The identifier is its first member in every
 * version, and its checksum (CRC-32C) its last; where that is differs, so it is found by being right
 * (src/include/catalog/pg_control.h). Throws when there is none: the file is damaged or of another kind.
 */
export function withSystemIdentifier(control: Uint8Array, identifier: string, isLittleEndian: boolean): Uint8Array {
  const before = new DataView(control.buffer, control.byteOffset, control.byteLength);
  const at = checksumPlace(control, before, isLittleEndian);
  if (at === undefined) throw new Error("the control file has no valid checksum");
  const changed = Uint8Array.from(control);
  const after = new DataView(changed.buffer);
  after.setBigUint64(0, BigInt(identifier), isLittleEndian);
  after.setUint32(at, crc32c(changed.subarray(0, at)), isLittleEndian);
  return changed;
}

/** PostgreSQL keeps the whole within one sector, so that it is never half written. */
const LARGEST = 512;

function checksumPlace(bytes: Uint8Array, view: DataView, isLittleEndian: boolean): number | undefined {
  for (let at = 16; at + 4 <= Math.min(LARGEST, bytes.length); at += 4) {
    if (view.getUint32(at, isLittleEndian) === crc32c(bytes.subarray(0, at))) return at;
  }
  return undefined;
}

/** Castagnoli's polynomial, as PostgreSQL's COMP_CRC32C. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
