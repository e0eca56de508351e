-- After the backup, so that it comes from WAL: rows whose hint bits nobody has set, whose fate only pg_xact knows.
CREATE TABLE lab.late (id int PRIMARY KEY, transaction int NOT NULL, note text) WITH (autovacuum_enabled = off);
-- Never updated or deleted from, so that nothing prunes what was rolled back.
CREATE TABLE lab.tried (id int, note text) WITH (autovacuum_enabled = off);
DO $$
BEGIN
  FOR part IN 1..40 LOOP
    INSERT INTO lab.late SELECT part * 100 + i, part, 'late ' || i FROM generate_series(1, 50) i;
    COMMIT;
    INSERT INTO lab.tried SELECT part * 100 + i, 'never ' || i FROM generate_series(1, 5) i;
    ROLLBACK;
    INSERT INTO lab.tried SELECT part * 100 + i, 'for good ' || i FROM generate_series(6, 10) i;
    COMMIT;
  END LOOP;
END $$;
DELETE FROM lab.late WHERE id % 25 = 0;
UPDATE lab.late SET note = note || ' again' WHERE id % 40 = 3;
-- To be updated while others hold them.
CREATE TABLE lab.shared (id int PRIMARY KEY, note text) WITH (autovacuum_enabled = off);
INSERT INTO lab.shared SELECT i, 'as inserted' FROM generate_series(1, 20) i;
