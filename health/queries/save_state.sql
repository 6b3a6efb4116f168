INSERT INTO health_state (component, state, since, last_good, detail, updated_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (component) DO UPDATE
SET state = EXCLUDED.state, since = EXCLUDED.since, last_good = EXCLUDED.last_good,
    detail = EXCLUDED.detail, updated_at = EXCLUDED.updated_at
