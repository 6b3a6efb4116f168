-- Takes a delivery out of the queue for good. $1 id
UPDATE delivery SET state = 'deleted', warn_at = NULL, lease_until = NULL, updated_at = now() WHERE id = $1 AND state = 'queued';
