/** Services of a fleet, and what can be wrong with their backups. */

import { open, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Lab } from "../lab.ts";
import { archiveWal, backup, createStanza, query, type Source, startPostgres, startSource, value } from "../source.ts";

/** With one table and one full backup. `isDamaged`: a page of the table was damaged before it was backed up. */
export async function makeService(lab: Lab, name: string, { isDamaged = false } = {}): Promise<Source> {
  const source = await startSource(lab, { stanza: name });
  await createStanza(lab, source);
  await query(source, "CREATE TABLE sale AS SELECT id, md5(id::text) AS item FROM generate_series(1, 20000) AS id");
  await query(source, "CHECKPOINT");
  if (isDamaged) await damageTable(lab, source);
  await backup(lab, source, "full");
  return source;
}

/** What pgBackRest copies is damaged already; it says so, and copies it. */
async function damageTable(lab: Lab, source: Source & { service?: { stop(): Promise<void> } }): Promise<void> {
  const path = await value(source, "SELECT pg_relation_filepath('sale')");
  await source.service?.stop();
  const file = await open(join(source.dataDir, path), "r+");
  await file.write(Buffer.alloc(64, 0x5a), 0, 64, 8192 * 3 + 4000);
  await file.close();
  await startPostgres(lab, source);
}

/** A segment after the backup is gone from the archive. */
export async function loseWal(source: Source): Promise<void> {
  await query(source, "INSERT INTO sale SELECT 0, 'x'");
  const segment = await archiveWal(source);
  const place = join(source.repository, "archive", source.stanza, "15-1", segment.slice(0, 16));
  const [name] = (await readdir(place)).filter((file) => file.startsWith(segment));
  await unlink(join(place, name as string));
}

/** A file of the backup is damaged in the repository. */
export async function damageBackup(source: Source): Promise<void> {
  const place = join(source.repository, "backup", source.stanza);
  const [set] = (await readdir(place)).filter((name) => /^\d{8}-\d{6}F$/.test(name));
  const names = await readdir(join(place, set as string, "pg_data", "base"), { recursive: true });
  const table = names.find((name) => /\/1259\./.test(name));
  const file = await open(join(place, set as string, "pg_data", "base", table as string), "r+");
  await file.write(Buffer.alloc(32, 0xff), 0, 32, 200);
  await file.close();
}
