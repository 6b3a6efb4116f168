-- $1 session, $2 now, $3 by what
UPDATE session SET ended_at = $2, ended_by = $3 WHERE id = $1 AND ended_at IS NULL;
