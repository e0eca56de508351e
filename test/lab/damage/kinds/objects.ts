/** Objects that are dropped, changed or switched off, all by the book: only who knows the source can tell. */

import { ODD_DATABASE } from "../../source.ts";
import { CATCHERS } from "../catchers.ts";
import { bySql, inArea, type KindWithoutArea } from "../kind.ts";

const gone = (name: string, statement: string, more: Partial<KindWithoutArea> = {}): KindWithoutArea => ({
  name,
  damage: bySql(statement),
  caughtBy: CATCHERS.objects,
  level: "quick",
  withoutReceipt: null,
  ...more,
});

export const objectKinds = inArea("objects", [
  gone("a table dropped", "DROP TABLE lab.plain"),
  gone("a table of the second database dropped", "", {
    damage: bySql('DROP TABLE "Mein Schema"."Beträge"', ODD_DATABASE),
  }),
  gone("a column dropped", "ALTER TABLE lab.plain DROP COLUMN note"),
  gone("a column's default dropped", "ALTER TABLE lab.ledger ALTER COLUMN amount DROP DEFAULT"),
  gone("a column's type changed", "ALTER TABLE lab.plain ALTER COLUMN id TYPE bigint"),
  gone("a check constraint dropped", "ALTER TABLE lab.ledger DROP CONSTRAINT ledger_amount"),
  gone("a foreign key dropped", "ALTER TABLE lab.ledger DROP CONSTRAINT ledger_account"),
  gone("a primary key dropped", "ALTER TABLE lab.frozen DROP CONSTRAINT frozen_pkey"),
  gone("an index dropped", "DROP INDEX lab.things_hash"),
  gone(
    "an index invalid",
    "UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'lab.things_hash'::regclass",
  ),
  gone(
    "a function's body changed",
    "CREATE OR REPLACE FUNCTION lab.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 3'",
  ),
  gone("a function dropped", "DROP FUNCTION lab.twice(int)"),
  gone(
    "a view's query changed",
    "CREATE OR REPLACE VIEW lab.rich AS SELECT id, amount FROM lab.ledger WHERE amount > 4000",
  ),
  gone("a materialized view without its rows", "REFRESH MATERIALIZED VIEW lab.per_account WITH NO DATA"),
  gone("a trigger dropped", "DROP TRIGGER typed_touch ON lab.typed"),
  gone("a trigger disabled", "ALTER TABLE lab.typed DISABLE TRIGGER typed_touch"),
  gone("a rule dropped", "DROP RULE no_delete ON lab.accounts"),
  gone("a policy dropped", "DROP POLICY readers ON lab.accounts"),
  gone("row-level security disabled", "ALTER TABLE lab.accounts DISABLE ROW LEVEL SECURITY"),
  gone("a grant lost", "REVOKE SELECT ON lab.ledger FROM lab_reader"),
  gone("a grant on a column lost", "REVOKE SELECT (id) ON lab.typed FROM lab_reader"),
  gone("an owner changed", "ALTER TABLE lab.parent OWNER TO postgres"),
  gone(
    "default privileges lost",
    "ALTER DEFAULT PRIVILEGES FOR ROLE lab_owner IN SCHEMA lab REVOKE SELECT ON TABLES FROM lab_reader",
  ),
  gone("a role lost", "DROP ROLE lab_auditor"),
  gone("a role with other attributes", "ALTER ROLE lab_auditor SUPERUSER NOCREATEDB"),
  gone("a membership lost", "REVOKE lab_reader FROM lab_auditor"),
  gone("a role's setting lost", "ALTER ROLE lab_auditor RESET work_mem"),
  gone("a database's setting lost", "ALTER DATABASE app RESET random_page_cost"),
  gone("a database dropped", "", { damage: bySql(`DROP DATABASE "${ODD_DATABASE.replaceAll('"', '""')}"`) }),
  gone("a comment lost", "COMMENT ON TABLE lab.ledger IS NULL"),
  gone("an enum's label added", "ALTER TYPE lab.mood ADD VALUE 'angry'"),
  gone("a domain's check dropped", "ALTER DOMAIN lab.percent DROP CONSTRAINT percent_check"),
  gone("a cast dropped", "DROP CAST (lab.mood AS int)"),
  gone("an operator dropped", "DROP OPERATOR lab.~=~ (int, int)"),
  gone("an aggregate dropped", "DROP AGGREGATE lab.total(int)"),
  gone("an extension dropped", "DROP EXTENSION fuzzystrmatch CASCADE"),
  gone("an event trigger disabled", "ALTER EVENT TRIGGER watch_ddl DISABLE"),
  gone("a publication without a table", "ALTER PUBLICATION news DROP TABLE lab.accounts"),
  gone("a publication that publishes less", "ALTER PUBLICATION news SET (publish = 'insert')"),
  gone("a subscription lost", "DROP SUBSCRIPTION echo"),
  gone("a foreign server's options changed", "ALTER SERVER elsewhere OPTIONS (SET host '127.0.0.9')"),
  gone("a user mapping lost", "DROP USER MAPPING FOR clerk SERVER elsewhere"),
  gone("a statistics object dropped", "DROP STATISTICS lab.things_statistics"),
  gone("a text search configuration dropped", "DROP TEXT SEARCH CONFIGURATION lab.plainly"),
  gone("a partition detached", "ALTER TABLE lab.measured DETACH PARTITION lab.measured_1"),
  gone("a sequence dropped", "DROP SEQUENCE lab.tickets"),
  gone("a sequence with another increment", "ALTER SEQUENCE lab.tickets INCREMENT 1"),
  gone("a large object dropped", "SELECT pg_catalog.lo_unlink(500002)"),
  gone("a grant on a large object lost", "REVOKE SELECT ON LARGE OBJECT 500002 FROM lab_reader"),
  gone("a storage parameter lost", "ALTER TABLE lab.moving RESET (autovacuum_enabled)"),
  gone("a table made unlogged", "ALTER TABLE lab.plain SET UNLOGGED"),
]);
