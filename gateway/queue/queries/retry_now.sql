-- Makes a delivery due. $1 id
UPDATE delivery SET next_attempt_at = now(), updated_at = now() WHERE id = $1 AND state = 'queued';
