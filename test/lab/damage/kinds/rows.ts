/** Rows that are changed, lost, doubled or against the rules, as a statement would do it. */

import { ODD_DATABASE } from "../../source.ts";
import { CATCHERS } from "../catchers.ts";
import { bySql, inArea, type KindWithoutArea, rowsBySql } from "../kind.ts";

const { data, constraints, sequences, indexes } = CATCHERS;

const changed = (name: string, damage: KindWithoutArea["damage"], more: Partial<KindWithoutArea> = {}) => ({
  name,
  damage,
  caughtBy: data,
  level: "full" as const,
  withoutReceipt: null,
  ...more,
});

/** The instance breaks its own rules: nobody needs the source to know. */
const againstRules = (name: string, damage: KindWithoutArea["damage"], more: Partial<KindWithoutArea> = {}) =>
  changed(name, damage, { caughtBy: [...data, ...constraints], withoutReceipt: "full", ...more });

/** Triggers and foreign keys look away. */
const unguarded = (statement: string) => bySql(`SET session_replication_role = replica; ${statement}`);

export const rowKinds = inArea("rows", [
  changed("one row changed", rowsBySql("UPDATE lab.ledger SET amount = amount + 1 WHERE id = 3777")),
  changed("one row deleted", rowsBySql("DELETE FROM lab.ledger WHERE id = 3777")),
  changed("one row lost that a query of the user's counts", rowsBySql("DELETE FROM lab.child WHERE id = 777"), {
    caughtBy: ["queries"],
    level: "quick",
  }),
  changed("one row added", rowsBySql("INSERT INTO lab.ledger VALUES (777777, 7, 7, 'too much')")),
  changed("one value is NULL", rowsBySql("UPDATE lab.ledger SET note = NULL WHERE id = 3777")),
  changed("one row doubled", rowsBySql("INSERT INTO lab.plain SELECT * FROM lab.plain WHERE id = 77")),
  changed(
    "one row of the second database changed",
    rowsBySql('UPDATE "Mein Schema"."Beträge" SET "Betrag" = 0 WHERE id = 77', { database: ODD_DATABASE }),
  ),
  changed("one row of a partition changed", rowsBySql("UPDATE lab.measured_2 SET value = -1 WHERE id = 40")),
  changed(
    "one long value changed",
    rowsBySql("UPDATE shop.documents SET scan = pg_catalog.set_byte(scan, 4000, 0) WHERE id = 77"),
  ),
  changed(
    "one row of jsonb, arrays and ranges changed",
    rowsBySql("UPDATE lab.things SET doc = doc || '{\"x\": 1}' WHERE id = 77"),
  ),
  changed("a row of pgbench changed", rowsBySql("UPDATE public.pgbench_accounts SET abalance = 1 WHERE aid = 777")),
  changed(
    "rows of a materialized view changed",
    bySql(
      "ALTER TABLE lab.ledger DISABLE TRIGGER ALL; UPDATE lab.ledger SET amount = 0 WHERE id = 1; REFRESH MATERIALIZED VIEW lab.per_account; ALTER TABLE lab.ledger ENABLE TRIGGER ALL",
    ),
  ),
  changed("a table emptied", bySql("TRUNCATE lab.plain")),
  changed("a partition emptied", bySql("TRUNCATE lab.hashed_1")),
  changed("the newest table emptied", bySql("DELETE FROM lab.newest")),
  changed("rows moved by VACUUM FULL, one of them lost", async (instance) => {
    await instance.sql("DELETE FROM lab.frozen WHERE id = 5");
    await instance.sql("VACUUM FULL lab.frozen");
  }),
  againstRules(
    "a row doubled past its primary key",
    bySql(`UPDATE pg_catalog.pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'lab.frozen_pkey'::regclass;
           INSERT INTO lab.frozen SELECT * FROM lab.frozen WHERE id = 77;
           UPDATE pg_catalog.pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'lab.frozen_pkey'::regclass`),
    { caughtBy: [...data, ...constraints, ...indexes] },
  ),
  againstRules(
    "a row doubled with its entry in the primary key",
    bySql(`UPDATE pg_catalog.pg_index SET indisunique = false WHERE indexrelid = 'public.pgbench_accounts_pkey'::regclass;
           INSERT INTO public.pgbench_accounts SELECT * FROM public.pgbench_accounts WHERE aid = 777;
           UPDATE pg_catalog.pg_index SET indisunique = true WHERE indexrelid = 'public.pgbench_accounts_pkey'::regclass`),
  ),
  againstRules(
    "a row of a foreign key's table lost",
    unguarded(
      "SET row_security = off; ALTER TABLE lab.accounts DISABLE RULE no_delete; DELETE FROM lab.accounts WHERE id = 7; ALTER TABLE lab.accounts ENABLE RULE no_delete",
    ),
  ),
  againstRules("a row that refers to nothing", unguarded("UPDATE lab.ledger SET account = 4711 WHERE id = 3777")),
  againstRules(
    "a row against a check constraint",
    bySql(`UPDATE pg_catalog.pg_class SET relchecks = 0 WHERE oid = 'lab.ledger'::regclass;
           UPDATE lab.ledger SET amount = -5 WHERE id = 3777;
           UPDATE pg_catalog.pg_class SET relchecks = 1 WHERE oid = 'lab.ledger'::regclass`),
  ),
  againstRules(
    "NULL in a column that is NOT NULL",
    bySql(`UPDATE pg_catalog.pg_attribute SET attnotnull = false WHERE attrelid = 'lab.ledger'::regclass AND attname = 'amount';
           UPDATE lab.ledger SET amount = NULL WHERE id = 3777;
           UPDATE pg_catalog.pg_attribute SET attnotnull = true WHERE attrelid = 'lab.ledger'::regclass AND attname = 'amount'`),
  ),
  againstRules(
    "a row in the wrong partition",
    bySql(`UPDATE pg_catalog.pg_class SET relispartition = false WHERE oid = 'lab.measured_1'::regclass;
           INSERT INTO lab.measured_1 VALUES (4711, '2026-02-15', 1);
           UPDATE pg_catalog.pg_class SET relispartition = true WHERE oid = 'lab.measured_1'::regclass`),
  ),
  changed(
    "a generated column with another value",
    bySql(`UPDATE pg_catalog.pg_attribute SET attgenerated = '' WHERE attrelid = 'lab.derived'::regclass AND attname = 'b';
           UPDATE lab.derived SET b = -1 WHERE a = 77;
           UPDATE pg_catalog.pg_attribute SET attgenerated = 's' WHERE attrelid = 'lab.derived'::regclass AND attname = 'b'`),
  ),
  {
    name: "a serial sequence set back behind its column",
    damage: bySql("SELECT pg_catalog.setval('lab.typed_id_seq', 100)"),
    caughtBy: [...sequences, ...CATCHERS.objects],
    level: "standard",
    // Rows inserted with numbers of their own do the same: worth a warning, no more.
    withoutReceipt: null,
  },
  {
    name: "an identity's sequence set back behind its column",
    damage: bySql("SELECT pg_catalog.setval('lab.things_id_seq', 1, false)"),
    caughtBy: [...sequences, ...CATCHERS.objects],
    level: "standard",
    // Rows inserted with numbers of their own do the same: worth a warning, no more.
    withoutReceipt: null,
  },
  {
    name: "a free sequence set back",
    damage: bySql("SELECT pg_catalog.setval('lab.tickets', 500)"),
    caughtBy: [...sequences, ...CATCHERS.objects],
    level: "standard",
    withoutReceipt: null,
  },
]);
