-- The second database, beside what ../second-database.sql makes there.
CREATE EXTENSION hstore;
CREATE TABLE "Mein Schema"."Beträge" (id int PRIMARY KEY, "Betrag" numeric NOT NULL, daten hstore);
INSERT INTO "Mein Schema"."Beträge" SELECT i, i * 3, hstore('n', i::text) FROM generate_series(1, 2000) i;
CREATE INDEX "Beträge daten" ON "Mein Schema"."Beträge" USING gin (daten);
