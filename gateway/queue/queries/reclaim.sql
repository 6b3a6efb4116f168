-- Puts back what dead workers have left.
UPDATE delivery SET state = 'queued', next_attempt_at = now(), lease_until = NULL, updated_at = now()
WHERE id IN (SELECT id FROM delivery WHERE state = 'delivering' AND lease_until < now() ORDER BY lease_until LIMIT 1000 FOR UPDATE SKIP LOCKED);
