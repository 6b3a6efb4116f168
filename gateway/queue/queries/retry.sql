-- Puts a delivery off. $1 delivery, $2 owner, $3 wait, $4 destination, $5 code, $6 text
UPDATE delivery SET state = 'queued', next_attempt_at = now() + $3::interval, next_hop = $4, destination = $4, reply_code = $5, reply_text = $6,
    dot_sent_at = NULL, lease_until = NULL, updated_at = now()
WHERE id = $1 AND lease_owner = $2 AND state = 'delivering';
