-- Gives a delivery back whose route has changed since it was queued. $1 delivery, $2 owner, $3 destination
UPDATE delivery SET state = 'queued', destination = $3, attempts = attempts - 1, next_attempt_at = now(), lease_until = NULL, updated_at = now()
WHERE id = $1 AND lease_owner = $2 AND state = 'delivering' AND dot_sent_at IS NULL;
