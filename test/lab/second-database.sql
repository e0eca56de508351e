-- A second database: its name needs quoting everywhere, and so do the names in it.
CREATE EXTENSION pg_trgm;
CREATE SCHEMA "Mein Schema";
CREATE TABLE "Mein Schema"."Größen; --" (
  "der ""Schlüssel""" serial PRIMARY KEY,
  "Wert's" numeric CHECK ("Wert's" > 0),
  "back\slash" text DEFAULT E'tab\t'
);
INSERT INTO "Mein Schema"."Größen; --" ("Wert's") SELECT i / 7.0 FROM generate_series(1, 1000) i;
CREATE FUNCTION "Mein Schema"."Summe"() RETURNS numeric LANGUAGE sql
  AS 'SELECT sum("Wert''s") FROM "Mein Schema"."Größen; --"';
CREATE TABLE public.empty ();
