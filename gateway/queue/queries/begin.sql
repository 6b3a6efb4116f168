-- Lets the deliveries of a session begin that is over: notifications now, the others after the first wait. $1 ids, $2 that wait
UPDATE delivery SET next_attempt_at = now() + CASE WHEN kind = 'dsn' THEN interval '0' ELSE $2::interval END, updated_at = now()
WHERE id = ANY ($1) AND state = 'queued';
