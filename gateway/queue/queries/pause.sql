-- Puts a release off that may not leave yet; it was no attempt. $1 delivery, $2 owner, $3 wait, $4 text
UPDATE delivery SET state = 'queued', next_attempt_at = now() + $3::interval, attempts = greatest(attempts - 1, 0), reply_code = 0, reply_text = $4, lease_until = NULL, updated_at = now()
WHERE id = $1 AND lease_owner = $2 AND state = 'delivering';
