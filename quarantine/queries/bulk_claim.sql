-- Takes an act that nobody works on. $1 seconds that it is ours
UPDATE quarantine_bulk SET lease_until = now() + make_interval(secs => $1) WHERE id = (
    SELECT id FROM quarantine_bulk WHERE state = 'running' AND next_try_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, owner_id, session_id, token_id, act, reason, asked, event_id, created_at;
