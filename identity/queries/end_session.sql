-- $1 session, $2 now
UPDATE session SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL;
