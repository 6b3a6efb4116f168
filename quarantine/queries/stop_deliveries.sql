-- Takes deliveries of a release out of the queue: those that wait, and the one that a worker has in hand. $1 release,
-- $2 delivery in hand, $3 its worker
UPDATE delivery SET state = 'cancelled', lease_until = NULL, warn_at = NULL, updated_at = now()
WHERE release_id = $1 AND dot_sent_at IS NULL AND (state = 'queued' OR id = $2 AND state = 'delivering' AND lease_owner = $3)
RETURNING recipient_id;
