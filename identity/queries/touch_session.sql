-- $1 session, $2 now
UPDATE session SET last_seen_at = greatest(last_seen_at, $2) WHERE id = $1;
