/** What monitoring asks of the record, for people and for Grafana: `SELECT * FROM patroni_restore_fleet.failures`. */

/** Outcomes that say something about the backup; the others say something about the test. */
const JUDGED = "('healthy', 'unhealthy', 'restore')";

export const VIEWS = `
CREATE VIEW success_rate AS
SELECT s.id AS service, s.namespace,
  count(t.id) AS tests,
  count(t.id) FILTER (WHERE t.outcome = 'healthy') AS healthy,
  count(t.id) FILTER (WHERE t.outcome IN ('unhealthy', 'restore')) AS failed,
  count(t.id) FILTER (WHERE t.outcome NOT IN ${JUDGED}) AS not_judged,
  (count(t.id) FILTER (WHERE t.outcome = 'healthy'))::double precision
    / nullif(count(t.id) FILTER (WHERE t.outcome IN ${JUDGED}), 0) AS success_rate
FROM services s
LEFT JOIN tests t ON t.service = s.id AND t.ended_at > now() - interval '30 days'
WHERE s.gone_at IS NULL
GROUP BY s.id;
COMMENT ON VIEW success_rate IS
  'Of the last 30 days, for each service: share (0 to 1) of healthy tests among those that say something about the backup; null when there is none';

CREATE VIEW rto_percentiles AS
WITH durations AS (
  SELECT service, 'total' AS phase, (figures->>'rto_ms')::double precision AS ms
  FROM tests
  WHERE outcome = 'healthy' AND ended_at > now() - interval '30 days' AND figures->>'rto_ms' IS NOT NULL
  UNION ALL
  SELECT service, phase.key, phase.value::double precision
  FROM tests, jsonb_each_text(figures->'phases') AS phase
  WHERE outcome = 'healthy' AND ended_at > now() - interval '30 days'
)
SELECT service, phase, count(*) AS tests,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS p50_ms,
  percentile_cont(0.9) WITHIN GROUP (ORDER BY ms) AS p90_ms,
  percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99_ms
FROM durations
GROUP BY GROUPING SETS ((service, phase), (phase));
COMMENT ON VIEW rto_percentiles IS
  'How long healthy restores of the last 30 days took, for each service and (service null) for the fleet, by phase; phase total is the RTO';

CREATE VIEW oldest_untested AS
SELECT id AS service, namespace, last_healthy_at, first_seen_at,
  now() - coalesce(last_healthy_at, first_seen_at) AS age,
  last_outcome, last_ended_at, wanted_at
FROM services
WHERE gone_at IS NULL
ORDER BY coalesce(last_healthy_at, first_seen_at);
COMMENT ON VIEW oldest_untested IS
  'Services by the time since a test of them was healthy, the longest first; one that never was counts from when it was first seen';

CREATE VIEW tests_in_progress AS
SELECT t.id AS test, t.service, t.namespace, t.status, t.status_at, t.requested_at, now() - t.requested_at AS age,
  t.deadline_at, t.deadline_at < now() AS is_overdue, t.reason, t.scheduler, t.groups, t.weight, s.slot
FROM slots s
JOIN tests t ON t.id = s.test
ORDER BY t.requested_at;
COMMENT ON VIEW tests_in_progress IS 'Restore tests that hold a slot, the oldest first';

CREATE VIEW failures AS
SELECT s.id AS service, s.namespace, t.id AS test, t.ended_at, t.outcome,
  t.error->>'name' AS error_name, t.error->>'message' AS error_message, t.error->>'hint' AS hint,
  s.last_test = t.id AS is_current, s.last_healthy_at
FROM services s
CROSS JOIN LATERAL (
  SELECT id, ended_at, outcome, error
  FROM tests
  WHERE service = s.id AND outcome NOT IN ('healthy', 'cancelled')
  ORDER BY requested_at DESC
  LIMIT 1
) t
WHERE s.gone_at IS NULL
ORDER BY t.ended_at DESC;
COMMENT ON VIEW failures IS
  'The newest test of each service that failed, for whatever reason, and why; is_current: no later test of it has ended';
`;
