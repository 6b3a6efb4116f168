-- Takes the next export that is decided, or whose worker has died. $1 lease in seconds
UPDATE evidence_export SET state = 'running', step = 'read', error = '', tries = tries + 1, lease_until = now() + $1 * interval '1 second'
WHERE id = (SELECT id FROM evidence_export WHERE (state = 'approved' AND next_try_at <= now()) OR (state = 'running' AND lease_until < now())
    ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, tries;
