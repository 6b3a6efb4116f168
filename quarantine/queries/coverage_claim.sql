-- Takes a scan that nobody works on. $1 seconds that it is ours
UPDATE coverage_scan SET lease_until = now() + make_interval(secs => $1) WHERE id = (
    SELECT id FROM coverage_scan WHERE state = 'running' AND next_try_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, reason, author, created_at;
