/** What a busy service does, beside `there-and-back.ts`. */

import { setTimeout as sleep } from "node:timers/promises";
import { APP_DATABASE, ODD_DATABASE } from "../source.ts";
import type { Deed, Hand, SessionKind } from "./load.ts";
import { thereAndBack } from "./there-and-back.ts";

async function inTransaction(hand: Hand, work: () => Promise<void>, commit = true): Promise<void> {
  await hand.sql("BEGIN");
  await work();
  await hand.sql(commit ? "COMMIT" : "ROLLBACK");
}

const deed = (name: string, weight: number, perform: Deed["do"]): Deed => ({ name, weight, do: perform });
const quiet = (hand: Hand, sql: string) => hand.sql(sql).catch(() => []);

const rows: readonly Deed[] = [
  deed("transfers", 8, (hand) =>
    inTransaction(hand, async () => {
      for (let n = hand.random.int(1, 6); n > 0; n--) {
        await hand.sql(`UPDATE ledger SET amount = amount + 1 WHERE id = ${hand.random.int(1, 5000)}`);
      }
    }),
  ),
  deed("a row deleted and inserted again", 3, (hand) => {
    const id = hand.random.int(1, 5000);
    return inTransaction(hand, async () => {
      await hand.sql(`DELETE FROM ledger WHERE id = ${id}`);
      await hand.sql(`INSERT INTO ledger VALUES (${id}, 0, md5('${id}'))`);
    });
  }),
  deed("subtransactions", 3, (hand) =>
    inTransaction(
      hand,
      async () => {
        for (let n = 0; n < 70; n++) {
          await hand.sql(`SAVEPOINT s${n}`);
          await hand.sql(`UPDATE ledger SET amount = amount - 1 WHERE id = ${hand.random.int(1, 5000)}`);
          if (hand.random.chance(0.3)) await hand.sql(`ROLLBACK TO s${n}`);
          else if (hand.random.chance(0.5)) await hand.sql(`RELEASE s${n}`);
        }
      },
      hand.random.chance(0.8),
    ),
  ),
  deed("many rows rolled back", 1, (hand) =>
    inTransaction(
      hand,
      async () => {
        await hand.sql(
          "INSERT INTO heap_of_text (body) SELECT repeat(md5(i::text), 20) FROM generate_series(1, 500) i",
        );
        await hand.sql("UPDATE ledger SET amount = 0 WHERE id % 10 = 0");
      },
      false,
    ),
  ),
  deed("rows with TOAST", 3, async (hand) => {
    await hand.sql(`INSERT INTO heap_of_text (body)
      SELECT string_agg(md5(random()::text), '') FROM generate_series(1, ${hand.random.int(10, 900)})`);
    await hand.sql("UPDATE heap_of_text SET body = body || 'more' WHERE id = (SELECT max(id) FROM heap_of_text)");
    if (hand.random.chance(0.2)) await hand.sql("DELETE FROM heap_of_text WHERE id % 3 = 0");
    if (hand.random.chance(0.03)) await hand.sql("TRUNCATE heap_of_text RESTART IDENTITY");
  }),
  deed("row locks of several", 4, (hand) =>
    inTransaction(hand, async () => {
      const parent = hand.random.int(1, 50);
      await hand.sql(`SELECT FROM parent WHERE id = ${parent} FOR KEY SHARE`);
      await hand.sql(`INSERT INTO child (parent, what) VALUES (${parent}, 'new')`);
      if (hand.random.chance(0.3)) await hand.sql("SAVEPOINT s");
      await hand.sql(`UPDATE parent SET n = n + 1 WHERE id = ${hand.random.int(1, 50)}`);
      if (hand.random.chance(0.3)) await hand.sql(`SELECT FROM parent WHERE id % 7 = 0 FOR SHARE`);
    }),
  ),
  deed("children deleted", 1, (hand) =>
    hand.sql(`DELETE FROM child WHERE id % 40 = ${hand.random.int(0, 39)} AND what = 'new'`).then(() => {}),
  ),
  deed("sequences at full speed", 3, (hand) =>
    hand
      .sql(
        `SELECT nextval('counter_${hand.random.int(1, 8)}'), nextval('shop.invoice_number') FROM generate_series(1, 300)`,
      )
      .then(() => {}),
  ),
  deed("identity restarted", 1, async (hand) => {
    await hand.sql("TRUNCATE serials RESTART IDENTITY");
    await hand.sql(
      `INSERT INTO serials (what) SELECT md5(i::text) FROM generate_series(1, ${hand.random.int(1, 400)}) i`,
    );
  }),
  deed("bulk insert", 2, (hand) =>
    inTransaction(hand, async () => {
      await hand.sql("CREATE TABLE IF NOT EXISTS loaded (id int, what text)");
      await hand.sql("TRUNCATE loaded");
      await hand.sql("INSERT INTO loaded SELECT i, md5(i::text) FROM generate_series(1, 3000) i");
      await hand.sql("CREATE INDEX IF NOT EXISTS loaded_id ON loaded (id)");
    }),
  ),
  deed("COPY from a program", 1, async (hand) => {
    await hand.sql("COPY scratch FROM PROGRAM 'seq 1 2000 | sed s/$/,copied/' WITH (FORMAT csv)");
    await hand.sql("COPY heap_of_text (body) FROM PROGRAM 'seq 1 300' WITH (FORMAT text)");
    if (hand.random.chance(0.5)) await hand.sql("TRUNCATE scratch");
  }),
  deed("COPY into a new table", 2, async (hand) => {
    const table = hand.fresh("copied");
    await inTransaction(hand, async () => {
      await hand.sql(`CREATE TABLE ${table} (id int, what text)`);
      await hand.sql(`COPY ${table} FROM PROGRAM 'seq 1 1000 | sed s/$/,x/' WITH (FORMAT csv, FREEZE)`);
    });
    await hand.hold(1000);
    await hand.sql(`DROP TABLE ${table}`);
  }),
  deed("temporary tables", 2, async (hand) => {
    await hand.sql("CREATE TEMP TABLE IF NOT EXISTS mine (id int PRIMARY KEY, what text)");
    await hand.sql("TRUNCATE mine");
    await hand.sql("INSERT INTO mine SELECT i, 'temporary' FROM generate_series(1, 200) i");
    if (hand.random.chance(0.5)) await hand.sql("DROP TABLE mine");
  }),
  deed("large objects made, changed, unlinked", 3, async (hand) => {
    const oid = hand.random.int(600_000, 600_030);
    await quiet(hand, `SELECT lo_create(${oid})`);
    await hand.sql(`SELECT lo_put(${oid}, ${hand.random.int(0, 50_000)}, decode(repeat('ab', 3000), 'hex'))`);
    if (hand.random.chance(0.5)) await hand.sql(`SELECT lo_unlink(${oid})`);
  }),
  deed("advisory locks", 1, (hand) =>
    inTransaction(hand, async () => {
      await hand.sql(`SELECT pg_advisory_xact_lock(${hand.random.int(1, 3)}), pg_advisory_lock_shared(99)`);
      await hand.sql("SELECT pg_advisory_unlock_all()");
    }),
  ),
  deed("bookings excluded", 1, async (hand) => {
    const at = hand.random.int(1, 100_000);
    await hand.sql(`INSERT INTO bookings VALUES (${hand.random.int(1, 5)}, int4range(${at}, ${at + 10}))
      ON CONFLICT DO NOTHING`);
    if (hand.random.chance(0.1)) await hand.sql("DELETE FROM bookings WHERE room = 1");
  }),
  deed("prepared transaction", 2, async (hand) => {
    const id = hand.fresh("rows");
    await inTransaction(hand, async () => {
      await hand.sql(`UPDATE ledger SET amount = amount + 5 WHERE id = ${hand.random.int(1, 5000)}`);
      if (hand.random.chance(0.5)) await hand.sql("SAVEPOINT s");
      await hand.sql(`INSERT INTO child (parent, what) VALUES (${hand.random.int(1, 50)}, 'prepared')`);
      await hand.sql(`PREPARE TRANSACTION '${id}'`);
    });
    await hand.hold(hand.random.chance(0.1) ? 8000 : 200);
    await hand.sql(`${hand.random.chance(0.6) ? "COMMIT" : "ROLLBACK"} PREPARED '${id}'`);
  }),
  deed("shop", 4, async (hand) => {
    const id = hand.random.int(1, 5000);
    await hand.sql(`UPDATE shop.customers SET name = name || 'x' WHERE id = ${id} AND length(name) < 60`);
    await hand.sql(`INSERT INTO shop.orders (customer, placed_at, status) VALUES (${id},
      timestamptz '2025-01-01' + random() * interval '900 days', (enum_range(NULL::shop.order_status))[1 + ${id} % 4])`);
    if (hand.random.chance(0.05)) await hand.sql(`DELETE FROM shop.orders WHERE customer = ${id}`);
    if (hand.random.chance(0.1))
      await hand.sql(`UPDATE shop.documents SET body = body || 'x' WHERE id = ${1 + (id % 200)}`);
  }),
  deed("history emptied", 1, async (hand) => {
    const [row] = await hand.sql("SELECT pg_relation_size('public.pgbench_history') > 4000000 AS big");
    if (row?.big === "t") await hand.sql("TRUNCATE public.pgbench_history");
  }),
];

const fleet = (hand: Hand) => `fleet_${hand.random.int(16, 24)}`;

const maintenance: readonly Deed[] = [
  deed("VACUUM", 4, (hand) =>
    hand.sql(`VACUUM ${hand.random.pick(["", "(ANALYZE)", "(FREEZE)"])} ${fleet(hand)}`).then(() => {}),
  ),
  deed("VACUUM of a busy table", 2, (hand) =>
    hand
      .sql(
        `VACUUM (${hand.random.pick(["FREEZE", "TRUNCATE", "INDEX_CLEANUP ON", "DISABLE_PAGE_SKIPPING"])})
        ${hand.random.pick(["ledger", "heap_of_text", "child", "public.pgbench_accounts", "public.pgbench_history", "pg_class", "pg_attribute", "pg_largeobject"])}`,
      )
      .then(() => {}),
  ),
  deed("VACUUM FULL", 2, (hand) =>
    hand
      .sql(
        `VACUUM FULL ${hand.random.pick([fleet(hand), "heap_of_text", "ledger", "pg_largeobject", "pg_description", "pg_attribute", "pg_class"])}`,
      )
      .then(() => {}),
  ),
  deed("CLUSTER", 2, (hand) => {
    const table = fleet(hand);
    return hand.sql(`CLUSTER ${table} USING ${table}_pkey`).then(() => {});
  }),
  deed("REINDEX CONCURRENTLY", 3, (hand) => hand.sql(`REINDEX TABLE CONCURRENTLY ${fleet(hand)}`).then(() => {})),
  deed("REINDEX of catalogs", 1, (hand) =>
    hand.sql(`REINDEX TABLE ${hand.random.pick(["pg_class", "pg_depend", "pg_attribute", "pg_proc"])}`).then(() => {}),
  ),
  deed("CREATE INDEX CONCURRENTLY", 3, async (hand) => {
    const name = hand.fresh("concurrent");
    const table = hand.random.pick(["ledger", "child", fleet(hand)]);
    // Some are cancelled in the middle and leave an invalid index behind.
    await hand.sql(`SET statement_timeout = '${hand.random.pick([20, 100, 15_000])}ms'`);
    try {
      await hand.sql(`CREATE INDEX CONCURRENTLY ${name} ON ${table} (id)`);
    } catch (error) {
      if (!/statement timeout|lock timeout|deadlock/.test((error as Error).message)) throw error;
    } finally {
      await hand.sql("SET statement_timeout = '15s'");
    }
    await hand.hold(2500);
    await hand.sql(`DROP INDEX ${hand.random.chance(0.5) ? "CONCURRENTLY" : ""} IF EXISTS ${name}`);
  }),
  deed("ANALYZE", 2, (hand) => hand.sql("ANALYZE ledger, child").then(() => {})),
  deed("REFRESH MATERIALIZED VIEW", 2, (hand) =>
    hand.sql(`REFRESH MATERIALIZED VIEW ${hand.random.chance(0.5) ? "CONCURRENTLY" : ""} shop.revenue`).then(() => {}),
  ),
  deed("fleet rewritten", 3, async (hand) => {
    const table = fleet(hand);
    await hand.sql(`UPDATE ${table} SET b = md5(b), a = (a + 1) % 17 WHERE id % 5 = ${hand.random.int(0, 4)}`);
    if (hand.random.chance(0.1)) await hand.sql(`DELETE FROM ${table} WHERE id > 380`);
    await hand.sql(
      `INSERT INTO ${table} (id, a, b) SELECT i, 0, 'again' FROM generate_series(381, 400) i ON CONFLICT DO NOTHING`,
    );
  }),
];

const partitions: readonly Deed[] = [
  deed("events", 4, (hand) =>
    hand
      .sql(`INSERT INTO event (at, what) SELECT i % 800, 'new' FROM generate_series(${hand.random.int(1, 99)}, 200) i`)
      .then(() => {}),
  ),
  deed("partition detached and attached", 2, async (hand) => {
    const n = hand.random.int(0, 7);
    await hand.sql(`ALTER TABLE event DETACH PARTITION event_${n}`);
    await hand.hold(1500);
    await hand.sql(`ALTER TABLE event ATTACH PARTITION event_${n} FOR VALUES FROM (${n * 100}) TO (${n * 100 + 100})`);
  }),
  deed("partition detached concurrently", 1, async (hand) => {
    const n = hand.random.int(0, 7);
    await hand.sql(`SET statement_timeout = '${hand.random.pick([30, 15_000])}ms'`);
    await quiet(hand, `ALTER TABLE event DETACH PARTITION event_${n} CONCURRENTLY`);
    await hand.sql("SET statement_timeout = '15s'");
    await hand.hold(800);
    await quiet(hand, `ALTER TABLE event DETACH PARTITION event_${n} FINALIZE`);
    await hand.sql(`ALTER TABLE event ATTACH PARTITION event_${n} FOR VALUES FROM (${n * 100}) TO (${n * 100 + 100})`);
  }),
  deed("partition dropped and made anew", 2, async (hand) => {
    const n = hand.random.int(0, 7);
    await hand.sql(`DROP TABLE IF EXISTS event_${n}`);
    await hand.hold(1500);
    await hand.sql(`CREATE TABLE event_${n} PARTITION OF event FOR VALUES FROM (${n * 100}) TO (${n * 100 + 100})`);
  }),
  deed("partition truncated", 1, (hand) => hand.sql(`TRUNCATE event_${hand.random.int(0, 7)}`).then(() => {})),
  deed("partitions looked after", 1, async (hand) => {
    // What an error has left detached.
    for (let n = 0; n < 8; n++) {
      await quiet(
        hand,
        `ALTER TABLE event ATTACH PARTITION event_${n} FOR VALUES FROM (${n * 100}) TO (${n * 100 + 100})`,
      );
    }
  }),
];

const long: readonly Deed[] = [
  deed("long transaction", 3, (hand) =>
    inTransaction(
      hand,
      async () => {
        await hand.sql(`UPDATE ledger SET note = note || '.' WHERE id % 500 = ${hand.random.int(0, 499)}`);
        await hand.sql("SAVEPOINT s");
        await hand.sql(`INSERT INTO child (parent, what) SELECT 1 + i % 50, 'long' FROM generate_series(1, 200) i`);
        await hand.hold(6000);
        if (hand.random.chance(0.3)) await hand.sql("ROLLBACK TO s");
        await hand.sql("UPDATE heap_of_text SET body = 'long' WHERE id % 50 = 0");
        await hand.hold(6000);
      },
      hand.random.chance(0.6),
    ),
  ),
  deed("long snapshot", 1, (hand) =>
    inTransaction(hand, async () => {
      await hand.sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
      await hand.sql("SELECT count(*) FROM rest_20");
      await hand.hold(5000);
    }),
  ),
  deed("long DDL", 2, (hand) =>
    inTransaction(
      hand,
      async () => {
        const table = hand.fresh("planned");
        await hand.sql(`CREATE TABLE ${table} AS SELECT i AS id, md5(i::text) AS what FROM generate_series(1, 2000) i`);
        await hand.sql(`ALTER TABLE ${table} ADD PRIMARY KEY (id)`);
        await hand.hold(5000);
        if (hand.random.chance(0.7)) await hand.sql(`DROP TABLE ${table}`);
      },
      hand.random.chance(0.5),
    ),
  ),
];

const abandoned = deed("prepared transactions that nobody ends any more", 2, async (hand) => {
  const found = await hand.sql(`SELECT quote_literal(gid) AS gid FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < now() - interval '15 s'`);
  for (const { gid } of found) await quiet(hand, `ROLLBACK PREPARED ${gid}`);
});

const databases: readonly Deed[] = [
  deed("database made and dropped", 3, async (hand) => {
    const name = hand.fresh("guest");
    const strategy = hand.random.pick(["wal_log", "file_copy"]);
    await hand.sql(`CREATE DATABASE ${name} STRATEGY ${strategy} TEMPLATE template0`);
    await hand.hold(8000);
    for (let n = 0; n < 20; n++) {
      try {
        return void (await hand.sql(`DROP DATABASE ${name} ${hand.random.chance(0.3) ? "WITH (FORCE)" : ""}`));
      } catch {
        await sleep(500);
      }
    }
  }),
  deed("ALTER SYSTEM", 2, async (hand) => {
    await hand.sql(`ALTER SYSTEM SET work_mem = '${hand.random.int(2, 9)}MB'`);
    await hand.sql("SELECT pg_reload_conf()");
    await hand.hold(1000);
    await hand.sql("ALTER SYSTEM RESET work_mem");
    await hand.sql("SELECT pg_reload_conf()");
  }),
  // Commits are in the WAL, with their time, and nobody on the source sees them yet.
  deed("a synchronous standby that does not answer", 3, async (hand) => {
    await hand.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    await hand.sql("SELECT pg_reload_conf()");
    await hand.hold(hand.random.pick([200, 2000]));
    await hand.sql("ALTER SYSTEM RESET synchronous_standby_names");
    await hand.sql("SELECT pg_reload_conf()");
    await hand.hold(2000);
  }),
  deed("checkpoint", 1, async (hand) => {
    await hand.sql("CHECKPOINT");
    await hand.hold(4000);
  }),
  deed("roles made and dropped", 2, async (hand) => {
    const name = hand.fresh("visitor");
    await hand.sql(`CREATE ROLE ${name} LOGIN CONNECTION LIMIT 2`);
    await hand.hold(2000);
    await hand.sql(`DROP ROLE ${name}`);
  }),
];

const odd: readonly Deed[] = [
  deed("odd names", 4, async (hand) => {
    await hand.sql(`INSERT INTO "Mein Schema"."Größen; --" ("Wert's") VALUES (${hand.random.int(1, 99)})`);
    await hand.sql(
      `UPDATE "Mein Schema"."Größen; --" SET "back\\slash" = E'\\t' WHERE "Wert's" = ${hand.random.int(1, 99)}`,
    );
    await hand.hold(200);
  }),
  deed("odd DDL", 2, async (hand) => {
    await quiet(hand, `ALTER TABLE "Mein Schema"."Größen; --" DROP "Ö""l"`);
    await hand.sql(`ALTER TABLE "Mein Schema"."Größen; --" ADD "Ö""l" text DEFAULT 'x'`);
    await hand.hold(2500);
    await hand.sql(`ALTER TABLE "Mein Schema"."Größen; --" DROP "Ö""l"`);
  }),
  deed("odd extension", 1, async (hand) => {
    await hand.sql("DROP EXTENSION IF EXISTS hstore");
    await hand.sql("CREATE EXTENSION hstore SCHEMA public");
    await hand.hold(1500);
    await hand.sql("DROP EXTENSION hstore");
  }),
  deed("odd schema", 2, async (hand) => {
    // A failover in between may have left it there.
    await quiet(hand, `ALTER SCHEMA "Dein Schema" RENAME TO "Mein Schema"`);
    await hand.sql(`ALTER SCHEMA "Mein Schema" RENAME TO "Dein Schema"`);
    await hand.hold(1500);
    await hand.sql(`ALTER SCHEMA "Dein Schema" RENAME TO "Mein Schema"`);
  }),
];

const app = (name: string, deeds: readonly Deed[]): SessionKind => ({ name, database: APP_DATABASE, deeds });

export const SESSIONS: readonly SessionKind[] = [
  app("rows one", rows),
  app("rows two", rows),
  app("there and back one", thereAndBack),
  app("there and back two", thereAndBack),
  app("there and back three", thereAndBack),
  app("there and back four", thereAndBack),
  app("maintenance", maintenance),
  app("partitions", [...partitions, abandoned]),
  app("long", long),
  {
    name: "databases",
    database: "postgres",
    deeds: databases,
    // Or it would wait for the standby that it has taken away.
    settings: { search_path: "", synchronous_commit: "local" },
  },
  { name: "odd", database: ODD_DATABASE, deeds: odd, settings: { search_path: "" } },
];
