/** Not damage: the instance as it was restored, and what may legitimately have become of it. None may be caught. */

import { appendFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Instance } from "../instance.ts";
import { inArea, type KindWithoutArea } from "../kind.ts";
import { BLOCK, changeBlock } from "../pages.ts";

const sound = (name: string, damage: (instance: Instance) => Promise<unknown>): KindWithoutArea => ({
  name,
  damage,
  caughtBy: [],
  level: null,
  withoutReceipt: null,
});

export const soundKinds = inArea("sound", [
  sound("as it was restored", async () => {}),
  sound("restarted after a crash in the middle of transactions", async (instance) => {
    await instance.sql("CHECKPOINT");
    // Neither is ever committed; a session that ends would abort, a crash leaves them as they are.
    await instance.crashDuring([
      "INSERT INTO lab.plain SELECT -i, repeat('crashed ', 40) FROM generate_series(1, 3000) i",
      "UPDATE lab.moving SET version = 99 WHERE id % 5 = 0",
      "DELETE FROM lab.typed WHERE id % 3 = 0",
      "CREATE TABLE lab.crashed AS SELECT * FROM lab.ledger",
    ]);
    await instance.sql("CHECKPOINT");
  }),
  sound("vacuumed, analyzed and reindexed", async (instance) => {
    await instance.sql("VACUUM (FREEZE, ANALYZE)");
    await instance.sql("REINDEX INDEX lab.things_hash");
    await instance.sql("REINDEX TABLE lab.moving");
  }),
  sound("blocks at the end that a crash left empty", async (instance) => {
    for (const name of ["lab.plain", "lab.ledger", "lab.ledger_pkey", "lab.things_area"]) {
      await appendFile(await instance.relation(name).file, Buffer.alloc(2 * BLOCK));
    }
  }),
  sound("a file of a relation that was never committed", async (instance) => {
    const { path } = instance.relation("lab.plain");
    const orphan = await instance.file(path.replace(/\d+$/, "999999"));
    await writeFile(orphan, Buffer.alloc(3 * BLOCK));
    await instance.own(orphan);
  }),
  sound("without free space maps", async (instance) => {
    for (const name of ["lab.ledger", "lab.things"]) await rm(`${await instance.relation(name).file}_fsm`);
  }),
  sound("without a visibility map", async (instance) => rm(`${await instance.relation("lab.ledger").file}_vm`)),
  sound("with an empty visibility map", async (instance) =>
    changeBlock(`${await instance.relation("lab.ledger").file}_vm`, 0, "right", (page) => page.fill(0, 24, 100)),
  ),
  sound("without statistics", async (instance) => instance.sql("DELETE FROM pg_catalog.pg_statistic")),
  sound("with a file of somebody's own in the data directory", async (instance) => {
    const path = join(await instance.file("."), "core.4711");
    await writeFile(path, "not PostgreSQL's");
    await instance.own(path);
  }),
  sound("a prepared transaction left in doubt, which holds what views and policies read", async (instance) => {
    await instance.sql("BEGIN; LOCK TABLE lab.ledger IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'in doubt'");
  }),
  sound("read by others meanwhile", async (instance) => {
    await instance.sql(
      "SELECT count(*) FROM lab.late; SELECT count(*) FROM lab.things; SELECT sum(amount) FROM lab.ledger",
    );
  }),
]);
