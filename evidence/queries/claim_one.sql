-- Takes one export. $1 lease in seconds, $2 export
UPDATE evidence_export SET state = 'running', step = 'read', error = '', tries = tries + 1, lease_until = now() + $1 * interval '1 second'
WHERE id = (SELECT id FROM evidence_export WHERE id = $2 AND (state = 'approved' AND next_try_at <= now() OR state = 'running' AND lease_until < now()) FOR UPDATE SKIP LOCKED)
RETURNING id, tries;
