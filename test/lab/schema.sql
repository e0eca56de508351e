-- The usual variety of a real service, in the database with pgbench's tables.
CREATE EXTENSION pgcrypto;
CREATE EXTENSION pg_trgm;
CREATE EXTENSION hstore;
CREATE EXTENSION postgres_fdw;

CREATE ROLE shop_owner NOLOGIN;
CREATE ROLE "shop reader" NOLOGIN;
CREATE ROLE clerk LOGIN PASSWORD 'only in the lab' CONNECTION LIMIT 20 VALID UNTIL '2099-01-01';
GRANT "shop reader" TO clerk;
ALTER ROLE clerk SET statement_timeout = '30s';
ALTER ROLE clerk IN DATABASE app SET work_mem = '8MB';
ALTER DATABASE app SET default_statistics_target = 50;
COMMENT ON DATABASE app IS 'The shop''s database';

CREATE SCHEMA shop AUTHORIZATION shop_owner;
GRANT USAGE ON SCHEMA shop TO "shop reader";
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO "shop reader";
SET search_path = shop, public;

CREATE TYPE order_status AS ENUM ('new', 'paid', 'sent', 'returned');
CREATE TYPE money_amount AS (value numeric(12, 2), currency char(3));
CREATE DOMAIN email_address AS text CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE COLLATION german (provider = icu, locale = 'de-DE');
CREATE SEQUENCE invoice_number START 1000 INCREMENT 10 CACHE 5;

CREATE TABLE customers (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE german NOT NULL,
  email email_address UNIQUE,
  attributes hstore,
  secret bytea,
  search tsvector GENERATED ALWAYS AS (to_tsvector('simple', name)) STORED,
  valid tstzrange DEFAULT tstzrange(now(), NULL),
  tenant name DEFAULT current_user
);
CREATE INDEX customers_name_trigram ON customers USING gin (name gin_trgm_ops);
CREATE INDEX customers_search ON customers USING gin (search);
CREATE INDEX customers_valid ON customers USING gist (valid);
CREATE INDEX customers_lower_email ON customers (lower(email::text)) WHERE email IS NOT NULL;
CREATE STATISTICS customers_statistics (dependencies) ON name, tenant FROM customers;
INSERT INTO customers (name, email, attributes, secret)
  SELECT 'Kundin ' || i, 'k' || i || '@example.org', hstore('nr', i::text), digest(i::text, 'sha256')
  FROM generate_series(1, 5000) i;

CREATE TABLE orders (
  id bigint NOT NULL DEFAULT nextval('invoice_number'),
  customer bigint NOT NULL REFERENCES customers,
  placed_at timestamptz NOT NULL,
  status order_status NOT NULL DEFAULT 'new',
  total money_amount,
  details jsonb,
  PRIMARY KEY (id, placed_at, status)
) PARTITION BY RANGE (placed_at);
CREATE TABLE orders_2025 PARTITION OF orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (status);
CREATE TABLE orders_2026_new PARTITION OF orders_2026 FOR VALUES IN ('new');
CREATE TABLE orders_2026_rest PARTITION OF orders_2026 DEFAULT;
CREATE TABLE orders_other PARTITION OF orders DEFAULT;
CREATE INDEX orders_placed ON orders USING brin (placed_at);
CREATE INDEX orders_details ON orders USING gin (details jsonb_path_ops);
INSERT INTO orders (customer, placed_at, status, total, details)
  SELECT 1 + i % 5000, timestamptz '2025-01-01 00:00+00' + i * interval '1 hour',
    (enum_range(NULL::order_status))[1 + i % 4], ROW (i, 'EUR')::money_amount, jsonb_build_object('line', i)
  FROM generate_series(1, 20000) i;

-- Values beyond a page, compressed and not, in a TOAST table.
CREATE TABLE documents (id int PRIMARY KEY, body text, scan bytea);
ALTER TABLE documents ALTER COLUMN scan SET STORAGE EXTERNAL;
INSERT INTO documents
  SELECT i, repeat(md5(i::text), 2000), decode(repeat(md5(i::text), 500), 'hex') FROM generate_series(1, 200) i;

CREATE UNLOGGED TABLE sessions (token uuid PRIMARY KEY DEFAULT gen_random_uuid(), seen timestamptz DEFAULT now());
INSERT INTO sessions SELECT FROM generate_series(1, 100);

CREATE TABLE rooms (room int, during tsrange, EXCLUDE USING gist (during WITH &&));
CREATE TABLE audit (at timestamptz DEFAULT clock_timestamp(), who name DEFAULT session_user, what text) WITH (fillfactor = 90);

CREATE FUNCTION audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO shop.audit (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME);
  RETURN NULL;
END $$;
CREATE TRIGGER customers_audit AFTER INSERT OR UPDATE OR DELETE ON customers
  FOR EACH STATEMENT EXECUTE FUNCTION audit_change();
CREATE FUNCTION order_total(bigint) RETURNS numeric LANGUAGE sql STABLE PARALLEL SAFE
  RETURN (SELECT sum((total).value) FROM shop.orders WHERE customer = $1);
CREATE PROCEDURE forget(customer bigint) LANGUAGE sql AS 'UPDATE shop.customers SET email = NULL WHERE id = $1';
CREATE AGGREGATE joined (text) (SFUNC = textcat, STYPE = text, INITCOND = '');

CREATE VIEW open_orders WITH (security_barrier) AS SELECT * FROM orders WHERE status IN ('new', 'paid');
CREATE MATERIALIZED VIEW revenue AS
  SELECT date_trunc('month', placed_at) AS month, sum((total).value) AS value FROM orders GROUP BY 1;
CREATE UNIQUE INDEX revenue_month ON revenue (month);
CREATE RULE orders_never_truncated AS ON DELETE TO orders_2025 DO INSTEAD NOTHING;

ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON customers FOR SELECT TO "shop reader" USING (tenant = current_user);
GRANT SELECT (id, name) ON customers TO "shop reader";
GRANT EXECUTE ON PROCEDURE forget TO clerk;
GRANT UPDATE ON SEQUENCE invoice_number TO clerk;

CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1', dbname 'elsewhere');
CREATE USER MAPPING FOR clerk SERVER elsewhere OPTIONS (user 'clerk');
CREATE FOREIGN TABLE elsewhere_customers (id bigint, name text) SERVER elsewhere;

SELECT lo_from_bytea(424242, convert_to(repeat('a large object ', 10000), 'UTF8'));
COMMENT ON LARGE OBJECT 424242 IS 'A scanned contract';
UPDATE customers SET name = name || ' ' WHERE id % 10 = 0;
DELETE FROM orders WHERE placed_at >= '2026-01-01' AND (details ->> 'line')::int % 7 = 0;
ANALYZE;
