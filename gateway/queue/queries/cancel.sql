-- Takes deliveries back that nobody has begun. $1 ids
UPDATE delivery SET state = 'cancelled', updated_at = now() WHERE id = ANY ($1) AND state = 'queued';
