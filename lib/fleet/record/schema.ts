/**
 * The tables of the record, as numbered migrations: each is applied once, in order, and never changed after a release. A
 * change is a new one at the end. Names are found by the session's search_path, which is this schema alone.
 */

import { VIEWS } from "./views.ts";

export const SCHEMA = "patroni_restore_fleet";

/** In the order of their numbers, from 1. */
export const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE services (
  id text PRIMARY KEY,
  namespace text NOT NULL,
  scope text NOT NULL,
  stanza text NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  gone_at timestamptz,
  wanted_at timestamptz,
  wanted_by text,
  wanted_token text,
  backups_since_test integer NOT NULL DEFAULT 0,
  last_backup text,
  last_test text,
  last_outcome text,
  last_ended_at timestamptz,
  attempts integer NOT NULL DEFAULT 0,
  last_error jsonb,
  last_figures jsonb,
  last_healthy_at timestamptz,
  changed_in xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX services_changed_in ON services (changed_in);
COMMENT ON TABLE services IS 'Every service of the fleet that was ever seen, and what is known of its tests';
COMMENT ON COLUMN services.gone_at IS 'Since when its watch does not know it any more';
COMMENT ON COLUMN services.attempts IS 'Tests in a row that ended with last_outcome';
COMMENT ON COLUMN services.changed_in IS 'Transaction that changed what schedulers hold in memory; they ask for newer ones';

CREATE TABLE tests (
  id text PRIMARY KEY,
  service text NOT NULL,
  namespace text NOT NULL,
  scope text NOT NULL,
  stanza text NOT NULL,
  reason text NOT NULL,
  requested_at timestamptz NOT NULL,
  deadline_at timestamptz NOT NULL,
  scheduler text NOT NULL,
  groups jsonb NOT NULL,
  weight double precision NOT NULL,
  status text NOT NULL,
  status_at timestamptz NOT NULL,
  statuses jsonb NOT NULL,
  outcome text,
  ended_at timestamptz,
  error jsonb,
  figures jsonb,
  report jsonb
);
CREATE INDEX tests_of_service ON tests (service, requested_at DESC);
CREATE INDEX tests_requested_at ON tests (requested_at DESC);
CREATE INDEX tests_ended_at ON tests (ended_at);
CREATE INDEX tests_with_report ON tests (ended_at) WHERE report IS NOT NULL;
COMMENT ON TABLE tests IS 'One row for each restore test';
COMMENT ON COLUMN tests.status IS 'The furthest one; an end is final';
COMMENT ON COLUMN tests.statuses IS 'Time of each status that was recorded, by its name';
COMMENT ON COLUMN tests.report IS 'As restore-test wrote it; removed earlier than the row';

CREATE TABLE slots (
  test text PRIMARY KEY REFERENCES tests (id),
  service text NOT NULL UNIQUE,
  slot integer NOT NULL UNIQUE CHECK (slot >= 0)
);
COMMENT ON TABLE slots IS 'One row for each test in progress: what the limits of the fleet count';

CREATE TABLE status_changes (
  at timestamptz NOT NULL,
  test text NOT NULL,
  service text NOT NULL,
  namespace text NOT NULL,
  status text NOT NULL,
  outcome text,
  error_name text,
  rto_ms double precision,
  recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX status_changes_of_test ON status_changes (test, at);
CREATE INDEX status_changes_at ON status_changes (at DESC);
COMMENT ON TABLE status_changes IS 'Every status change of every test; a hypertable where TimescaleDB is installed';
${VIEWS}`,
];
