-- Ends an act, and counts what became of its items; no row where it has ended. $1 act, $2 state, $3 why
WITH ended AS (UPDATE quarantine_bulk SET state = $2, trouble = $3, lease_until = NULL, finished_at = now() WHERE id = $1 AND state = 'running' RETURNING id)
SELECT count(*) FILTER (WHERE i.state = 'done'), count(*) FILTER (WHERE i.state = 'waiting'), count(*) FILTER (WHERE i.state = 'refused'), count(*) FILTER (WHERE i.state = 'failed')
FROM ended JOIN quarantine_bulk_item i ON i.bulk_id = ended.id GROUP BY ended.id;
